//! Counts the values of a column, and sorts the frequent ones: the most frequent first, of equally
//! frequent ones the smaller. Values that do not fit in memory go to the disk, and are counted part
//! by part.

use crate::data::preprocess::{
    criteo::column_name,
    numbering::{Budget, Full, Numbering},
    prepare::{
        PrepareError, Progress, Tell,
        shuffle::{
            partition::{self, Reader, WordFiles},
            records::{Form, Record, Records},
        },
        state::{checkpoint::Checkpoint, growing::Growing},
        worker::Worker,
    },
};
use std::cmp::Reverse;

/// Bytes that a frequent value takes while the values of a column are put in order.
const KEPT: usize = size_of::<(u32, u64)>();

/// Values of a column that a sample has.
pub trait Value: Sync {
    /// The value of `column`, I1 first; `None` where it counts for nothing.
    fn of(&self, record: Record, column: usize) -> Option<u32>;

    /// Where a value stands among equally frequent ones.
    fn rank(&self, column: usize, value: u32) -> i64;
}

/// What is counted: samples of files, `(name, first, samples)`.
pub type Sources<'a> = &'a [(&'a str, u64, u64)];

/// The file of a column's frequent values, in order.
fn file(column: usize) -> String {
    format!("vocabulary_{}.u32", column_name(column))
}

/// The file of a column's values for which there was no memory.
fn left_file(column: usize) -> String {
    format!("left_{}.u32", column_name(column))
}

/// The frequent values of a column that [`count`] has found.
pub fn read(worker: &Worker, column: usize) -> Result<Vec<u32>, PrepareError> {
    Reader::open(&worker.path(&file(column)))?.take(usize::MAX)
}

/// How many there are; `None` if they are not counted yet.
pub fn len(checkpoint: &Checkpoint, column: usize) -> Option<u64> {
    checkpoint.find(&file(column)).map(|written| written.bytes / 4)
}

/// Counts the values of `columns`, and keeps those that occur at least `least` times.
///
/// # Errors
/// If a file cannot be read or written, or the work is interrupted.
pub fn count(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    sources: Sources,
    columns: std::ops::Range<usize>,
    least: u32,
    value: &impl Value,
    tell: Tell,
) -> Result<(), PrepareError> {
    if columns.clone().all(|column| len(checkpoint, column).is_some()) {
        return Ok(());
    }
    // As many bytes for counts as for the tables.
    let budget = Budget::new(worker.job.dictionaries() / 2);
    let mut counters = Vec::new();
    for column in columns {
        let left = Growing::create(&worker.path(&left_file(column)))?;
        counters.push(Counter { column, counts: Counts::new(), left, failed: None });
    }
    let width = Form::Raw.bytes() as u64;
    let (mut done, total) = (0, sources.iter().map(|s| s.2).sum::<u64>() * width);
    for &(name, first, samples) in sources {
        let mut records = Records::open(&worker.path(name), Form::Raw, first, samples)?;
        loop {
            worker.interrupted()?;
            let batch = records.next()?;
            if batch.len() == 0 {
                break;
            }
            worker.pool.for_each_chunk(&mut counters, 1, |_, _, counters| {
                for counter in counters {
                    let values: Vec<u32> = batch
                        .clone()
                        .filter_map(|record| value.of(record, counter.column))
                        .collect();
                    counter.failed = counter.push(&values, &budget).err();
                }
            });
            if let Some(e) = counters.iter_mut().find_map(|c| c.failed.take()) {
                return Err(e);
            }
            done += batch.len() as u64 * width;
            tell(Progress::Other { what: "counting values", bytes: done, total });
        }
    }
    for counter in counters {
        worker.interrupted()?;
        let column = counter.column;
        if len(checkpoint, column).is_some() {
            continue;
        }
        let mut kept = counter.finish(worker, u64::from(least))?;
        kept.sort_unstable_by_key(|&(id, count)| (Reverse(count), value.rank(column, id)));
        let mut out = Growing::create(&worker.path(&file(column)))?;
        for piece in kept.chunks(1 << 16) {
            out.append(&piece.iter().flat_map(|(id, _)| id.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        let written = out.sync()?;
        checkpoint.mark_written(worker, &file(column), written)?;
    }
    Ok(())
}

/// How often values occur, of as many different ones as there is memory for.
pub struct Counts {
    table: Numbering,
    counts: Vec<u64>,
    /// Once there is no memory, nothing new goes into the table: what is in it is counted there and
    /// nowhere else.
    pub full: bool,
}

impl Counts {
    pub fn new() -> Self {
        Counts { table: Numbering::new(None), counts: Vec::new(), full: false }
    }

    /// Counts values; calls `left` with each for which there is no memory, every time that it
    /// occurs.
    pub fn push(&mut self, values: &[u32], budget: &Budget, mut left: impl FnMut(u32)) {
        let (mut numbers, mut fresh) = (Vec::with_capacity(values.len()), Vec::new());
        if !self.full {
            match self.table.number(values, &mut numbers, &mut fresh, budget) {
                Ok(()) => {}
                Err(Full::Memory | Full::Ids) => self.full = true,
            }
            self.counts.resize(self.table.ids() as usize, 0);
        }
        let counted = numbers.len();
        self.table.look_up(&values[counted..], &mut numbers);
        for (&number, &value) in numbers.iter().zip(values) {
            match self.counts.get_mut(number as usize) {
                Some(count) => *count += 1,
                None => left(value),
            }
        }
    }

    /// How many of the values counted here occur at least `least` times.
    pub fn frequent(&self, least: u64) -> u64 {
        self.counts.iter().filter(|&&count| count >= least).count() as u64
    }
}

struct Counter {
    column: usize,
    counts: Counts,
    /// Values for which there was no memory, once for each time that they occur.
    left: Growing,
    failed: Option<PrepareError>,
}

impl Counter {
    fn push(&mut self, values: &[u32], budget: &Budget) -> Result<(), PrepareError> {
        let mut left = Vec::new();
        self.counts.push(values, budget, |value| left.extend_from_slice(&value.to_le_bytes()));
        self.left.append(&left)
    }

    /// Values that occur at least `least` times, and how often.
    fn finish(self, worker: &Worker, least: u64) -> Result<Vec<(u32, u64)>, PrepareError> {
        let Counter { column, counts: Counts { table, counts, .. }, mut left, .. } = self;
        let frequent = |&(_, count): &(u32, u64)| count >= least;
        let mut kept: Vec<_> = table
            .entries()
            .map(|(id, number)| (id, counts[number as usize]))
            .filter(frequent)
            .collect();
        drop((table, counts));
        // They are sorted in memory, and become a table.
        let fits =
            |kept: &Vec<(u32, u64)>| match (kept.len() * KEPT) as u64 > worker.job.dictionaries() {
                true => Err(worker.too_many_words()),
                false => Ok(()),
            };
        fits(&kept)?;
        let words = left.sync()?.bytes / 4;
        let path = worker.path(&left_file(column));
        if words > 0 {
            // A part of different values takes four times its bytes.
            let room = (worker.job.memory / 16).max(1 << 20);
            let parts = (words * 16).div_ceil(room).clamp(1, partition::MOST as u64) as usize;
            let mut dealt = WordFiles::create(worker.work, "part", parts)?;
            let mut reader = Reader::open(&path)?;
            while let Some(value) = reader.next()? {
                dealt.push(partition::file_of(value, parts), value)?;
            }
            let dealt = dealt.finish()?;
            for part in &dealt {
                worker.interrupted()?;
                kept.extend(runs(part, (room / 4) as usize)?.into_iter().filter(frequent));
                fits(&kept)?;
            }
            partition::remove(&dealt)?;
        }
        partition::remove(&[path])?;
        Ok(kept)
    }
}

/// The different words of a file and how often each is there, with `words` of them in memory at
/// once.
fn runs(path: &std::path::Path, words: usize) -> Result<Vec<(u32, u64)>, PrepareError> {
    let mut reader = Reader::open(path)?;
    let mut all: Vec<(u32, u64)> = Vec::new();
    loop {
        let mut part = reader.take(words)?;
        if part.is_empty() {
            return Ok(all);
        }
        part.sort_unstable();
        all.extend(part.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)));
        all.sort_unstable();
        all.dedup_by(|b, a| {
            let same = a.0 == b.0;
            a.1 += if same { b.1 } else { 0 };
            same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::prepare::{Recipe, testing::Workplace};

    /// Frequent values have to fit in memory; those that are not may be any number, and wait on the
    /// disk.
    #[test]
    fn frequent_values_beyond_the_budget_are_refused() {
        let place = Workplace::new(Recipe::FuxictrCriteoX4, 64 << 20);
        let worker = place.worker();
        let many = (worker.job.dictionaries() / KEPT as u64) as u32 + 1;
        for in_memory in [true, false] {
            let budget = Budget::new(if in_memory { 1 << 30 } else { 1 << 20 });
            let finish = |values: u32, least| {
                let left = Growing::create(&worker.path("left_C1.u32")).unwrap();
                let mut counter = Counter { column: 13, counts: Counts::new(), left, failed: None };
                let values: Vec<u32> = (0..values).collect();
                counter.push(&values, &budget).unwrap();
                counter.push(&values[..3], &budget).unwrap();
                assert_eq!(counter.counts.full, !in_memory);
                counter.finish(&worker, least)
            };
            let mut twice = finish(many, 2).unwrap();
            twice.sort_unstable();
            assert_eq!(twice, [(0, 2), (1, 2), (2, 2)]);
            assert_eq!(finish(many - 1, 1).unwrap().len() as u32, many - 1);
            let refused = finish(many, 1).unwrap_err();
            assert!(matches!(refused, PrepareError::Memory(_)), "{refused}");
        }
    }
}
