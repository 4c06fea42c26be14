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

/// Bits that one pass sorts by, at most: 2048 counters stay in the first-level cache.
const DIGIT: u32 = 11;

/// Occurrences above which a table is sorted in parts, each a range of rows.
const PART: usize = 1 << 16;

/// Most parts of a table. Each reads all of the table's ids.
const MAX_PARTS: usize = 8;

/// Occurrences of a row: samples in ascending order, a sample as often as its bag holds the row.
pub(crate) fn row_of(key: u64) -> usize {
    (key >> 32) as usize
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
    /// Counters of each (table, part), `PASSES` times `1 << DIGIT`.
    counts: Vec<u32>,
    /// First of each table's parts among all parts; one more than tables.
    first_part: Vec<usize>,
}

/// Most passes: ids have 32 bits.
const PASSES: usize = 3;
const COUNTS: usize = PASSES << DIGIT;

impl Groups {
    /// Room for the occurrences of batches of up to `max_batch` samples with up to `max_hotness[k]`
    /// ids in table `k`, which stand for `rows[k]` rows ([`Bags::ids`]); `threads` threads sort.
    pub fn new(rows: &[usize], max_hotness: &[usize], max_batch: usize, threads: usize) -> Self {
        assert_eq!(rows.len(), max_hotness.len(), "one hotness for each table");
        let mut first_part = vec![0];
        let tables = rows
            .iter()
            .zip(max_hotness)
            .map(|(&rows, &hotness)| {
                let most = hotness * max_batch;
                let parts = most.div_ceil(PART).clamp(1, MAX_PARTS).min(rows.max(1));
                first_part.push(first_part[first_part.len() - 1] + parts);
                Keys {
                    rows,
                    parts,
                    keys: Vec::with_capacity(most),
                    spare: Vec::with_capacity(most),
                }
            })
            .collect();
        Groups { tables, counts: vec![0; threads * COUNTS], first_part }
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
        let (first_part, table_count) = (&self.first_part, bags.len());
        pool.run(first_part[table_count], |chunk, thread| {
            let k = first_part.partition_point(|&p| p <= chunk) - 1;
            // SAFETY: counters belong to the thread.
            let counts = unsafe { counts.slice(thread * COUNTS, COUNTS) };
            // SAFETY: `k` is below the number of tables; parts of a table only read the vectors'
            // headers and write the keys of their own rows.
            let table = unsafe { &*tables.as_ptr().add(k) };
            sort_part(table, chunk - first_part[k], &bags[k], counts);
        });
        // An odd number of passes leaves the result in the other buffer.
        for table in &mut self.tables {
            if passes(table.rows.div_ceil(table.parts)).0 % 2 == 1 {
                std::mem::swap(&mut table.keys, &mut table.spare);
            }
        }
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

/// Passes for ids below `rows`, and bits of each.
fn passes(rows: usize) -> (usize, u32) {
    let bits = usize::BITS - rows.saturating_sub(1).leading_zeros();
    let passes = bits.div_ceil(DIGIT).max(1);
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
    let (mut from, mut to) = unsafe {
        let keys = table.keys.as_ptr().add(first).cast_mut();
        let spare = table.spare.as_ptr().add(first).cast_mut();
        (std::slice::from_raw_parts_mut(keys, len), std::slice::from_raw_parts_mut(spare, len))
    };
    let (passes, bits) = passes(width);
    let mask = (1usize << bits) - 1;
    counts[..passes << DIGIT].fill(0);
    let mut at = 0;
    for (sample, w) in bags.offsets.windows(2).enumerate() {
        for &id in &ids[w[0] as usize..w[1] as usize] {
            let id = id as usize;
            if table.parts > 1 && !(low..high).contains(&id) {
                continue;
            }
            from[at] = (id as u64) << 32 | sample as u64;
            at += 1;
            for pass in 0..passes {
                counts[pass << DIGIT | ((id - low) >> (pass as u32 * bits)) & mask] += 1;
            }
        }
    }
    for pass in 0..passes {
        let counts = &mut counts[pass << DIGIT..][..1 << bits];
        let mut sum = 0;
        for c in counts.iter_mut() {
            sum += std::mem::replace(c, sum);
        }
        for &key in from.iter() {
            let place = &mut counts[((row_of(key) - low) >> (pass as u32 * bits)) & mask];
            to[*place as usize] = key;
            *place += 1;
        }
        std::mem::swap(&mut from, &mut to);
    }
}

#[cfg(test)]
mod tests;
