//! Losses over logits.

use super::{
    driver::{Address, Driver, Launch, Source, bytes_of_mut},
    launch::launch,
    scratch::{Purpose, Scratch},
};
use crate::{
    backend::Result,
    engine::{LossKind, LossSpec},
};

pub(super) static SOURCE: Source = Source { name: "loss", parts: &[include_str!("common/common.cuh"), include_str!("loss.cu")] };

/// Mean loss of `n` samples; its gradient by the logits in `dlogits`.
pub(super) fn forward_backward(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    spec: &LossSpec,
    n: usize,
    (logits, labels): (Address, Address),
    dlogits: Address,
) -> Result<f32> {
    let (kind, weights) = match spec.kind {
        LossKind::Bce => (0u32, [1.0; 2]),
        LossKind::Wbce { weights } => (1, weights),
        LossKind::Mse => (2, [1.0; 2]),
    };
    let shape = Launch::sums(n);
    let parts = shape.grid[0];
    let partial = scratch.get(Purpose::Partials, parts as usize * size_of::<f64>())?;
    let (clamp, [w0, w1]) = (spec.clamp, weights);
    launch!(driver, SOURCE, "loss_part", shape, kind, clamp, w0, w1, logits, labels, n as u32, dlogits, partial)?;
    let out = scratch.get(Purpose::Answer, size_of::<f32>())?;
    launch!(driver, SOURCE, "loss_join", Launch::one(), partial, parts, n as u32, out)?;
    let mut loss = [0.0f32];
    driver.to_host(out, bytes_of_mut(&mut loss))?;
    Ok(loss[0])
}

/// Sigmoids of `logits`, to the host.
pub(super) fn probabilities(driver: &dyn Driver, scratch: &mut Scratch, logits: Address, out: &mut [f32]) -> Result<()> {
    let n = out.len();
    let at = scratch.get(Purpose::Partials, size_of_val(out))?;
    launch!(driver, SOURCE, "probabilities", Launch::all(n), logits, n as u32, at)?;
    driver.to_host(at, bytes_of_mut(out))
}
