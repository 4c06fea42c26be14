//! Batch normalisation, maybe with a ReLU behind it.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::{SUM_ROWS, launch},
    memory::Place,
    scratch::{Purpose, Scratch},
    step_control::StepState,
};
use crate::backend::{Norm, Result};

pub(super) static SOURCE: Source = Source {
    name: "batch_norm",
    parts: &[include_str!("common/common.cuh"), include_str!("batch_norm.cu")],
};

/// Mean and `1 / sqrt(biased variance + eps)` of the columns of `z` to `stats`; the running
/// statistics (mean, variance) move.
pub(super) fn statistics(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    step: &StepState,
    z: Place,
    norm: Norm,
    (mean, var): (Address, Address),
    stats: Address,
) -> Result<()> {
    let (rows, cols) = (z.rows as usize, z.cols as usize);
    let partial =
        scratch.get(Purpose::Partials, rows.div_ceil(SUM_ROWS) * 2 * cols * size_of::<f32>())?;
    let block = SUM_ROWS as u32;
    launch!(
        driver,
        SOURCE,
        "moments_part",
        Launch::columns(rows, cols),
        z.at,
        z.stride,
        z.rows,
        z.cols,
        block,
        partial
    )?;
    let (shape, stopped) = (Launch::each(cols), step.stopped());
    let (eps, momentum, unbiased) = (norm.eps, norm.momentum, u32::from(norm.unbiased));
    launch!(
        driver,
        SOURCE,
        "moments_join",
        shape,
        partial,
        z.rows,
        z.cols,
        block,
        eps,
        momentum,
        unbiased,
        stopped,
        stats,
        mean,
        var
    )
}

/// `stats` from the running statistics (mean, variance).
pub(super) fn running(
    driver: &dyn Driver,
    (mean, var): (Address, Address),
    cols: usize,
    eps: f32,
    stats: Address,
) -> Result<()> {
    launch!(driver, SOURCE, "running_stats", Launch::each(cols), mean, var, cols as u32, eps, stats)
}

/// `y = scale * (z - mean) * rstd + shift`, then `max(y, 0)` if `relu`.
pub(super) fn normalise(
    driver: &dyn Driver,
    z: Place,
    stats: Address,
    (scale, shift): (Address, Address),
    relu: bool,
    y: Place,
) -> Result<()> {
    assert!(z.rows == y.rows && z.cols == y.cols, "the output has the input's shape");
    let (shape, relu) = (Launch::rows(z.rows as usize, z.cols as usize), u32::from(relu));
    launch!(
        driver,
        SOURCE,
        "normalise",
        shape,
        z.at,
        z.stride,
        z.rows,
        z.cols,
        stats,
        scale,
        shift,
        relu,
        y.at,
        y.stride
    )
}

/// From the gradient `g` of the normalised output to that of `z`, in place; gradients of scale and
/// shift to `d_scale` and `d_shift`.
pub(super) fn backward(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    z: Place,
    (stats, scale): (Address, Address),
    g: Place,
    (d_scale, d_shift): (Address, Address),
) -> Result<()> {
    assert!(z.rows == g.rows && z.cols == g.cols, "the gradient has the input's shape");
    let (rows, cols) = (z.rows as usize, z.cols as usize);
    let blocks = rows.div_ceil(SUM_ROWS);
    let partial = scratch.get(Purpose::Partials, blocks * 2 * cols * size_of::<f32>())?;
    let shape = Launch::columns(rows, cols);
    launch!(
        driver,
        SOURCE,
        "norm_sums_part",
        shape,
        z.at,
        z.stride,
        z.rows,
        z.cols,
        SUM_ROWS as u32,
        stats,
        g.at,
        g.stride,
        partial
    )?;
    launch!(
        driver,
        SOURCE,
        "norm_sums_join",
        Launch::each(cols),
        partial,
        blocks as u32,
        z.cols,
        d_scale,
        d_shift
    )?;
    let (shape, share) = (Launch::rows(rows, cols), 1.0 / rows as f32);
    launch!(
        driver,
        SOURCE,
        "norm_backward",
        shape,
        z.at,
        z.stride,
        z.rows,
        z.cols,
        stats,
        scale,
        d_scale,
        d_shift,
        share,
        g.at,
        g.stride
    )
}
