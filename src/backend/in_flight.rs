//! The one list of steps in flight: asked for, and their results not taken yet.

use super::step_control::{StepEnd, StepStart};
use crate::optim::LossScale;
use std::collections::VecDeque;

/// Steps in flight, oldest first. A device keeps it; engine and trainer ask for what they need.
#[derive(Debug)]
pub struct InFlight {
    /// Steps that the device computes.
    computing: VecDeque<StepStart>,
    /// Results that nobody has taken. Their steps are older than those above.
    done: VecDeque<StepEnd>,
}

impl InFlight {
    /// An empty list that needs no allocation for `ahead` steps on the device and as many results.
    pub fn new(ahead: usize) -> Self {
        InFlight {
            computing: VecDeque::with_capacity(ahead),
            done: VecDeque::with_capacity(2 * ahead),
        }
    }

    /// Adds a step that the device has been asked for as a whole.
    pub fn add(&mut self, start: StepStart) {
        self.computing.push_back(start);
    }

    /// Adds the result of the oldest step that the device computes.
    ///
    /// # Panics
    /// If it computes none.
    pub fn end(&mut self, loss: f32, loss_scale: LossScale, updates: u64) {
        let start = self.computing.pop_front().expect("a result belongs to a step");
        self.done.push_back(StepEnd { start, loss, loss_scale, updates });
    }

    /// Number of steps that the device computes.
    pub fn computing(&self) -> usize {
        self.computing.len()
    }

    /// Number of steps without their results, and of results.
    pub fn len(&self) -> usize {
        self.computing.len() + self.done.len()
    }

    /// Whether no step is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest result whose loss is not finite. Steps behind it have changed nothing.
    pub fn failed(&self) -> Option<&StepEnd> {
        self.done.iter().find(|end| !end.loss.is_finite())
    }

    /// Takes the oldest result.
    pub fn take_oldest(&mut self) -> Option<StepEnd> {
        self.done.pop_front()
    }

    /// Takes the newest result.
    pub fn take_newest(&mut self) -> Option<StepEnd> {
        self.done.pop_back()
    }

    /// Forgets all results.
    ///
    /// # Panics
    /// If the device still computes a step.
    pub fn clear(&mut self) {
        assert!(self.computing.is_empty(), "{} steps still compute", self.computing.len());
        self.done.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StepContext;

    #[test]
    fn results_meet_their_steps_in_order() {
        let scale = LossScale { scale: 1.0, skipped_steps: 0 };
        let mut steps = InFlight::new(2);
        for number in 1..=3 {
            let context = StepContext { epoch: number, ..StepContext::at_rate(0.5) };
            steps.add(StepStart { number, samples: 4, context });
        }
        steps.end(0.1, scale, 1);
        steps.end(f32::NAN, scale, 1);
        assert_eq!((steps.computing(), steps.len()), (1, 3));
        assert_eq!(steps.failed().unwrap().start.number, 2);
        steps.end(0.3, scale, 1);
        let (oldest, newest) = (steps.take_oldest().unwrap(), steps.take_newest().unwrap());
        assert_eq!((oldest.start.number, oldest.start.context.epoch, oldest.loss), (1, 1, 0.1));
        assert_eq!((newest.start.number, newest.loss), (3, 0.3));
        steps.clear();
        assert!(steps.is_empty() && steps.failed().is_none() && steps.take_oldest().is_none());
    }
}
