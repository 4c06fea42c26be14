//! Which samples make which batch of a run.

use super::{
    DataError,
    loader::Plan,
    work_queue::{Slice, WorkQueue},
};

/// Consecutive samples of an epoch that make a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// 0-based.
    pub epoch: u64,
    /// Number of the first sample within the epoch.
    pub start: u64,
    /// Samples.
    pub n: usize,
    /// Whether the epoch ends with it.
    pub last_of_epoch: bool,
}

/// The batches of a run, in order: whole epochs, or what a queue shared with other processes has.
#[derive(Debug)]
pub struct Ranges {
    batch_size: u64,
    /// Samples of an epoch that make batches.
    samples: u64,
    epochs: u64,
    next_epoch: u64,
    queue: Option<WorkQueue>,
    /// Batches that may still be made.
    left: u64,
    /// What remains of the present slice.
    slice: Option<Slice>,
    /// Whether a slice has been had.
    begun: bool,
}

impl Ranges {
    /// The batches of `plan` from a source of `len` samples.
    pub fn new(len: Option<u64>, plan: Plan) -> Self {
        let batch_size = plan.batch_size as u64;
        let (all, epochs) = match len {
            Some(len) => (len, plan.epochs),
            None => (u64::MAX, 1),
        };
        let samples = if plan.drop_last && len.is_some() { all - all % batch_size } else { all };
        let queue = plan.queue.as_ref().map(|q| WorkQueue::new(&q.path, samples, q.slice, epochs));
        let left = plan.max_batches.unwrap_or(u64::MAX).saturating_sub(plan.skip);
        let (mut next_epoch, mut slice) = (0, None);
        if plan.skip > 0 && samples > 0 {
            let per_epoch = samples.div_ceil(batch_size);
            let (epoch, start) = (plan.skip / per_epoch, plan.skip % per_epoch * batch_size);
            next_epoch = epoch;
            if start > 0 && epoch < epochs {
                slice = Some(Slice { epoch, start, n: samples - start });
                next_epoch += 1;
            }
        }
        Ranges { batch_size, samples, epochs, next_epoch, queue, left, slice, begun: false }
    }

    /// The samples of the next batch; `None` after the last one.
    ///
    /// # Errors
    /// Of the queue; if nothing was left in it from the start.
    pub fn take(&mut self) -> Result<Option<Range>, DataError> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = if self.slice.is_some() { self.slice.take() } else { self.take_slice()? };
        let Some(Slice { epoch, start, n }) = next else { return Ok(None) };
        self.left -= 1;
        let taken = self.batch_size.min(n);
        let end = start + taken;
        if taken < n {
            self.slice = Some(Slice { epoch, start: end, n: n - taken });
        } else if self.left > 0 {
            // Whether an epoch ends is known once its last slice is over, and nothing is taken that
            // is not wanted.
            self.slice = self.take_slice()?;
        }
        let last_of_epoch =
            taken == n && (end >= self.samples || self.slice.is_some_and(|s| s.epoch != epoch));
        Ok(Some(Range { epoch, start, n: taken as usize, last_of_epoch }))
    }

    /// Whole epochs, or what the queue has.
    fn take_slice(&mut self) -> Result<Option<Slice>, DataError> {
        if let Some(queue) = &self.queue {
            let slice = queue.take()?;
            // A run that gets nothing at all has trained nothing; more often than not the file is
            // an old one.
            if slice.is_none() && !self.begun && self.samples > 0 {
                return Err(queue.empty());
            }
            self.begun = true;
            return Ok(slice);
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        Ok((epoch < self.epochs && self.samples > 0).then_some(Slice {
            epoch,
            start: 0,
            n: self.samples,
        }))
    }
}
