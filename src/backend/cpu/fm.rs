//! Pooling of factorisation machines: the sum over all pairs of fields of their vectors' products
//! (Rendle 2010), as DeepFM has it (Guo et al. 2017, arXiv:1703.04247).

use super::{
    gemm::{Rows, RowsMut},
    simd::{Kernel, Lanes, launch, load_up_to, store_up_to},
};
use crate::host::{
    Isa,
    pool::{Pool, SharedMut},
};

/// Samples of a chunk.
const BLOCK: usize = 64;

fn check(what: &str, samples: usize, width: usize, len: usize, stride: usize) {
    let needed = if samples == 0 { 0 } else { (samples - 1) * stride + width };
    assert!(
        len >= needed && (stride >= width || samples <= 1),
        "{what}: {samples} rows of {width} do not fit"
    );
}

/// `logits[b] += sum of linear[b, ..] + sum_{i<j} <v_i, v_j>`, the latter as `0.5 * sum_k ((sum_i
/// v_ik)^2 - sum_i v_ik^2)`; `v [B, fields, dim]`, `linear [B, fields]`, `logits [B]` (row stride 1
/// or more).
pub fn forward(
    pool: &Pool,
    isa: Isa,
    samples: usize,
    (fields, dim): (usize, usize),
    v: Rows<'_>,
    linear: Rows<'_>,
    logits: RowsMut<'_>,
) {
    check("fields", samples, fields * dim, v.data.len(), v.stride);
    check("linear terms", samples, fields, linear.data.len(), linear.stride);
    check("logits", samples, 1, logits.data.len(), logits.stride);
    let (stride, out) = (logits.stride, SharedMut::new(logits.data));
    pool.run(samples.div_ceil(BLOCK), |chunk, _| {
        for b in chunk * BLOCK..samples.min((chunk + 1) * BLOCK) {
            let first = linear.data[b * linear.stride..][..fields].iter().sum::<f32>();
            // SAFETY: each logit belongs to one chunk.
            let logit = unsafe { &mut out.slice(b * stride, 1)[0] };
            let mut second = 0.0;
            launch(
                isa,
                Forward { v: &v.data[b * v.stride..][..fields * dim], dim, out: &mut second },
            );
            *logit += first + second;
        }
    });
}

struct Forward<'a> {
    v: &'a [f32],
    dim: usize,
    out: &'a mut f32,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut total = 0.0;
        let mut c = 0;
        while c < self.dim {
            // SAFETY: columns `c..` of each vector lie in `v`.
            unsafe {
                let (mut sum, mut squares) = (L::splat(0.0), L::splat(0.0));
                for vector in self.v.chunks_exact(self.dim) {
                    let x = load_up_to::<L>(vector.as_ptr().add(c), self.dim - c);
                    sum = L::add(sum, x);
                    squares = L::fma(x, x, squares);
                }
                total += L::sum(L::sub(L::mul(sum, sum), squares));
            }
            c += L::N;
        }
        *self.out = 0.5 * total;
    }
}

/// `dv_i += dlogit * (sum_j v_j - v_i)`, `dlinear = dlogit` in all columns; shapes as in
/// [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn backward(
    pool: &Pool,
    isa: Isa,
    samples: usize,
    (fields, dim): (usize, usize),
    v: Rows<'_>,
    dlogits: Rows<'_>,
    dv: RowsMut<'_>,
    dlinear: RowsMut<'_>,
) {
    check("fields", samples, fields * dim, v.data.len(), v.stride);
    check("gradient of fields", samples, fields * dim, dv.data.len(), dv.stride);
    check("gradient of linear terms", samples, fields, dlinear.data.len(), dlinear.stride);
    check("gradient of logits", samples, 1, dlogits.data.len(), dlogits.stride);
    let (stride, linear_stride) = (dv.stride, dlinear.stride);
    let (dv, dlinear) = (SharedMut::new(dv.data), SharedMut::new(dlinear.data));
    pool.run(samples.div_ceil(BLOCK), |chunk, _| {
        for b in chunk * BLOCK..samples.min((chunk + 1) * BLOCK) {
            let dlogit = dlogits.data[b * dlogits.stride];
            // SAFETY: each sample's rows belong to one chunk.
            let dv = unsafe {
                dlinear.slice(b * linear_stride, fields).fill(dlogit);
                dv.slice(b * stride, fields * dim)
            };
            launch(isa, Backward { v: &v.data[b * v.stride..][..fields * dim], dim, dlogit, dv });
        }
    });
}

struct Backward<'a> {
    v: &'a [f32],
    dim: usize,
    dlogit: f32,
    dv: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut c = 0;
        while c < self.dim {
            let left = self.dim - c;
            // SAFETY: columns `c..` of each vector lie in `v` and in `dv`.
            unsafe {
                let mut sum = L::splat(0.0);
                for vector in self.v.chunks_exact(self.dim) {
                    sum = L::add(sum, load_up_to::<L>(vector.as_ptr().add(c), left));
                }
                let dlogit = L::splat(self.dlogit);
                for (vector, dv) in
                    self.v.chunks_exact(self.dim).zip(self.dv.chunks_exact_mut(self.dim))
                {
                    let to = dv.as_mut_ptr().add(c);
                    let others = L::sub(sum, load_up_to::<L>(vector.as_ptr().add(c), left));
                    let new = L::fma(dlogit, others, load_up_to::<L>(to, left));
                    store_up_to::<L>(to, left, new);
                }
            }
            c += L::N;
        }
    }
}

#[cfg(test)]
mod tests;
