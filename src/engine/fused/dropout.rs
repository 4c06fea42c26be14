//! Dropout behind a ReLU. The mask is not kept: a dropped element is zero, and so its gradient is cleared together with the
//! ReLU's; only the factor `1 / (1 - p)` is left for backward.

use super::TrainingStep;
use crate::backend::{Dropout, MaskKey};

/// The dropout behind layer `layer` of a network in this training step; none outside training, or if `p` is 0.
pub(crate) fn forward(training: Option<TrainingStep>, p: f32, layer: usize) -> Option<Dropout> {
    let t = training.filter(|_| p > 0.0)?;
    Some(Dropout { key: MaskKey { seed: t.seed, step: t.step, layer: layer as u16 }, p })
}

/// What a gradient that passes the dropout is multiplied by, where the output is not zero.
pub(crate) fn backward(p: f32) -> f32 {
    1.0 / (1.0 - p)
}
