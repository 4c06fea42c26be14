//! Which keys get a row: the state of a filter.

use super::{Bloom, FilterConfig, slots::KeyMap};

/// A key that has no row yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// How often it was seen.
    pub count: u64,
    /// The last step that saw it.
    pub version: u64,
}

/// Counts keys until they get a row.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    freq: u64,
    pub counts: Counting,
}

/// How they are counted.
#[derive(Debug, Clone)]
pub(super) enum Counting {
    Each(KeyMap<Waiting>),
    Bloom(Bloom),
}

impl Filter {
    /// A filter that has seen nothing; `None` if all keys get a row.
    pub fn new(config: FilterConfig) -> Option<Self> {
        let counts = match config {
            FilterConfig::None => return None,
            FilterConfig::Counter { .. } => Counting::Each(KeyMap::default()),
            FilterConfig::Bloom { freq, keys, false_positive, counter_bits } => {
                Counting::Bloom(Bloom::new(keys, false_positive, counter_bits, freq))
            }
        };
        Some(Filter { freq: config.freq(), counts })
    }

    /// Whether a key without a row was seen often enough.
    pub fn permits(&self, key: u64) -> bool {
        let count = match &self.counts {
            Counting::Each(waiting) => waiting.get(&key).map_or(0, |w| w.count),
            Counting::Bloom(bloom) => bloom.count(key),
        };
        count >= self.freq
    }

    /// Counts a key that a step has seen so often.
    pub fn add(&mut self, key: u64, count: u64, step: u64) {
        match &mut self.counts {
            Counting::Each(all) => {
                let waiting = all.entry(key).or_insert(Waiting { count: 0, version: step });
                waiting.count = waiting.count.saturating_add(count);
                waiting.version = step;
            }
            Counting::Bloom(bloom) => bloom.add(key, count),
        }
    }

    /// Forgets a key that gets a row. How often it was seen, `now` included, where that is known.
    pub fn admit(&mut self, key: u64, now: u64) -> u64 {
        match &mut self.counts {
            Counting::Each(all) => all.remove(&key).map_or(now, |w| w.count),
            Counting::Bloom(_) => now,
        }
    }

    /// Keys that wait for a row, where they are known.
    pub fn waiting(&self) -> usize {
        match &self.counts {
            Counting::Each(all) => all.len(),
            Counting::Bloom(_) => 0,
        }
    }

    /// Forgets keys that no step has seen for more than `steps_to_live`; so many.
    pub fn evict(&mut self, now: u64, steps_to_live: u64) -> usize {
        let Counting::Each(all) = &mut self.counts else { return 0 };
        let before = all.len();
        all.retain(|_, w| now.saturating_sub(w.version) <= steps_to_live);
        before - all.len()
    }
}
