//! The keys of a table as they are saved, and put back.

use super::{
    Bloom, FilterConfig, HashedTable,
    filter::{Counting, Waiting},
    slots::{Slot, Slots},
};

/// What of a table is no tensor of a model: numbers that belong together stand at one place of
/// their lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedTable {
    /// By slot; 0 where one is free.
    pub keys: Vec<u64>,
    /// How often each was seen.
    pub freqs: Vec<u64>,
    /// The last step that saw it, from 1; 0 where a slot is free.
    pub versions: Vec<u64>,
    /// Keys that wait for a row, ascending.
    pub keys_filtered: Vec<u64>,
    /// How often each was seen.
    pub freqs_filtered: Vec<u64>,
    /// The last step that saw it.
    pub versions_filtered: Vec<u64>,
    /// Counters of a Bloom filter, and their bits.
    pub bloom: Option<(u32, Vec<u64>)>,
    /// Rows made, ids without a row, rows dropped.
    pub counts: [u64; 3],
}

impl HashedTable {
    /// What is to be saved.
    pub fn save(&self) -> SavedTable {
        let mut saved = SavedTable {
            keys: self.slots.all().iter().map(|s| s.key).collect(),
            freqs: self.slots.all().iter().map(|s| s.freq).collect(),
            versions: self.slots.all().iter().map(|s| s.version).collect(),
            counts: [self.counts.admitted, self.counts.filtered, self.counts.evicted],
            ..SavedTable::default()
        };
        match self.filter.as_ref().map(|f| &f.counts) {
            Some(Counting::Each(all)) => {
                let mut waiting: Vec<(u64, Waiting)> = all.iter().map(|(k, w)| (*k, *w)).collect();
                waiting.sort_unstable_by_key(|(key, _)| *key);
                for (key, Waiting { count, version }) in waiting {
                    saved.keys_filtered.push(key);
                    saved.freqs_filtered.push(count);
                    saved.versions_filtered.push(version);
                }
            }
            Some(Counting::Bloom(bloom)) => {
                let counters = (0..bloom.len()).map(|at| bloom.counter(at)).collect();
                saved.bloom = Some((bloom.bits(), counters));
            }
            None => {}
        }
        saved
    }

    /// Goes on from what was saved.
    ///
    /// # Errors
    /// A sentence on what does not fit; then the table is as it was.
    pub fn restore(&mut self, saved: &SavedTable) -> Result<(), String> {
        let SavedTable { keys, freqs, versions, .. } = saved;
        let (name, capacity) = (&self.column.name, self.column.capacity);
        if freqs.len() != keys.len() || versions.len() != keys.len() {
            return Err(format!("the keys of column {name} have other numbers than their uses"));
        }
        if self.column.resident && !keys.is_empty() {
            return Err(format!("the table of column {name} grew, and is resident here"));
        }
        if keys.len() > capacity {
            return Err(format!(
                "column {name} has {} rows, but embedding.capacity is {capacity} here",
                keys.len()
            ));
        }
        let beyond = |key: &&u64| !self.column.any_keys && **key >= self.column.ids as u64;
        if let Some(key) = keys.iter().find(beyond) {
            return Err(format!(
                "column {name} has the id {key}, but {} ids here",
                self.column.ids
            ));
        }
        let all = keys.iter().zip(freqs).zip(versions);
        let all = all.map(|((&key, &freq), &version)| Slot { key, freq, version }).collect();
        let slots = Slots::of(capacity, all);
        let slots = slots.ok_or_else(|| format!("column {name} has an id twice"))?;
        if let Some(filter) = &mut self.filter {
            filter.counts = counting(self.config.filter, name, saved)?;
        }
        self.slots = slots;
        [self.counts.admitted, self.counts.filtered, self.counts.evicted] = saved.counts;
        Ok(())
    }
}

/// A filter's counts as they were saved.
fn counting(filter: FilterConfig, name: &str, saved: &SavedTable) -> Result<Counting, String> {
    let FilterConfig::Bloom { freq, keys, false_positive, counter_bits } = filter else {
        let SavedTable { keys_filtered, freqs_filtered, versions_filtered, .. } = saved;
        let uses = freqs_filtered.iter().zip(versions_filtered);
        let uses = uses.map(|(&count, &version)| Waiting { count, version });
        return Ok(Counting::Each(keys_filtered.iter().copied().zip(uses).collect()));
    };
    let mut bloom = Bloom::new(keys, false_positive, counter_bits, freq);
    match &saved.bloom {
        Some((bits, counters)) if (*bits, counters.len()) == (bloom.bits(), bloom.len()) => {
            counters.iter().enumerate().for_each(|(at, &to)| bloom.set(at, to));
            Ok(Counting::Bloom(bloom))
        }
        _ => Err(format!("column {name} was not counted by such a Bloom filter")),
    }
}
