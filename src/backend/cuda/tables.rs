//! Embedding tables in a GPU's memory, with row weights and optimizer state.

use super::{
    bags,
    driver::{Address, Driver, Memory, Plain, bytes_of, bytes_of_mut, gemm::Number},
    elementwise,
    scratch::{Purpose, Scratch},
    sparse_update,
};
use crate::{
    backend::{PART, Result, TableState, TablesShape},
    embedding::RowKind,
    model::Pooling,
};
use std::rc::Rc;

/// Where a table is, as kernels read it (`Rows` in sixteen.cuh); 0 for what there is not.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Pointers {
    values: Address,
    low: Address,
    weights: Address,
    state: [Address; 2],
    weight_state: [Address; 2],
}
// SAFETY: seven addresses.
unsafe impl Plain for Pointers {}

/// A set of tables of equal width that read some columns of a batch, one after another.
#[derive(Debug)]
pub struct Tables {
    /// Rows of each.
    pub(super) rows: Vec<usize>,
    /// Elements of a row.
    pub(super) dim: usize,
    /// The column of a batch that the first table reads; the others read those behind it.
    pub(super) column: usize,
    /// In what form rows are kept.
    pub(super) kind: Kind,
    /// Number of the first table among all of the model.
    pub(super) first: usize,
    pub(super) pooling: Pooling,
    /// Whether the rule moves rows that a batch does not touch.
    pub(super) all_rows: bool,
    /// Numbers a row of each buffer of state, beside rows and beside their weights.
    widths: [Vec<usize>; 2],
    /// Which tables have not been changed since they were made, so that nobody has to look what is
    /// in them.
    untouched: Vec<bool>,
    pointers: Vec<Pointers>,
    on_device: Memory,
    /// Everything that the pointers lead to.
    _memory: Vec<Memory>,
}

/// [`RowKind`] with the numbers of sixteen.cuh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Fp32 = 0,
    Bf16 = 1,
    Fp16 = 2,
    Bf16Split = 3,
}

impl From<RowKind> for Kind {
    fn from(kind: RowKind) -> Self {
        match kind {
            RowKind::Fp32 => Kind::Fp32,
            RowKind::Bf16 => Kind::Bf16,
            RowKind::Fp16 => Kind::Fp16,
            RowKind::Bf16Split => Kind::Bf16Split,
        }
    }
}

impl Tables {
    /// Tables of zeros, row weights of ones, state as the rule has it at start.
    pub(super) fn new(driver: &Rc<dyn Driver>, shape: &TablesShape<'_>) -> Result<Self> {
        let &TablesShape { rows, dim, column, kind, first, pooling, rule } = shape;
        sparse_update::check_dim(dim)?;
        let state = rule.state();
        let mut memory = Vec::new();
        let mut make = |elements: usize, bytes: usize, value: f32, what: &str| -> Result<Address> {
            let what = format!("{what} of {} embedding tables of dimension {dim}", rows.len());
            let piece = Memory::zeros(driver, elements * bytes, &what)?;
            if value != 0.0 {
                elementwise::fill(&**driver, piece.at(), Number::F32, elements, value)?;
            }
            memory.push(piece);
            Ok(memory[memory.len() - 1].at())
        };
        let weighted = matches!(pooling, Pooling::WeightedFixed | Pooling::WeightedLearned);
        let mut pointers = Vec::with_capacity(rows.len());
        for &n in rows {
            let mut p = Pointers {
                values: make(n * dim, kind.lookup_bytes(), 0.0, "rows")?,
                ..Pointers::default()
            };
            if kind == RowKind::Bf16Split {
                p.low = make(n * dim, 2, 0.0, "rows")?;
            }
            for (s, (width, initial)) in p.state.iter_mut().zip(state.rows(dim)) {
                *s = make(n * width, 4, initial, "optimizer state")?;
            }
            if weighted {
                p.weights = make(n, 4, 1.0, "row weights")?;
            }
            if pooling == Pooling::WeightedLearned {
                for (s, (width, initial)) in p.weight_state.iter_mut().zip(state.rows(1)) {
                    *s = make(n * width, 4, initial, "optimizer state of row weights")?;
                }
            }
            pointers.push(p);
        }
        let on_device = Memory::zeros(driver, size_of_val(&*pointers), "the tables' addresses")?;
        driver.to_device(on_device.at(), bytes_of(&pointers))?;
        Ok(Tables {
            rows: rows.to_vec(),
            dim,
            column,
            kind: kind.into(),
            first,
            pooling,
            all_rows: state.moves_all_rows,
            widths: [dim, 1].map(|dim| state.rows(dim).map(|(width, _)| width).collect()),
            untouched: vec![true; rows.len()],
            pointers,
            on_device,
            _memory: memory,
        })
    }

    /// Where the tables' addresses are.
    pub(super) fn at(&self) -> Address {
        self.on_device.at()
    }

