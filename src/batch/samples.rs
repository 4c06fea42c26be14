//! A mini-batch, laid out as the engines read it.

use std::ops::Range;

/// The ids of one categorical column for a whole batch: sample `b` owns
/// `indices[offsets[b]..offsets[b + 1]]` (compressed sparse rows). A bag may be empty.
///
/// Where a table holds some rows of a larger one, `indices` are its rows, slots, and `ids` are the
/// rows of the larger one that they stand for: numbers that go by the row go by those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bags {
    /// Row numbers, all bags one after another.
    pub indices: Vec<u32>,
    /// `B + 1` positions into `indices`, starting with 0.
    pub offsets: Vec<u32>,
    /// What each of `indices` stands for; empty where they stand for themselves.
    pub ids: Vec<u32>,
    /// The upper halves of ids of 64 bits, of which `indices` are the lower ones
    /// ([`Bags::keys`]): one for each of `indices` up to the last that has one, and 0 beyond.
    pub high: Vec<u32>,
}

impl Bags {
    /// Bags of ids that stand for themselves.
    pub fn new(indices: Vec<u32>, offsets: Vec<u32>) -> Self {
        Bags { indices, offsets, ..Bags::default() }
    }

    /// What each of the indices stands for.
    pub fn ids(&self) -> &[u32] {
        if self.ids.is_empty() { &self.indices } else { &self.ids }
    }

    /// The ids of sample `b`.
    pub fn bag(&self, b: usize) -> &[u32] {
        &self.indices[self.offsets[b] as usize..self.offsets[b + 1] as usize]
    }

    /// All ids with all of their bits, one bag after another.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.keys_of(0..self.indices.len())
    }

    /// The ids of sample `b` with all of their bits.
    pub fn bag_keys(&self, b: usize) -> impl Iterator<Item = u64> + '_ {
        self.keys_of(self.offsets[b] as usize..self.offsets[b + 1] as usize)
    }

    fn keys_of(&self, places: Range<usize>) -> impl Iterator<Item = u64> + '_ {
        let high = |at: usize| self.high.get(at).copied().unwrap_or(0);
        places.map(move |at| u64::from(high(at)) << 32 | u64::from(self.indices[at]))
    }

    /// Whether every bag holds exactly one id (so that `indices[b]` belongs to sample `b`).
    pub fn is_one_hot(&self) -> bool {
        self.indices.len() + 1 == self.offsets.len()
            && self.offsets.iter().enumerate().all(|(i, &o)| o as usize == i)
    }

    /// Empties the bags, keeping their memory; follow with [`Bags::push`] for each sample.
    pub fn clear(&mut self) {
        self.indices.clear();
        self.ids.clear();
        self.high.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    /// Appends one sample's ids.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.indices.extend(ids);
        self.offsets.push(self.indices.len() as u32);
    }

    /// Appends one sample's ids of 64 bits.
    pub fn push_keys(&mut self, keys: impl IntoIterator<Item = u64>) {
        self.extend_keys(keys);
        self.push([]);
    }

    /// Appends ids of 64 bits to the bag that [`Bags::push`] ends next.
    pub fn extend_keys(&mut self, keys: impl IntoIterator<Item = u64>) {
        for key in keys {
            self.put_high(self.indices.len(), (key >> 32) as u32);
            self.indices.push(key as u32);
        }
    }

    /// Appends the ids at `places` of `from` to the bag that [`Bags::push`] ends next.
    pub fn extend_from(&mut self, from: &Bags, places: Range<usize>) {
        let start = self.indices.len();
        self.indices.extend_from_slice(&from.indices[places.clone()]);
        let high = from.high.iter().enumerate().take(places.end).skip(places.start);
        high.for_each(|(at, &high)| self.put_high(start + at - places.start, high));
    }

    /// Sets the upper half of the id at `at`, which is the last that has one.
    fn put_high(&mut self, at: usize, high: u32) {
        if high != 0 {
            self.high.resize(at, 0);
            self.high.push(high);
        }
    }
}

/// `B` samples: dense features `[B, D]`, one [`Bags`] a table, labels `[B]`.
///
/// Buffers are reused: a source clears and refills them, and nothing is allocated once the largest
/// batch has been seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Number of samples.
    pub len: usize,
    /// Dense features after the named transform, row-major `[B, D]`.
    pub dense: Vec<f32>,
    /// One entry a categorical column, in schema order.
    pub bags: Vec<Bags>,
    /// Labels `[B]`: 0 or 1 for click logs, any value in [0, 1] for facebook's random data.
    pub labels: Vec<f32>,
}

impl Batch {
    /// An empty batch with room for `samples` samples of `schema`.
    pub fn with_capacity(schema: &super::Schema, samples: usize) -> Self {
        Batch {
            len: 0,
            dense: Vec::with_capacity(samples * schema.dense),
            bags: schema
                .tables
                .iter()
                .map(|t| {
                    let mut offsets = Vec::with_capacity(samples + 1);
                    offsets.push(0);
                    Bags::new(Vec::with_capacity(samples * t.max_hotness), offsets)
                })
                .collect(),
            labels: Vec::with_capacity(samples),
        }
    }

    /// Appends the samples of another batch of the same columns.
    pub fn append(&mut self, other: &Batch) {
        self.len += other.len;
        self.dense.extend_from_slice(&other.dense);
        self.labels.extend_from_slice(&other.labels);
        for (to, from) in self.bags.iter_mut().zip(&other.bags) {
            let start = to.indices.len() as u32;
            to.extend_from(from, 0..from.indices.len());
            to.offsets.extend(from.offsets.iter().skip(1).map(|end| start + end));
        }
    }

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.dense.clear();
        self.labels.clear();
        self.bags.iter_mut().for_each(Bags::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bags(all: &[Vec<u64>]) -> Bags {
        let mut bags = Bags::default();
        bags.clear();
        all.iter().for_each(|bag| bags.push_keys(bag.iter().copied()));
        bags
    }

    fn ids() -> impl Strategy<Value = Vec<Vec<u64>>> {
        let id = prop_oneof![0u64..5, any::<u64>(), Just(u64::MAX), Just(1u64 << 32)];
        prop::collection::vec(prop::collection::vec(id, 0..4), 0..12)
    }

    proptest! {
        /// All bits come back, whichever bags hold some above the lower 32, and however batches are
        /// joined.
        #[test]
        fn ids_keep_all_of_their_bits(one in ids(), two in ids()) {
            let (a, b) = (bags(&one), bags(&two));
            let of = |bags: Bags, len| Batch { len, bags: vec![bags], ..Batch::default() };
            let mut joined = of(a, one.len());
            joined.append(&of(b, two.len()));
            let all = [one, two].concat();
            let got: Vec<Vec<u64>> = (0..all.len()).map(|i| joined.bags[0].bag_keys(i).collect()).collect();
            prop_assert_eq!(&got, &all);
            prop_assert_eq!(joined.bags[0].keys().collect::<Vec<_>>(), all.concat());
            prop_assert_eq!(joined.bags[0].high.is_empty(), all.concat().iter().all(|&id| id < 1 << 32));
            joined.clear();
            joined.bags[0].push([7]);
            prop_assert_eq!(joined.bags[0].keys().collect::<Vec<_>>(), [7]);
        }
    }
}
