//! Rows of whole numbers with a scale and a bias each, to predict with: what
//! `embedding_bag_byte_prepack` and `embedding_bag_4bit_prepack` of PyTorch make of a table
//! (FBGEMM, src/QuantUtils.cc, FloatOrHalfToFused8BitRowwiseQuantizedSBFloat and
//! FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf).
//!
//! A row is its codes, then its scale, then its bias, without a gap; element `c` is `bias` plus
//! `scale` times its code.

use super::{
    EmbeddingError, Table,
    sixteen::{from_f16, to_f16},
    tables,
};
use serde::Serialize;

/// Bits of a code, and what is kept beside the codes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuantisedRows {
    /// A byte an element, scale and bias in f32.
    Int8,
    /// Half a byte an element, the even column in the lower half; scale and bias in f16.
    Int4,
}

impl QuantisedRows {
    /// Every kind.
    pub const ALL: [QuantisedRows; 2] = [QuantisedRows::Int8, QuantisedRows::Int4];

    /// `int8` or `int4`.
    pub fn name(self) -> &'static str {
        match self {
            QuantisedRows::Int8 => "int8",
            QuantisedRows::Int4 => "int4",
        }
    }

    /// Bytes of the codes of a row of `dim` elements; scale and bias lie behind them.
    pub(crate) fn codes(self, dim: usize) -> usize {
        match self {
            QuantisedRows::Int8 => dim,
            QuantisedRows::Int4 => dim.div_ceil(2),
        }
    }

    /// Bytes of a row of `dim` elements.
    pub fn row_bytes(self, dim: usize) -> usize {
        let beside = match self {
            QuantisedRows::Int8 => 8,
            QuantisedRows::Int4 => 4,
        };
        self.codes(dim) + beside
    }

    /// Whether a row of `dim` elements takes less memory so than in f32. A row of one number, as a
    /// DeepFM's linear terms have it, does not, and stays as it is.
    pub fn smaller(self, dim: usize) -> bool {
        self.row_bytes(dim) < 4 * dim
    }

    /// Scale and bias of a row.
    #[inline(always)]
    pub(crate) fn scale_bias(self, row: &[u8]) -> (f32, f32) {
        match self {
            QuantisedRows::Int8 => {
                let [.., a, b, c, d, e, f, g, h] = *row else { return (0.0, 0.0) };
                (f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]))
            }
            QuantisedRows::Int4 => {
                let [.., a, b, c, d] = *row else { return (0.0, 0.0) };
                (from_f16(u16::from_le_bytes([a, b])), from_f16(u16::from_le_bytes([c, d])))
            }
        }
    }

    /// The code of column `c` of a row.
    fn code(self, row: &[u8], c: usize) -> u8 {
        match self {
            QuantisedRows::Int8 => row[c],
            QuantisedRows::Int4 => row[c / 2] >> (4 * (c % 2)) & 15,
        }
    }

    /// Quantises one row. Elements that are not finite, or lie further apart than f32 reaches, make
    /// all of it NaN, so that they do not get lost.
    pub(crate) fn quantise(self, x: &[f32], row: &mut [u8]) {
        let (codes, beside) = row.split_at_mut(self.codes(x.len()));
        let (min, max) = x
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &v| (min.min(v), max.max(v)));
        let range = max - min;
        let finite = range.is_finite() && x.iter().all(|v| v.is_finite());
        match self {
            QuantisedRows::Int8 => {
                let scale = if finite { range / 255.0 } else { f32::NAN };
                let inverse = 255.0 / (range + 1e-8);
                for (code, &v) in codes.iter_mut().zip(x) {
                    *code = ((v - min) * inverse).round_ties_even() as u8;
                }
                beside[..4].copy_from_slice(&scale.to_le_bytes());
                beside[4..].copy_from_slice(&min.to_le_bytes());
            }
            QuantisedRows::Int4 => {
                let bias16 = to_f16(min);
                let bias = from_f16(bias16);
                let mut scale16 = to_f16((max - bias) / 15.0);
                let scale = from_f16(scale16);
                if scale == 0.0 || (1.0 / scale).is_infinite() {
                    scale16 = to_f16(1.0);
                }
                if !finite {
                    scale16 = to_f16(f32::NAN);
                }
                let inverse = 1.0 / from_f16(scale16);
                codes.fill(0);
                for (c, &v) in x.iter().enumerate() {
                    let code = ((v - bias) * inverse).round_ties_even().clamp(0.0, 15.0) as u8;
                    codes[c / 2] |= code << (4 * (c % 2));
                }
                beside[..2].copy_from_slice(&scale16.to_le_bytes());
                beside[2..].copy_from_slice(&bias16.to_le_bytes());
            }
        }
    }
}

/// A quantised table `[rows, dim]`.
#[derive(Debug)]
pub struct QuantisedTable {
    kind: QuantisedRows,
    dim: usize,
    /// `[rows, kind.row_bytes(dim)]`.
    bytes: Table<u8>,
}

/// Tables of zeros of one kind with these rows, each `dim` wide; as [`tables`].
pub(super) fn quantised_tables(
    kind: QuantisedRows,
    rows: &[usize],
    dim: usize,
    what: &str,
) -> Result<Vec<QuantisedTable>, EmbeddingError> {
    let all = tables(rows.iter().map(|&rows| (rows, kind.row_bytes(dim))), what)?;
    Ok(all.into_iter().map(|bytes| QuantisedTable { kind, dim, bytes }).collect())
}

impl QuantisedTable {
    /// How its rows are kept.
    pub fn kind(&self) -> QuantisedRows {
        self.kind
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.bytes.rows()
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All rows, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.values()
    }

    /// The bytes of rows `first..first + n`, to change.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn rows_mut(&mut self, first: usize, n: usize) -> &mut [u8] {
        let width = self.bytes.dim();
        &mut self.bytes.values_mut()[first * width..][..n * width]
    }

    /// Copies elements `at..` out, as lookups see them.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn read(&self, at: usize, out: &mut [f32]) {
        for (i, o) in out.iter_mut().enumerate() {
            let (row, c) = ((at + i) / self.dim, (at + i) % self.dim);
            let row = self.bytes.row(row);
            let (scale, bias) = self.kind.scale_bias(row);
            *o = f32::from(self.kind.code(row, c)).mul_add(scale, bias);
        }
    }
}

#[cfg(test)]
mod tests;
