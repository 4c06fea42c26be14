//! Batch normalisation, maybe with a ReLU behind it (Ioffe & Szegedy 2015, arXiv:1502.03167;
//! torch.nn.BatchNorm1d).
//!
//! Columns are summed over blocks of `BLOCK` rows in f32, and blocks in their order in f64, so that
//! sums depend neither on the number of threads nor much on the number of rows.

use super::{
    gemm::{Rows, RowsMut},
    simd::{Kernel, Lanes, launch},
};
use crate::{
    comm::{CommError, NormRanks},
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
};
use std::ops::Range;

/// Rows of a block.
const BLOCK: usize = 64;

/// Sizes of one normalisation, and the constants that go with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormShape {
    /// Samples.
    pub rows: usize,
    /// Features.
    pub cols: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a new batch in the running statistics.
    pub momentum: f32,
    /// Whether the running variance is of unbiased ones.
    pub unbiased: bool,
    /// `max(y, 0)` behind it.
    pub relu: bool,
}

impl NormShape {
    /// Elements of scratch space for `rows` samples of `cols` features.
    pub fn scratch(rows: usize, cols: usize) -> usize {
        rows.div_ceil(BLOCK) * 2 * cols
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK)
    }

    /// Rows of block `b`.
    fn block(&self, b: usize) -> Range<usize> {
        b * BLOCK..self.rows.min((b + 1) * BLOCK)
    }
}

/// Running statistics, `[cols]` each.
#[derive(Debug)]
pub struct Running<'a> {
    /// Mean.
    pub mean: &'a mut [f32],
    /// Variance.
    pub var: &'a mut [f32],
}

/// Mean and `1 / sqrt(biased variance + eps)` of the columns of `z` to `stats` `[2, cols]`; moves
/// the running statistics. `scratch` holds [`NormShape::scratch`] elements. With `ranks` all rows of
/// all ranks count, and each of them calls this.
///
/// # Errors
/// If other ranks do not answer.
#[allow(clippy::too_many_arguments)]
pub fn statistics(
    pool: &Pool,
    isa: Isa,
    s: NormShape,
    z: Rows<'_>,
    running: &mut Running<'_>,
    stats: &mut [f32],
    scratch: &mut [f32],
    ranks: Option<&NormRanks>,
) -> Result<(), CommError> {
    let cols = s.cols;
    let partial = SharedMut::new(&mut *scratch);
    pool.run(s.blocks(), |b, _| {
        // SAFETY: each block has its own piece of the scratch space.
        let (mean, squares) = unsafe { partial.slice(b * 2 * cols, 2 * cols) }.split_at_mut(cols);
        launch(isa, Moments { rows: s.block(b), z, mean, squares });
    });
    let mut finish = |c: usize, n: f64, (m, squares): (f64, f64)| {
        stats[c] = m as f32;
        stats[cols + c] = (1.0 / (squares / n + f64::from(s.eps)).sqrt()) as f32;
        let var = squares / if s.unbiased { (n - 1.0).max(1.0) } else { n };
        running.mean[c] += s.momentum * (m as f32 - running.mean[c]);
        running.var[c] += s.momentum * (var as f32 - running.var[c]);
    };
    let Some(ranks) = ranks else {
        (0..cols).for_each(|c| finish(c, s.rows as f64, joined(s, scratch, c)));
        return Ok(());
    };
    let mut own = vec![0.0; 2 * cols];
    for c in 0..cols {
        (own[c], own[cols + c]) = joined(s, scratch, c);
    }
    let n = ranks.moments(s.rows, &mut own)? as f64;
    (0..cols).for_each(|c| finish(c, n, (own[c], own[cols + c])));
    Ok(())
}

/// Mean of column `c`, and sum of squared distances from it, of all blocks: joined as in Chan,
/// Golub & LeVeque 1979.
fn joined(s: NormShape, scratch: &[f32], c: usize) -> (f64, f64) {
    let (mut m, mut squares, mut count) = (0.0f64, 0.0f64, 0.0f64);
    for b in 0..s.blocks() {
        let k = s.block(b).len() as f64;
        let delta = f64::from(scratch[b * 2 * s.cols + c]) - m;
        squares +=
            f64::from(scratch[(b * 2 + 1) * s.cols + c]) + delta * delta * count * k / (count + k);
        m += delta * k / (count + k);
        count += k;
    }
    (m, squares)
}

