//! Dropout behind a ReLU. The mask is not kept: a dropped element is zero, and so its gradient is
//! cleared together with the ReLU's; only the factor `1 / (1 - p)` is left for backward.

use super::Pass;
use crate::backend::{Backend, Dropout};

/// The dropout behind layer `layer` of a network; none outside training, or if `p` is 0.
pub(crate) fn forward<B: Backend>(pass: &Pass<'_, B>, p: f32, layer: usize) -> Option<Dropout> {
    let dropout = Dropout { layer: layer as u16, p, first: pass.first };
    (pass.training && p > 0.0).then_some(dropout)
}

/// What a gradient that passes the dropout is multiplied by, where the output is not zero.
pub(crate) fn backward(p: f32) -> f32 {
    1.0 / (1.0 - p)
}
