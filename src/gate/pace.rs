//! How long things take: the budget, and the steps of a slice.

use super::{
    Program, SliceError,
    slice::{Slice, Slicer, Task},
};
use std::time::{Duration, Instant};

/// Slices of a comparison are this share of the budget, training alone; the rest is starting and
/// ending processes.
const SLICE_SHARE: f64 = 1.0 / 160.0;
/// Seconds of training in a slice, at least and at most.
pub(super) const SLICE_SECONDS: (f64, f64) = (0.15, 3.0);
/// Steps of the first slices, from which the length of the others is worked out.
const PROBE_STEPS: u64 = 20;
/// A slice's throughput is known from this many steps on.
const FEWEST_STEPS: u64 = 12;
/// First slices whose steps differ by more than this factor are looked at again.
const ALIKE: f64 = 1.5;

/// Time spent, and what is left.
pub(super) struct Clock {
    began: Instant,
    /// Seconds from `began` on which comparing began.
    compared_from: f64,
    budget: f64,
}

impl Clock {
    pub fn start(budget: Duration) -> Self {
        Clock { began: Instant::now(), compared_from: 0.0, budget: budget.as_secs_f64() }
    }

    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds of the budget that are left.
    pub fn left(&self) -> f64 {
        (self.budget - self.seconds()).max(0.0)
    }

    /// When the last slice must have ended: a tenth of the budget after its end, and at least 5
    /// seconds.
    pub fn deadline(&self) -> Instant {
        self.began + Duration::from_secs_f64(self.budget + (self.budget / 10.0).max(5.0))
    }

    /// Preparations are over.
    pub fn compare(&mut self) {
        self.compared_from = self.seconds();
    }

    /// Share of the time for comparing that is over.
    pub fn share(&self) -> f64 {
        let all = (self.budget - self.compared_from).max(1e-9);
        ((self.seconds() - self.compared_from) / all).clamp(0.0, 1.0)
    }

    /// Whether something that takes `seconds` still fits.
    pub fn fits(&self, seconds: f64) -> bool {
        self.seconds() + seconds <= self.budget
    }
}

/// What the first slices of a program tell.
pub(super) struct Probe {
    /// Its last.
    pub slice: Slice,
    /// Seconds of a step, the least that was seen.
    pub step: f64,
    /// Seconds of a process that are no training, the least that were seen.
    pub around: f64,
}

impl Probe {
    /// Runs the first slice of `program`.
    pub fn of(slicer: &Slicer<'_>, program: &Program, ceilings: bool) -> Result<Self, SliceError> {
        let slice = slicer.run(program, Task::Time { steps: PROBE_STEPS, ceilings })?;
        Ok(Probe { step: step(&slice), around: around(&slice), slice })
    }

    /// Runs another; what it says of a first one that was an outlier, or is one itself.
    pub fn again(
        &mut self,
        slicer: &Slicer<'_>,
        program: &Program,
        ceilings: bool,
    ) -> Result<Option<String>, SliceError> {
        let (old, new) = (self.step, Self::of(slicer, program, ceilings)?);
        let unlike = old.max(new.step) > ALIKE * old.min(new.step);
        let outlier = unlike.then(|| {
            format!(
                "two slices of {PROBE_STEPS} steps took {} and {} ms a step: the longer one is left out as an outlier",
                milliseconds(old),
                milliseconds(new.step)
            )
        });
        *self = Probe { step: old.min(new.step), around: self.around.min(new.around), ..new };
        Ok(outlier)
    }
}

/// Whether two sides' first slices agree on how long a step takes.
pub(super) fn alike(a: &Probe, b: &Probe) -> bool {
    a.step.max(b.step) <= ALIKE * a.step.min(b.step)
}

/// Steps of every slice, one number for all sides: so that a slice trains for its share of the
/// budget, and at least as long as its process takes around that, unless fewer than `slices` of
/// them would fit into the `left` seconds.
pub(super) fn slice_steps(probes: &[&Probe], budget: Duration, left: f64, slices: usize) -> u64 {
    let mean = |of: &dyn Fn(&Probe) -> f64| {
        probes.iter().map(|p| of(p)).sum::<f64>() / probes.len().max(1) as f64
    };
    let (step, around) = (mean(&|p| p.step), mean(&|p| p.around));
    let fair = (budget.as_secs_f64() * SLICE_SHARE).clamp(SLICE_SECONDS.0, SLICE_SECONDS.1);
    let room = left / (1.25 * slices as f64) - around;
    // A number of steps above all reason saturates, and a workload has fewer.
    ((fair.max(around).min(room.max(0.0)) / step).ceil() as u64).max(FEWEST_STEPS)
}

/// Seconds of a slice of `steps` steps.
pub(super) fn slice_seconds(probe: &Probe, steps: u64) -> f64 {
    probe.around + probe.step * steps as f64
}

fn step(slice: &Slice) -> f64 {
    slice.train_seconds / slice.steps as f64
}

fn around(slice: &Slice) -> f64 {
    (slice.wall_seconds - slice.train_seconds).max(0.0)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", 1e3 * seconds)
}
