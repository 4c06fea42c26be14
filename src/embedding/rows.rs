//! In what form rows are kept.

use super::{
    EmbeddingError, Table, sixteen,
    table::{Element, tables},
};
use serde::{Deserialize, Serialize};

/// The form of embedding rows in memory. Lookups widen rows to f32 (exactly), updates compute in
/// f32, optimizer state stays f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RowKind {
    /// f32.
    #[default]
    #[serde(rename = "fp32")]
    Fp32,
    /// bf16, rounded stochastically after each update: up or down with a chance such that the mean
    /// is exact. The random bits are a function of seed, step, table, row and column
    /// ([`crate::random::philox::Philox::rounding`]).
    #[serde(rename = "bf16")]
    Bf16,
    /// f16, rounded in the same way. Finer than bf16, but numbers end at 65,504 and have steps of
    /// at least 2^-24.
    #[serde(rename = "fp16")]
    Fp16,
    /// f32 in two halves of 16 bits, apart in memory: lookups read the upper ones only, which are
    /// the numbers rounded to the nearest bf16 (ties away from zero); updates read and write both
    /// and are exactly those of f32.
    #[serde(rename = "bf16-split")]
    Bf16Split,
}

impl RowKind {
    /// Every kind.
    pub const ALL: [RowKind; 4] = [RowKind::Fp32, RowKind::Bf16, RowKind::Fp16, RowKind::Bf16Split];

    /// `fp32`, `bf16`, `fp16` or `bf16-split`.
    pub fn name(self) -> &'static str {
        match self {
            RowKind::Fp32 => "fp32",
            RowKind::Bf16 => "bf16",
            RowKind::Fp16 => "fp16",
            RowKind::Bf16Split => "bf16-split",
        }
    }

    /// Bytes of an element that a lookup reads.
    pub fn lookup_bytes(self) -> usize {
        if self == RowKind::Fp32 { 4 } else { 2 }
    }

    /// Bytes of an element in all.
    pub fn bytes(self) -> usize {
        if self == RowKind::Bf16Split { 4 } else { self.lookup_bytes() }
    }
}

/// The rows of a table `[rows, dim]` in one of the forms.
#[derive(Debug)]
pub enum RowTable {
    /// As they are.
    Fp32(Table),
    /// bf16.
    Bf16(Table<u16>),
    /// f16.
    Fp16(Table<u16>),
    /// Two halves.
    Bf16Split {
        /// Upper halves.
        high: Table<u16>,
        /// Lower halves.
        low: Table<u16>,
    },
}

/// Where a table's first element is; good for reading and, while the caller has the rows to itself,
/// for writing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowPointer {
    Fp32(*mut f32),
    Bf16(*mut u16),
    Fp16(*mut u16),
    Bf16Split { high: *mut u16, low: *mut u16 },
}

/// Tables of zeros of one kind; as [`tables`].
pub(super) fn row_tables(
    kind: RowKind,
    shapes: &[(usize, usize)],
    what: &str,
) -> Result<Vec<RowTable>, EmbeddingError> {
    fn set<T: Element>(
        shapes: &[(usize, usize)],
        what: &str,
    ) -> Result<Vec<Table<T>>, EmbeddingError> {
        tables(shapes.iter().copied(), what)
    }
    Ok(match kind {
        RowKind::Fp32 => set(shapes, what)?.into_iter().map(RowTable::Fp32).collect(),
        RowKind::Bf16 => set(shapes, what)?.into_iter().map(RowTable::Bf16).collect(),
        RowKind::Fp16 => set(shapes, what)?.into_iter().map(RowTable::Fp16).collect(),
        RowKind::Bf16Split => {
            let halves = set(shapes, what)?.into_iter().zip(set(shapes, what)?);
            halves.map(|(high, low)| RowTable::Bf16Split { high, low }).collect()
        }
    })
}

