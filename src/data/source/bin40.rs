//! Binary records of facebook and MLPerf, read as they are needed from files that are mapped into
//! memory.
//!
//! As `CriteoBinDataset` (facebookresearch/dlrm, data_loader_terabyte.py) reads them: `ln(x + 1)`
//! of the counts and ids modulo `max_ind_range` at reading. Its `--mlperf-bin-shuffle` deals whole
//! batches in a new order every epoch and leaves the samples of a batch together; here the short
//! batch at the end stays there, so that every batch but the last is whole.

use super::{
    super::{
        DataError, Dataset, Facts, Source,
        dense::Dense,
        format::bin40::{Records, number},
        preprocess::criteo::{DENSE, RECORD, TABLES},
        rows::{Layout, Numbers, RowRef, wrong},
    },
    OpenSettings,
    buffered::Buffered,
    ids::{Ids, untransformed},
    once,
    order::Order,
};
use crate::{
    batch::{Batch, Column, Schema},
    data::source::config::{Bin40Config, RecordShuffle},
};
use std::path::{Path, PathBuf};

/// Records that are looked at together when the largest ids are sought.
const CHUNK: u64 = 1 << 14;
/// Records that are taken apart together.
const BLOCK: usize = 64;

/// Opens the files. Where the sizes of the tables are not given, all records are read once to find
/// the largest ids.
///
/// # Errors
/// If a file cannot be read, holds no whole records or none at all, or if an id is negative and ids
/// are not taken modulo a number.
pub fn open(config: &Bin40Config, train: &OpenSettings) -> Result<Dataset, DataError> {
    let eval = std::slice::from_ref(&config.eval);
    let test = config.test.as_ref().map(std::slice::from_ref);
    let files = [Some(&config.train[..]), Some(eval), test].into_iter().flatten();
    let splits = files.map(Days::open).collect::<Result<Vec<_>, _>>()?;
    let mut notes =
        vec![format!("train: {} samples, eval: {} samples", splits[0].len(), splits[1].len())];
    let rows = match &config.tables {
        Some(rows) => rows.clone(),
        None => {
            notes.push("rows of the tables by the largest ids in the files".into());
            rows_of(splits.iter().flat_map(|s| &s.files), config.max_ind_range)?
        }
    };
    let (schema, mut splits) = (schema(&rows), splits.into_iter());
    let mut source = |shuffle: RecordShuffle| -> Result<Option<Box<dyn Source>>, DataError> {
        let Some(days) = splits.next() else { return Ok(None) };
        let dense = Dense::new(config.dense_transform).ok_or_else(untransformed)?;
        let ids = Ids { rows: rows.clone(), range: config.max_ind_range, keys: false };
        let layout = Layout::criteo(Numbers::Int32);
        let order = RecordOrder::new(shuffle, train, &days)?;
        Ok(Some(Box::new(Bin40 {
            schema: schema.clone(),
            layout,
            days,
            dense,
            ids,
            order,
            scratch: Vec::new(),
        })))
    };
    let none = || DataError::Invalid("a split is missing".into());
    let ordered = source(config.shuffle)?.ok_or_else(none)?;
    Ok(Dataset {
        train: match config.buffer {
            Some(room) => Box::new(Buffered::new(ordered, room, train.seed)),
            None => ordered,
        },
        eval: source(RecordShuffle::None)?.ok_or_else(none)?,
        test: source(RecordShuffle::None)?,
        facts: Facts { notes, ..Facts::default() },
        numpy: None,
    })
}

