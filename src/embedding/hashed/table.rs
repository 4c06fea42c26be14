//! The keys of one column, and what a batch does to them.

use super::{
    HashedColumn, HashedConfig,
    filter::Filter,
    slots::{KeyMap, Slot, Slots},
};
use crate::embedding::{Seen, TableUse};
use serde::{Deserialize, Serialize};

/// No slot is left for a new key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the table of column {column} is full: all its {capacity} rows have keys (embedding.capacity); give it more, or let embedding.filter or embedding.steps_to_live keep rare keys out"
)]
pub struct Full {
    /// The column.
    pub column: String,
    /// Keys at most.
    pub capacity: usize,
}

/// What a table has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableCounts {
    /// Keys that have a row.
    pub rows: u64,
    /// Rows that were made.
    pub admitted: u64,
    /// Ids of training batches that had no row and got none.
    pub filtered: u64,
    /// Rows that were dropped.
    pub evicted: u64,
    /// Keys that a filter counts one by one and that have no row yet.
    pub waiting: u64,
}

/// What became of a batch's keys: slots with their keys, in the order in which the batch has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Begin with their initial values.
    pub new: Vec<(u32, u64)>,
    /// Read what there is without permission in this step, and begin with their initial values for its update.
    pub admitted: Vec<(u32, u64)>,
    /// Whether the row of zeros is read.
    pub zeros: bool,
}

/// A key of the present batch that has no row.
#[derive(Debug, Clone, Copy)]
struct Unknown {
    key: u64,
    count: u64,
    /// Its slot, once it is known.
    slot: u32,
}

/// Keys and slots of one column.
#[derive(Debug)]
pub struct HashedTable {
    pub(super) column: HashedColumn,
    pub(super) config: HashedConfig,
    pub(super) slots: Slots,
    pub(super) filter: Option<Filter>,
    pub(super) counts: TableCounts,
    /// Scratch: the unknown keys of a batch, their numbers, and where in the batch they are.
    unknown: Vec<Unknown>,
    numbers: KeyMap<u32>,
    places: Vec<(u32, u32)>,
}

impl HashedTable {
    /// A table without a key.
    pub fn new(config: HashedConfig, column: &HashedColumn) -> Self {
        HashedTable {
            slots: Slots::new(column.capacity),
            column: column.clone(),
            filter: Filter::new(config.filter).filter(|_| !column.resident),
            config,
            counts: TableCounts::default(),
            unknown: Vec::new(),
            numbers: KeyMap::default(),
            places: Vec::new(),
        }
    }

    /// Whether it does not grow: an id is its row.
    pub fn is_resident(&self) -> bool {
        self.column.resident
    }

    /// Slots that have ever been taken: `0..high`.
    pub fn high(&self) -> usize {
        if self.column.resident { self.column.rows } else { self.slots.high() }
    }

    /// What it has seen.
    pub fn counts(&self) -> TableCounts {
        TableCounts {
            rows: self.slots.len() as u64,
            waiting: self.filter.as_ref().map_or(0, |f| f.waiting() as u64),
            ..self.counts
        }
    }

    /// The same with the name of its column.
    pub fn usage(&self) -> TableUse {
        TableUse { column: self.column.name.clone(), seen: Seen::Grown(self.counts()) }
    }

    /// Its keys by slot; `None` where a slot is free.
    #[cfg(test)]
    pub fn keys(&self) -> Vec<Option<u64>> {
        (0..self.slots.high() as u32).map(|slot| self.slots.key(slot)).collect()
    }

    /// The row that is read where there is no permission for another, if there is a filter.
    pub fn zeros(&self) -> u32 {
        self.column.rows as u32 - 1
    }

    /// What each element of it is.
    pub fn without_permission(&self) -> f32 {
        self.config.default_value_no_permission
    }

    /// The number of the initial row of a key.
    pub fn initial(&self, key: u64) -> u64 {
        self.config.default_value_dim.map_or(key, |d| key % d)
    }

    /// Slots for the ids of training batch number `step`, from 1; new keys get one.
    ///
    /// # Errors
    /// If none is left for a new key.
    pub fn resolve(
        &mut self,
        ids: impl Iterator<Item = u64>,
        step: u64,
        out: &mut Vec<u32>,
        changes: &mut Changes,
    ) -> Result<(), Full> {
        out.clear();
        changes.new.clear();
        changes.admitted.clear();
        changes.zeros = false;
        if self.column.resident {
            out.extend(ids.map(|id| id as u32));
            return Ok(());
        }
        if self.filter.is_some() {
            return self.resolve_filtered(ids, step, out, changes);
        }
        for key in ids {
            let slot = match self.slots.get(key) {
                Some(slot) => slot,
                None => {
                    let slot = self.make(key, step)?;
                    changes.new.push((slot, key));
                    slot
                }
            };
            self.slots.see(slot, 1, step);
            out.push(slot);
        }
        Ok(())
    }

