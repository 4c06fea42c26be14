//! What is left of element by element work once the matrix products have their fused ends.

use super::{
    gemm::{Isa, Rows, RowsMut},
    pool::{Pool, SharedMut},
    simd::{Kernel, Lanes, launch, load_up_to, store_up_to},
};
use crate::{backend::MaskKey, random::philox::Philox};
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

/// Elements of a chunk, about: enough to pay for handing it out.
const CHUNK: usize = 1 << 14;

/// Hands all rows of a matrix with `cols` columns to `work`, some at a time, in parallel.
fn for_rows(pool: &Pool, rows: usize, cols: usize, work: impl Fn(Range<usize>) + Sync) {
    let step = (CHUNK / cols.max(1)).max(1);
    pool.run(rows.div_ceil(step), |chunk, _| work(chunk * step..rows.min((chunk + 1) * step)));
}

/// Zero in `dx` wherever the activation `x` is not above zero; both `[rows, cols]`.
pub fn relu_backward(pool: &Pool, isa: Isa, rows: usize, cols: usize, x: Rows<'_>, dx: RowsMut<'_>) {
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
            let odd = row.iter().fold(0u32, |odd, v| odd | u32::from(v.to_bits() & 0x7f80_0000 == 0x7f80_0000));
            if odd != 0 {
                self.finite.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// Words of the mask made together; a multiple of 4.
const WORDS: usize = 256;

/// Zeroes elements of `[rows, cols]` with probability `p` and divides the others by `1 - p`. Element `(r, c)` draws word
/// `r * cols + c` of [`Philox::dropout`] and is dropped if that, as a number in [0, 1), is below `p`.
pub fn dropout(pool: &Pool, isa: Isa, rows: usize, cols: usize, key: MaskKey, p: f32, x: RowsMut<'_>) {
    let bits = Philox::dropout(key.seed, key.step, key.layer);
    // A word is dropped if its upper 24 bits, as a number in [0, 1), are below p.
    let threshold = (f64::from(p) * 16_777_216.0).ceil() as u32;
    let factor = 1.0 / (1.0 - p);
    let (stride, x) = (x.stride, SharedMut::new(x.data));
    for_rows(pool, rows, cols, |rows| launch(isa, Dropout { rows, cols, bits, threshold, factor, x, stride }));
}

struct Dropout {
    rows: Range<usize>,
    cols: usize,
    bits: Philox,
    threshold: u32,
    factor: f32,
    x: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Dropout {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.x.slice(r * self.stride, self.cols) };
            // What each element is multiplied by. The first may stand in the middle of a block of four words.
            let mut factors = [0.0f32; WORDS];
            let mut done = 0;
            while done < self.cols {
                let element = r * self.cols + done;
                let skip = element % 4;
                let n = (WORDS - skip).min(self.cols - done);
                let kept = |word: u32| if word >> 8 < self.threshold { 0.0 } else { self.factor };
                self.bits.fill_with((element / 4) as u64, &mut factors[..(skip + n).next_multiple_of(4)], kept);
                for c in (0..n).step_by(L::N) {
                    let left = n - c;
                    // SAFETY: at most `left` elements are touched, all of this piece.
                    unsafe {
                        let (v, f) = (row.as_mut_ptr().add(done + c), factors.as_ptr().add(skip + c));
                        store_up_to::<L>(v, left, L::mul(load_up_to::<L>(v, left), load_up_to::<L>(f, left)));
                    }
                }
                done += n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::unit_f32;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn dropout_draws_by_element_and_leaves_what_lies_between_rows(rows in 1usize..9, cols in 1usize..600, gap in 0usize..5, p in 0.05f32..0.9) {
            let stride = cols + gap;
            let key = MaskKey { seed: 7, step: 3, layer: 2 };
            let bits = Philox::dropout(7, 3, 2);
            for threads in [1, 3] {
                let mut x = vec![2.0f32; rows * stride];
                dropout(&Pool::new(threads), Isa::best(), rows, cols, key, p, RowsMut::new(&mut x, stride));
                for (i, &v) in x.iter().enumerate() {
                    let (r, c) = (i / stride, i % stride);
                    let e = r * cols + c;
                    let dropped = unit_f32(bits.block(e as u64 / 4)[e % 4]) < p;
                    let expected = if c >= cols { 2.0 } else if dropped { 0.0 } else { 2.0 * (1.0 / (1.0 - p)) };
                    prop_assert_eq!(v, expected);
                }
            }
        }
    }

    #[test]
    fn a_dropout_of_a_fifth_drops_a_fifth() {
        let mut x = vec![1.0f32; 1000 * 999];
        let key = MaskKey { seed: 1, step: 1, layer: 0 };
        dropout(&Pool::new(2), Isa::best(), 1000, 999, key, 0.2, RowsMut::new(&mut x, 999));
        let share = x.iter().filter(|&&v| v == 0.0).count() as f64 / x.len() as f64;
        assert!((share - 0.2).abs() < 0.002, "{share}");
    }

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
                assert!(all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)), "what lies between rows does not count");
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
