//! Dropout masks: a bit an element, drawn for the whole matrix before the product whose end applies
//! them; or applied on their own where something else comes between.

use super::{
    elementwise::for_rows,
    gemm::{Mask, RowsMut},
    simd::{Kernel, Lanes, launch},
};
use crate::{
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
    random::philox::Philox,
};
use std::ops::Range;

/// Elements whose words are drawn together.
const PIECE: usize = 256;

/// Flags of a piece: its first word may stand inside a block of four, and the generator likes whole
/// groups of 64.
const FLAGS: usize = PIECE + 64;

/// Identifies a dropout mask: the same numbers give the same mask on every device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskKey {
    /// The run's seed.
    pub seed: u64,
    /// 1-based training step.
    pub step: u64,
    /// Number of the layer in its network.
    pub layer: u16,
}

/// [`crate::backend::Dropout`] in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Which mask.
    pub key: MaskKey,
    /// Probability, below 1.
    pub p: f32,
    /// The matrix's first row among those of the mask.
    pub first: usize,
}

/// Memory for the bits of one matrix at a time.
#[derive(Debug)]
pub struct DropoutBits {
    bits: Vec<u8>,
}

/// Bytes of a row of bits.
fn stride(cols: usize) -> usize {
    cols.div_ceil(16) * 2
}

impl DropoutBits {
    /// Room for `rows` rows of up to `cols` columns.
    pub fn new(rows: usize, cols: usize) -> Self {
        DropoutBits { bits: vec![0; rows * stride(cols)] }
    }

    /// Makes room for a matrix `[rows, cols]` too.
    pub fn plan(&mut self, rows: usize, cols: usize) {
        let bytes = (rows * stride(cols)).max(self.bits.len());
        self.bits.resize(bytes, 0);
    }

    /// Draws the mask of a matrix `[rows, cols]`.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn draw(
        &mut self,
        pool: &Pool,
        isa: Isa,
        rows: usize,
        cols: usize,
        dropout: Dropout,
    ) -> Mask<'_> {
        let bits = SharedMut::new(&mut self.bits[..rows * stride(cols)]);
        let draw = Draw::new(cols, dropout);
        for_rows(pool, rows, cols, |rows| launch(isa, Bits { draw, rows, bits }));
        Mask { bits: &self.bits, stride: stride(cols), factor: draw.factor }
    }
}

/// Applies a dropout to `[rows, cols]` in place.
pub fn apply(pool: &Pool, isa: Isa, rows: usize, cols: usize, dropout: Dropout, x: RowsMut<'_>) {
    let (stride, x) = (x.stride, SharedMut::new(x.data));
    let draw = Draw::new(cols, dropout);
    for_rows(pool, rows, cols, |rows| launch(isa, Apply { draw, rows, x, stride }));
}

/// How elements are drawn.
#[derive(Clone, Copy)]
struct Draw {
    first: usize,
    cols: usize,
    words: Philox,
    threshold: u32,
    factor: f32,
}

impl Draw {
    fn new(cols: usize, Dropout { key, p, first }: Dropout) -> Self {
        // A word is dropped if its upper 24 bits, as a number in [0, 1), are below p.
        let threshold = (f64::from(p) * 16_777_216.0).ceil() as u32;
        Draw {
            first,
            cols,
            words: Philox::dropout(key.seed, key.step, key.layer),
            threshold,
            factor: 1.0 / (1.0 - p),
        }
    }

    /// One flag for each of the `PIECE` elements of row `r` from column `c` on (1: it stays), and
    /// where the first one is. Flags of elements that are not there mean nothing.
    #[inline(always)]
    fn flags(&self, r: usize, c: usize, flags: &mut [u8; FLAGS]) -> usize {
        let element = (self.first + r) * self.cols + c;
        let threshold = self.threshold;
        self.words.fill_with((element / 4) as u64, flags, |word| u8::from(word >> 8 >= threshold));
        element % 4
    }
}

struct Bits {
    draw: Draw,
    rows: Range<usize>,
    bits: SharedMut<u8>,
}

impl Kernel for Bits {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let cols = self.draw.cols;
        let mut flags = [0; FLAGS];
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.bits.slice(r * stride(cols), stride(cols)) };
            for (piece, bytes) in row.chunks_mut(PIECE / 8).enumerate() {
                let at = self.draw.flags(r, piece * PIECE, &mut flags);
                for (byte, eight) in bytes.iter_mut().zip(flags[at..].chunks_exact(8)) {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(eight);
                    // Byte i of the first factor comes to bit 56 + i, and no two products meet.
                    *byte =
                        (u64::from_le_bytes(bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
                }
            }
        }
    }
}

struct Apply {
    draw: Draw,
    rows: Range<usize>,
    x: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Apply {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut flags = [0; FLAGS];
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.x.slice(r * self.stride, self.draw.cols) };
            for (piece, values) in row.chunks_mut(PIECE).enumerate() {
                let at = self.draw.flags(r, piece * PIECE, &mut flags);
                for (v, &flag) in values.iter_mut().zip(&flags[at..]) {
                    *v = if flag != 0 { *v * self.draw.factor } else { 0.0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::cpu::testing::machines, random::philox::unit_f32};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn dropout_draws_by_element_and_leaves_what_lies_between_rows(first in 0usize..5, rows in 1usize..9, cols in 1usize..600, gap in 0usize..5, p in 0.05f32..0.9) {
            let stride = cols + gap;
            let dropout = Dropout { key: MaskKey { seed: 7, step: 3, layer: 2 }, p, first };
            let words = Philox::dropout(7, 3, 2);
            for (isa, threads) in machines() {
                let pool = Pool::new(threads);
                let mut x = vec![2.0f32; rows * stride];
                apply(&pool, isa, rows, cols, dropout, RowsMut::new(&mut x, stride));
                let mut bits = DropoutBits::new(rows, cols);
                let mask = bits.draw(&pool, isa, rows, cols, dropout);
                for (i, &v) in x.iter().enumerate() {
                    let (r, c) = (i / stride, i % stride);
                    let e = (first + r) * cols + c;
                    let dropped = unit_f32(words.block(e as u64 / 4)[e % 4]) < p;
                    let expected = if c >= cols { 2.0 } else if dropped { 0.0 } else { 2.0 * (1.0 / (1.0 - p)) };
                    prop_assert_eq!(v, expected);
                    if c < cols {
                        prop_assert_eq!(mask.bits[r * mask.stride + c / 8] >> (c % 8) & 1 == 0, dropped);
                    }
                }
            }
        }
    }

    #[test]
    fn a_dropout_of_a_fifth_drops_a_fifth() {
        let mut x = vec![1.0f32; 1000 * 999];
        let dropout = Dropout { key: MaskKey { seed: 1, step: 1, layer: 0 }, p: 0.2, first: 0 };
        apply(&Pool::new(2), Isa::best(), 1000, 999, dropout, RowsMut::new(&mut x, 999));
        let share = x.iter().filter(|&&v| v == 0.0).count() as f64 / x.len() as f64;
        assert!((share - 0.2).abs() < 0.002, "{share}");
    }
}
