//! The course of a training on the CPU, where everything is known at once.

use crate::{
    backend::{
        Update,
        course::{Course, StepEnd, StepStart},
    },
    optim::{LossScaleSpec, LossScaler, OptimizerSpec},
};

/// Where a training stands.
#[derive(Debug)]
pub(super) struct Standing {
    course: Course,
    scaler: LossScaler,
    /// Updates done.
    updates: u64,
    step: StepStart,
    /// The factor by which its gradients are too large.
    loss_scale: f64,
    loss: f32,
    /// Whether a loss was not finite, in this step or before.
    stopped: bool,
    /// Whether a gradient of this step is not finite.
    overflow: bool,
    /// Sum of squares of its gradients.
    squares: f64,
    /// The update, once it is settled that there is one.
    update: Option<Update>,
    ended: Option<StepEnd>,
}

impl Standing {
    /// At the start of a training.
    pub(super) fn new(course: Course) -> Self {
        Standing {
            course,
            scaler: LossScaler::new(course.loss_scale),
            updates: 0,
            step: StepStart { number: 0, learning_rate: 0.0 },
            loss_scale: 1.0,
            loss: 0.0,
            stopped: false,
            overflow: false,
            squares: 0.0,
            update: None,
            ended: None,
        }
    }

    /// Before any training.
    pub(super) fn none() -> Self {
        Standing::new(Course {
            rule: OptimizerSpec::SGD,
            clip_norm: None,
            loss_scale: LossScaleSpec::Off,
            seed: 0,
        })
    }

    pub(super) fn begin(&mut self, step: &StepStart) {
        (self.step, self.loss_scale) = (*step, self.scaler.scale());
        (self.overflow, self.squares, self.update) = (false, 0.0, None);
    }

    /// Seed and number of the step: what dropout draws from.
    pub(super) fn key(&self) -> (u64, u64) {
        (self.course.seed, self.step.number)
    }

    /// The factor by which gradients of this step are too large.
    pub(super) fn loss_scale(&self) -> f64 {
        self.loss_scale
    }

    pub(super) fn set_loss(&mut self, loss: f32) {
        self.loss = loss;
        self.stopped |= !loss.is_finite();
    }

    /// Whether there is still something to be found out by looking at gradients.
    pub(super) fn goes_on(&self) -> bool {
        !self.stopped && !self.overflow
    }

    pub(super) fn overflows(&mut self) {
        self.overflow = true;
    }

    pub(super) fn add_squares(&mut self, squares: f64) {
        self.squares += squares;
    }

    /// Decides on the update and moves the loss scale on.
    pub(super) fn settle(&mut self) {
        if self.stopped {
            return;
        }
        self.scaler.settle(self.overflow);
        if !self.overflow {
            self.updates += 1;
            let factor = self.course.factor(self.loss_scale, self.squares);
            self.update = Some(self.course.update(self.step.learning_rate, self.updates, factor));
        }
    }

    /// The update, if there is to be one.
    pub(super) fn update(&self) -> Option<&Update> {
        self.update.as_ref()
    }

    pub(super) fn end(&mut self) {
        let loss_scale = self.scaler.standing();
        self.ended = Some(StepEnd {
            number: self.step.number,
            loss: self.loss,
            loss_scale,
            updates: self.updates,
        });
    }

    pub(super) fn finished(&mut self) -> Option<StepEnd> {
        self.ended.take()
    }

    pub(super) fn resume(&mut self) {
        self.stopped = false;
    }
}
