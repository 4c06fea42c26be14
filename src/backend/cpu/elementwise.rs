//! What is left of element by element work once the matrix products have their fused ends.

use super::{
    gemm::{Isa, Rows, RowsMut},
    isa::vectorised,
    pool::{Pool, SharedMut},
};
use crate::{backend::MaskKey, random::philox::Philox};

/// Elements of a chunk, about: enough to pay for handing it out.
const CHUNK: usize = 1 << 14;

/// Rows of a chunk for matrices of `cols` columns.
fn rows_a_chunk(cols: usize) -> usize {
    (CHUNK / cols.max(1)).max(1)
}

/// Calls `f(r, row)` for all rows in parallel.
fn for_rows(pool: &Pool, isa: Isa, rows: usize, cols: usize, x: RowsMut<'_>, f: impl Fn(usize, &mut [f32]) + Sync) {
    let step = rows_a_chunk(cols);
    let (stride, out) = (x.stride, SharedMut::new(x.data));
    pool.run(rows.div_ceil(step), |chunk, _| {
        vectorised(isa, || {
            for r in chunk * step..rows.min((chunk + 1) * step) {
                // SAFETY: rows do not overlap, and each belongs to one chunk.
                f(r, unsafe { out.slice(r * stride, cols) });
            }
        });
    });
}

/// Zero in `dx` wherever the activation `x` is not above zero; both `[rows, cols]`.
pub fn relu_backward(pool: &Pool, isa: Isa, rows: usize, cols: usize, x: Rows<'_>, dx: RowsMut<'_>) {
    for_rows(pool, isa, rows, cols, dx, |r, row| {
        for (g, &a) in row.iter_mut().zip(&x.data[r * x.stride..][..cols]) {
            *g = if a > 0.0 { *g } else { 0.0 };
        }
    });
}

/// Multiplies `[rows, cols]` by `factor`.
pub fn scale(pool: &Pool, isa: Isa, rows: usize, cols: usize, factor: f32, x: RowsMut<'_>) {
    for_rows(pool, isa, rows, cols, x, |_, row| row.iter_mut().for_each(|v| *v *= factor));
}

/// Words of the mask made together.
const WORDS: usize = 256;

/// Zeroes elements of `[rows, cols]` with probability `p` and divides the others by `1 - p`. Element `(r, c)` draws word
/// `r * cols + c` of [`Philox::dropout`] and is dropped if that, as a number in [0, 1), is below `p`.
pub fn dropout(pool: &Pool, isa: Isa, rows: usize, cols: usize, key: MaskKey, p: f32, x: RowsMut<'_>) {
    let bits = Philox::dropout(key.seed, key.step, key.layer);
    // A word is dropped if its upper 24 bits, as a number in [0, 1), are below p.
    let threshold = (f64::from(p) * 16_777_216.0).ceil() as u32;
    let factor = 1.0 / (1.0 - p);
    for_rows(pool, isa, rows, cols, x, |r, row| {
        let mut words = [0u32; WORDS];
        // The first element of a piece may stand in the middle of a block of four words.
        let mut done = 0;
        while done < cols {
            let element = r * cols + done;
            let skip = element % 4;
            let n = (WORDS - skip).min(cols - done);
            bits.fill_u32((element / 4) as u64, &mut words[..skip + n]);
            for (v, &word) in row[done..done + n].iter_mut().zip(&words[skip..]) {
                *v = if word >> 8 < threshold { 0.0 } else { *v * factor };
            }
            done += n;
        }
    });
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
    fn relu_backward_clears_what_relu_cut() {
        let x = [1.0, 0.0, -1.0, 9.0, 2.0, 3.0, 0.0, 9.0];
        let mut g = [5.0f32; 8];
        relu_backward(&Pool::new(1), Isa::best(), 2, 3, Rows::new(&x, 4), RowsMut::new(&mut g, 4));
        assert_eq!(g, [5.0, 0.0, 0.0, 5.0, 5.0, 5.0, 0.0, 5.0]);
    }
}
