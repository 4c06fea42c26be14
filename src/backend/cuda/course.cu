// The course of a training: what one step leaves to the next without the host, and what the host is
// told.

// Steps that may be under way (Backend::AHEAD).
#define AHEAD 3

enum Scaling { OFF = 0, FIXED = 1, DYNAMIC = 2 };

struct Course {
    // What the host is told at the end of a step.
    u64 number, skipped, updates;
    // Factor of gradients, of the next step once this one is settled.
    double scale;
    float loss;
    // Whether a loss was not finite, in this step or before.
    u32 stopped;
    // Factor of gradients in this step.
    double used;
    // Sum of squares of its gradients.
    double squares;
    // Steps in a row without overflow.
    u64 good;
    // Updates before the first candidate.
    u64 first;
    u32 overflow, unused;
    // The update, once settled.
    Step step;
    // The constants of each update that this may be: how many steps before it have overflowed the
    // host need not know.
    Step candidates[AHEAD];
};

// What the host says about a step.
struct Plan {
    u64 number, first;
    Step candidates[AHEAD];
};

// What it says about all of them.
struct Rules {
    double clip, least, most;
    u64 growth;
    u32 scaling, clips;
};

// One thread.
KERNEL begin_step(Plan plan, Course* c) {
    c->number = plan.number;
    c->first = plan.first;
    c->used = c->scale;
    c->squares = 0.0;
    c->overflow = 0;
    c->step.on = 0;
    for (u32 k = 0; k < AHEAD; ++k) c->candidates[k] = plan.candidates[k];
}

// Decides on the update and moves the loss scale on, operation by operation as
// src/backend/course.rs and src/optim/loss_scale.rs. One thread.
KERNEL settle(Rules rules, Course* c) {
    if (c->stopped) return;
    bool overflow = rules.scaling != OFF && c->overflow;
    if (!overflow) {
        Step step = c->candidates[c->updates - c->first];
        double factor = 1.0 / c->used;
        if (rules.clips) {
            double clip = rules.clip / (sqrt(c->squares) / c->used + 1e-6);
            factor *= clip < 1.0 ? clip : 1.0;
        }
        step.scale = (float)factor;
        step.on = 1;
        c->step = step;
        c->updates += 1;
    }
    if (overflow) c->skipped += 1;
    if (rules.scaling != DYNAMIC) return;
    if (overflow) {
        c->good = 0;
        double half = c->scale / 2.0;
        c->scale = half > rules.least ? half : rules.least;
    } else if (++c->good == rules.growth) {
        c->good = 0;
        double twice = c->scale * 2.0;
        c->scale = twice < rules.most ? twice : rules.most;
    }
}
