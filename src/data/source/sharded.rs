//! The part of a source that one of several processes trains on.
//!
//! Step t of `of` processes with batches of B samples is what step t of one process with batches of
//! `of * B` would be: the k-th process takes the k-th part of each such batch. What is left at the
//! end of an epoch is dealt out as evenly as it goes, so that numbers of steps differ by one at
//! most, and only where fewer samples are left than there are processes.

use super::super::{DataError, Source};
use crate::batch::{Batch, Schema};

/// One process's part.
pub(super) struct Sharded {
    inner: Box<dyn Source>,
    /// Samples of a batch of one process.
    batch: u64,
    shard: u64,
    of: u64,
    /// Where ranges that lie in several parts are put together.
    part: Batch,
}

impl Sharded {
    /// Part `shard` (from 0) of `of`.
    pub fn new(inner: Box<dyn Source>, batch: usize, shard: usize, of: usize) -> Self {
        Sharded {
            part: Batch::with_capacity(inner.schema(), 0),
            inner,
            batch: batch as u64,
            shard: shard as u64,
            of: of as u64,
        }
    }

    /// Where the inner source has position `at`, and how many samples follow there that are this
    /// process's.
    fn find(&self, at: u64) -> (u64, u64) {
        let whole = self.inner.len().map_or(u64::MAX, |n| n / (self.batch * self.of));
        let (step, within) = (at / self.batch, at % self.batch);
        if step < whole {
            return (
                step * self.batch * self.of + self.shard * self.batch + within,
                self.batch - within,
            );
        }
        let start = whole * self.batch * self.of;
        let (first, n) = self.rest(self.inner.len().unwrap_or(0) - start);
        let within = at - whole * self.batch;
        (start + first + within, n - within)
    }

    /// First sample and number of those of `left` that are this process's.
    fn rest(&self, left: u64) -> (u64, u64) {
        let (each, more) = (left / self.of, left % self.of);
        (self.shard * each + self.shard.min(more), each + u64::from(self.shard < more))
    }
}

impl Source for Sharded {
    fn schema(&self) -> &Schema {
        self.inner.schema()
    }

    fn len(&self) -> Option<u64> {
        self.inner.len().map(|n| {
            let all = self.batch * self.of;
            n / all * self.batch + self.rest(n % all).1
        })
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let (from, follow) = self.find(start);
        if n as u64 <= follow {
            return self.inner.fill(epoch, from, n, batch);
        }
        batch.clear();
        let (mut at, end) = (start, start + n as u64);
        while at < end {
            let (from, follow) = self.find(at);
            let n = follow.min(end - at);
            self.inner.fill(epoch, from, n as usize, &mut self.part)?;
            batch.append(&self.part);
            at += n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Numbered, *};
    use proptest::prelude::*;

    fn numbers(source: &mut dyn Source, start: u64, n: usize) -> Vec<u32> {
        let mut batch = Batch::default();
        batch.bags.resize_with(2, Default::default);
        source.fill(3, start, n, &mut batch).unwrap();
        Numbered::check(&batch)
    }

    proptest! {
        /// Parts together are the whole, each sample once; their t-th batches are the whole's t-th
        /// batch of as many times the size.
        #[test]
        fn parts_are_the_whole(n in 0u64..200, batch in 1usize..12, of in 1usize..6, asks in prop::collection::vec((0u64..200, 0usize..60), 0..6)) {
            let mut steps: Vec<Vec<u32>> = Vec::new();
            let mut all = Vec::new();
            let mut lens = Vec::new();
            for shard in 0..of {
                let mut part = Sharded::new(Box::new(Numbered::new(n)), batch, shard, of);
                let len = part.len().unwrap();
                lens.push(len.div_ceil(batch as u64));
                let whole = numbers(&mut part, 0, len as usize);
                for (step, samples) in whole.chunks(batch).enumerate() {
                    steps.resize(steps.len().max(step + 1), Vec::new());
                    steps[step].extend(samples);
                }
                for &(start, m) in &asks {
                    let start = start.min(len);
                    let m = m.min((len - start) as usize);
                    prop_assert_eq!(&numbers(&mut part, start, m)[..], &whole[start as usize..start as usize + m]);
                }
                all.extend(whole);
            }
            for (step, samples) in steps.iter().enumerate() {
                let start = step * batch * of;
                prop_assert_eq!(samples, &(start as u32..(start + batch * of).min(n as usize) as u32).collect::<Vec<_>>());
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..n as u32).collect::<Vec<_>>());
            let (most, least) = (lens.iter().max().unwrap(), lens.iter().min().unwrap());
            let left = n % (batch * of) as u64;
            prop_assert!(most == least || (most - least == 1 && left < of as u64));
        }
    }

    #[test]
    fn an_endless_log_has_endless_parts() {
        let mut part = Sharded::new(Box::new(Numbered::endless()), 3, 1, 2);
        assert_eq!((part.len(), numbers(&mut part, 0, 7)), (None, vec![3, 4, 5, 9, 10, 11, 15]));
    }
}
