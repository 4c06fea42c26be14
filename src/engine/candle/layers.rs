//! Layers that both models share.

use crate::{batch::Batch, random::philox::Philox};
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

/// Subtracted from biases before a ReLU. candle's ReLU passes the gradient on at exactly 0, where
/// torch (and the fused engine) stops it; the case is real, since an all-zero input with a zero
/// bias lands there. Next to any other number this one vanishes.
pub(super) const BELOW_ZERO: f64 = -2e-38;

/// Constants of a batch normalisation.
pub(super) struct Norm {
    /// Added to the variance.
    eps: f64,
    /// Share of the new batch in running statistics.
    share: f64,
    /// Whether the running variance is of unbiased ones.
    unbiased: bool,
}

/// Those of `torch.nn.BatchNorm1d`.
pub(super) const TORCH: Norm = Norm { eps: 1e-5, share: 0.1, unbiased: true };
/// Those of `tf.layers.batch_normalization`, momentum 0.99.
pub(super) const TENSORFLOW: Norm = Norm { eps: 1e-3, share: 0.01, unbiased: false };

/// What differs between training and prediction, and what training leaves behind.
pub(super) struct Mode {
    /// Seed, 1-based step, and the pass's first sample of the batch, if training.
    training: Option<(u64, u64, usize)>,
    running: Vec<(usize, Tensor)>,
}

impl Mode {
    pub fn train(seed: u64, step: u64, first: usize) -> Self {
        Mode { training: Some((seed, step, first)), running: Vec::new() }
    }

    pub fn predict() -> Self {
        Mode { training: None, running: Vec::new() }
    }

    /// New running statistics by parameter number.
    pub fn into_running(self) -> Vec<(usize, Tensor)> {
        self.running
    }
}

/// Repeats `row` `[1, m]` for `batch` samples. A product with ones rather than a broadcast: its
/// gradient, a sum over the batch, is then a product too.
fn over_batch(row: &Tensor, batch: usize) -> Result<Tensor> {
    Tensor::ones((batch, 1), DType::F32, row.device())?.matmul(row)
}

/// Mean over the batch: `[B, m]` to `[1, m]`.
fn batch_mean(x: &Tensor) -> Result<Tensor> {
    let batch = x.dim(0)?;
    Tensor::full(1.0 / batch as f32, (1, batch), x.device())?.matmul(x)
}

/// `x W^T + b`: `[B, n]` by `[m, n]` and `[m]` to `[B, m]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let bias = bias.reshape((1, bias.elem_count()))?;
    x.matmul(&weight.t()?)? + over_batch(&bias, x.dim(0)?)?
}

/// [`linear`] and ReLU.
pub(super) fn linear_relu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    linear(x, weight, &bias.affine(1.0, BELOW_ZERO)?)?.relu()
}

/// An MLP of `layers` pairs of weight and bias; ReLU after each, the last one only if `relu_last`.
pub(super) fn mlp(mut x: Tensor, values: &[Tensor], relu_last: bool) -> Result<Tensor> {
    let layers = values.len() / 2;
    for (i, pair) in values.chunks_exact(2).enumerate() {
        let layer = if i + 1 < layers || relu_last { linear_relu } else { linear };
        x = layer(&x, &pair[0], &pair[1])?;
    }
    Ok(x)
}

/// Batch normalisation over `x` `[B, m]` (Ioffe & Szegedy 2015).
///
/// `values` are scale, shift, running mean and running variance, whose first has parameter number
/// `first`. Training normalises by the batch's mean and biased variance and moves the running ones;
/// with `by_batch`, prediction goes by the batch as well, and the running ones never move.
pub(super) fn batch_norm(
    x: &Tensor,
    values: &[Tensor],
    first: usize,
    (norm, by_batch): (&Norm, bool),
    mode: &mut Mode,
) -> Result<Tensor> {
    let batch = x.dim(0)?;
    let row = |t: &Tensor| t.reshape((1, t.elem_count()));
    let (scale, shift) = (row(&values[0])?, row(&values[1])?);
    let (centred, var) = if mode.training.is_some() || by_batch {
        let mean = batch_mean(x)?;
        let centred = (x - over_batch(&mean, batch)?)?;
        let var = batch_mean(&centred.sqr()?)?;
        let less = if norm.unbiased { (batch - 1).max(1) } else { batch };
        let of_var = batch as f64 / less as f64;
        for (offset, new, factor) in
            [(2, &mean, 1.0), (3, &var, of_var)].into_iter().filter(|_| !by_batch)
        {
            let new = new.detach().flatten_all()?.affine(norm.share * factor, 0.0)?;
            let old = values[offset].affine(1.0 - norm.share, 0.0)?;
            mode.running.push((first + offset, (old + new)?));
        }
        (centred, var)
    } else {
        ((x - over_batch(&row(&values[2])?, batch)?)?, row(&values[3])?)
    };
    let factor = (scale / (var + norm.eps)?.sqrt()?)?;
    (centred * over_batch(&factor, batch)?)? + over_batch(&shift, batch)?
}

/// Dropout of layer number `layer` on `x` `[B, m]`: zero with probability `p`, the rest times `1 /
/// (1 - p)`. The mask is a pure function of seed, step, layer and element (see
/// [`Philox::dropout`]): an element is dropped if its uniform number in [0, 1) is below `p`.
pub(super) fn dropout(x: Tensor, p: f32, layer: u16, mode: &Mode) -> Result<Tensor> {
    let Some((seed, step, first)) = mode.training.filter(|_| p > 0.0) else { return Ok(x) };
    // Words come in blocks of four, and the first of these rows may begin inside of one.
    let before = first * x.dim(1)?;
    let mut mask = vec![0f32; before % 4 + x.elem_count()];
    Philox::dropout(seed, step, layer).fill_unit_f32(before as u64 / 4, &mut mask);
    let mut mask = mask.split_off(before % 4);
    let kept = 1.0 / (1.0 - p);
    mask.iter_mut().for_each(|u| *u = if *u < p { 0.0 } else { kept });
    let mask = Tensor::from_vec(mask, x.shape(), x.device())?;
    x * mask
}

/// Some samples of a batch.
pub(super) struct Part<'a> {
    /// The batch.
    pub batch: &'a Batch,
    /// Which of its samples.
    pub samples: Range<usize>,
}

impl Part<'_> {
    /// Their dense features, `[B, D]`, with zero columns up to `width`.
    pub fn dense(&self, width: usize, device: &Device) -> Result<Tensor> {
        let (columns, len) = (self.batch.dense.len() / self.batch.len, self.samples.len());
        let dense = &self.batch.dense[self.samples.start * columns..self.samples.end * columns];
        if columns == width {
            return Tensor::from_slice(dense, (len, width), device);
        }
        let mut padded = vec![0f32; len * width];
        for (out, row) in padded.chunks_exact_mut(width).zip(dense.chunks_exact(columns)) {
            out[..columns].copy_from_slice(row);
        }
        Tensor::from_vec(padded, (len, width), device)
    }

    /// Their labels, `[B]`.
    pub fn labels(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&self.batch.labels[self.samples.clone()], self.samples.len(), device)
    }
}
