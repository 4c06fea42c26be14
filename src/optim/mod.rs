//! Update rules, learning-rate schedules, loss scaling.

pub mod loss_scale;
pub mod rules;
pub mod schedule;

use serde::{Deserialize, Serialize};

pub use loss_scale::{LossScale, LossScaleSpec, LossScaler, ScalerState};
pub use rules::{AdamForm, AdamRows, OptimizerSpec, named::*};
pub use schedule::{Schedule, ScheduleError, ScheduleSpec, ScheduleState};

/// Optimizer of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// The rule.
    #[serde(flatten)]
    pub rule: OptimizerSpec,
    /// Base learning rate, before the schedule.
    pub learning_rate: f64,
    /// Scale all gradients so that their global 2-norm (dense, coalesced sparse, and regularisation
    /// terms) does not pass this (`torch.nn.utils.clip_grad_norm_`: factor `clip / (norm + 1e-6)`
    /// when below 1).
    pub clip_norm: Option<f64>,
}
