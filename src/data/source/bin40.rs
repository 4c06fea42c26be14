//! Binary records of facebook and MLPerf, read as they are needed from files that are mapped into memory.
//!
//! As `CriteoBinDataset` (facebookresearch/dlrm, data_loader_terabyte.py) reads them: `ln(x + 1)` of the counts and ids modulo
//! `max_ind_range` at reading. Its `--mlperf-bin-shuffle` deals whole batches in a new order every epoch and leaves the samples of a
//! batch together; here the short batch at the end stays there, so that every batch but the last is whole.

use super::{
    super::{
        Batch, Column, DataError, Dataset, Facts, Schema, Source,
        dense::Dense,
        format::bin40::{Records, number},
        preprocess::criteo::{DENSE, RECORD, TABLES},
        rows::{Layout, Numbers, Place, wrong},
    },
    ids::{Ids, untransformed},
    order::Order,
};
use crate::workload::{BatchShuffle, Bin40Config, TrainSection};
use std::path::Path;

/// Records that are looked at together when the largest ids are sought.
const CHUNK: u64 = 1 << 14;
/// Records that are taken apart together.
const BLOCK: usize = 64;

/// Opens the files. Where the sizes of the tables are not given, all records are read once to find the largest ids.
///
/// # Errors
/// If a file cannot be read, holds no whole records or none at all, or if an id is negative.
pub fn open(config: &Bin40Config, train: &TrainSection) -> Result<Dataset, DataError> {
    let files = [Some(&config.train), Some(&config.eval), config.test.as_ref()].into_iter().flatten();
    let records = files.map(|path| records(path)).collect::<Result<Vec<_>, _>>()?;
    let mut notes = vec![format!("train: {} samples, eval: {} samples", records[0].len(), records[1].len())];
    let rows = match &config.tables {
        Some(rows) => rows.clone(),
        None => {
            notes.push("rows of the tables by the largest ids in the files".into());
            rows_of(&records, config.max_ind_range)?
        }
    };
    let (schema, mut records) = (schema(&rows), records.into_iter());
    let mut source = |shuffle: BatchShuffle| -> Result<Option<Box<dyn Source>>, DataError> {
        let Some(records) = records.next() else { return Ok(None) };
        let dense = Dense::new(config.dense_transform).ok_or_else(untransformed)?;
        let ids = Ids { rows: rows.clone(), range: config.max_ind_range };
        let order = match shuffle {
            BatchShuffle::None => None,
            BatchShuffle::Batch => Some(Batches::new(train, &records)?),
        };
        Ok(Some(Box::new(Bin40 { schema: schema.clone(), layout: Layout::criteo(Numbers::Int32), records, dense, ids, order })))
    };
    let none = || DataError::Invalid("a split is missing".into());
    Ok(Dataset {
        train: source(config.shuffle)?.ok_or_else(none)?,
        eval: source(BatchShuffle::None)?.ok_or_else(none)?,
        test: source(BatchShuffle::None)?,
        facts: Facts { notes, ..Facts::default() },
        numpy: None,
    })
}

/// The columns for tables of `rows`.
pub fn schema(rows: &[usize]) -> Schema {
    let column = |(&rows, k): (&usize, usize)| Column { name: format!("C{k}"), rows, max_hotness: 1 };
    Schema { dense: DENSE, tables: rows.iter().zip(1..).map(column).collect() }
}

fn records(path: &Path) -> Result<Records, DataError> {
    let records = Records::open(path)?;
    match records.is_empty() {
        true => Err(wrong(path, "the file is empty; must hold at least one record of 160 bytes")),
        false => Ok(records),
    }
}

/// One more than the largest id of each column, at most `range`.
fn rows_of(files: &[Records], range: Option<u32>) -> Result<Vec<usize>, DataError> {
    let mut largest = [0i32; TABLES];
    for file in files {
        for start in (0..file.len()).step_by(CHUNK as usize) {
            let n = CHUNK.min(file.len() - start) as usize;
            for (record, row) in file.range(start, n)?.iter().zip(start + 1..) {
                for (k, largest) in largest.iter_mut().enumerate() {
                    let id = number(record, 1 + DENSE + k);
                    if id < 0 {
                        return Err(negative(file.path(), row, k, id));
                    }
                    *largest = id.max(*largest);
                }
            }
        }
    }
    Ok(largest.iter().map(|&id| (id as usize + 1).min(range.map_or(usize::MAX, |r| r as usize))).collect())
}

