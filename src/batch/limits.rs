//! Whether a batch fits a model: the one place where an id of a batch that is out of range becomes
//! an error.
//!
//! A source turns what its files hold into ids and reports values that have no row, with file and
//! line. Whoever filled a batch, an engine checks it here, once, before anything is computed.
//! Kernels take [`CheckedBatch`] or [`CheckedBags`] and look at no id again.

use super::{Bags, Batch, GeneratedLog};
use std::ops::Deref;

/// A batch, or a log, that does not fit a model: a sentence naming the table and the sample at
/// fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

/// Sizes that batches must fit: those of a model and of buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most samples of a batch.
    pub samples: usize,
    /// Dense columns.
    pub dense: usize,
    /// Rows of each table: ids are below.
    pub rows: Vec<usize>,
    /// Most ids of a sample, for each table.
    pub hotness: Vec<usize>,
    /// What ids stand for is below these, one a table ([`Bags::ids`]); empty where they stand for
    /// themselves.
    pub ids: Vec<usize>,
}

/// A batch that fits its limits.
#[derive(Debug, Clone, Copy)]
pub struct CheckedBatch<'a> {
    pub(super) batch: &'a Batch,
    pub(super) limits: &'a BatchLimits,
}

/// Bags of some tables whose offsets cut their ids, which are rows of the tables.
#[derive(Debug, Clone, Copy)]
pub struct CheckedBags<'a> {
    bags: &'a [Bags],
    samples: usize,
    rows: &'a [usize],
}

impl BatchLimits {
    /// Limits of batches whose ids stand for themselves.
    pub fn new(samples: usize, dense: usize, rows: Vec<usize>, hotness: Vec<usize>) -> Self {
        BatchLimits { samples, dense, rows, hotness, ids: Vec::new() }
    }

    /// What rows of each table are told apart by is below these.
    pub fn ids(&self) -> &[usize] {
        if self.ids.is_empty() { &self.rows } else { &self.ids }
    }

    /// Checks sizes, offsets and ids of a batch; allocates nothing unless it fails.
    ///
    /// # Errors
    /// Names the table and the sample at fault.
    pub fn check<'a>(&'a self, batch: &'a Batch) -> Result<CheckedBatch<'a>, Misfit> {
        let n = batch.len;
        self.check_len(n)?;
        if batch.dense.len() != n * self.dense {
            return misfit(format!(
                "{} dense values for {n} samples of {} columns",
                batch.dense.len(),
                self.dense
            ));
        }
        if batch.labels.len() != n {
            return misfit(format!("{} labels for {n} samples", batch.labels.len()));
        }
        CheckedBags::new(&batch.bags, n, &self.rows, &self.hotness)?;
        for (k, (bags, &most)) in batch.bags.iter().zip(self.ids()).enumerate() {
            let ids = &bags.ids;
            let fit = ids.len() == bags.indices.len() && ids.iter().all(|&id| (id as usize) < most);
            if !ids.is_empty() && !fit {
                return misfit(format!("table {k}: slots stand for no rows of {most}"));
            }
        }
        Ok(CheckedBatch { batch, limits: self })
    }

    /// Checks the number of samples of a batch.
    ///
    /// # Errors
    /// If there is none, or too many.
    pub fn check_len(&self, samples: usize) -> Result<(), Misfit> {
        if samples == 0 || samples > self.samples {
            return misfit(format!("{samples} samples; the engine takes 1 to {}", self.samples));
        }
        Ok(())
    }

    /// Checks all samples of a log.
    ///
    /// # Errors
    /// Names the column at fault.
    pub fn check_log(&self, log: &GeneratedLog) -> Result<(), Misfit> {
        check_tables(log.columns.len(), self.rows.len())?;
        if log.dense.len() != self.dense {
            return misfit(format!(
                "{} dense columns; the model has {}",
                log.dense.len(),
                self.dense
            ));
        }
        for (k, (column, &rows)) in log.columns.iter().zip(&self.rows).enumerate() {
            let ids = column.base as usize + column.values as usize;
            if ids > rows {
                return misfit(format!("table {k}: {ids} ids in a table of {rows} rows"));
            }
            if column.hotness as usize > self.hotness[k] {
                return misfit(format!(
                    "table {k}: {} ids in samples of at most {}",
                    column.hotness, self.hotness[k]
                ));
            }
        }
        Ok(())
    }
}

impl<'a> CheckedBatch<'a> {
    /// Its bags.
    pub fn checked_bags(self) -> CheckedBags<'a> {
        let CheckedBatch { batch, limits } = self;
        CheckedBags { bags: &batch.bags, samples: batch.len, rows: &limits.rows }
    }

    /// The batch.
    pub fn get(self) -> &'a Batch {
        self.batch
    }
}

impl Deref for CheckedBatch<'_> {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        self.batch
    }
}

