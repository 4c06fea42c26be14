//! What is left of element by element work once the matrix products have their fused ends.

use super::{
    gemm::{Rows, RowsMut},
    simd::{Kernel, Lanes, launch},
};
use crate::host::{
    Isa,
    pool::{Pool, SharedMut},
};
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

/// Elements of a chunk, about: enough to pay for handing it out.
const CHUNK: usize = 1 << 14;

/// Hands all rows of a matrix with `cols` columns to `work`, some at a time, in parallel.
pub(super) fn for_rows(pool: &Pool, rows: usize, cols: usize, work: impl Fn(Range<usize>) + Sync) {
    let step = (CHUNK / cols.max(1)).max(1);
    pool.run(rows.div_ceil(step), |chunk, _| work(chunk * step..rows.min((chunk + 1) * step)));
}

/// Zero in `dx` wherever the activation `x` is not above zero; both `[rows, cols]`.
pub fn relu_backward(
    pool: &Pool,
    isa: Isa,
    rows: usize,
    cols: usize,
    x: Rows<'_>,
    dx: RowsMut<'_>,
) {
    let (stride, dx) = (dx.stride, SharedMut::new(dx.data));
    for_rows(pool, rows, cols, |rows| launch(isa, ReluBackward { rows, cols, x, dx, stride }));
}

struct ReluBackward<'a> {
    rows: Range<usize>,
    cols: usize,
    x: Rows<'a>,
    dx: SharedMut<f32>,
    stride: usize,
}

impl Kernel for ReluBackward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.dx.slice(r * self.stride, self.cols) };
            for (g, &a) in row.iter_mut().zip(&self.x.data[r * self.x.stride..][..self.cols]) {
                *g = if a > 0.0 { *g } else { 0.0 };
            }
        }
    }
}

/// Multiplies `[rows, cols]` by `factor`.
pub fn scale(pool: &Pool, isa: Isa, rows: usize, cols: usize, factor: f32, x: RowsMut<'_>) {
    let (stride, x) = (x.stride, SharedMut::new(x.data));
    for_rows(pool, rows, cols, |rows| launch(isa, Scale { rows, cols, factor, x, stride }));
}

struct Scale {
    rows: Range<usize>,
    cols: usize,
    factor: f32,
    x: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Scale {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.x.slice(r * self.stride, self.cols) };
            row.iter_mut().for_each(|v| *v *= self.factor);
        }
    }
}

/// Whether no element of `[rows, cols]` is infinite or NaN.
pub fn all_finite(pool: &Pool, isa: Isa, rows: usize, cols: usize, x: Rows<'_>) -> bool {
    let finite = AtomicBool::new(true);
    for_rows(pool, rows, cols, |rows| launch(isa, AllFinite { rows, cols, x, finite: &finite }));
    finite.into_inner()
}

struct AllFinite<'a> {
    rows: Range<usize>,
    cols: usize,
    x: Rows<'a>,
    finite: &'a AtomicBool,
}

impl Kernel for AllFinite<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            let row = &self.x.data[r * self.x.stride..][..self.cols];
            // An exponent of all ones is that of infinity and NaN.
            let odd = row
                .iter()
                .fold(0u32, |odd, v| odd | u32::from(v.to_bits() & 0x7f80_0000 == 0x7f80_0000));
            if odd != 0 {
                self.finite.store(false, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_found_wherever_it_stands() {
        for isa in crate::backend::cpu::testing::isas() {
            for (at, odd) in [(0, f32::NAN), (37, f32::INFINITY), (1233, f32::NEG_INFINITY)] {
                let mut x = vec![f32::MAX; 100 * 13];
                assert!(all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)));
                x[at] = odd;
                assert!(!all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)));
                x[at] = -0.0;
                x[12] = f32::NAN;
                assert!(
                    all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)),
                    "what lies between rows does not count"
                );
            }
        }
    }

    #[test]
    fn relu_backward_clears_what_relu_cut() {
        let x = [1.0, 0.0, -1.0, 9.0, 2.0, 3.0, 0.0, 9.0];
        let mut g = [5.0f32; 8];
        relu_backward(&Pool::new(1), Isa::best(), 2, 3, Rows::new(&x, 4), RowsMut::new(&mut g, 4));
        assert_eq!(g, [5.0, 0.0, 0.0, 5.0, 5.0, 5.0, 0.0, 5.0]);
    }
}
