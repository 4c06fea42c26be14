//! Planted data made where it is used: the samples of `data/source/planted`, bit by bit.

use super::{
    driver::{Address, Driver, Launch, Memory, Plain, Source, bytes_of},
    launch::launch,
};
use crate::{
    backend::Result,
    batch::{ColumnNumbers, DenseNumbers, GeneratedLog, PairNumbers, Span},
};
use std::rc::Rc;

pub(super) static SOURCE: Source = Source {
    name: "planted",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/philox.cuh"),
        include_str!("common/exact.cuh"),
        include_str!("planted.cu"),
    ],
};

/// `Log` in planted.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Log {
    gain: f64,
    bias: f64,
    key: [u32; 2],
    tables: u32,
    dense: u32,
    pairs: u32,
    unused: u32,
}
// SAFETY: two numbers of 64 bits and six of 32.
unsafe impl Plain for Log {}
// SAFETY: six numbers of 64 bits and 22 of 32 (`Column` in planted.cu).
unsafe impl Plain for ColumnNumbers {}
// SAFETY: three numbers of 32 bits (`Pair`).
unsafe impl Plain for PairNumbers {}
// SAFETY: two numbers of 64 bits and six of 32 (`Count`).
unsafe impl Plain for DenseNumbers {}

/// A log on the device: a few kilobytes, brought over once.
#[derive(Debug)]
pub struct Planted {
    log: Memory,
    columns: Memory,
    pairs: Memory,
    dense: Memory,
    /// Ids of a sample, in all columns and in the one with most.
    hotness: (usize, usize),
    tables: usize,
}

/// Where the parts of a batch of `n` samples are to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// `[n, width]`.
    pub dense: Address,
    /// Columns of it; those that the log lacks become 0.
    pub width: usize,
    /// `[n]`.
    pub labels: Address,
    /// First id of each table, and their number.
    pub id_base: Address,
    /// All ids.
    pub ids: Address,
    /// `[tables, n + 1]`, or null.
    pub offsets: Address,
}

impl Planted {
    /// Brings a log to the device.
    pub(super) fn new(driver: &Rc<dyn Driver>, numbers: &GeneratedLog) -> Result<Self> {
        let GeneratedLog { seed, gain, bias, columns, pairs, dense } = numbers;
        let log = Log {
            gain: *gain,
            bias: *bias,
            key: [*seed as u32, (seed >> 32) as u32],
            tables: columns.len() as u32,
            dense: dense.len() as u32,
            pairs: pairs.len() as u32,
            unused: 0,
        };
        let hotness = columns.iter().map(|c| c.hotness as usize);
        Ok(Planted {
            log: there(driver, &[log])?,
            columns: there(driver, columns)?,
            pairs: there(driver, pairs)?,
            dense: there(driver, dense)?,
            hotness: (hotness.clone().sum(), hotness.max().unwrap_or(0)),
            tables: columns.len(),
        })
    }

    /// Categorical columns.
    pub(super) fn tables(&self) -> usize {
        self.tables
    }

    /// Ids of `n` samples in all tables.
    pub(super) fn ids(&self, n: usize) -> usize {
        n * self.hotness.0
    }

    /// Whether each bag has exactly one id.
    pub(super) fn one_hot(&self) -> bool {
        self.hotness == (self.tables, self.tables.min(1))
    }

    /// Makes samples.
    pub(super) fn make(&self, driver: &dyn Driver, span: Span, to: Places) -> Result<()> {
        let Span { split, first, len } = span;
        let Places { dense, width, labels, id_base, ids, offsets } = to;
        let (log, columns, pairs, counts, width) =
            (self.log.at(), self.columns.at(), self.pairs.at(), self.dense.at(), width as u32);
        let n = len as u32;
        let by_table = |elements: usize| {
            let all = Launch::all(elements);
            Launch { grid: [all.grid[0], self.tables.max(1) as u32, 1], ..all }
        };
        // Without tables there are no offsets, but there is the number of ids.
        let offsets = if self.tables > 0 { offsets } else { 0 };
        launch!(
            driver,
            SOURCE,
            "planted_bags",
            by_table(if offsets == 0 { 1 } else { len + 1 }),
            log,
            columns,
            n,
            id_base,
            offsets
        )?;
        if self.tables > 0 {
            let shape = by_table(len * self.hotness.1);
            launch!(
                driver,
                SOURCE,
                "planted_ids",
                shape,
                log,
                columns,
                split,
                first,
                n,
                id_base,
                ids
            )?;
        }
        if width > 0 {
            let shape = Launch::all(len * width.div_ceil(2) as usize);
            launch!(
                driver,
                SOURCE,
                "planted_dense",
                shape,
                log,
                counts,
                split,
                first,
                n,
                dense,
                width
            )?;
        }
        let shape = Launch::each(len);
        launch!(
            driver,
            SOURCE,
            "planted_labels",
            shape,
            log,
            columns,
            pairs,
            counts,
            split,
            first,
            n,
            id_base,
            ids,
            dense,
            width,
            labels
        )
    }
}

fn there<T: Plain>(driver: &Rc<dyn Driver>, values: &[T]) -> Result<Memory> {
    let memory = Memory::zeros(driver, size_of_val(values), "a planted log")?;
    driver.to_device(memory.at(), bytes_of(values))?;
    Ok(memory)
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
