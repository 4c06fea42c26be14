//! Control of training steps on the CPU, where a result is known at once.

use crate::{
    backend::{
        InFlight, Update,
        step_control::{Position, StepContext, StepControl, StepStart, StepSums},
    },
    optim::{LossScaleSpec, LossScaler, OptimizerSpec},
};

/// State of a training, and of its present step.
#[derive(Debug)]
pub(super) struct StepState {
    control: StepControl,
    scaler: LossScaler,
    /// Updates done.
    updates: u64,
    start: StepStart,
    /// Loss scale of this step: the factor of its gradients.
    loss_scale: f64,
    /// Sum of the losses of its samples, and their mean.
    losses: f64,
    loss: f32,
    /// Whether a loss was not finite, in this step or before.
    stopped: bool,
    /// Whether a gradient of this step is not finite.
    overflow: bool,
    /// Sum of squares of its gradients.
    squares: f64,
    /// The update, once decided.
    update: Option<Update>,
    in_flight: InFlight,
}

impl StepState {
    /// At the start of a training.
    pub(super) fn new(control: StepControl) -> Self {
        StepState {
            control,
            scaler: LossScaler::new(control.loss_scale),
            updates: 0,
            start: StepStart { number: 0, samples: 0, context: StepContext::at_rate(0.0) },
            loss_scale: 1.0,
            losses: 0.0,
            loss: 0.0,
            stopped: false,
            overflow: false,
            squares: 0.0,
            update: None,
            in_flight: InFlight::new(1),
        }
    }

    /// Before any training.
    pub(super) fn none() -> Self {
        StepState::new(StepControl {
            rule: OptimizerSpec::SGD,
            clip_norm: None,
            loss_scale: LossScaleSpec::Off,
            seed: 0,
        })
    }

    pub(super) fn position(&self) -> Position {
        Position { updates: self.updates, loss_scale: self.scaler.position() }
    }

    pub(super) fn go_on(&mut self, from: Position) {
        self.updates = from.updates;
        self.scaler.go_on(from.loss_scale);
    }

    pub(super) fn begin(&mut self, start: StepStart) {
        (self.start, self.loss_scale) = (start, self.scaler.scale());
        (self.overflow, self.squares, self.update) = (false, 0.0, None);
        self.losses = 0.0;
    }

    /// Seed and number of the step, from which dropout draws.
    pub(super) fn key(&self) -> (u64, u64) {
        (self.control.seed, self.start.number)
    }

    /// Loss scale of this step: the factor of its gradients.
    pub(super) fn loss_scale(&self) -> f64 {
        self.loss_scale
    }

    /// Adds the losses of some of a batch's samples, `all` of them in the end.
    pub(super) fn add_losses(&mut self, losses: f64, all: usize) {
        self.losses += losses;
        self.loss = (self.losses / all as f64) as f32;
        self.stopped |= !self.loss.is_finite();
    }

    /// Whether an update is still possible, so that gradients need a look.
    pub(super) fn may_update(&self) -> bool {
        !self.stopped && !self.overflow
    }

    pub(super) fn overflows(&mut self) {
        self.overflow = true;
    }

    pub(super) fn add_squares(&mut self, squares: f64) {
        self.squares += squares;
    }

    pub(super) fn sums(&self) -> StepSums {
        StepSums { losses: self.losses, squares: self.squares, overflow: self.overflow }
    }

    pub(super) fn set_sums(&mut self, sums: StepSums) {
        (self.losses, self.squares, self.overflow) = (0.0, sums.squares, sums.overflow);
        self.add_losses(sums.losses, self.start.samples);
    }

    /// Decides on the update and adjusts the loss scale.
    pub(super) fn decide_update(&mut self) {
        if self.stopped {
            return;
        }
        self.scaler.update(self.overflow);
        if !self.overflow {
            self.updates += 1;
            let factor = self.control.factor(self.loss_scale, self.squares);
            let rate = self.start.context.learning_rate;
            self.update = Some(self.control.update(rate, self.updates, factor));
        }
    }

    /// The update, if the step has one.
    pub(super) fn update(&self) -> Option<&Update> {
        self.update.as_ref()
    }

    pub(super) fn end(&mut self) {
        self.in_flight.add(self.start);
        self.in_flight.end(self.loss, self.scaler.state(), self.updates);
    }

    pub(super) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    pub(super) fn resume(&mut self) {
        self.stopped = false;
    }
}
