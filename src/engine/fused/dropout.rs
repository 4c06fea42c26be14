//! Dropout behind a ReLU. The mask is not kept: a dropped element is zero, and so its gradient is cleared together with the
//! ReLU's; only the factor `1 / (1 - p)` is left for backward.

use super::Pass;
use crate::backend::{Backend, MaskKey, MatMut, Result};

/// Drops elements in training, in place. `layer` numbers the masks of a network.
pub(crate) fn forward<B: Backend>(pass: &mut Pass<'_, B>, p: f32, layer: usize, x: MatMut<'_, B::Floats>) -> Result<()> {
    match pass.training {
        Some(t) if p > 0.0 => pass.backend.dropout(MaskKey { seed: t.seed, step: t.step, layer: layer as u16 }, p, x),
        _ => Ok(()),
    }
}

/// Gradient before the dropout, given that of its output with zeros wherever the output is zero, in place.
pub(crate) fn backward<B: Backend>(pass: &mut Pass<'_, B>, p: f32, g: MatMut<'_, B::Floats>) -> Result<()> {
    if p > 0.0 { pass.backend.scale(1.0 / (1.0 - p), g) } else { Ok(()) }
}
