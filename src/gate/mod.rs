//! Whether a program got slower: it is run in short slices, each a process of its own, and the
//! slices are compared. docs/gate.md says how it decides.

mod against_baseline;
mod baseline;
mod interleaved;
mod slice;
mod verdict;

pub use against_baseline::{against_baseline, record};
pub use baseline::{Baseline, Session};
pub use interleaved::interleaved;
pub use slice::{Program, SliceError};
pub use verdict::{Outcome, SideReport, SliceReport, Verdict};

use crate::{random::philox::Philox, stats::Criteria};
use slice::{Slice, Slicer, Task};
use std::{
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

/// How to decide.
pub struct Settings<'a> {
    /// What counts as slower, and how sure one has to be.
    pub criteria: Criteria,
    /// Time for all of it.
    pub budget: Duration,
    /// Steps after which both sides are evaluated; 0 = no evaluation.
    pub quality_steps: u64,
    /// The AUC then may be smaller than the other side's by this much.
    pub max_auc_drop: f64,
    /// Seed of the coin that decides which side goes first.
    pub seed: u64,
    /// Empty folder for the slices' results; they are removed as they are read.
    pub scratch: PathBuf,
    /// Set from outside (Ctrl-C) to end soon.
    pub stop: &'a AtomicBool,
    /// Hears a line of progress now and then.
    pub tell: &'a dyn Fn(&str),
}

/// Slices of a comparison are this share of the budget, training alone; the rest is starting and
/// ending processes.
const SLICE_SHARE: f64 = 1.0 / 160.0;
/// Seconds of training in a slice, at least and at most.
const SLICE_SECONDS: (f64, f64) = (0.15, 3.0);
/// Steps of the first slices, from which the length of the others is worked out.
const PROBE_STEPS: u64 = 20;
/// A slice's throughput is known from this many steps on.
const FEWEST_STEPS: u64 = 12;

/// Time spent, and what is left.
struct Clock {
    began: Instant,
    /// Seconds from `began` on which comparing began.
    compared_from: f64,
    budget: f64,
}

impl Clock {
    fn start(budget: Duration) -> Self {
        Clock { began: Instant::now(), compared_from: 0.0, budget: budget.as_secs_f64() }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Preparations are over.
    fn compare(&mut self) {
        self.compared_from = self.seconds();
    }

    /// Share of the time for comparing that is over.
    fn share(&self) -> f64 {
        let all = (self.budget - self.compared_from).max(1e-9);
        ((self.seconds() - self.compared_from) / all).clamp(0.0, 1.0)
    }

    /// Whether something that takes `seconds` still fits.
    fn fits(&self, seconds: f64) -> bool {
        self.seconds() + seconds <= self.budget
    }
}

/// Steps of a slice of `program`, worked out from a first one: long enough for training to be at
/// least half of a process's time.
fn slice_steps(
    slicer: &Slicer<'_>,
    program: &Program,
    ceilings: bool,
    budget: Duration,
) -> Result<(u64, Slice), SliceError> {
    let probe = slicer.run(program, Task::Time { steps: PROBE_STEPS, ceilings })?;
    let step = probe.train_seconds / probe.steps.max(1) as f64;
    let around = (probe.wall_seconds - probe.train_seconds).max(0.0);
    let wanted =
        (budget.as_secs_f64() * SLICE_SHARE).clamp(SLICE_SECONDS.0, SLICE_SECONDS.1).max(around);
    Ok((((wanted / step).ceil() as u64).max(FEWEST_STEPS), probe))
}

/// A fair coin for each block.
fn coin(seed: u64, block: u64) -> bool {
    Philox::new(seed, crate::random::philox::Stream::Order, 0).block(block)[0] & 1 == 1
}
