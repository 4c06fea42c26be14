//! Stack distances: how many different ids an LRU cache must hold for an access to find its id
//! there.

use super::{AccessPattern, fenwick::Fenwick};
use std::collections::{BTreeMap, HashMap};

/// Measures stack distances of a stream of ids (Mattson et al., "Evaluation techniques for storage
/// hierarchies", 1970).
///
/// The distance of an access is the number of different ids from the last access to the same id
/// (included) up to now: 1 for an id that comes twice in a row, 0 for one that has not been seen
/// before. An access takes `log n` steps for `n` different ids, memory is proportional to `n`
/// (Bennett and Kruskal, "LRU stack processing", 1975: a tree over times of last access).
#[derive(Debug, Default)]
pub struct StackDistances {
    /// Time of each id's last access.
    last: HashMap<u32, usize>,
    /// 1 at the times that are somebody's last access.
    times: Fenwick,
    now: usize,
}

impl StackDistances {
    /// Takes note of an access, and says its distance.
    pub fn access(&mut self, id: u32) -> u32 {
        if self.now == self.times.len() {
            self.compact();
        }
        let distance = match self.last.insert(id, self.now) {
            None => 0,
            Some(before) => {
                let distance = self.last.len() as u32 - self.times.before(before);
                self.times.add(before, u32::MAX);
                distance
            }
        };
        self.times.add(self.now, 1);
        self.now += 1;
        distance
    }

    /// Numbers the last accesses anew, without gaps, and makes room for as many again.
    fn compact(&mut self) {
        let mut order: Vec<(usize, u32)> =
            self.last.iter().map(|(&id, &time)| (time, id)).collect();
        order.sort_unstable();
        for (time, (_, id)) in order.iter().enumerate() {
            self.last.insert(*id, time);
        }
        self.now = order.len();
        self.times = Fenwick::with_ones((2 * self.now).max(1024), self.now);
    }
}

/// What there is to know of the accesses to one table.
#[derive(Debug, Default)]
pub struct Profile {
    stack: StackDistances,
    /// Ids in the order of their first access.
    first_seen: Vec<u32>,
    /// Accesses of each distance.
    distances: BTreeMap<u32, u64>,
    /// Accesses to each id.
    counts: HashMap<u32, u64>,
    accesses: u64,
}

impl Profile {
    /// Takes note of an access.
    pub fn access(&mut self, id: u32) {
        let distance = self.stack.access(id);
        if distance == 0 {
            self.first_seen.push(id);
        }
        *self.distances.entry(distance).or_default() += 1;
        *self.counts.entry(id).or_default() += 1;
        self.accesses += 1;
    }

    /// Accesses so far.
    pub fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Different ids seen.
    pub fn distinct(&self) -> usize {
        self.first_seen.len()
    }

    /// Accesses to each id, the most frequent one first.
    pub fn frequencies(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.counts.values().copied().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }

    /// `(c, n)`: so many ids, `n`, were accessed `c` times; by `c`.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let mut all = std::collections::BTreeMap::new();
        self.counts.values().for_each(|&c| *all.entry(c).or_insert(0) += 1);
        all.into_iter().collect()
    }

    /// Share of accesses that find their id among the `rows` ids used last: the hit rate of an LRU
    /// cache of so many rows.
    pub fn hit_rate(&self, rows: u32) -> f64 {
        let hits: u64 = self.distances.range(1..=rows.max(1)).map(|(_, n)| n).sum();
        if rows == 0 || self.accesses == 0 { 0.0 } else { hits as f64 / self.accesses as f64 }
    }

    /// Shares of accesses to new ids, and of distances in `[1, 2)`, `[2, 4)`, `[4, 8)`, ... up to
    /// the largest.
    pub fn histogram(&self) -> Vec<f64> {
        let bin = |distance: u32| if distance == 0 { 0 } else { 1 + distance.ilog2() as usize };
        let mut shares = vec![0.0; self.distances.last_key_value().map_or(0, |(&d, _)| bin(d) + 1)];
        for (&distance, &n) in &self.distances {
            shares[bin(distance)] += n as f64 / self.accesses as f64;
        }
        shares
    }

    /// The pattern that [`super::LruTrace`] draws from; `None` without accesses.
    pub fn pattern(&self) -> Option<AccessPattern> {
        let all = self.accesses as f64;
        let mut sum = 0.0;
        let cumulative = self.distances.values().map(|&n| {
            // Added share by share, as facebook's program does.
            sum += n as f64 / all;
            sum
        });
        let cumulative = cumulative.collect();
        AccessPattern::new(
            self.first_seen.clone(),
            self.distances.keys().copied().collect(),
            cumulative,
        )
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By the definition: the ids since the last access, counted.
    fn plain(trace: &[u32]) -> Vec<u32> {
        (0..trace.len())
            .map(|i| match trace[..i].iter().rposition(|&id| id == trace[i]) {
                None => 0,
                Some(last) => {
                    trace[last..i].iter().collect::<std::collections::BTreeSet<_>>().len() as u32
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(trace in prop::collection::vec(0u32..40, 0..4000)) {
            let mut stack = StackDistances::default();
            let found: Vec<u32> = trace.iter().map(|&id| stack.access(id)).collect();
            prop_assert_eq!(found, plain(&trace));
        }
    }

    /// The example in facebookresearch/dlrm, dlrm_data_pytorch.py.
    #[test]
    fn facebook_s_example() {
        let mut profile = Profile::default();
        [1, 2, 3, 4, 5, 3, 4, 1, 1, 6, 3].into_iter().for_each(|id| profile.access(id));
        let pattern = profile.pattern().unwrap();
        assert_eq!(pattern.ids, [1, 2, 3, 4, 5, 6]);
        assert_eq!(pattern.distances, [0, 1, 3, 4, 5]);
        let rounded: Vec<f64> =
            pattern.cumulative.iter().map(|p| (p * 100.0).round() / 100.0).collect();
        assert_eq!(rounded, [0.55, 0.64, 0.82, 0.91, 1.0]);
        assert_eq!((profile.accesses(), profile.distinct()), (11, 6));
        assert_eq!(profile.frequencies(), [3, 3, 2, 1, 1, 1]);
        assert_eq!(
            [0, 1, 3, 100].map(|rows| (profile.hit_rate(rows) * 11.0).round()),
            [0.0, 1.0, 3.0, 5.0]
        );
        assert_eq!(
            profile.histogram().iter().map(|x| (x * 11.0).round()).collect::<Vec<_>>(),
            [6.0, 1.0, 2.0, 2.0]
        );
        assert!(Profile::default().pattern().is_none());
    }
}