    /// To be called before an update of any of the rows.
    pub(super) fn touch(&mut self) {
        self.untouched.fill(false);
    }

    /// The same for the rows of one table.
    pub(super) fn touch_one(&mut self, k: usize) {
        self.untouched[k] = false;
    }

    /// Numbers a row of a buffer of state.
    pub(super) fn width(&self, state: TableState) -> usize {
        self.widths[usize::from(state.of_weights)][state.buffer]
    }

    /// That table `k` has these rows, and that there are values for them.
    pub(super) fn check_rows(&self, k: usize, rows: &[u32], values: usize, width: usize) {
        let has = |&row: &u32| (row as usize) < self.rows[k];
        assert!(rows.iter().all(has) && values == rows.len() * width, "rows of a table");
    }

    /// Whether rows have weights.
    pub(super) fn weighted(&self) -> bool {
        matches!(self.pooling, Pooling::WeightedFixed | Pooling::WeightedLearned)
    }

    /// Whether those are trained.
    pub(super) fn learned(&self) -> bool {
        self.pooling == Pooling::WeightedLearned
    }

    /// Copies elements `first..` of table `k` out.
    pub(super) fn read(
        &self,
        driver: &dyn Driver,
        scratch: &mut Scratch,
        k: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        assert!(first + out.len() <= self.rows[k] * self.dim, "a table has its elements");
        let part = scratch.get(Purpose::Table, out.len().min(PART) * size_of::<f32>())?;
        for (i, out) in out.chunks_mut(PART).enumerate() {
            bags::widen(driver, self, k, first + i * PART, out.len(), part)?;
            driver.to_host(part, bytes_of_mut(out))?;
        }
        Ok(())
    }

    /// Lets `f` change table `k` in parts, given the present values: `f(first element, part)`.
    pub(super) fn edit(
        &mut self,
        driver: &dyn Driver,
        scratch: &mut Scratch,
        k: usize,
        mut f: impl FnMut(usize, &mut [f32]),
    ) -> Result<()> {
        let all = self.rows[k] * self.dim;
        let at = scratch.get(Purpose::Table, all.min(PART) * size_of::<f32>())?;
        let mut part = vec![0.0f32; all.min(PART)];
        for first in (0..all).step_by(PART) {
            let part = &mut part[..PART.min(all - first)];
            if self.untouched[k] {
                part.fill(0.0);
            } else {
                bags::widen(driver, self, k, first, part.len(), at)?;
                driver.to_host(at, bytes_of_mut(part))?;
            }
            f(first, part);
            driver.to_device(at, bytes_of(part))?;
            bags::narrow(driver, self, k, first, part.len(), at)?;
        }
        self.untouched[k] = false;
        Ok(())
    }

    /// Sets elements `first..` of table `k`.
    pub(super) fn write(
        &mut self,
        driver: &dyn Driver,
        scratch: &mut Scratch,
        k: usize,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        let all = self.rows[k] * self.dim;
        assert!(first + values.len() <= all, "a table has its elements");
        self.untouched[k] = false;
        let at = scratch.get(Purpose::Table, all.min(PART) * size_of::<f32>())?;
        for (i, part) in values.chunks(PART).enumerate() {
            driver.to_device(at, bytes_of(part))?;
            bags::narrow(driver, self, k, first + i * PART, part.len(), at)?;
        }
        Ok(())
    }

    /// Copies the row weights of table `k` out from row `first` on, if there are any.
    pub(super) fn read_weights(
        &self,
        driver: &dyn Driver,
        k: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        if !self.weighted() {
            return Ok(());
        }
        assert!(first + out.len() <= self.rows[k], "one weight for each row");
        let at = self.pointers[k].weights + (first * size_of::<f32>()) as Address;
        driver.to_host(at, bytes_of_mut(out))
    }

    /// Where number `first` of a buffer of state is, behind which there are `len`.
    pub(super) fn state(&self, state: TableState, first: usize, len: usize) -> Address {
        let TableState { table, of_weights, buffer } = state;
        let pointers = &self.pointers[table];
        let all = if of_weights { pointers.weight_state } else { pointers.state };
        assert!(first + len <= self.rows[table] * self.width(state));
        all[buffer] + (first * size_of::<f32>()) as Address
    }

    /// Lets `f` change the row weights of table `k`, if there are any.
    pub(super) fn edit_weights(
        &mut self,
        driver: &dyn Driver,
        k: usize,
        f: impl FnOnce(&mut [f32]),
    ) -> Result<()> {
        if !self.weighted() {
            return Ok(());
        }
        let mut values = vec![0.0f32; self.rows[k]];
        driver.to_host(self.pointers[k].weights, bytes_of_mut(&mut values))?;
        f(&mut values);
        driver.to_device(self.pointers[k].weights, bytes_of(&values))
    }
}