/// Mean and sum of squared distances from it, of each column of some rows.
struct Moments<'a> {
    rows: Range<usize>,
    z: Rows<'a>,
    mean: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Moments { rows, z, mean, squares } = self;
        let cols = mean.len();
        mean.fill(0.0);
        squares.fill(0.0);
        for r in rows.clone() {
            for (m, &v) in mean.iter_mut().zip(&z.data[r * z.stride..][..cols]) {
                *m += v;
            }
        }
        let count = rows.len() as f32;
        for m in mean.iter_mut() {
            *m /= count;
        }
        for r in rows {
            for ((q, &m), &v) in squares.iter_mut().zip(&*mean).zip(&z.data[r * z.stride..][..cols])
            {
                *q += (v - m) * (v - m);
            }
        }
    }
}

/// `y = scale * (z - mean) * rstd + shift`, `max(y, 0)` if `s.relu`, `stats` being `[mean, rstd]`.
#[allow(clippy::too_many_arguments)]
pub fn normalise(
    pool: &Pool,
    isa: Isa,
    s: NormShape,
    z: Rows<'_>,
    stats: &[f32],
    scale: &[f32],
    shift: &[f32],
    y: RowsMut<'_>,
) {
    let cols = s.cols;
    let (mean, rstd) = (&stats[..cols], &stats[cols..2 * cols]);
    let (scale, shift) = (&scale[..cols], &shift[..cols]);
    let (stride, y) = (y.stride, SharedMut::new(y.data));
    pool.run(s.blocks(), |b, _| {
        let rows = s.block(b);
        launch(isa, Normalise { rows, z, mean, rstd, scale, shift, relu: s.relu, y, stride })
    });
}

struct Normalise<'a> {
    rows: Range<usize>,
    z: Rows<'a>,
    mean: &'a [f32],
    rstd: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    relu: bool,
    y: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Normalise<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Normalise { rows, z, mean, rstd, scale, shift, relu, y, stride } = self;
        let cols = mean.len();
        for r in rows {
            // SAFETY: rows do not overlap, and each belongs to one block.
            let y = unsafe { y.slice(r * stride, cols) };
            let z = &z.data[r * z.stride..][..cols];
            for c in 0..cols {
                let v = (z[c] - mean[c]) * rstd[c] * scale[c] + shift[c];
                y[c] = if relu { v.max(0.0) } else { v };
            }
        }
    }
}

/// From the gradient `g` of `scale * x + shift`, `x = (z - mean) * rstd`, to that of `z`, in place:
/// `dz = scale * rstd * (g - mean(g) - x * mean(g * x))`; `d_scale = sum(g * x)`, `d_shift =
/// sum(g)`. With `ranks` the means are over all rows of all ranks, and the sums those of the rows here.
///
/// # Errors
/// If other ranks do not answer.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    pool: &Pool,
    isa: Isa,
    s: NormShape,
    z: Rows<'_>,
    stats: &[f32],
    scale: &[f32],
    g: RowsMut<'_>,
    d_scale: &mut [f32],
    d_shift: &mut [f32],
    scratch: &mut [f32],
    ranks: Option<&NormRanks>,
) -> Result<(), CommError> {
    let cols = s.cols;
    let (mean, rstd) = (&stats[..cols], &stats[cols..2 * cols]);
    let (d_scale, d_shift, scale) = (&mut d_scale[..cols], &mut d_shift[..cols], &scale[..cols]);
    let (stride, gradient) = (g.stride, SharedMut::new(g.data));
    let partial = SharedMut::new(&mut *scratch);
    pool.run(s.blocks(), |b, _| {
        // SAFETY: each block has its own piece of the scratch space.
        let (sum, product) = unsafe { partial.slice(b * 2 * cols, 2 * cols) }.split_at_mut(cols);
        launch(isa, Sums { rows: s.block(b), z, mean, rstd, g: gradient, stride, sum, product });
    });
    let at = |part: usize, c: usize| {
        (0..s.blocks()).map(|b| f64::from(scratch[(b * 2 + part) * cols + c])).sum::<f64>()
    };
    for c in 0..cols {
        (d_shift[c], d_scale[c]) = (at(0, c) as f32, at(1, c) as f32);
    }
    let (mut everywhere, mut n) = (Vec::new(), s.rows as u64);
    if let Some(ranks) = ranks {
        let mut sums: Vec<f64> = (0..2 * cols).map(|i| at(i / cols, i % cols)).collect();
        n = ranks.sums(s.rows, &mut sums)?;
        everywhere.extend(sums.iter().map(|x| *x as f32));
    }
    let (d_shift, d_scale) = match everywhere.is_empty() {
        true => (&*d_shift, &*d_scale),
        false => everywhere.split_at(cols),
    };
    let share = 1.0 / n as f32;
    pool.run(s.blocks(), |b, _| {
        launch(
            isa,
            Backward {
                rows: s.block(b),
                z,
                mean,
                rstd,
                scale,
                d_scale,
                d_shift,
                share,
                g: gradient,
                stride,
            },
        );
    });
    Ok(())
}

