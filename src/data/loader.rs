//! Order and prefetch: the only thing the trainer sees of the data.
//!
//! One thread asks the source for consecutive batches, of the whole epoch or of slices from a
//! queue, and keeps a few of them ready. Batches travel in a circle, so that after the first round
//! nothing is allocated.

use super::{
    DataError, Source,
    ranges::{Range, Ranges},
};
use crate::batch::{Batch, Schema};
use serde::Serialize;
use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

/// Batches that are ready or being made, unless more or fewer are asked for.
pub const DEPTH: usize = 4;

/// Which of several processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// From 0.
    pub shard: usize,
    /// Processes.
    pub of: usize,
}

/// A queue of slices of the training samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SliceQueue {
    /// The file that says which slice is next.
    pub path: PathBuf,
    /// Samples of a slice, a multiple of the batch size.
    pub slice: u64,
}

/// Which batches a loader makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Samples a batch.
    pub batch_size: usize,
    /// Epochs, each from the first sample to the last.
    pub epochs: u64,
    /// Leave out an epoch's last batch if it is short.
    pub drop_last: bool,
    /// Batches at most over all epochs, with those that are left out.
    pub max_batches: Option<u64>,
    /// Batches that are left out at the beginning; not with a queue.
    pub skip: u64,
    /// Batches that are ready or being made.
    pub prefetch: usize,
    /// Take slices from this queue instead of whole epochs.
    pub queue: Option<SliceQueue>,
}

impl Plan {
    /// One pass over all samples.
    pub fn once(batch_size: usize) -> Self {
        Plan {
            batch_size,
            epochs: 1,
            drop_last: false,
            max_batches: None,
            skip: 0,
            prefetch: DEPTH,
            queue: None,
        }
    }

    /// Batches in an epoch of `samples`.
    pub fn batches_per_epoch(&self, samples: u64) -> u64 {
        let b = self.batch_size as u64;
        if self.drop_last { samples / b } else { samples.div_ceil(b) }
    }
}

/// A batch and where it stands.
#[derive(Debug)]
pub struct Loaded {
    /// Where.
    pub range: Range,
    /// The samples.
    pub batch: Batch,
}

/// Makes batches ahead of their use, on a thread of its own.
pub struct Loader {
    // `Option`s so that `drop` can hang up before it joins.
    ready: Option<Receiver<Result<Loaded, DataError>>>,
    spent: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<Box<dyn Source>>>,
}

