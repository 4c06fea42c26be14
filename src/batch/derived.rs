//! Batches as tables read them that stand in for others: of some columns the ids themselves, of
//! some what becomes of them.

use super::{Bags, Batch, BatchLimits, CheckedBatch};
use crate::{host::pool::Pool, model::Part};

/// Room for one such batch, made once for the largest.
#[derive(Debug)]
pub struct Derived {
    limits: BatchLimits,
    reads: Vec<(usize, Part)>,
    batch: Batch,
}

impl Derived {
    /// For batches within `limits`: bags `k` of what comes out are those of column `reads[k].0`
    /// with the named part of each id, a row of a table of `rows[k]` rows.
    ///
    /// # Panics
    /// If the two lists are not of one length, or there is no such column.
    pub fn new(limits: &BatchLimits, reads: Vec<(usize, Part)>, rows: Vec<usize>) -> Self {
        assert_eq!(reads.len(), rows.len(), "a number of rows for each list of bags");
        let hotness: Vec<usize> = reads.iter().map(|(column, _)| limits.hotness[*column]).collect();
        let room = |most: &usize| {
            let offsets = Vec::with_capacity(limits.samples + 1);
            Bags::new(Vec::with_capacity(most * limits.samples), offsets)
        };
        let batch = Batch {
            len: 0,
            dense: Vec::with_capacity(limits.samples * limits.dense),
            bags: hotness.iter().map(room).collect(),
            labels: Vec::with_capacity(limits.samples),
        };
        let limits = BatchLimits { rows, hotness, ..limits.clone() };
        Derived { limits, reads, batch }
    }

    /// What the batches that come out fit.
    pub fn limits(&self) -> &BatchLimits {
        &self.limits
    }

    /// The batch that comes of `from`, whose ids are known to be in range.
    pub fn fill(&mut self, pool: &Pool, from: CheckedBatch<'_>) -> CheckedBatch<'_> {
        let Derived { limits, reads, batch } = self;
        batch.len = from.len;
        for (to, from) in [(&mut batch.dense, &from.dense), (&mut batch.labels, &from.labels)] {
            to.clear();
            to.extend_from_slice(from);
        }
        pool.for_each_chunk(&mut batch.bags, 1, |k, _, to| {
            let ((column, part), to) = (reads[k], &mut to[0]);
            let Bags { indices, offsets, .. } = &from.get().bags[column];
            to.offsets.clear();
            to.offsets.extend_from_slice(offsets);
            to.indices.clear();
            match part {
                Part::Whole => to.indices.extend_from_slice(indices),
                // A loop each, so that what becomes of an id is not asked for every one.
                Part::Quotient(by) => to.indices.extend(indices.iter().map(|id| id / by)),
                Part::Remainder(by) => to.indices.extend(indices.iter().map(|id| id % by)),
            }
        });
        CheckedBatch { batch, limits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bags_of_quotients_and_remainders_stay_bags() {
        let limits = BatchLimits::new(2, 1, vec![9, 3], vec![3, 1]);
        let bags = |indices: &[u32], offsets: &[u32]| Bags::new(indices.to_vec(), offsets.to_vec());
        let batch = Batch {
            len: 2,
            dense: vec![0.5, 1.5],
            bags: vec![bags(&[8, 0, 5], &[0, 3, 3]), bags(&[2, 1], &[0, 1, 2])],
            labels: vec![1.0, 0.0],
        };
        let reads = vec![(1, Part::Whole), (0, Part::Quotient(4)), (0, Part::Remainder(4))];
        let mut derived = Derived::new(&limits, reads, vec![3, 3, 4]);
        for _ in 0..2 {
            let got = derived.fill(&Pool::new(2), limits.check(&batch).unwrap());
            let want =
                [batch.bags[1].clone(), bags(&[2, 0, 1], &[0, 3, 3]), bags(&[0, 0, 1], &[0, 3, 3])];
            assert_eq!(
                (&got.bags[..], &got.dense, &got.labels),
                (&want[..], &batch.dense, &batch.labels)
            );
            assert_eq!(got.checked_bags().rows(), [3, 3, 4]);
            got.limits.check(got.get()).unwrap();
        }
        assert_eq!(derived.limits().hotness, [1, 3, 3]);
    }
}