    /// The same with a filter. What a key may read is judged before the batch is counted, what it
    /// learns after.
    fn resolve_filtered(
        &mut self,
        ids: impl Iterator<Item = u64>,
        step: u64,
        out: &mut Vec<u32>,
        changes: &mut Changes,
    ) -> Result<(), Full> {
        let zeros = self.zeros();
        self.unknown.clear();
        self.numbers.clear();
        self.places.clear();
        for key in ids {
            if let Some(slot) = self.slots.get(key) {
                self.slots.see(slot, 1, step);
                out.push(slot);
                continue;
            }
            let next = self.unknown.len() as u32;
            let number = *self.numbers.entry(key).or_insert(next);
            if number == next {
                self.unknown.push(Unknown { key, count: 0, slot: zeros });
            }
            self.unknown[number as usize].count += 1;
            self.places.push((out.len() as u32, number));
            out.push(zeros);
        }
        let mut unknown = std::mem::take(&mut self.unknown);
        let told = self.judge(&mut unknown, step, changes);
        for &(place, number) in &self.places {
            out[place as usize] = unknown[number as usize].slot;
        }
        self.unknown = unknown;
        told
    }

    fn judge(
        &mut self,
        unknown: &mut [Unknown],
        step: u64,
        changes: &mut Changes,
    ) -> Result<(), Full> {
        let zeros = self.zeros();
        // Only a Bloom filter knows enough of a key without a row: others share its counters.
        for u in unknown.iter_mut() {
            if self.filter.as_ref().is_some_and(|f| f.permits(u.key)) {
                u.slot = self.make(u.key, step)?;
                changes.new.push((u.slot, u.key));
                self.slots.see(u.slot, u.count, step);
            }
        }
        let Some(filter) = &mut self.filter else { return Ok(()) };
        for u in unknown.iter().filter(|u| u.slot == zeros) {
            filter.add(u.key, u.count, step);
        }
        for u in unknown.iter_mut().filter(|u| u.slot == zeros) {
            let Some(filter) = &mut self.filter else { break };
            if !filter.permits(u.key) {
                changes.zeros = true;
                self.counts.filtered += u.count;
                continue;
            }
            let seen = filter.admit(u.key, u.count);
            u.slot = self.make(u.key, step)?;
            changes.admitted.push((u.slot, u.key));
            self.slots.see(u.slot, seen, step);
        }
        Ok(())
    }

    /// Gives a key a slot.
    fn make(&mut self, key: u64, step: u64) -> Result<u32, Full> {
        let HashedColumn { name, capacity, .. } = &self.column;
        let full = || Full { column: name.clone(), capacity: *capacity };
        let slot = self.slots.add(key, step).ok_or_else(full)?;
        self.counts.admitted += 1;
        Ok(slot)
    }

    /// Slots for the ids of a batch that only predicts. A key without a row reads zeros if there is
    /// a filter, else its initial values from a row that it borrows: those are in `borrowed`, with
    /// the numbers of the initial rows.
    pub fn look_up(
        &mut self,
        ids: impl Iterator<Item = u64>,
        out: &mut Vec<u32>,
        borrowed: &mut Vec<(u32, u64)>,
    ) {
        out.clear();
        borrowed.clear();
        if self.column.resident {
            out.extend(ids.map(|id| id as u32));
            return;
        }
        self.numbers.clear();
        let zeros = self.zeros();
        for key in ids {
            if let Some(slot) = self.slots.get(key) {
                out.push(slot);
            } else if self.filter.is_some() {
                out.push(zeros);
            } else {
                let (initial, rows) = (self.initial(key), self.column.rows);
                let slots = &self.slots;
                let slot = *self.numbers.entry(initial).or_insert_with(|| {
                    // There are as many rows as a batch can ask for.
                    let slot = slots.spare(borrowed.len(), rows).unwrap_or(zeros);
                    borrowed.push((slot, initial));
                    slot
                });
                out.push(slot);
            }
        }
    }

    /// Whether rows are dropped by their values.
    pub fn evicts_by_values(&self) -> bool {
        self.config.l2_threshold.is_some() && !self.column.resident
    }

    /// Drops what is to be dropped after `now` steps: keys that no step has seen for more than
    /// `steps_to_live`, then rows with `half_squares` below the threshold. Their slots, ascending.
    pub fn evict(&mut self, now: u64, half_squares: &dyn Fn(u32) -> f32) -> Vec<u32> {
        if self.column.resident {
            return Vec::new();
        }
        let HashedConfig { steps_to_live, l2_threshold, .. } = self.config;
        let dropped = |slot: &u32| {
            let Slot { version, .. } = self.slots.all()[*slot as usize];
            version > 0
                && (steps_to_live.is_some_and(|live| now.saturating_sub(version) > live)
                    || l2_threshold.is_some_and(|least| f64::from(half_squares(*slot)) < least))
        };
        let all: Vec<u32> = (0..self.high() as u32).filter(dropped).collect();
        all.iter().for_each(|&slot| self.slots.remove(slot));
        self.counts.evicted += all.len() as u64;
        if let (Some(filter), Some(live)) = (&mut self.filter, steps_to_live) {
            filter.evict(now, live);
        }
        all
    }

    /// Whether there is a filter.
    pub fn filters(&self) -> bool {
        self.filter.is_some()
    }
}