/// The columns for tables of `rows`.
pub fn schema(rows: &[usize]) -> Schema {
    let column =
        |(&rows, k): (&usize, usize)| Column { name: format!("C{k}"), rows, max_hotness: 1 };
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
fn rows_of<'a>(
    files: impl Iterator<Item = &'a Records>,
    range: Option<u32>,
) -> Result<Vec<usize>, DataError> {
    let mut largest = [0u32; TABLES];
    for file in files {
        for start in (0..file.len()).step_by(CHUNK as usize) {
            let n = CHUNK.min(file.len() - start) as usize;
            for (record, row) in file.range(start, n)?.iter().zip(start + 1..) {
                for (k, largest) in largest.iter_mut().enumerate() {
                    let id = number(record, 1 + DENSE + k);
                    if id < 0 && range.is_none() {
                        return Err(negative(file.path(), row, k, id));
                    }
                    // With a range, the bits of a number without a sign count.
                    *largest = (id as u32).max(*largest);
                }
            }
        }
    }
    Ok(largest
        .iter()
        .map(|&id| (id as usize + 1).min(range.map_or(usize::MAX, |r| r as usize)))
        .collect())
}

#[cold]
fn negative(path: &Path, row: u64, k: usize, id: i32) -> DataError {
    RowRef { path, row }.error(format!("column C{} is {id}; must be an id, 0 or more, or be taken modulo a number (data.max_ind_range)", k + 1))
}

/// The files of a split, one after another.
struct Days {
    files: Vec<Records>,
    /// First record of each, and the number of all.
    starts: Vec<u64>,
}

impl Days {
    fn open(paths: &[PathBuf]) -> Result<Self, DataError> {
        once(paths)?;
        let files = paths.iter().map(|path| records(path)).collect::<Result<Vec<_>, _>>()?;
        let mut starts = vec![0];
        files.iter().for_each(|f| starts.push(starts[starts.len() - 1] + f.len()));
        Ok(Days { files, starts })
    }

    fn len(&self) -> u64 {
        self.starts[self.files.len()]
    }

    /// The file that holds record `at`, its number there, and how many follow in that file.
    fn find(&self, at: u64) -> (&Records, u64, u64) {
        let day = self.starts.partition_point(|&s| s <= at) - 1;
        (&self.files[day], at - self.starts[day], self.starts[day + 1] - at)
    }

    /// Where record `at` is, for messages.
    fn place(&self, at: u64) -> RowRef<'_> {
        let (file, at, _) = self.find(at);
        RowRef { path: file.path(), row: at + 1 }
    }
}

/// Which record is where in the order of an epoch.
enum RecordOrder {
    /// As in the files.
    Same,
    /// Whole batches of `size` are dealt anew, those after `whole` of them stay.
    Batches { size: u64, whole: u64, order: Order },
    /// Each record for itself.
    Each(Order),
}

impl RecordOrder {
    fn new(shuffle: RecordShuffle, train: &OpenSettings, days: &Days) -> Result<Self, DataError> {
        let number = |n: u64, what: &str| {
            let advice = format!(
                "{n} {what} are too many to shuffle; let data.shuffle be none or batch, with larger batches"
            );
            u32::try_from(n).map_err(|_| wrong(days.files[0].path(), advice))
        };
        Ok(match shuffle {
            RecordShuffle::None => RecordOrder::Same,
            RecordShuffle::Batch => {
                let size = train.batch_size as u64;
                let whole = days.len() / size;
                RecordOrder::Batches {
                    size,
                    whole,
                    order: Order::new(train.seed, number(whole, "batches")?),
                }
            }
            RecordShuffle::Total => {
                RecordOrder::Each(Order::new(train.seed, number(days.len(), "samples")?))
            }
            RecordShuffle::Day => {
                number(days.len(), "samples")?;
                let sizes: Vec<u32> = days.files.iter().map(|f| f.len() as u32).collect();
                RecordOrder::Each(Order::grouped(train.seed, &sizes))
            }
        })
    }

