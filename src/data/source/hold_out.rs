//! Samples that are held out of training files for evaluation (`data.hold_out`): of each so many
//! the last one, whatever the order of the files is, so that each part of them is judged.

use super::super::{DataError, Source};
use crate::batch::{Batch, Schema};

/// Samples of the files that are read together.
const CHUNK: u64 = 1 << 12;

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    every: u64,
    held_out: bool,
}

impl Side {
    /// What is trained on where the last of `every` samples (at least 2) is held out.
    pub fn kept(every: u32) -> Self {
        Side { every: every.into(), held_out: false }
    }

    /// What is held out.
    pub fn held_out(every: u32) -> Self {
        Side { held_out: true, ..Side::kept(every) }
    }

    /// Whether sample `at` of the files, counted from 0, is on this side.
    pub fn has(self, at: u64) -> bool {
        (at % self.every == self.every - 1) == self.held_out
    }

    /// How many of `all` samples are on this side.
    ///
    /// # Errors
    /// If none is.
    pub fn of(self, all: u64) -> Result<u64, DataError> {
        match self.count(all) {
            0 => Err(DataError::Invalid(format!("data.train: {}", self.none_of(all)))),
            n => Ok(n),
        }
    }

    /// What is wrong where none of `all` samples is on this side, after a file's name.
    pub fn none_of(self, all: u64) -> String {
        let (n, what) = (self.every, if self.held_out { "evaluation" } else { "training" });
        format!("has {all} samples, of which data.hold_out = {n} leaves none for {what}")
    }

    fn count(self, all: u64) -> u64 {
        let held_out = all / self.every;
        if self.held_out { held_out } else { all - held_out }
    }

    /// Where the files have sample `at` of this side.
    fn place(self, at: u64) -> u64 {
        match self.held_out {
            true => at * self.every + self.every - 1,
            false => at + at / (self.every - 1),
        }
    }
}

/// The samples of a source that are on one side. The source keeps one order in all epochs.
pub(super) struct OneSide {
    inner: Box<dyn Source>,
    side: Side,
    chunk: Batch,
}

impl OneSide {
    /// Those of `inner`, which has an end, on `side`.
    pub fn new(inner: Box<dyn Source>, side: Side) -> Self {
        OneSide { chunk: Batch::with_capacity(inner.schema(), 0), inner, side }
    }
}

impl Source for OneSide {
    fn schema(&self) -> &Schema {
        self.inner.schema()
    }

    fn len(&self) -> Option<u64> {
        self.inner.len().map(|n| self.side.count(n))
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        let last = (start + n as u64).checked_sub(1).filter(|_| n > 0);
        let (mut at, end) =
            (self.side.place(start), last.map_or(0, |last| self.side.place(last) + 1));
        while at < end {
            let n = CHUNK.min(end - at) as usize;
            self.inner.fill(epoch, at, n, &mut self.chunk)?;
            (0..n).filter(|&i| self.side.has(at + i as u64)).for_each(|i| {
                copy(&self.chunk, i, batch);
            });
            at += n as u64;
        }
        Ok(())
    }
}

/// Appends sample `i` of `from` to `to`.
fn copy(from: &Batch, i: usize, to: &mut Batch) {
    let d = from.dense.len() / from.len;
    to.len += 1;
    to.labels.push(from.labels[i]);
    to.dense.extend_from_slice(&from.dense[i * d..(i + 1) * d]);
    for (to, from) in to.bags.iter_mut().zip(&from.bags) {
        to.push(from.bag(i).iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Numbered, *};
    use proptest::prelude::*;

    fn numbers(source: &mut dyn Source, start: u64, n: usize) -> Vec<u32> {
        let mut batch = Batch::default();
        batch.bags.resize_with(2, Default::default);
        source.fill(1, start, n, &mut batch).unwrap();
        Numbered::check(&batch)
    }

    proptest! {
        /// Both sides together are all samples, each once and in order, and ranges are parts of the whole.
        #[test]
        fn the_last_of_so_many_is_held_out(n in 0u64..20_000, every in 2u32..5000, asks in prop::collection::vec((0u64..20_000, 0usize..99), 0..4)) {
            let mut all = Vec::new();
            for side in [Side::kept(every), Side::held_out(every)] {
                let mut part = OneSide::new(Box::new(Numbered::new(n)), side);
                let len = part.len().unwrap();
                prop_assert_eq!(side.of(n).is_ok(), len > 0);
                let whole = numbers(&mut part, 0, len as usize);
                prop_assert!(whole.is_sorted() && whole.iter().all(|&x| side.has(x.into())));
                for &(start, m) in &asks {
                    let start = start.min(len);
                    let m = m.min((len - start) as usize);
                    prop_assert_eq!(&numbers(&mut part, start, m)[..], &whole[start as usize..start as usize + m]);
                }
                all.extend(whole);
            }
            prop_assert!(all.iter().filter(|&&x| (x + 1) % every == 0).count() as u64 == n / u64::from(every));
            all.sort_unstable();
            prop_assert_eq!(all, (0..n as u32).collect::<Vec<_>>());
        }
    }
}
