//! Update rules, learning-rate schedules, loss scaling.

pub mod loss_scale;
pub mod rules;
pub mod schedule;

use serde::Serialize;

pub use loss_scale::{LossScale, LossScaleSpec, LossScaler};
pub use schedule::{Schedule, ScheduleError, ScheduleSpec};

/// An update rule; `g` is the gradient of the mean loss, summed over duplicates of a row first.
/// Every rule works on dense parameters and, with the same arithmetic, on the touched rows of a
/// table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerSpec {
    /// `p -= lr * g`.
    Sgd,
    /// `G += g^2; p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(G) + eps)` (torch.optim.Adagrad;
    /// TensorFlow's with `eps = 0, initial_accumulator = 0.1`).
    Adagrad {
        /// Added to the root; torch's default is 1e-10.
        eps: f64,
        /// `G` at start.
        initial_accumulator: f64,
        /// Decay of the rate with the step count.
        lr_decay: f64,
    },
    /// Rows: `m += mean_k(g_k^2); p -= lr * g / (sqrt(m) + eps)`, one `m` a row; dense parameters:
    /// plain Adagrad (facebookresearch/dlrm, optim/rwsadagrad.py).
    RowwiseAdagrad {
        /// Added to the root; 1e-10 in the original.
        eps: f64,
        /// Accumulators at start.
        initial_accumulator: f64,
    },
    /// Adam (Kingma & Ba 2015).
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Where it sits is the form's business.
        eps: f64,
        /// Torch's or TensorFlow's formula.
        form: AdamForm,
        /// What happens to rows that the batch did not touch.
        rows: AdamRows,
    },
}

/// Where Adam's epsilon sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdamForm {
    /// `p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
    Torch,
    /// `p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`.
    Tf,
}

/// What Adam does to rows of a table that the batch did not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdamRows {
    /// Nothing; `t` is the global step (OneFlow's OneEmbedding, DeepRec).
    Lazy,
    /// They decay and move like all others (torch with dense gradients, FuxiCTR).
    Dense,
}

/// Optimizer of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
