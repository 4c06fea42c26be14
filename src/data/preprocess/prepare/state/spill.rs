//! Bytes that dictionaries and counts take on the disk, at the most and by a sample: numbered ids,
//! and values for which there is no memory (`resolve.rs`, `vocabulary.rs`).

use crate::{
    data::{
        dense::log_sq_bucket,
        preprocess::{
            criteo::{Blocks, DENSE, TABLES},
            numbering::most_bytes,
            prepare::Job,
        },
    },
    host::pool::Pool,
};
use std::{cmp::Reverse, ops::Range};

/// All columns.
const COLUMNS: usize = DENSE + TABLES;
/// Memory for each id of tables of which one cannot grow: that table wants three times its bytes,
/// 24 for each slot, and is seven tenths full; others are fuller for what they take.
const HELD: u64 = 35;
/// Bytes of an id in a dictionary, a count's value, or a number.
const WORD: u64 = 4;
/// Bytes of the occurrence of an id that has no number.
const OCCURRENCE: u64 = WORD * super::resolve::OCCURRENCE as u64;

/// The share of a column's values that are new when they come. It falls as a log goes on, if its
/// parts are alike: then the share at the start is the largest.
#[derive(Debug, Clone)]
pub struct NewShare([f64; COLUMNS]);

impl NewShare {
    /// The largest: no value comes twice.
    pub fn all() -> Self {
        NewShare([1.0; COLUMNS])
    }

    /// Nothing has been seen.
    pub fn none() -> Self {
        NewShare([0.0; COLUMNS])
    }

    /// Looks at the start of a file; where files differ, the larger share counts. Integers are
    /// counted as FuxiCTR's words are made of them.
    pub fn see(&mut self, job: &Job, pool: &Pool, blocks: &Blocks) {
        let samples: usize = blocks.columns().map(|c| c.len()).sum();
        if samples == 0 {
            return;
        }
        pool.for_each_chunk(&mut self.0, 1, |column, _, share| {
            let mut values: Vec<u32> = Vec::with_capacity(samples);
            for columns in blocks.columns() {
                match column.checked_sub(DENSE) {
                    None => values.extend(
                        columns.dense[column]
                            .iter()
                            .map(|&x| log_sq_bucket(f64::from(x)) as i32 as u32),
                    ),
                    Some(j) => values.extend(
                        columns.ids[j]
                            .iter()
                            .map(|&id| job.parameters.max_ind_range.map_or(id, |r| id % r)),
                    ),
                }
            }
            values.sort_unstable();
            values.dedup();
            share[0] = share[0].max(values.len() as f64 / samples as f64);
        });
    }

    /// What was seen; [`NewShare::all`] if nothing was.
    pub fn or_all(self) -> Self {
        if self.0.iter().all(|&share| share == 0.0) { NewShare::all() } else { self }
    }

    /// The most values of a column that are new when they come.
    pub fn values(&self, column: usize, samples: u64) -> u64 {
        ((self.0[column] * samples as f64).ceil() as u64).min(samples)
    }
}

/// The most bytes beside the samples while their ids are numbered by first appearance: dictionaries;
/// occurrences of ids without a number and, once all is read, their numbers; and the files to which
/// one column at a time is dealt.
pub fn numbering(job: &Job, samples: u64, new: &NewShare) -> u64 {
    let range = job.parameters.max_ind_range;
    let fresh: Vec<u64> = (DENSE..COLUMNS).map(|column| new.values(column, samples)).collect();
    let ids: Vec<u64> =
        fresh.iter().map(|&n| range.map_or(n, |range| n.min(range.into()))).collect();
    let left = left(job, job.dictionaries(), &fresh, &ids, range);
    let column = fresh.iter().copied().max().unwrap_or(0).min(left);
    WORD * ids.iter().sum::<u64>() + (OCCURRENCE + WORD) * left + 2 * WORD * column
}

/// What counting values takes on the disk.
pub struct Counting {
    /// While they are counted.
    pub during: u64,
    /// The frequent ones, from then on.
    pub words: u64,
}

/// The most for some columns.
pub fn counting(job: &Job, samples: u64, columns: Range<usize>, new: &NewShare) -> Counting {
    let fresh: Vec<u64> = columns.map(|column| new.values(column, samples)).collect();
    let left = left(job, job.dictionaries() / 2, &fresh, &fresh, None);
    let column = fresh.iter().copied().max().unwrap_or(0).min(left);
    let words = fresh.iter().map(|&n| WORD * n.min(words(job, samples))).sum();
    Counting { during: WORD * (left + column) + words, words }
}

/// The most values of a column that occur often enough to be words.
pub fn words(job: &Job, samples: u64) -> u64 {
    samples / u64::from(job.parameters.min_count.max(1))
}

/// The most occurrences of values for which there is no memory; 0 if all values surely fit. Column by
/// column, `fresh` is how often a new value comes, and `ids` how many different ones there are.
fn left(job: &Job, budget: u64, fresh: &[u64], ids: &[u64], range: Option<u32>) -> u64 {
    let mut tables: Vec<u64> = ids.iter().map(|&n| most_bytes(n, range)).collect();
    tables.sort_unstable_by_key(|&bytes| Reverse(bytes));
    // While a table grows, what it was is there too; one on each thread may.
    let growing = tables.iter().take(job.threads).sum::<u64>() / 2;
    if tables.iter().sum::<u64>() + growing <= budget {
        return 0;
    }
    fresh.iter().sum::<u64>().saturating_sub(budget / HELD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::{
        numbering::{Budget, Numbering},
        prepare::{Recipe, testing::Workplace},
    };

    /// Tables grow side by side, some columns with few ids, until there is no memory for all: never
    /// more waits than was told.
    #[test]
    fn no_more_waits_than_was_told() {
        let job = Workplace::new(Recipe::FacebookKaggle, 64 << 20).job;
        let (samples, mut waited) = (40_000, 0);
        for (range, few, budget) in [
            (None, 1, 1 << 20),
            (None, 5, 3 << 20),
            (Some(30_000), 3, 2 << 20),
            (None, 26, 900_000),
        ] {
            let memory = Budget::new(budget);
            let mut tables: Vec<_> =
                (0..TABLES).map(|_| (Numbering::new(range), false, 0)).collect();
            for i in 0..samples {
                for (column, (table, full, left)) in tables.iter_mut().enumerate() {
                    // A column's ids begin anew after so many.
                    let id = i % if column < few { samples } else { 100 << (column % 8) };
                    *full =
                        *full || table.get(id).is_none() && table.number_one(id, &memory).is_err();
                    *left += u64::from(table.get(id).is_none());
                }
            }
            let different =
                |column: usize| if column < few { samples } else { 100 << (column % 8) };
            let ids: Vec<u64> = (0..TABLES)
                .map(|column| different(column).min(range.unwrap_or(samples)).into())
                .collect();
            let sum: u64 = tables.iter().map(|t| t.2).sum();
            // What comes again and again without a number counts each time.
            let told = left(&job, budget, &[samples.into(); TABLES], &ids, range);
            assert!(sum <= told, "{range:?}, {few}: {sum} waited, {told} told");
            waited += sum;
        }
        assert!(waited > 0);
        // 40,000 ids take 512 KiB, and half as much more while their table grows; or 4 bytes for
        // each that there can be.
        let (one, fits) = ([40_000], 3 << 18);
        assert_eq!(left(&job, fits, &one, &one, None), 0);
        assert!(left(&job, fits - 1, &one, &one, None) > 0);
        assert_eq!(left(&job, 180_000, &one, &[30_000], Some(30_000)), 0);
    }
}
