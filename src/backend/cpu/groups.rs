//! Which samples touch which row: the occurrences of each table sorted by row, and by sample within
//! a row.
//!
//! A stable radix sort of keys `row << 32 | sample`; `row` is what an index stands for. Sorted keys need no further index: whoever
//! works on positions `a..b` takes the rows that begin there, so work can be cut anywhere, and a
//! range of rows is found by bisection.

use crate::{
    batch::{Bags, CheckedBags},
    host::pool::{Pool, SharedMut},
};
use std::ops::Range;

/// Bits that one pass sorts by, at most: 2048 counters stay in the first-level cache.
const DIGIT: u32 = 11;

/// Counters of a thread.
const COUNTS: usize = 1 << DIGIT;

/// The fewest occurrences that a part of a table is worth; so many it has if they are spread evenly.
const PART: usize = 1 << 16;

/// Most parts of a table. Each reads all of the table's ids.
const MAX_PARTS: usize = 8;

/// Occurrences of a row: samples in ascending order, a sample as often as its bag holds the row.
pub(crate) fn row_of(key: u64) -> usize {
    (key >> 32) as usize
}

fn key_of(row: u32, sample: usize) -> u64 {
    u64::from(row) << 32 | sample as u64
}

/// The sample of an occurrence.
pub(crate) fn sample_of(key: u64) -> usize {
    key as u32 as usize
}

#[derive(Debug)]
struct Keys {
    rows: usize,
    parts: usize,
    keys: Vec<u64>,
    spare: Vec<u64>,
}

/// Sorted occurrences of the tables of a batch. Made once for the largest batch.
#[derive(Debug)]
pub struct Groups {
    tables: Vec<Keys>,
    /// Counters, [`COUNTS`] of each thread.
    counts: Vec<u32>,
    /// Table and part of each piece of work, the largest first: whoever is done first then waits
    /// for little.
    work: Vec<(usize, usize)>,
}

impl Groups {
    /// Room for the occurrences of batches of up to `max_batch` samples with up to `max_hotness[k]`
    /// ids in table `k`, which stand for `rows[k]` rows ([`Bags::ids`]); `threads` threads sort.
    pub fn new(rows: &[usize], max_hotness: &[usize], max_batch: usize, threads: usize) -> Self {
        assert_eq!(rows.len(), max_hotness.len(), "one hotness for each table");
        let all = max_hotness.iter().sum::<usize>() * max_batch;
        // A table is cut only where it is more than a thread's share of all.
        let share = all.div_ceil(threads.max(1)).max(PART);
        let table = |(&rows, &hotness): (&usize, &usize)| {
            let most = hotness * max_batch;
            let parts = most.div_ceil(share).clamp(1, MAX_PARTS).min(rows.max(1));
            Keys { rows, parts, keys: Vec::with_capacity(most), spare: Vec::with_capacity(most) }
        };
        let tables: Vec<Keys> = rows.iter().zip(max_hotness).map(table).collect();
        let parts = tables.iter().enumerate().map(|(k, t)| (0..t.parts).map(move |part| (k, part)));
        let mut work: Vec<(usize, usize)> = parts.flatten().collect();
        work.sort_by_key(|&(k, _)| std::cmp::Reverse(tables[k].keys.capacity() / tables[k].parts));
        Groups { tables, counts: vec![0; threads * COUNTS], work }
    }

    /// Sorts the occurrences of a batch, the bags of table `k` for each `k`.
    ///
    /// # Panics
    /// If there are more or fewer bags than tables, or if they were checked for larger tables.
    pub fn sort(&mut self, pool: &Pool, bags: CheckedBags<'_>) {
        let rows = bags.rows();
        assert!(
            rows.len() == self.tables.len()
                && self.tables.iter().zip(rows).all(|(table, &rows)| rows <= table.rows),
            "bags of tables of {rows:?} rows"
        );
        let bags = bags.get();
        let told_apart = |(table, bags): (&Keys, &Bags)| {
            bags.ids.is_empty() || bags.ids.iter().all(|&id| (id as usize) < table.rows)
        };
        assert!(self.tables.iter().zip(bags).all(told_apart), "ids of these tables");
        assert!(
            pool.threads() * COUNTS <= self.counts.len(),
            "counters for all of the pool's threads"
        );
        for (table, bags) in self.tables.iter_mut().zip(bags) {
            table.keys.resize(bags.indices.len(), 0);
            table.spare.resize(bags.indices.len(), 0);
        }
        let counts = SharedMut::new(&mut self.counts);
        let tables = SharedMut::new(&mut self.tables);
        let work = &self.work;
        pool.run(work.len(), |chunk, thread| {
            let (k, part) = work[chunk];
            // SAFETY: counters belong to the thread.
            let counts = unsafe { counts.slice(thread * COUNTS, COUNTS) };
            // SAFETY: `k` is below the number of tables; parts of a table only read the vectors'
            // headers and write the keys of their own rows.
            let table = unsafe { &*tables.as_ptr().add(k) };
            sort_part(table, part, &bags[k], counts);
        });
    }

