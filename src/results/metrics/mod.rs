//! `metrics.parquet`: one row a step.
//!
//! | column | type | what |
//! |---|---|---|
//! | step | i64 | from 1 |
//! | epoch | i64 | from 0 |
//! | samples | i64 | training samples seen after this step, over all epochs |
//! | loss | f32 | mean loss of the batch before the update |
//! | learning_rate | f64 | rate of this update |
//! | seconds | f64 | the step, data wait included, evaluation excluded |
//! | data_wait | f64 | seconds of it spent waiting for data |
//! | throughput | f64 | samples of the batch per second |
//! | auc, logloss | f64, may be missing | of the evaluation that followed this step |
//! | host_memory, gpu_memory | f64, may be missing | bytes held then; files of older programs lack the columns |
//! | auc_binned_1000 | f64, may be missing, and with it the column in files of older programs | AUC by 1000 thresholds, likewise |
//! | rows_in_use, rows_made, ids_filtered, rows_evicted | likewise | of all tables that grow ([`TableCounts`]) then |
//! | cache_hits, cache_misses, rows_read, bytes_read, bytes_written | likewise | of all tables that are cached ([`CacheCounts`]) then |

mod read;
mod side;
mod write;

pub use read::read;
pub use side::recover;
pub use write::MetricsWriter;

use crate::{
    embedding::{TableUse, cached::CacheCounts, hashed::TableCounts},
    stats,
    train::events::StepEvent,
};
use parquet::{
    basic::{Repetition, Type as Physical},
    errors::ParquetError,
    schema::types::{Type, TypePtr},
};
use std::sync::Arc;

/// Steps between two lines of TensorFlow's log.
const POINT: usize = 100;
/// Points at the beginning that DeepRec leaves out.
const DROPPED: usize = 20;
/// Steps that [`Metrics::gstep`] takes at least.
pub const GSTEP_STEPS: usize = (DROPPED + 2) * POINT;

/// The columns, row by row of the same length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Steps, from 1.
    pub step: Vec<i64>,
    /// Epochs, from 0.
    pub epoch: Vec<i64>,
    /// Training samples seen after the step.
    pub samples: Vec<i64>,
    /// Mean loss of the batch before the update.
    pub loss: Vec<f32>,
    /// Rate of the update.
    pub learning_rate: Vec<f64>,
    /// Seconds of the step.
    pub seconds: Vec<f64>,
    /// Seconds of it spent waiting for data.
    pub data_wait: Vec<f64>,
    /// Samples per second.
    pub throughput: Vec<f64>,
    /// AUC of the evaluation that followed.
    pub auc: Vec<Option<f64>>,
    /// Log loss of the evaluation that followed.
    pub logloss: Vec<Option<f64>>,
    /// Bytes of the host's memory that the process held then.
    pub host_memory: Vec<Option<f64>>,
    /// Bytes of the GPU's memory that were taken then.
    pub gpu_memory: Vec<Option<f64>>,
    /// AUC by 1000 thresholds of the evaluation that followed.
    pub auc_binned_1000: Vec<Option<f64>>,
    /// Of tables that grow, then: rows with a key, rows made so far, ids without a row so far, rows
    /// dropped so far.
    pub tables: [Vec<Option<f64>>; 4],
    /// Of tables that are cached, so far: ids whose row was in memory, and was not, rows and bytes
    /// read from the file, bytes written.
    pub cache: [Vec<Option<f64>>; 5],
}