#[cold]
fn negative(path: &Path, row: u64, k: usize, id: i32) -> DataError {
    Place { path, row }.error(format!("column C{} is {id}; must be an id, 0 or more", k + 1))
}

/// Whole batches in a new order every epoch.
struct Batches {
    size: u64,
    whole: u64,
    order: Order,
}

impl Batches {
    fn new(train: &TrainSection, records: &Records) -> Result<Self, DataError> {
        let size = train.batch_size as u64;
        let whole = records.len() / size;
        let n = u32::try_from(whole).map_err(|_| {
            wrong(
                records.path(),
                format!("{whole} batches are too many to shuffle; make train.batch_size larger, or data.shuffle none"),
            )
        })?;
        Ok(Batches { size, whole, order: Order::new(train.seed, n) })
    }

    /// Where the file holds position `at` of epoch `epoch`, and how many samples follow there.
    fn find(&mut self, epoch: u64, at: u64) -> (u64, u64) {
        let (batch, within) = (at / self.size, at % self.size);
        if batch >= self.whole {
            return (at, u64::MAX);
        }
        let from = u64::from(self.order.of_epoch(epoch)[batch as usize]);
        (from * self.size + within, self.size - within)
    }
}

/// One split.
struct Bin40 {
    schema: Schema,
    layout: Layout,
    records: Records,
    dense: Dense,
    ids: Ids,
    order: Option<Batches>,
}

impl Source for Bin40 {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.records.len())
    }

    fn fill(&mut self, epoch: u64, start: u64, n: usize, batch: &mut Batch) -> Result<(), DataError> {
        batch.clear();
        let (mut at, end) = (start, start + n as u64);
        while at < end {
            let (from, follow) = self.order.as_mut().map_or((at, u64::MAX), |o| o.find(epoch, at));
            let part = follow.min(end - at);
            self.append(from, part as usize, batch)?;
            at += part;
        }
        Ok(())
    }
}

impl Bin40 {
    /// Appends records `start..start + n` of the file.
    fn append(&self, start: u64, n: usize, batch: &mut Batch) -> Result<(), DataError> {
        let records = self.records.range(start, n)?;
        let place = |i: usize| Place { path: self.records.path(), row: start + i as u64 + 1 };
        batch.len += n;
        for (i, record) in records.iter().enumerate() {
            batch.labels.push(place(i).label(&self.layout.label, number(record, 0).into())?);
            for k in 0..DENSE {
                let x = f64::from(number(record, 1 + k));
                let y = self.dense.apply(x).ok_or_else(|| {
                    place(i).error(format!("column {} is {x}; must be {}", self.layout.dense[k], self.dense.domain()))
                })?;
                batch.dense.push(y);
            }
        }
        // A block of records stays in the first-level cache while its columns are taken one by one.
        for (block, first) in records.chunks(BLOCK).zip((start..).step_by(BLOCK)) {
            for (k, bags) in batch.bags.iter_mut().enumerate() {
                let from = bags.indices.len();
                bags.indices.extend(block.iter().map(|r| number(r, 1 + DENSE + k) as u32));
                if let Err(i) = self.ids.rows(k, &mut bags.indices[from..]) {
                    return Err(self.refuse(&block[i], first + i as u64, k));
                }
                bags.offsets.extend(from as u32 + 1..=(from + block.len()) as u32);
            }
        }
        Ok(())
    }

    /// The error that column `k` of a record, sample `at`, holds no row of its table.
    #[cold]
    fn refuse(&self, record: &[u8; RECORD], at: u64, k: usize) -> DataError {
        let (id, place) = (number(record, 1 + DENSE + k), Place { path: self.records.path(), row: at + 1 });
        match u32::try_from(id) {
            Err(_) => negative(place.path, place.row, k, id),
            Ok(id) => place.error(format!("column C{} {}", k + 1, self.ids.beyond(k, id))),
        }
    }
}

#[cfg(test)]
mod tests;
