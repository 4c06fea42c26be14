//! Batches that workers compute, and what may be handed out beside them.

use crate::backend::StepStart;
use std::{collections::VecDeque, time::Instant};

/// A batch that a worker computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Busy {
    /// Its step.
    pub start: StepStart,
    /// When it was handed out.
    pub since: Instant,
    /// Others that may push between its pull and its push, so far: those in flight when it was handed
    /// out, and those handed out since.
    others: u64,
}

/// Workers, and what they do.
#[derive(Debug)]
pub(super) struct WorkQueue {
    bound: Option<u64>,
    busy: Vec<Option<Busy>>,
    /// Workers without a batch, who has been so for longest first.
    idle: VecDeque<usize>,
}

impl WorkQueue {
    /// No batch is out. With a `bound` no gradient will be staler.
    pub fn new(workers: usize, bound: Option<u64>) -> Self {
        WorkQueue { bound, busy: vec![None; workers], idle: (0..workers).collect() }
    }

    /// Batches that workers have.
    pub fn len(&self) -> usize {
        self.busy.iter().flatten().count()
    }

    /// The worker that may get a batch now; `None` if all have one, or if gradients could become too
    /// stale.
    pub fn next(&self) -> Option<usize> {
        let within = |others: u64| self.bound.is_none_or(|most| others <= most);
        let all =
            within(self.len() as u64) && self.busy.iter().flatten().all(|b| within(b.others + 1));
        self.idle.front().copied().filter(|_| all)
    }

    /// Notes that this worker gets a batch.
    pub fn begin(&mut self, worker: usize, start: StepStart) {
        let others = self.len() as u64;
        self.busy.iter_mut().flatten().for_each(|busy| busy.others += 1);
        self.idle.retain(|&idle| idle != worker);
        self.busy[worker] = Some(Busy { start, since: Instant::now(), others });
    }

    /// Notes that it is done with it.
    pub fn end(&mut self, worker: usize) -> Option<Busy> {
        let busy = self.busy[worker].take();
        if busy.is_some() {
            self.idle.push_back(worker);
        }
        busy
    }

    /// Workers with a batch, who has had it for longest first.
    pub fn waiting(&self) -> Vec<(usize, Busy)> {
        let busy = self.busy.iter().enumerate();
        let mut all: Vec<(usize, Busy)> = busy.filter_map(|(w, b)| Some((w, (*b)?))).collect();
        all.sort_by_key(|(worker, busy)| (busy.since, *worker));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::StepContext,
        random::philox::{Philox, Stream},
    };

    /// Whatever the order of pulls and pushes, no staleness passes the bound; without one it does.
    #[test]
    fn no_order_of_events_passes_the_bound() {
        let context = StepContext::at_rate(0.1);
        let mut worst = Vec::new();
        for bound in [Some(0), Some(1), Some(2), Some(5), None] {
            let mut most = 0;
            for seed in 0..300 {
                let draw = Philox::new(seed, Stream::Shuffle, 0);
                let mut queue = WorkQueue::new(4, bound);
                // Of each worker the version that it has pulled, if it has.
                let mut pulled = [None; 4];
                let (mut version, mut number) = (0, 0);
                for event in 0..200 {
                    let mut words = draw.block(event).into_iter();
                    let mut pick = |n: usize| words.next().unwrap() as usize % n;
                    if let (Some(worker), 0) = (queue.next(), pick(2)) {
                        number += 1;
                        queue.begin(worker, StepStart { number, samples: 1, context });
                        continue;
                    }
                    let busy = queue.waiting();
                    let Some(&(worker, _)) = busy.get(pick(busy.len().max(1))) else { continue };
                    match pulled[worker].take() {
                        None => pulled[worker] = Some(version),
                        Some(then) => {
                            most = most.max(version - then);
                            version += 1;
                            queue.end(worker);
                        }
                    }
                }
                assert!(number > 10, "it goes on");
            }
            assert!(bound.is_none_or(|bound| most <= bound), "{bound:?}: {most}");
            worst.push(most);
        }
        assert_eq!(worst[..3], [0, 1, 2], "and no stricter than it must be");
        assert!(worst[4] > 5, "{worst:?}");
    }
}