/// The cells of a column.
enum Column<'a> {
    Whole(&'a mut Vec<i64>),
    Single(&'a mut Vec<f32>),
    Double(&'a mut Vec<f64>),
    /// Cells may be missing.
    Optional(&'a mut Vec<Option<f64>>),
}

impl Column<'_> {
    fn reserve(self, rows: usize) {
        match self {
            Column::Whole(cells) => cells.reserve_exact(rows),
            Column::Single(cells) => cells.reserve_exact(rows),
            Column::Double(cells) => cells.reserve_exact(rows),
            Column::Optional(cells) => cells.reserve_exact(rows),
        }
    }

    fn truncate(self, rows: usize) {
        match self {
            Column::Whole(cells) => cells.truncate(rows),
            Column::Single(cells) => cells.truncate(rows),
            Column::Double(cells) => cells.truncate(rows),
            Column::Optional(cells) => cells.truncate(rows),
        }
    }
}

impl Metrics {
    /// Samples of each step: the table counts them from the start.
    pub fn step_samples(&self) -> Vec<f64> {
        let before = std::iter::once(0).chain(self.samples.iter().copied());
        self.samples.iter().zip(before).map(|(&after, before)| (after - before) as f64).collect()
    }

    /// The step at which throughput changed for the rest of the run, if it did.
    pub fn jump(&self) -> Option<stats::Jump> {
        stats::jump(&self.step_samples(), &self.seconds)
    }

    /// All columns by name, in the order of the file.
    fn columns(&mut self) -> [(&'static str, Column<'_>); 22] {
        let [rows, made, filtered, evicted] = &mut self.tables;
        let [hits, misses, reads, bytes_read, bytes_written] = &mut self.cache;
        [
            ("step", Column::Whole(&mut self.step)),
            ("epoch", Column::Whole(&mut self.epoch)),
            ("samples", Column::Whole(&mut self.samples)),
            ("loss", Column::Single(&mut self.loss)),
            ("learning_rate", Column::Double(&mut self.learning_rate)),
            ("seconds", Column::Double(&mut self.seconds)),
            ("data_wait", Column::Double(&mut self.data_wait)),
            ("throughput", Column::Double(&mut self.throughput)),
            ("auc", Column::Optional(&mut self.auc)),
            ("logloss", Column::Optional(&mut self.logloss)),
            ("host_memory", Column::Optional(&mut self.host_memory)),
            ("gpu_memory", Column::Optional(&mut self.gpu_memory)),
            ("auc_binned_1000", Column::Optional(&mut self.auc_binned_1000)),
            ("rows_in_use", Column::Optional(rows)),
            ("rows_made", Column::Optional(made)),
            ("ids_filtered", Column::Optional(filtered)),
            ("rows_evicted", Column::Optional(evicted)),
            ("cache_hits", Column::Optional(hits)),
            ("cache_misses", Column::Optional(misses)),
            ("rows_read", Column::Optional(reads)),
            ("bytes_read", Column::Optional(bytes_read)),
            ("bytes_written", Column::Optional(bytes_written)),
        ]
    }

    /// No rows, and memory for so many.
    pub(super) fn with_capacity(rows: usize) -> Self {
        let mut metrics = Metrics::default();
        metrics.columns().into_iter().for_each(|(_, column)| column.reserve(rows));
        metrics
    }

    /// Steps.
    pub fn len(&self) -> usize {
        self.step.len()
    }

    /// Steps a second as DeepRec's benchmark computes them of a log (DeepRec-AI/DeepRec:
    /// modelzoo/benchmark/cpu/log_process.py): the mean over points of `POINT` steps each, without
    /// the first 20 points and the last. Evaluations are left out. `None` below [`GSTEP_STEPS`]
    /// steps.
    pub fn gstep(&self) -> Option<f64> {
        let points = self.seconds.chunks_exact(POINT);
        let rates: Vec<f64> = points.map(|s| POINT as f64 / s.iter().sum::<f64>()).collect();
        let (_, rest) = rates.split_at_checked(DROPPED)?;
        stats::mean(rest.split_last()?.1)
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// Appends a step, after which `seen` samples have been trained on.
    pub(super) fn push(&mut self, s: &StepEvent, seen: u64) {
        self.step.push(s.step as i64);
        self.epoch.push(s.epoch as i64);
        self.samples.push(seen as i64);
        self.loss.push(s.loss);
        self.learning_rate.push(s.learning_rate);
        self.seconds.push(s.seconds);
        self.data_wait.push(s.data_wait);
        self.throughput.push(f64::from(s.samples) / s.seconds);
        self.auc.push(None);
        self.logloss.push(None);
        self.host_memory.push(None);
        self.gpu_memory.push(None);
        self.auc_binned_1000.push(None);
        self.tables.iter_mut().chain(&mut self.cache).for_each(|column| column.push(None));
    }

    /// What an evaluation says of tables that grow, or are cached, for a row.
    pub(super) fn set_tables(&mut self, row: usize, tables: &[TableUse]) {
        if tables.iter().any(|t| t.grown().is_some()) {
            let TableCounts { rows, admitted, filtered, evicted, .. } = tables.iter().sum();
            for (column, n) in self.tables.iter_mut().zip([rows, admitted, filtered, evicted]) {
                column[row] = Some(n as f64);
            }
        }
        if tables.iter().any(|t| t.cached().is_some()) {
            let CacheCounts { hits, misses, reads, bytes_read, bytes_written, .. } =
                tables.iter().sum();
            let counts = [hits, misses, reads, bytes_read, bytes_written];
            for (column, n) in self.cache.iter_mut().zip(counts) {
                column[row] = Some(n as f64);
            }
        }
    }

    /// Keeps the first `rows` rows.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.columns().into_iter().for_each(|(_, column)| column.truncate(rows));
    }
}

/// The columns of the file.
fn schema() -> Result<TypePtr, ParquetError> {
    let field = |(name, column): (&str, Column<'_>)| {
        let (physical, repetition) = match column {
            Column::Whole(_) => (Physical::INT64, Repetition::REQUIRED),
            Column::Single(_) => (Physical::FLOAT, Repetition::REQUIRED),
            Column::Double(_) => (Physical::DOUBLE, Repetition::REQUIRED),
            Column::Optional(_) => (Physical::DOUBLE, Repetition::OPTIONAL),
        };
        let field = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        Ok(Arc::new(field.build()?))
    };
    let mut empty = Metrics::default();
    let columns = empty.columns().into_iter().map(field);
    let fields = columns.collect::<Result<_, ParquetError>>()?;
    Ok(Arc::new(Type::group_type_builder("metrics").with_fields(fields).build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_a_second_leave_out_the_first_and_the_last_points() {
        // A second a step, then half of one, then 2 seconds in the last whole point, then what is no
        // whole point.
        let seconds = |fast: usize| {
            let parts = [(2000, 1.0), (fast, 0.5), (100, 2.0), (99, 9.0)];
            parts.into_iter().flat_map(|(n, s)| std::iter::repeat_n(s, n)).collect()
        };
        let of = |fast| Metrics { seconds: seconds(fast), ..Metrics::default() }.gstep();
        assert_eq!((of(100), of(900)), (Some(2.0), Some(2.0)));
        assert_eq!(of(0), None);
        assert_eq!(Metrics::default().gstep(), None);
    }
}
