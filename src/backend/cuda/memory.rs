//! Buffers of f32 and of batches in a GPU's memory.

use super::driver::{Address, Driver, Memory, Staging, bytes_of};
use crate::{
    backend::{
        BackendError, InputShape, Mat, MatMut, Result, Window,
        cpu::pool::{Pool, SharedMut},
    },
    data::Batch,
};
use std::{
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

/// Rows of dense features that a thread copies at a time.
const BLOCK: usize = 1024;

/// A buffer of f32.
#[derive(Debug)]
pub struct Floats {
    memory: Memory,
    len: usize,
}

impl Floats {
    /// Zeros.
    pub(super) fn zeros(driver: &Rc<dyn Driver>, len: usize, what: &str) -> Result<Self> {
        let bytes = len.checked_mul(size_of::<f32>());
        let bytes = bytes.ok_or_else(|| BackendError::Memory { what: what.to_string(), bytes: u64::MAX })?;
        Ok(Floats { memory: Memory::zeros(driver, bytes, what)?, len })
    }

    /// Elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where `n` elements from `at` on are.
    ///
    /// # Panics
    /// If there are not so many.
    pub(super) fn at(&self, at: usize, n: usize) -> Address {
        assert!(at + n <= self.len, "{n} elements from {at} on, of {}", self.len);
        self.memory.at() + (at * size_of::<f32>()) as Address
    }
}

/// A matrix as kernels take it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Of the first element.
    pub at: Address,
    /// Elements from one row to the next.
    pub stride: u32,
    pub rows: u32,
    pub cols: u32,
}

impl Place {
    fn new(buffer: &Floats, window: Window, rows: usize) -> Place {
        let Window { at, stride, cols } = window;
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
        assert!(stride >= cols || rows <= 1, "rows of {cols} columns every {stride}");
        Place { at: buffer.at(at, needed), stride: stride as u32, rows: rows as u32, cols: cols as u32 }
    }
}

impl Mat<'_, Floats> {
    pub(super) fn place(&self) -> Place {
        Place::new(self.buf, self.window, self.rows)
    }
}

impl MatMut<'_, Floats> {
    pub(super) fn place(&self) -> Place {
        Place::new(self.buf, self.window, self.rows)
    }
}

/// A batch: one buffer of 32-bit words, which comes over in one piece.
#[derive(Debug)]
pub struct Input {
    dense_columns: usize,
    pub(super) dense_width: usize,
    max_batch: usize,
    pub(super) tables: usize,
    /// Samples.
    pub(super) len: usize,
    /// Ids of all tables.
    pub(super) ids: usize,
    /// Whether each bag has exactly one id; then there are no offsets.
    one_hot: bool,
    /// `[dense [len, dense_width] | labels [len] | first id of each table, and their number | ids | offsets [tables, len + 1]]`.
    pub(super) words: Floats,
    staging: Staging,
    /// First row of each table among the rows of all, and their number.
    pub(super) row_base: Memory,
    /// Rows of all tables.
    pub(super) rows: usize,
    /// Most ids of all tables.
    pub(super) max_ids: usize,
    /// Occurrences by row: keys and samples, twice each, and counters.
    pub(super) sorted: Memory,
    /// Which of the two are sorted.
    pub(super) turn: usize,
}

impl Input {
    /// Room for batches up to `shape`.
    pub(super) fn new(driver: &Rc<dyn Driver>, shape: &InputShape<'_>) -> Result<Self> {
        let tables = shape.rows.len();
        let max_ids = shape.max_hotness.iter().sum::<usize>() * shape.max_batch;
        let mut row_base = vec![0u32];
        let mut rows = 0;
        for &n in shape.rows {
            rows += n;
            row_base.push(rows.try_into().map_err(|_| too_many("rows", rows))?);
        }
        u32::try_from(max_ids).map_err(|_| too_many("ids in a batch", max_ids))?;
        let bags = tables * (shape.max_batch + 1);
        let words = shape.max_batch * (shape.dense_width + 1) + tables + 1 + max_ids + bags;
        let base = Memory::zeros(driver, row_base.len() * size_of::<u32>(), "the tables' sizes")?;
        driver.to_device(base.at(), bytes_of(&row_base))?;
        let sorted = super::groups::words(max_ids) * size_of::<u32>();
        Ok(Input {
            dense_columns: shape.dense,
            dense_width: shape.dense_width,
            max_batch: shape.max_batch,
            tables,
            len: 0,
            ids: 0,
            one_hot: false,
            words: Floats::zeros(driver, words, "a batch")?,
            staging: Staging::new(driver, words)?,
            row_base: base,
            rows,
            max_ids,
            sorted: Memory::zeros(driver, sorted, "a batch's ids sorted by row")?,
            turn: 0,
        })
    }