    /// The sorted keys of table `k`.
    pub(crate) fn keys(&self, k: usize) -> &[u64] {
        &self.tables[k].keys
    }

    /// The most occurrences of table `k` that there is room for.
    pub(crate) fn capacity(&self, k: usize) -> usize {
        self.tables[k].keys.capacity()
    }

    /// Number of tables.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }
}

/// Passes that sort `n` occurrences of rows below `rows`, and bits of each: the fewest steps, of
/// which an occurrence takes in a pass as long as four counters.
fn passes(rows: usize, n: usize) -> (usize, u32) {
    let bits = (usize::BITS - rows.saturating_sub(1).leading_zeros()).max(1);
    let fewest = bits.div_ceil(DIGIT);
    let steps = |&passes: &u32| passes as usize * (4 * n + (1 << bits.div_ceil(passes)));
    let passes = (fewest..=2 * fewest).min_by_key(steps).unwrap_or(fewest);
    (passes as usize, bits.div_ceil(passes))
}

/// Sorts the occurrences of one range of rows, to the place that they have among all of the
/// table's. Ids of `bags` are rows of the table.
fn sort_part(table: &Keys, part: usize, bags: &Bags, counts: &mut [u32]) {
    let width = table.rows.div_ceil(table.parts);
    let (low, high) = (part * width, ((part + 1) * width).min(table.rows));
    let ids = bags.ids();
    let (mut first, mut len) = (0, ids.len());
    if table.parts > 1 {
        first = ids.iter().filter(|&&id| (id as usize) < low).count();
        len = ids.iter().filter(|&&id| (low..high).contains(&(id as usize))).count();
    }
    // SAFETY: ranges of rows are disjoint, and so are the places of their occurrences; both buffers
    // are as long as the ids.
    let (keys, spare) = unsafe {
        let keys = table.keys.as_ptr().add(first).cast_mut();
        let spare = table.spare.as_ptr().add(first).cast_mut();
        (std::slice::from_raw_parts_mut(keys, len), std::slice::from_raw_parts_mut(spare, len))
    };
    let (passes, bits) = passes(width, len);
    // The last pass writes `keys`.
    let (mut from, mut to) = if passes % 2 == 1 { (spare, keys) } else { (keys, spare) };
    let (whole, mask) = (table.parts == 1, (1usize << bits) - 1);
    if !whole {
        gather(bags, low..high, from);
    }
    let counts = &mut counts[..=mask];
    for shift in (0..passes as u32).map(|pass| pass * bits) {
        counts.fill(0);
        if whole {
            for &id in ids {
                counts[(id as usize >> shift) & mask] += 1;
            }
        } else {
            for &key in &*from {
                counts[((row_of(key) - low) >> shift) & mask] += 1;
            }
        }
        let mut sum = 0;
        for c in &mut *counts {
            sum += std::mem::replace(c, sum);
        }
        if whole && shift == 0 {
            for (sample, w) in bags.offsets.windows(2).enumerate() {
                for &id in &ids[w[0] as usize..w[1] as usize] {
                    let place = &mut counts[id as usize & mask];
                    to[*place as usize] = key_of(id, sample);
                    *place += 1;
                }
            }
        } else {
            for &key in &*from {
                let place = &mut counts[((row_of(key) - low) >> shift) & mask];
                to[*place as usize] = key;
                *place += 1;
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
}

/// Fills `to` with the keys of `rows`, in the order of samples. What it does next does not depend on
/// an id: a processor could not guess it.
fn gather(bags: &Bags, rows: Range<usize>, to: &mut [u64]) {
    let (ids, count) = (bags.ids(), rows.len());
    let (mut block, mut held, mut at) = ([0; 64], 0, 0);
    for (sample, w) in bags.offsets.windows(2).enumerate() {
        for &id in &ids[w[0] as usize..w[1] as usize] {
            block[held] = key_of(id, sample);
            held += usize::from((id as usize).wrapping_sub(rows.start) < count);
            if held == block.len() {
                to[at..at + held].copy_from_slice(&block);
                (at, held) = (at + held, 0);
            }
        }
    }
    to[at..].copy_from_slice(&block[..held]);
}

#[cfg(test)]
mod tests;