/// Sums of `g` and `g * x` over some rows.
struct Sums<'a> {
    rows: Range<usize>,
    z: Rows<'a>,
    mean: &'a [f32],
    rstd: &'a [f32],
    g: SharedMut<f32>,
    stride: usize,
    sum: &'a mut [f32],
    product: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Sums { rows, z, mean, rstd, g, stride, sum, product } = self;
        let cols = mean.len();
        sum.fill(0.0);
        product.fill(0.0);
        for r in rows {
            // SAFETY: rows do not overlap, and each belongs to one block.
            let g = unsafe { g.slice(r * stride, cols) };
            let z = &z.data[r * z.stride..][..cols];
            for c in 0..cols {
                sum[c] += g[c];
                product[c] += g[c] * ((z[c] - mean[c]) * rstd[c]);
            }
        }
    }
}

/// The gradient of `z`, in place, once the sums are known.
struct Backward<'a> {
    rows: Range<usize>,
    z: Rows<'a>,
    mean: &'a [f32],
    rstd: &'a [f32],
    scale: &'a [f32],
    d_scale: &'a [f32],
    d_shift: &'a [f32],
    /// One over the number of samples.
    share: f32,
    g: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Backward { rows, z, mean, rstd, scale, d_scale, d_shift, share, g, stride } = self;
        let cols = mean.len();
        for r in rows {
            // SAFETY: rows do not overlap, and each belongs to one block.
            let g = unsafe { g.slice(r * stride, cols) };
            let z = &z.data[r * z.stride..][..cols];
            for c in 0..cols {
                let x = (z[c] - mean[c]) * rstd[c];
                g[c] = scale[c] * rstd[c] * (g[c] - d_shift[c] * share - x * (d_scale[c] * share));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Statistics in f64: mean, biased and unbiased variance of column `c`.
    fn moments(z: &[f32], rows: usize, stride: usize, c: usize) -> (f64, f64, f64) {
        let column: Vec<f64> = (0..rows).map(|r| f64::from(z[r * stride + c])).collect();
        let mean = column.iter().sum::<f64>() / rows as f64;
        let squares: f64 = column.iter().map(|v| (v - mean) * (v - mean)).sum();
        (mean, squares / rows as f64, squares / (rows as f64 - 1.0).max(1.0))
    }

    fn values(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0
                    + 100.0 * (seed % 2) as f32
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn statistics_are_those_of_their_program(
            rows in 2usize..300, cols in 1usize..40, gap in 0usize..3, unbiased: bool, seed: u32,
        ) {
            let stride = cols + gap;
            let z = values(rows * stride, seed);
            let s = NormShape { rows, cols, eps: 1e-5, momentum: 0.1, unbiased, relu: true };
            let mut first = None;
            for threads in [1, 2, 3] {
                let (mut mean, mut var) = (vec![0.5f32; cols], vec![2.0f32; cols]);
                let mut stats = vec![0.0; 2 * cols];
                let mut scratch = vec![0.0; NormShape::scratch(rows, cols)];
                let mut running = Running { mean: &mut mean, var: &mut var };
                statistics(&Pool::new(threads), Isa::best(), s, Rows::new(&z, stride), &mut running, &mut stats, &mut scratch, None).unwrap();
                for c in 0..cols {
                    let (m, v, u) = moments(&z, rows, stride, c);
                    prop_assert!((f64::from(stats[c]) - m).abs() < 1e-5 * m.abs().max(1.0));
                    prop_assert!((f64::from(stats[cols + c]) * (v + 1e-5).sqrt() - 1.0).abs() < 1e-4);
                    prop_assert!((f64::from(mean[c]) - (0.45 + 0.1 * m)).abs() < 1e-5 * m.abs().max(1.0));
                    let moved = 1.8 + 0.1 * if unbiased { u } else { v };
                    prop_assert!((f64::from(var[c]) - moved).abs() < 1e-4);
                }
                let first = first.get_or_insert_with(|| stats.clone());
                prop_assert_eq!(&*first, &stats);
            }
        }

        #[test]
        fn backward_is_the_derivative(rows in 8usize..150, cols in 1usize..8, relu: bool, seed: u32) {
            let pool = Pool::new(2);
            let z = values(rows * cols, seed & !1);
            let (scale, shift) = (values(cols, (2 ^ seed) & !1), vec![0.0; cols]);
            let up = values(rows * cols, (4 ^ seed) & !1);
            let s = NormShape { rows, cols, eps: 1e-5, momentum: 0.1, unbiased: true, relu };
            let (mut mean, mut var) = (vec![0.0; cols], vec![0.0; cols]);
            let (mut stats, mut scratch) = (vec![0.0; 2 * cols], vec![0.0; NormShape::scratch(rows, cols)]);
            let mut running = Running { mean: &mut mean, var: &mut var };
            statistics(&pool, Isa::best(), s, Rows::new(&z, cols), &mut running, &mut stats, &mut scratch, None).unwrap();
            let mut y = vec![0.0; rows * cols];
            normalise(&pool, Isa::best(), s, Rows::new(&z, cols), &stats, &scale, &shift, RowsMut::new(&mut y, cols));
            let mut g: Vec<f32> = up.iter().zip(&y).map(|(&u, &y)| if y > 0.0 || !relu { u } else { 0.0 }).collect();
            let masked = g.clone();
            let (mut d_scale, mut d_shift) = (vec![0.0; cols], vec![0.0; cols]);
            let rows_of_g = RowsMut::new(&mut g, cols);
            backward(&pool, Isa::best(), s, Rows::new(&z, cols), &stats, &scale, rows_of_g, &mut d_scale, &mut d_shift, &mut scratch, None).unwrap();
            prop_assert!(relu != y.iter().any(|&y| y < 0.0));
            // The formula in f64, from its own statistics.
            for c in 0..cols {
                let (m, v, _) = moments(&z, rows, cols, c);
                let rstd = 1.0 / (v + 1e-5).sqrt();
                let x = |r: usize| (f64::from(z[r * cols + c]) - m) * rstd;
                let u = |r: usize| f64::from(masked[r * cols + c]);
                let sum: f64 = (0..rows).map(u).sum();
                let product: f64 = (0..rows).map(|r| u(r) * x(r)).sum();
                prop_assert!((f64::from(d_shift[c]) - sum).abs() < 1e-4 * rows as f64);
                prop_assert!((f64::from(d_scale[c]) - product).abs() < 1e-4 * rows as f64);
                for r in 0..rows {
                    let dz = f64::from(scale[c]) * rstd * (u(r) - sum / rows as f64 - x(r) * product / rows as f64);
                    prop_assert!((f64::from(g[r * cols + c]) - dz).abs() < 1e-4 * rstd * (1.0 + rstd), "{} {}", g[r * cols + c], dz);
                }
            }
        }
    }
}