    /// Brings a batch over: the host's threads put it together in memory that the device reads.
    ///
    /// # Panics
    /// If it is larger than what there is room for.
    pub(super) fn upload(&mut self, pool: &Pool, batch: &Batch) -> Result<()> {
        let (n, width, columns, tables) = (batch.len, self.dense_width, self.dense_columns, self.tables);
        assert!(n <= self.max_batch && batch.labels.len() == n && batch.bags.len() == tables && batch.dense.len() == n * columns);
        let ids: usize = batch.bags.iter().map(|b| b.indices.len()).sum();
        assert!(ids <= self.max_ids && batch.bags.iter().all(|b| b.offsets.len() == n + 1));
        let to = self.staging.words()?;
        let (dense, rest) = to.split_at_mut(n * width);
        let (labels, rest) = rest.split_at_mut(n);
        let (base, rest) = rest.split_at_mut(tables + 1);
        let (all_ids, offsets) = rest.split_at_mut(ids);
        labels.iter_mut().zip(&batch.labels).for_each(|(to, x)| *to = x.to_bits());
        base[0] = 0;
        for (k, bags) in batch.bags.iter().enumerate() {
            base[k + 1] = base[k] + bags.indices.len() as u32;
        }
        let (base, all_ids, one_hot) = (&*base, SharedMut::new(all_ids), AtomicBool::new(true));
        pool.run(tables, |k, _| {
            let bags = &batch.bags[k];
            // SAFETY: each table has its own ids.
            unsafe { all_ids.slice(base[k] as usize, bags.indices.len()) }.copy_from_slice(&bags.indices);
            if !bags.is_one_hot() {
                one_hot.store(false, Ordering::Relaxed);
            }
        });
        let (dense, blocks) = (SharedMut::new(dense), if width > 0 { n.div_ceil(BLOCK) } else { 0 });
        pool.run(blocks, |block, _| {
            for r in block * BLOCK..n.min((block + 1) * BLOCK) {
                // SAFETY: each row belongs to one block.
                let (row, padding) = unsafe { dense.slice(r * width, width) }.split_at_mut(columns);
                row.iter_mut().zip(&batch.dense[r * columns..]).for_each(|(to, x)| *to = x.to_bits());
                padding.fill(0);
            }
        });
        (self.len, self.ids, self.one_hot) = (n, ids, one_hot.into_inner());
        let mut words = n * (width + 1) + tables + 1 + ids;
        if !self.one_hot {
            for (to, bags) in offsets.chunks_exact_mut(n + 1).zip(&batch.bags) {
                to.copy_from_slice(&bags.offsets);
            }
            words += tables * (n + 1);
        }
        self.staging.send(self.words.at(0, words), words)
    }

    /// Where the labels are.
    pub(super) fn labels(&self) -> Address {
        self.words.at(self.len * self.dense_width, self.len)
    }

    /// Where the first id of each table among all is said.
    pub(super) fn id_base(&self) -> Address {
        self.words.at(self.len * (self.dense_width + 1), self.tables + 1)
    }

    /// Where the ids are.
    pub(super) fn ids(&self) -> Address {
        self.words.at(self.len * (self.dense_width + 1) + self.tables + 1, self.ids)
    }

    /// Where the offsets are; null if each bag has exactly one id.
    pub(super) fn offsets(&self) -> Address {
        if self.one_hot {
            return 0;
        }
        let at = self.len * (self.dense_width + 1) + self.tables + 1 + self.ids;
        self.words.at(at, self.tables * (self.len + 1))
    }
}

fn too_many(what: &str, n: usize) -> BackendError {
    BackendError::Device(format!("{n} {what} of all tables together; a GPU takes up to {}", u32::MAX))
}
