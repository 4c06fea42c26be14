//! Dense columns as fields: `out[b, j * dim + k] = x[b, j] * w[j, k]`.

use super::gemm::{Rows, RowsMut};
use crate::host::pool::{Pool, SharedMut};

/// Rows of a chunk.
const BLOCK: usize = 64;

/// Sizes of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldShape {
    /// Samples.
    pub rows: usize,
    /// Dense columns.
    pub columns: usize,
    /// Elements of a column's vector.
    pub dim: usize,
}

/// `x [rows, columns]`, `w [columns, dim]`, `out [rows, columns * dim]`.
pub fn forward(pool: &Pool, s: FieldShape, x: Rows<'_>, w: &[f32], out: RowsMut<'_>) {
    let (stride, y) = (out.stride, SharedMut::new(out.data));
    pool.run(s.rows.div_ceil(BLOCK), |b, _| {
        for r in b * BLOCK..s.rows.min((b + 1) * BLOCK) {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let y = unsafe { y.slice(r * stride, s.columns * s.dim) };
            let x = &x.data[r * x.stride..][..s.columns];
            for ((y, w), &x) in y.chunks_exact_mut(s.dim).zip(w.chunks_exact(s.dim)).zip(x) {
                y.iter_mut().zip(w).for_each(|(y, w)| *y = x * w);
            }
        }
    });
}

/// `dw[j, k] = sum_b x[b, j] * dout[b, j * dim + k]`, each column summed in the order of the batch.
pub fn backward(pool: &Pool, s: FieldShape, x: Rows<'_>, dout: Rows<'_>, dw: &mut [f32]) {
    let dw = SharedMut::new(dw);
    pool.run(s.columns, |j, _| {
        // SAFETY: each chunk writes its own column's vector.
        let dw = unsafe { dw.slice(j * s.dim, s.dim) };
        dw.fill(0.0);
        // Blocks are summed apart first, which keeps rounding small in large batches.
        for start in (0..s.rows).step_by(BLOCK) {
            for (k, dw) in dw.iter_mut().enumerate() {
                let rows = start..s.rows.min(start + BLOCK);
                *dw += rows
                    .map(|r| x.data[r * x.stride + j] * dout.data[r * dout.stride + j * s.dim + k])
                    .sum::<f32>();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_columns_of_two() {
        let pool = Pool::new(2);
        let s = FieldShape { rows: 2, columns: 2, dim: 2 };
        let x = [1.0, 2.0, 3.0, 4.0];
        let mut out = [0.0; 10];
        forward(&pool, s, Rows::new(&x, 2), &[1.0, 10.0, 100.0, 1000.0], RowsMut::new(&mut out, 5));
        assert_eq!(out, [1.0, 10.0, 200.0, 2000.0, 0.0, 3.0, 30.0, 400.0, 4000.0, 0.0]);
        let mut dw = [9.0; 4];
        backward(
            &pool,
            s,
            Rows::new(&x, 2),
            Rows::new(&[1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0], 4),
            &mut dw,
        );
        assert_eq!(dw, [4.0, 5.0, 10.0, 12.0]);
    }
}
