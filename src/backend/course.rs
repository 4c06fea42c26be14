//! The course of a training: what a device keeps from one step to the next, and what it tells the
//! host of each.
//!
//! A device that computes beside the host never waits for an answer: loss, overflow, norm, loss
//! scale and the count of updates stay in its memory, where the next operations read them, and come
//! to the host when they come ([`StepEnd`]).

use crate::optim::{LossScale, LossScaleSpec, OptimizerSpec, rules::Step};

/// What is the same in all steps of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
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

/// What the host says about a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStart {
    /// 1-based number of the training batch; dropout draws from it.
    pub number: u64,
    /// The schedule's rate.
    pub learning_rate: f64,
}

/// How a step came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepEnd {
    /// Its number.
    pub number: u64,
    /// Mean loss of its batch before the update. If it is not finite nothing was updated, nor will
    /// be before [`crate::backend::Backend::resume`].
    pub loss: f32,
    /// Where loss scaling stands after it; a scale of 1 if there is none.
    pub loss_scale: LossScale,
    /// Updates so far: as many as steps, less those that overflowed.
    pub updates: u64,
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

impl Course {
    /// What gradients are multiplied by before an update, if they were made `loss_scale` times too
    /// large and the sum of their squares, as large as they are, is `squares`.
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
