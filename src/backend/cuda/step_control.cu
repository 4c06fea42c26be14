// Control of training steps: state that one step leaves to the next without the host, and the result
// that the host reads.

// Most steps in flight (Backend::AHEAD).
#define AHEAD 3

enum Scaling { OFF = 0, FIXED = 1, DYNAMIC = 2 };

struct StepState {
    // Result of a step, for the host.
    u64 number, skipped, updates;
    // Factor of gradients, of the next step once this one is decided.
    double scale;
    float loss;
    // Whether a loss was not finite, in this step or before.
    u32 stopped;
    // Factor of gradients in this step.
    double used;
    // Sum of squares of its gradients.
    double squares;
    // Sum of the losses of its samples.
    double losses;
    // Steps in a row without overflow.
    u64 good;
    // Updates before the first candidate.
    u64 first;
    u32 overflow, unused;
    // The update, once decided.
    Step step;
    // Constants for each number that this update may have: it depends on overflows in steps before,
    // of which the host need not know.
    Step candidates[AHEAD];
};

// Start of a step, given by the host.
struct Plan {
    u64 number, first;
    Step candidates[AHEAD];
};

// Settings of all steps.
struct Rules {
    double clip, least, most;
    u64 growth;
    u32 scaling, clips;
};

// One thread.
KERNEL begin_step(Plan plan, StepState* c) {
    c->number = plan.number;
    c->first = plan.first;
    c->used = c->scale;
    c->squares = 0.0;
    c->losses = 0.0;
    c->overflow = 0;
    c->step.on = 0;
    for (u32 k = 0; k < AHEAD; ++k) c->candidates[k] = plan.candidates[k];
}

// Decides on the update and adjusts the loss scale, operation by operation as
// src/backend/step_control.rs and src/optim/loss_scale.rs. One thread.
KERNEL decide_update(Rules rules, StepState* c) {
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
