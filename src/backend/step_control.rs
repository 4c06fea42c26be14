//! Control of training steps: settings of a training, start and end of a step, constants of an
//! update.
//!
//! A device that computes beside the host never waits for an answer: loss, overflow, norm, loss
//! scale and the count of updates stay in its memory, where the next operations read them. The host
//! gets them later, as [`StepEnd`].

use crate::optim::{LossScale, LossScaleSpec, OptimizerSpec, ScalerState, rules::Step};
use serde::{Deserialize, Serialize};

/// Settings common to all steps of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepControl {
    /// The update rule.
    pub rule: OptimizerSpec,
    /// All gradients are scaled so that their 2-norm does not pass this
    /// ([`crate::optim::OptimizerConfig::clip_norm`]).
    pub clip_norm: Option<f64>,
    /// How gradients are scaled on their way back.
    pub loss_scale: LossScaleSpec,
    /// The run's seed: dropout masks and the rounding of 16-bit rows.
    pub seed: u64,
}

/// The training loop's part of a step's start. Only the rate decides what is computed; the rest
/// comes back with the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepContext {
    /// The schedule's rate.
    pub learning_rate: f64,
    /// 0-based epoch of the batch.
    pub epoch: u64,
    /// Seconds spent waiting for the batch.
    pub data_wait: f64,
}

impl StepContext {
    /// A step outside a training loop: epoch 0, no wait for data.
    pub fn at_rate(learning_rate: f64) -> Self {
        StepContext { learning_rate, epoch: 0, data_wait: 0.0 }
    }
}

/// Start of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStart {
    /// 1-based number of the training batch; dropout draws from it.
    pub number: u64,
    /// Samples of the batch.
    pub samples: usize,
    /// The training loop's part.
    pub context: StepContext,
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepEnd {
    /// Its start.
    pub start: StepStart,
    /// Mean loss of its batch before the update. If it is not finite nothing was updated, nor will
    /// be before [`crate::backend::Backend::resume`].
    pub loss: f32,
    /// Loss scale after the step; 1 without loss scaling.
    pub loss_scale: LossScale,
    /// Updates so far: as many as steps, less those that overflowed.
    pub updates: u64,
}

/// What is counted of a step before its update is decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSums {
    /// Sum of the losses of samples.
    pub losses: f64,
    /// Sum of squares of gradients.
    pub squares: f64,
    /// Whether a gradient is not finite.
    pub overflow: bool,
}

/// Where a training stands between two steps; all that a device goes on from, beside parameters and
/// the optimizer's state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Updates so far.
    pub updates: u64,
    /// The loss scale and how it came to be.
    pub loss_scale: ScalerState,
}

/// One application of the update rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The rule with the constants of this step.
    pub step: Step,
    /// Every gradient is multiplied by this first (loss scale, clipping).
    pub scale: f32,
    /// The run's seed and the 1-based number of the update. With table, row and column they give
    /// the random bits by which 16-bit rows are rounded.
    pub noise: (u64, u64),
}

impl StepControl {
    /// Factor of gradients before an update. They are `loss_scale` times too large; `squares` is
    /// the sum of their squares as they are.
    pub fn factor(&self, loss_scale: f64, squares: f64) -> f64 {
        let scale = 1.0 / loss_scale;
        // torch.nn.utils.clip_grad_norm_
        self.clip_norm
            .map_or(scale, |clip| scale * (clip / (squares.sqrt() / loss_scale + 1e-6)).min(1.0))
    }

    /// Update number `number` (1-based) at rate `learning_rate`.
    pub fn update(&self, learning_rate: f64, number: u64, scale: f64) -> Update {
        let step = Step::new(&self.rule, learning_rate, number);
        Update { step, scale: scale as f32, noise: (self.seed, number) }
    }
}
