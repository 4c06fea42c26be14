//! Samples shuffled on their way through a buffer, as tf.data's `shuffle(N)` and Petastorm's
//! shuffling queue do: the first N fill it, then each one that leaves, drawn at random, makes room
//! for the next.
//!
//! A sample cannot come more than N places earlier than it is stored, but however much later.

use super::super::{DataError, Source};
use crate::{
    batch::{Batch, Schema},
    random::philox::{Philox, Stream},
};

/// Samples that are read together.
const CHUNK: u64 = 1 << 10;

/// A source behind a buffer.
pub(super) struct Buffered {
    inner: Box<dyn Source>,
    seed: u64,
    room: usize,
    store: Store,
    /// Epoch and position of the next sample to leave; `None` before the first.
    at: Option<(u64, u64)>,
    /// Samples of the inner source read so far.
    read: u64,
    chunk: Batch,
    /// The next sample of the chunk.
    next: usize,
}

impl Buffered {
    /// A buffer of `room` samples behind `inner`, which has an end.
    pub fn new(inner: Box<dyn Source>, room: usize, seed: u64) -> Self {
        let schema = inner.schema();
        let (store, chunk) = (Store::new(schema), Batch::with_capacity(schema, CHUNK as usize));
        Buffered { inner, seed, room, store, at: None, read: 0, chunk, next: 0 }
    }

    fn samples(&self) -> u64 {
        self.inner.len().unwrap_or(0)
    }

    /// Lets the samples up to position `start` of `epoch` pass.
    fn seek(&mut self, epoch: u64, start: u64) -> Result<(), DataError> {
        let at = match self.at {
            Some((open, at)) if open == epoch && at <= start => at,
            _ => {
                self.store.clear();
                (self.read, self.next) = (0, 0);
                self.chunk.clear();
                self.at = Some((epoch, 0));
                while (self.store.len() as u64) < self.samples().min(self.room as u64) {
                    let i = self.pull(epoch)?;
                    self.store.put(self.store.len(), &self.chunk, i);
                }
                0
            }
        };
        for at in at..start {
            self.leave(epoch, at, None)?;
        }
        Ok(())
    }