    /// The record at position `at` of epoch `epoch`, and how many follow it in the order as in the
    /// files.
    fn find(&mut self, epoch: u64, at: u64) -> (u64, u64) {
        match self {
            RecordOrder::Same => (at, u64::MAX),
            RecordOrder::Each(order) => (order.of_epoch(epoch)[at as usize].into(), 1),
            RecordOrder::Batches { size, whole, order } => match at / *size {
                batch if batch >= *whole => (at, u64::MAX),
                batch => {
                    let (from, within) =
                        (u64::from(order.of_epoch(epoch)[batch as usize]), at % *size);
                    (from * *size + within, *size - within)
                }
            },
        }
    }
}

/// One split.
struct Bin40 {
    schema: Schema,
    layout: Layout,
    days: Days,
    dense: Dense,
    ids: Ids,
    order: RecordOrder,
    /// Records from all over the files, with their numbers.
    scratch: Vec<(u64, [u8; RECORD])>,
}

impl Source for Bin40 {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.days.len())
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        let (mut at, end) = (start, start + n as u64);
        if let RecordOrder::Each(_) = self.order {
            self.scratch.clear();
            for at in at..end {
                let (from, _) = self.order.find(epoch, at);
                let (file, within, _) = self.days.find(from);
                self.scratch.push((from, file.range(within, 1)?[0]));
            }
            let (records, place) = (self.scratch.iter().map(|(_, r)| r), |i: usize| {
                self.days.place(self.scratch[i].0)
            });
            return self.append(records, place, batch);
        }
        while at < end {
            let (from, follow) = self.order.find(epoch, at);
            let (file, within, there) = self.days.find(from);
            let part = follow.min(there).min(end - at);
            let place = |i: usize| RowRef { path: file.path(), row: within + i as u64 + 1 };
            self.append(file.range(within, part as usize)?.iter(), place, batch)?;
            at += part;
        }
        Ok(())
    }
}

impl Bin40 {
    /// Appends records; `place` tells where each is, for messages.
    fn append<'a, 'b>(
        &self,
        mut records: impl Iterator<Item = &'a [u8; RECORD]> + Clone,
        place: impl Fn(usize) -> RowRef<'b>,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        for (i, record) in records.clone().enumerate() {
            batch.len += 1;
            batch.labels.push(match number(record, 0) {
                0 => 0.0,
                1 => 1.0,
                other => place(i).label(&self.layout.label, other.into())?,
            });
            let mut row = [0.0; DENSE];
            for (k, y) in row.iter_mut().enumerate() {
                let x = number(record, 1 + k);
                *y = self.dense.apply_whole(x).ok_or_else(|| {
                    place(i).error(format!(
                        "column {} is {x}; must be {}",
                        self.layout.dense[k],
                        self.dense.domain()
                    ))
                })?;
            }
            batch.dense.extend_from_slice(&row);
        }
        // A block of records stays in the first-level cache while its columns are taken one by one.
        let mut first = 0;
        loop {
            let block = records.clone().take(BLOCK);
            let mut n = 0;
            for (k, bags) in batch.bags.iter_mut().enumerate() {
                let from = bags.indices.len();
                bags.indices.extend(block.clone().map(|r| number(r, 1 + DENSE + k) as u32));
                n = bags.indices.len() - from;
                if let Err(i) = self.ids.rows(k, &mut bags.indices[from..]) {
                    let id = block.clone().nth(i).map_or(0, |r| number(r, 1 + DENSE + k));
                    return Err(self.refuse(id, place(first + i), k));
                }
                bags.offsets.extend(from as u32 + 1..=(from + n) as u32);
            }
            if n == 0 {
                return Ok(());
            }
            records.nth(n - 1);
            first += n;
        }
    }

    /// The error that `id` in column `k` is no row of its table.
    #[cold]
    fn refuse(&self, id: i32, place: RowRef, k: usize) -> DataError {
        match u32::try_from(id) {
            Err(_) => negative(place.path, place.row, k, id),
            Ok(id) => place.error(format!("column C{} {}", k + 1, self.ids.beyond(k, id))),
        }
    }
}

#[cfg(test)]
mod tests;