impl Loader {
    /// Starts to load. The source's length must be known or `plan.max_batches` given (an endless
    /// source has no epochs).
    ///
    /// # Errors
    /// If the source is endless and the plan is too, or no thread can be started.
    pub fn start(source: Box<dyn Source>, plan: Plan) -> Result<Self, DataError> {
        if source.len().is_none() && plan.max_batches.is_none() {
            return Err(DataError::Invalid("an endless source needs train.max_steps".into()));
        }
        if source.len().is_none() && plan.queue.is_some() {
            return Err(DataError::Invalid(
                "loader.queue deals out slices of an epoch, but these data have no end; remove it"
                    .into(),
            ));
        }
        // One is with the trainer, one is being made, the others are ready.
        let (ready_in, ready) = sync_channel(plan.prefetch.saturating_sub(1));
        let (spent, spent_out) = sync_channel(plan.prefetch + 2);
        for _ in 0..=plan.prefetch {
            let _ = spent.try_send(Batch::with_capacity(source.schema(), plan.batch_size));
        }
        let thread = std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || work(source, plan, &ready_in, &spent_out))
            .map_err(|source| DataError::Io { path: "loader thread".into(), source })?;
        Ok(Loader { ready: Some(ready), spent: Some(spent), thread: Some(thread) })
    }

    /// The next batch; `None` after the last one. Give it back with [`Loader::recycle`].
    ///
    /// # Errors
    /// If the source cannot give it; no more batches come after that.
    pub fn next_batch(&mut self) -> Result<Option<Loaded>, DataError> {
        match self.ready.as_ref().map(Receiver::recv) {
            Some(Ok(r)) => r.map(Some),
            _ => match self.thread.take().map(JoinHandle::join) {
                Some(Err(_)) => Err(DataError::Invalid("the loader thread panicked".into())),
                _ => Ok(None),
            },
        }
    }

    /// Stops, and gives the source back; `None` if its thread is gone.
    pub fn stop(mut self) -> Option<Box<dyn Source>> {
        self.hang_up();
        self.thread.take()?.join().ok()
    }

    fn hang_up(&mut self) {
        self.ready = None;
        self.spent = None;
    }

    /// Returns a batch's memory to the loader.
    pub fn recycle(&mut self, loaded: Loaded) {
        if let Some(spent) = &self.spent {
            // A full or closed circle only means that this one is not needed any more.
            let _ = spent.try_send(loaded.batch);
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.hang_up();
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn work(
    mut source: Box<dyn Source>,
    plan: Plan,
    ready: &SyncSender<Result<Loaded, DataError>>,
    spent: &Receiver<Batch>,
) -> Box<dyn Source> {
    let mut ranges = Ranges::new(source.len(), plan);
    let mut make = || -> Result<(), DataError> {
        while let Some(range) = ranges.take()? {
            let Ok(mut batch) = spent.recv() else { return Ok(()) };
            source.fill(range.epoch, range.start, range.n, &mut batch)?;
            if ready.send(Ok(Loaded { range, batch })).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    if let Err(e) = make() {
        // Whoever has hung up does not want to know.
        let _ = ready.send(Err(e));
    }
    source
}

/// Reads a whole split into batches, for evaluation sets that are visited again and again.
///
/// # Errors
/// If the source is endless or cannot be read.
pub fn read_all(source: &mut dyn Source, batch_size: usize) -> Result<Vec<Batch>, DataError> {
    let len = source
        .len()
        .ok_or_else(|| DataError::Invalid("an evaluation split needs an end".into()))?;
    read_first(source, batch_size, len)
}

/// Reads the first `len` samples of a split into batches; it has as many.
///
/// # Errors
/// If the source cannot be read.
pub fn read_first(
    source: &mut dyn Source,
    batch_size: usize,
    len: u64,
) -> Result<Vec<Batch>, DataError> {
    let mut batches = Vec::new();
    let mut start = 0;
    while start < len {
        let n = (len - start).min(batch_size as u64);
        let mut batch = Batch::with_capacity(source.schema(), n as usize);
        source.fill(0, start, n as usize, &mut batch)?;
        batches.push(batch);
        start += n;
    }
    Ok(batches)
}

/// Bytes a cached sample of this schema takes at most.
pub fn bytes_per_sample(schema: &Schema) -> u64 {
    (schema.dense * 4 + schema.max_ids_per_sample() * 4 + schema.tables.len() * 4 + 4) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Column;

    /// Counts up; fails at `fail_at`.
    struct Counter {
        schema: Schema,
        len: Option<u64>,
        fail_at: u64,
    }

    impl Counter {
        fn new(len: Option<u64>, fail_at: u64) -> Box<Self> {
            let schema = Schema {
                dense: 1,
                tables: vec![Column { name: "C1".into(), rows: 1 << 20, max_hotness: 1 }],
            };
            Box::new(Counter { schema, len, fail_at })
        }
    }

    impl Source for Counter {
        fn schema(&self) -> &Schema {
            &self.schema
        }
        fn len(&self) -> Option<u64> {
            self.len
        }
        fn fill(
            &mut self,
            epoch: u64,
            start: u64,
            n: usize,
            batch: &mut Batch,
        ) -> Result<(), DataError> {
            batch.clear();
            for i in start..start + n as u64 {
                if i == self.fail_at {
                    return Err(DataError::Invalid(format!("sample {i}")));
                }
                batch.dense.push(epoch as f32);
                batch.bags[0].push([i as u32]);
                batch.labels.push(0.0);
                batch.len += 1;
            }
            Ok(())
        }
    }

    fn size(loader: &mut Loader) -> Option<(u64, usize, u32, bool)> {
        let l = loader.next_batch().unwrap()?;
        let size = (l.range.epoch, l.batch.len, l.batch.bags[0].indices[0], l.range.last_of_epoch);
        loader.recycle(l);
        Some(size)
    }

    fn sizes(loader: &mut Loader) -> Vec<(u64, usize, u32, bool)> {
        std::iter::from_fn(|| size(loader)).collect()
    }

    #[test]
    fn epochs_short_batches_and_limits() {
        let plan = Plan { epochs: 2, ..Plan::once(4) };
        let all =
            sizes(&mut Loader::start(Counter::new(Some(10), u64::MAX), plan.clone()).unwrap());
        let want = [
            (0, 4, 0, false),
            (0, 4, 4, false),
            (0, 2, 8, true),
            (1, 4, 0, false),
            (1, 4, 4, false),
            (1, 2, 8, true),
        ];
        assert_eq!(all, want);
        let dropped = sizes(
            &mut Loader::start(
                Counter::new(Some(10), u64::MAX),
                Plan { drop_last: true, ..plan.clone() },
            )
            .unwrap(),
        );
        assert_eq!(dropped, [(0, 4, 0, false), (0, 4, 4, true), (1, 4, 0, false), (1, 4, 4, true)]);
        assert_eq!(
            (
                plan.batches_per_epoch(10),
                Plan { drop_last: true, ..plan.clone() }.batches_per_epoch(10)
            ),
            (3, 2)
        );
        let limited = Plan { max_batches: Some(9), ..plan.clone() };
        assert_eq!(
            sizes(&mut Loader::start(Counter::new(None, u64::MAX), limited).unwrap()).len(),
            9
        );
        assert!(Loader::start(Counter::new(None, u64::MAX), plan).is_err());
    }

    /// A run that goes on after any number of batches sees what it would have seen.
    #[test]
    fn batches_are_left_out_at_the_beginning() {
        for (len, drop_last, max_batches) in [
            (Some(10), false, None),
            (Some(10), true, None),
            (Some(10), false, Some(7)),
            (Some(8), false, None),
            (None, false, Some(6)),
        ] {
            let plan = Plan { epochs: 3, drop_last, max_batches, ..Plan::once(4) };
            let all = sizes(&mut Loader::start(Counter::new(len, u64::MAX), plan.clone()).unwrap());
            for skip in 0..=all.len() + 1 {
                let plan = Plan { skip: skip as u64, ..plan.clone() };
                let left = sizes(&mut Loader::start(Counter::new(len, u64::MAX), plan).unwrap());
                assert_eq!(left, all[skip.min(all.len())..], "{len:?} {skip}");
            }
        }
    }

    #[test]
    fn an_error_reaches_the_trainer_and_a_loader_can_be_dropped_early() {
        let mut l = Loader::start(Counter::new(Some(100), 9), Plan::once(4)).unwrap();
        assert!(l.next_batch().is_ok() && l.next_batch().is_ok());
        assert_eq!(l.next_batch().unwrap_err().to_string(), "sample 9");
        assert!(l.next_batch().unwrap().is_none());
        let mut l = Loader::start(
            Counter::new(None, u64::MAX),
            Plan { max_batches: Some(1 << 40), ..Plan::once(4) },
        )
        .unwrap();
        let first = l.next_batch().unwrap().unwrap();
        drop(l);
        assert_eq!(first.batch.len, 4);
    }

    #[test]
    fn a_loader_that_stops_gives_its_source_back() {
        for len in [100, 4] {
            let mut l = Loader::start(Counter::new(Some(len), u64::MAX), Plan::once(4)).unwrap();
            let first = l.next_batch().unwrap().unwrap();
            let mut again = Batch::default();
            again.bags.push(crate::batch::Bags::default());
            l.stop().unwrap().fill(0, first.range.start, first.range.n, &mut again).unwrap();
            assert_eq!(again.bags[0].indices, first.batch.bags[0].indices);
        }
        let mut over = Loader::start(Counter::new(Some(4), u64::MAX), Plan::once(4)).unwrap();
        while over.next_batch().unwrap().is_some() {}
        assert!(over.stop().is_none());
    }

    #[test]
    fn batches_travel_in_a_circle() {
        let mut l = Loader::start(Counter::new(Some(4000), u64::MAX), Plan::once(4)).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(b) = l.next_batch().unwrap() {
            seen.insert(b.batch.labels.as_ptr() as usize);
            l.recycle(b);
        }
        assert!(seen.len() <= DEPTH + 1, "{} buffers", seen.len());
    }

    /// Two loaders with one queue, as two processes have it, one of which goes on where a third
    /// was.
    #[test]
    fn loaders_share_a_queue() {
        let dir = tempfile::tempdir().unwrap();
        let queue = SliceQueue { path: dir.path().join("queue"), slice: 8 };
        let plan = Plan { epochs: 2, queue: Some(queue), ..Plan::once(4) };
        let start =
            |plan: &Plan| Loader::start(Counter::new(Some(50), u64::MAX), plan.clone()).unwrap();
        let one = sizes(&mut start(&Plan { max_batches: Some(3), ..plan.clone() }));
        assert_eq!(one, [(0, 4, 0, false), (0, 4, 4, false), (0, 4, 8, false)]);
        let (mut a, mut b) = (start(&plan), start(&plan));
        // The queue would be used up before a thread that is late asks it for the first time.
        let mut seen: Vec<_> = [size(&mut a), size(&mut b)].into_iter().flatten().collect();
        seen.extend(sizes(&mut a));
        seen.extend(sizes(&mut b));
        for epoch in 0..2 {
            let mut starts: Vec<u32> = seen.iter().filter(|s| s.0 == epoch).map(|s| s.2).collect();
            starts.sort_unstable();
            // What the third had taken and not used is lost.
            let first = if epoch == 0 { 16 } else { 0 };
            assert_eq!(starts, (first..50).step_by(4).collect::<Vec<_>>());
        }
        assert!(seen.iter().all(|s| s.1 == 4 || s.2 == 48));
        assert!(seen.iter().any(|s| s.3));
        assert!(
            Loader::start(
                Counter::new(None, u64::MAX),
                Plan { max_batches: Some(1), ..plan.clone() }
            )
            .is_err()
        );
        std::fs::write(dir.path().join("queue"), "x").unwrap();
        assert!(start(&plan).next_batch().unwrap_err().to_string().contains("is no work queue"));
    }
}
