//! Samples that are held out of training files for evaluation: of each so many the last one
//! (`data.hold_out`), whatever the order of the files is, so that each part of them is judged; or
//! those that were picked once ([`Picked`]).

use super::{
    super::{DataError, Source},
    picked::Picked,
};
use crate::batch::{Batch, Schema};
use std::sync::Arc;

/// Samples of the files that are read together.
const CHUNK: u64 = 1 << 12;

/// One of the two sides.
#[derive(Debug, Clone)]
pub(super) struct Side {
    rule: Rule,
    held_out: bool,
}

/// What decides between them.
#[derive(Debug, Clone)]
enum Rule {
    /// The last of so many, at least 2, is held out.
    Every(u64),
    /// Those that were picked are held out.
    Picked(Arc<Picked>),
}

impl Side {
    /// Both sides where the last of `every` samples (at least 2) is held out: what is trained on,
    /// and what is held out.
    pub fn of_every(every: u32) -> [Side; 2] {
        [false, true].map(|held_out| Side { rule: Rule::Every(every.into()), held_out })
    }

    /// Both sides where `picked` are held out.
    pub fn of_picked(picked: Picked) -> [Side; 2] {
        let picked = Arc::new(picked);
        [false, true].map(|held_out| Side { rule: Rule::Picked(picked.clone()), held_out })
    }

    /// How the split was made.
    pub fn told(&self) -> String {
        match &self.rule {
            Rule::Every(n) => {
                format!("of each {n} samples the last one is held out for evaluation")
            }
            Rule::Picked(picked) => picked.told(),
        }
    }

    /// Whether sample `at` of the files, counted from 0, is on this side.
    pub fn has(&self, at: u64) -> bool {
        let held_out = match &self.rule {
            Rule::Every(every) => at % every == every - 1,
            Rule::Picked(picked) => picked.has(at),
        };
        held_out == self.held_out
    }

    /// How many of `all` samples are on this side.
    ///
    /// # Errors
    /// If none is.
    pub fn of(&self, all: u64) -> Result<u64, DataError> {
        match self.count(all) {
            0 => Err(DataError::Invalid(format!("data.train: {}", self.none_of(all)))),
            n => Ok(n),
        }
    }

    /// What is wrong where none of `all` samples is on this side, after a file's name.
    pub fn none_of(&self, all: u64) -> String {
        let what = if self.held_out { "evaluation" } else { "training" };
        let key = match &self.rule {
            Rule::Every(n) => format!("data.hold_out = {n}"),
            Rule::Picked(picked) => picked.key(),
        };
        format!("has {all} samples, of which {key} leaves none for {what}")
    }

    fn count(&self, all: u64) -> u64 {
        let held_out = match &self.rule {
            Rule::Every(every) => all / every,
            Rule::Picked(picked) => picked.count(),
        };
        if self.held_out { held_out } else { all - held_out }
    }

    /// Where the files have sample `at` of this side.
    fn place(&self, at: u64) -> u64 {
        match (&self.rule, self.held_out) {
            (Rule::Every(every), true) => at * every + every - 1,
            (Rule::Every(every), false) => at + at / (every - 1),
            (Rule::Picked(picked), held_out) => picked.place(at, held_out),
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
        let Some(last) = (start + n as u64).checked_sub(1).filter(|_| n > 0) else {
            return Ok(());
        };
        let (mut at, end) = (self.side.place(start), self.side.place(last) + 1);
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
        to.push_keys(from.bag_keys(i));
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

    /// Both sides together are all samples, each once and in order, and ranges are parts of the
    /// whole.
    fn both_are_all(n: u64, sides: [Side; 2], asks: &[(u64, usize)]) -> [Vec<u32>; 2] {
        let parts = sides.map(|side| {
            let mut part = OneSide::new(Box::new(Numbered::new(n)), side.clone());
            let len = part.len().unwrap();
            assert_eq!(side.of(n).is_ok(), len > 0);
            let whole = numbers(&mut part, 0, len as usize);
            assert!(whole.is_sorted() && whole.iter().all(|&x| side.has(x.into())));
            for &(start, m) in asks {
                let start = start.min(len);
                let m = m.min((len - start) as usize);
                let range = start as usize..start as usize + m;
                assert_eq!(numbers(&mut part, start, m), whole[range]);
            }
            whole
        });
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..n as u32).collect::<Vec<_>>());
        parts
    }

    proptest! {
        #[test]
        fn the_last_of_so_many_is_held_out(n in 0u64..20_000, every in 2u32..5000, asks in prop::collection::vec((0u64..20_000, 0usize..99), 0..4)) {
            let [_, held_out] = both_are_all(n, Side::of_every(every), &asks);
            prop_assert_eq!(held_out.len() as u64, n / u64::from(every));
        }

        #[test]
        fn what_was_picked_is_held_out(bits in prop::collection::vec(any::<bool>(), 0..700), asks in prop::collection::vec((0u64..700, 0usize..99), 0..4)) {
            let mut picked = super::super::picked::Bits::default();
            bits.iter().for_each(|&b| picked.push(b));
            let sides = Side::of_picked(Picked::new(picked, "data.eval_share".into(), String::new()));
            let [_, held_out] = both_are_all(bits.len() as u64, sides, &asks);
            let right: Vec<u32> = (0..bits.len() as u32).filter(|&i| bits[i as usize]).collect();
            prop_assert_eq!(held_out, right);
        }
    }
}