impl RowTable {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            RowTable::Fp32(t) => t.rows(),
            RowTable::Bf16(t) | RowTable::Fp16(t) | RowTable::Bf16Split { high: t, .. } => t.rows(),
        }
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        match self {
            RowTable::Fp32(t) => t.dim(),
            RowTable::Bf16(t) | RowTable::Fp16(t) | RowTable::Bf16Split { high: t, .. } => t.dim(),
        }
    }

    /// Elements of all rows.
    pub fn elements(&self) -> usize {
        self.rows() * self.dim()
    }

    /// All elements, where they are f32.
    pub fn fp32_mut(&mut self) -> Option<&mut [f32]> {
        match self {
            RowTable::Fp32(t) => Some(t.values_mut()),
            _ => None,
        }
    }

    /// Copies elements `at..` out, split halves joined.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn read(&self, at: usize, out: &mut [f32]) {
        let n = out.len();
        match self {
            RowTable::Fp32(t) => out.copy_from_slice(&t.values()[at..][..n]),
            RowTable::Bf16Split { high, low } => {
                let halves = high.values()[at..][..n].iter().zip(&low.values()[at..][..n]);
                out.iter_mut()
                    .zip(halves)
                    .for_each(|(o, (&high, &low))| *o = sixteen::join(high, low));
            }
            _ => self.seen(at, out),
        }
    }

    /// Copies elements `at..` out as lookups see them: of split halves the upper ones.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn seen(&self, at: usize, out: &mut [f32]) {
        let widen = |t: &Table<u16>, out: &mut [f32], f: fn(u16) -> f32| {
            let n = out.len();
            out.iter_mut().zip(&t.values()[at..][..n]).for_each(|(o, &x)| *o = f(x));
        };
        match self {
            RowTable::Fp32(_) => self.read(at, out),
            RowTable::Fp16(t) => widen(t, out, sixteen::from_f16),
            RowTable::Bf16(t) | RowTable::Bf16Split { high: t, .. } => {
                widen(t, out, sixteen::from_bf16)
            }
        }
    }

    /// Sets elements `at..`, each rounded to the nearest that can be kept (ties to even); f32 and
    /// split halves keep all.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn write(&mut self, at: usize, values: &[f32]) {
        let n = values.len();
        let narrow = |t: &mut Table<u16>, f: fn(f32) -> u16| {
            t.values_mut()[at..][..n].iter_mut().zip(values).for_each(|(o, &x)| *o = f(x));
        };
        match self {
            RowTable::Fp32(t) => t.values_mut()[at..][..n].copy_from_slice(values),
            RowTable::Bf16(t) => narrow(t, sixteen::to_bf16),
            RowTable::Fp16(t) => narrow(t, sixteen::to_f16),
            RowTable::Bf16Split { high, low } => {
                narrow(high, |x| sixteen::split(x).0);
                narrow(low, |x| sixteen::split(x).1);
            }
        }
    }

    /// Lets `f` change all elements, given the present ones: `f(first element, part)`. All at once
    /// and in place where rows are f32, else in consecutive parts of up to `len` elements, through
    /// one part's worth of memory.
    pub fn edit(&mut self, len: usize, mut f: impl FnMut(usize, &mut [f32])) {
        if let Some(values) = self.fp32_mut() {
            return f(0, values);
        }
        let all = self.elements();
        let mut part = vec![0.0; len.min(all)];
        for at in (0..all).step_by(len) {
            let part = &mut part[..len.min(all - at)];
            self.read(at, part);
            f(at, part);
            self.write(at, part);
        }
    }

    /// One row, as [`RowTable::read`] has it.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.dim()];
        self.read(row * self.dim(), &mut out);
        out
    }

    pub(crate) fn pointer(&self) -> RowPointer {
        match self {
            RowTable::Fp32(t) => RowPointer::Fp32(t.as_ptr()),
            RowTable::Bf16(t) => RowPointer::Bf16(t.as_ptr()),
            RowTable::Fp16(t) => RowPointer::Fp16(t.as_ptr()),
            RowTable::Bf16Split { high, low } => {
                RowPointer::Bf16Split { high: high.as_ptr(), low: low.as_ptr() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back_as_near_as_the_kind_can() {
        for kind in RowKind::ALL {
            let mut set = row_tables(kind, &[(5, 3), (2, 3)], "a test").unwrap();
            let x = [0.1, -1.0 / 3.0, 5e-6];
            set[1].write(3, &x);
            let (mut read, mut seen) = ([0.0; 3], [0.0; 3]);
            set[1].read(3, &mut read);
            set[1].seen(3, &mut seen);
            let error = |got: [f32; 3]| {
                got.iter().zip(&x).map(|(g, x)| ((g - x) / x).abs()).fold(0.0, f32::max)
            };
            let (exact, lookup) = match kind {
                RowKind::Fp32 => (0.0, 0.0),
                RowKind::Bf16 => (0.004, 0.004),
                // 5e-6 is 84 steps of 2^-24.
                RowKind::Fp16 => (0.006, 0.006),
                RowKind::Bf16Split => (0.0, 0.004),
            };
            assert!(error(read) <= exact && error(seen) <= lookup, "{kind:?}: {read:?} {seen:?}");
            assert!((error(seen) > 0.0) == (kind != RowKind::Fp32));
            assert_eq!((set[1].row(0), set[0].row(4)), (vec![0.0; 3], vec![0.0; 3]));
            let mut parts = Vec::new();
            set[0].edit(4, |at, part| {
                parts.push((at, part.len()));
                part.iter_mut().enumerate().for_each(|(i, x)| *x += (at + i) as f32);
            });
            let expected: &[(usize, usize)] =
                if kind == RowKind::Fp32 { &[(0, 15)] } else { &[(0, 4), (4, 4), (8, 4), (12, 3)] };
            assert_eq!(parts, expected);
            assert_eq!(set[0].row(4), [12.0, 13.0, 14.0]);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