    /// Place in the chunk of the next sample of the inner source, which there must be.
    fn pull(&mut self, epoch: u64) -> Result<usize, DataError> {
        if self.next == self.chunk.len {
            let n = CHUNK.min(self.samples() - self.read) as usize;
            self.inner.fill(epoch, self.read, n, &mut self.chunk)?;
            self.read += n as u64;
            self.next = 0;
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Takes sample `at` of the epoch's order out of the buffer, to `batch` if it is wanted, and
    /// lets another one in.
    fn leave(&mut self, epoch: u64, at: u64, batch: Option<&mut Batch>) -> Result<(), DataError> {
        let word = Philox::new(self.seed, Stream::Shuffle, epoch).block_u64(at)[0];
        // The high half of word * n: uniform on 0..n up to 2^-32.
        let slot = ((u128::from(word) * self.store.len() as u128) >> 64) as usize;
        if let Some(batch) = batch {
            self.store.take(slot, batch);
        }
        if self.next < self.chunk.len || self.read < self.samples() {
            let i = self.pull(epoch)?;
            self.store.put(slot, &self.chunk, i);
        } else {
            self.store.drop_slot(slot);
        }
        self.at = Some((epoch, at + 1));
        Ok(())
    }
}

impl Source for Buffered {
    fn schema(&self) -> &Schema {
        self.inner.schema()
    }

    fn len(&self) -> Option<u64> {
        self.inner.len()
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        // After an error nothing is known of what the buffer holds.
        let mut all = || {
            self.seek(epoch, start)?;
            (start..start + n as u64).try_for_each(|at| self.leave(epoch, at, Some(batch)))
        };
        all().inspect_err(|_| self.at = None)
    }
}

/// Samples in slots of one size: as many ids of each table as it may have.
struct Store {
    /// Places of the tables' ids in a slot, and their end.
    starts: Vec<usize>,
    dense_width: usize,
    labels: Vec<f32>,
    dense: Vec<f32>,
    ids: Vec<u32>,
    /// Their upper halves; empty while none has one.
    high: Vec<u32>,
    /// Ids of each table in each slot.
    counts: Vec<u32>,
}

impl Store {
    fn new(schema: &Schema) -> Self {
        let mut starts = vec![0];
        schema.tables.iter().for_each(|t| starts.push(starts[starts.len() - 1] + t.max_hotness));
        Store {
            starts,
            dense_width: schema.dense,
            labels: Vec::new(),
            dense: Vec::new(),
            ids: Vec::new(),
            high: Vec::new(),
            counts: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.dense.clear();
        self.ids.clear();
        self.high.clear();
        self.counts.clear();
    }

    fn width(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Puts sample `i` of `from` into a slot, or into a new one behind the last.
    fn put(&mut self, slot: usize, from: &Batch, i: usize) {
        let (width, tables, d) = (self.width(), self.starts.len() - 1, self.dense_width);
        if slot == self.len() {
            self.labels.push(0.0);
            self.dense.resize((slot + 1) * d, 0.0);
            self.ids.resize((slot + 1) * width, 0);
            self.counts.resize((slot + 1) * tables, 0);
        }
        self.labels[slot] = from.labels[i];
        self.dense[slot * d..(slot + 1) * d].copy_from_slice(&from.dense[i * d..(i + 1) * d]);
        for (k, bags) in from.bags.iter().enumerate() {
            let bag = bags.bag(i);
            self.counts[slot * tables + k] = bag.len() as u32;
            let start = slot * width + self.starts[k];
            self.ids[start..][..bag.len()].copy_from_slice(bag);
            if self.high.is_empty() && bags.high.is_empty() {
                continue;
            }
            self.high.resize(self.ids.len(), 0);
            let high = self.high[start..].iter_mut().zip(bags.bag_keys(i));
            high.for_each(|(high, key)| *high = (key >> 32) as u32);
        }
    }

    /// Appends the sample in a slot to `to`.
    fn take(&self, slot: usize, to: &mut Batch) {
        let (width, tables, d) = (self.width(), self.starts.len() - 1, self.dense_width);
        to.len += 1;
        to.labels.push(self.labels[slot]);
        to.dense.extend_from_slice(&self.dense[slot * d..(slot + 1) * d]);
        for (k, bags) in to.bags.iter_mut().enumerate() {
            let count = self.counts[slot * tables + k] as usize;
            let start = slot * width + self.starts[k];
            let low = &self.ids[start..][..count];
            match self.high.get(start..start + count) {
                None => bags.push(low.iter().copied()),
                Some(high) => bags.push_keys(
                    low.iter().zip(high).map(|(&l, &h)| u64::from(h) << 32 | u64::from(l)),
                ),
            }
        }
    }

    /// Gives a slot up; the last one takes its place.
    fn drop_slot(&mut self, slot: usize) {
        let (width, tables, d, last) =
            (self.width(), self.starts.len() - 1, self.dense_width, self.len() - 1);
        self.labels.swap_remove(slot);
        self.dense.copy_within(last * d.., slot * d);
        self.dense.truncate(last * d);
        self.ids.copy_within(last * width.., slot * width);
        self.ids.truncate(last * width);
        if !self.high.is_empty() {
            self.high.resize((last + 1) * width, 0);
            self.high.copy_within(last * width.., slot * width);
            self.high.truncate(last * width);
        }
        self.counts.copy_within(last * tables.., slot * tables);
        self.counts.truncate(last * tables);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Numbered, *};
    use proptest::prelude::*;

    fn numbers(source: &mut dyn Source, epoch: u64, start: u64, n: usize) -> Vec<u32> {
        let mut batch = Batch::default();
        batch.bags.resize_with(2, Default::default);
        source.fill(epoch, start, n, &mut batch).unwrap();
        Numbered::check(&batch)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Each sample once, none too early, each range as the whole epoch has it, another order in
        /// another epoch.
        #[test]
        fn all_samples_pass_through(
            n in 0u64..3000,
            room in prop_oneof![1usize..40, 1usize..4000],
            asks in prop::collection::vec((0u64..3, 0u64..3000, 0usize..500), 0..6),
        ) {
            let mut source = Buffered::new(Box::new(Numbered::new(n)), room, 9);
            let wholes: Vec<Vec<u32>> = (0..3).map(|e| numbers(&mut source, e, 0, n as usize)).collect();
            for whole in &wholes {
                let mut sorted = whole.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..n as u32).collect::<Vec<_>>());
                prop_assert!(whole.iter().enumerate().all(|(at, &x)| (x as usize) < at + room));
            }
            prop_assert!(n < 20 || room < 20 || wholes[0] != wholes[1]);
            prop_assert!(room > 1 || wholes[0] == (0..n as u32).collect::<Vec<_>>());
            for (epoch, start, m) in asks {
                let start = start.min(n);
                let m = m.min((n - start) as usize);
                let got = numbers(&mut source, epoch, start, m);
                prop_assert_eq!(&got[..], &wholes[epoch as usize][start as usize..start as usize + m]);
            }
        }
    }
}