impl<'a> CheckedBags<'a> {
    /// Checks the bags of `samples` samples: `bags[k]` against `rows[k]` and the most ids of a
    /// sample, `hotness[k]`.
    ///
    /// # Errors
    /// Names the table and the sample at fault.
    pub fn new(
        bags: &'a [Bags],
        samples: usize,
        rows: &'a [usize],
        hotness: &[usize],
    ) -> Result<Self, Misfit> {
        check_tables(bags.len(), rows.len())?;
        for (k, ((bags, &rows), &hotness)) in bags.iter().zip(rows).zip(hotness).enumerate() {
            check_bags(bags, samples, rows, hotness)
                .map_err(|(place, what)| Misfit(format!("table {k}{place}: {what}")))?;
        }
        Ok(CheckedBags { bags, samples, rows })
    }

    /// One set of bags a table.
    pub fn get(self) -> &'a [Bags] {
        self.bags
    }

    /// Samples, each with a bag for each table.
    pub fn samples(self) -> usize {
        self.samples
    }

    /// Rows of each table: ids are below.
    pub fn rows(self) -> &'a [usize] {
        self.rows
    }
}

fn check_tables(columns: usize, tables: usize) -> Result<(), Misfit> {
    if columns != tables {
        return misfit(format!("{columns} categorical columns; the model has {tables} tables"));
    }
    Ok(())
}

/// Checks one table's bags; an error is a place within the table, and a sentence.
fn check_bags(
    bags: &Bags,
    samples: usize,
    rows: usize,
    hotness: usize,
) -> Result<(), (String, String)> {
    let (offsets, ids) = (&bags.offsets, &bags.indices);
    let spans = offsets.len() == samples + 1
        && offsets[0] == 0
        && offsets[samples] as usize == ids.len()
        && ascending(offsets);
    if !spans {
        let what = format!(
            "the {} offsets do not cut {} ids into {samples} bags",
            offsets.len(),
            ids.len()
        );
        return Err((String::new(), what));
    }
    if ids.len() > samples * hotness {
        let what = format!("{} ids in {samples} samples of at most {hotness}", ids.len());
        return Err((String::new(), what));
    }
    // The largest first: that is a loop without a branch, and nearly always all there is to do.
    let largest = ids.iter().fold(0, |a, &b| a.max(b)) as usize;
    if largest >= rows
        && let Some(at) = ids.iter().position(|&id| id as usize >= rows)
    {
        let sample = offsets.partition_point(|&o| o as usize <= at) - 1;
        let what = format!("id {} in a table of {rows} rows", ids[at]);
        return Err((format!(", sample {sample}"), what));
    }
    Ok(())
}

/// Whether no number is below the one before it.
fn ascending(x: &[u32]) -> bool {
    x.iter().zip(&x[1..]).fold(true, |so_far, (a, b)| so_far & (a <= b))
}

fn misfit<T>(what: String) -> Result<T, Misfit> {
    Err(Misfit(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misfits_are_named() {
        let limits = BatchLimits::new(2, 1, vec![5, 3], vec![1, 2]);
        let mut bags = vec![Bags::default(); 2];
        bags.iter_mut().for_each(Bags::clear);
        (0..2).for_each(|i| bags[0].push([4 * i]));
        (0..2).for_each(|i| bags[1].push([i, 2]));
        let good = Batch { len: 2, dense: vec![0.5; 2], bags, labels: vec![0.0, 1.0] };
        let checked = limits.check(&good).unwrap().checked_bags();
        assert_eq!(
            (checked.samples(), checked.rows(), checked.get()),
            (2, &[5, 3][..], &*good.bags)
        );
        let refused = |change: &dyn Fn(&mut Batch), message: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(limits.check(&bad).unwrap_err().to_string(), message);
        };
        refused(&|b| b.len = 0, "0 samples; the engine takes 1 to 2");
        refused(&|b| b.len = 3, "3 samples; the engine takes 1 to 2");
        refused(&|b| b.dense.push(0.0), "3 dense values for 2 samples of 1 columns");
        refused(&|b| b.labels.truncate(1), "1 labels for 2 samples");
        refused(&|b| b.bags.truncate(1), "1 categorical columns; the model has 2 tables");
        let cut = "table 1: the 3 offsets do not cut 4 ids into 2 bags";
        refused(&|b| b.bags[1].offsets[0] = 1, cut);
        refused(&|b| b.bags[1].offsets[1] = 7, cut);
        refused(&|b| b.bags[1].offsets[2] = 3, cut);
        refused(
            &|b| (b.bags[0].indices, b.bags[0].offsets) = (vec![0; 3], vec![0, 1, 3]),
            "table 0: 3 ids in 2 samples of at most 1",
        );
        refused(&|b| b.bags[1].indices[3] = 3, "table 1, sample 1: id 3 in a table of 3 rows");
    }
}
