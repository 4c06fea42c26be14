//! Losses over logits.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::launch,
    scratch::{Purpose, Scratch},
    step_control::StepState,
};
use crate::{
    backend::Result,
    model::{LossKind, LossSpec},
};

pub(super) static SOURCE: Source =
    Source { name: "loss", parts: &[include_str!("common/common.cuh"), include_str!("loss.cu")] };

/// Adds the losses of `n` samples of `all` to those of the step, whose answer is their mean; the
/// gradient by the logits of the mean over `over` samples, times the loss scale, in `dlogits`.
pub(super) fn forward_backward(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    step: &StepState,
    spec: &LossSpec,
    (n, all, over): (usize, usize, usize),
    (logits, labels): (Address, Address),
    dlogits: Address,
) -> Result<()> {
    let (kind, weights) = match spec.kind {
        LossKind::Bce => (0u32, [1.0; 2]),
        LossKind::Wbce { weights } => (1, weights),
        LossKind::Mse => (2, [1.0; 2]),
        LossKind::KerasBce => (3, [1.0; 2]),
    };
    let shape = Launch::sums(n);
    let parts = shape.grid[0];
    let partial = scratch.get(Purpose::Partials, parts as usize * size_of::<f64>())?;
    let (clamp, [w0, w1], scale) = (spec.clamp, weights, step.loss_scale());
    let of_p = u32::from(spec.of_probability);
    launch!(
        driver,
        SOURCE,
        "loss_part",
        shape,
        kind,
        of_p,
        clamp,
        w0,
        w1,
        logits,
        labels,
        n as u32,
        over as u32,
        scale,
        dlogits,
        partial
    )?;
    let (all, losses, loss, stopped) = (all as u32, step.losses(), step.loss(), step.stopped());
    launch!(driver, SOURCE, "loss_join", Launch::one(), partial, parts, all, losses, loss, stopped)
}

/// Sigmoids of `n` logits, in scratch space.
pub(super) fn probabilities(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    logits: Address,
    n: usize,
) -> Result<Address> {
    let at = scratch.get(Purpose::Partials, n * size_of::<f32>())?;
    launch!(driver, SOURCE, "probabilities", Launch::all(n), logits, n as u32, at)?;
    Ok(at)
}
