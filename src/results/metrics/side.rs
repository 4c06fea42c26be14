//! The side file: all rows so far of a run that goes on, for the case that it is killed.

use super::Metrics;
use crate::results::ResultsError;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of a row.
const ROW_BYTES: usize = 80;

/// The side file of `metrics.parquet`: `metrics.partial` beside it, ten little-endian numbers of 8
/// bytes a row, in the order of the columns (loss as f64, NaN for missing values),
/// without memory and the AUC by thresholds. Of rows with the same step the last one counts.
pub(super) fn side(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

/// Reads the metrics of a run that was killed, up to about a second before, from the side file of
/// `path`. Skips a row that is cut off.
///
/// # Errors
/// If the side file cannot be read.
pub fn recover(path: &Path) -> Result<Metrics, ResultsError> {
    let side = side(path);
    let bytes = fs::read(&side).map_err(ResultsError::read(&side))?;
    let mut rows = Metrics::default();
    for row in bytes.chunks_exact(ROW_BYTES) {
        rows.take_row(row);
    }
    Ok(rows)
}

impl Metrics {
    /// A row as the side file has it.
    pub(super) fn row_bytes(&self, i: usize) -> [u8; ROW_BYTES] {
        let missing = |v: Option<f64>| v.unwrap_or(f64::NAN).to_le_bytes();
        let columns = [
            self.step[i].to_le_bytes(),
            self.epoch[i].to_le_bytes(),
            self.samples[i].to_le_bytes(),
            f64::from(self.loss[i]).to_le_bytes(),
            self.learning_rate[i].to_le_bytes(),
            self.seconds[i].to_le_bytes(),
            self.data_wait[i].to_le_bytes(),
            self.throughput[i].to_le_bytes(),
            missing(self.auc[i]),
            missing(self.logloss[i]),
        ];
        let mut bytes = [0; ROW_BYTES];
        bytes.chunks_exact_mut(8).zip(columns).for_each(|(to, from)| to.copy_from_slice(&from));
        bytes
    }

    /// Appends a row of the side file; replaces the last one if it is of the same step.
    fn take_row(&mut self, row: &[u8]) {
        let mut columns = row.chunks_exact(8).map(|c| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(c);
            bytes
        });
        let mut next = || columns.next().unwrap_or_default();
        let (step, epoch, samples) =
            (i64::from_le_bytes(next()), i64::from_le_bytes(next()), i64::from_le_bytes(next()));
        let mut number = || f64::from_le_bytes(next());
        let numbers = [(); 7].map(|()| number());
        if self.step.last() == Some(&step) {
            self.truncate(self.len() - 1);
        }
        let [loss, rate, seconds, data_wait, throughput, auc, logloss] = numbers;
        self.step.push(step);
        self.epoch.push(epoch);
        self.samples.push(samples);
        self.loss.push(loss as f32);
        self.learning_rate.push(rate);
        self.seconds.push(seconds);
        self.data_wait.push(data_wait);
        self.throughput.push(throughput);
        self.auc.push((!auc.is_nan()).then_some(auc));
        self.logloss.push((!logloss.is_nan()).then_some(logloss));
        self.host_memory.push(None);
        self.gpu_memory.push(None);
        self.auc_binned_1000.push(None);
        self.tables.iter_mut().chain(&mut self.cache).for_each(|column| column.push(None));
    }
}
