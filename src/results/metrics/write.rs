//! Writes `metrics.parquet` while training goes on.

use super::{Column, Metrics, read, recover, schema, side::side};
use crate::{
    host::atomic_file::{publish, temporary, write},
    results::ResultsError,
    train::events::{EvalEvent, Listener, StepEvent},
};
use parquet::{
    basic::Compression,
    column::writer::ColumnWriterImpl,
    data_type::{DataType, DoubleType, FloatType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// Rows that are held in memory (5 MiB) before they go to the file.
const ROW_GROUP: usize = 1 << 16;
/// A killed run loses the metrics of this time at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Writes `metrics.parquet` while training goes on. Up to `ROW_GROUP` rows wait in memory, the
/// others in a temporary file, which takes its name when [`MetricsWriter::finish`] is called; a run
/// of fewer steps has no file at all until then.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    rows: Metrics,
    seen: u64,
    file: Option<SerializedFileWriter<File>>,
    /// All rows so far, for a run that is killed; `None` once it cannot be written.
    side: Option<File>,
    /// Rows at the end of `rows` that the side file lacks.
    unsaved: usize,
    saved: Instant,
    /// Whether the side file stays, as all that there is.
    keep_side: bool,
}

impl MetricsWriter {
    /// Will write to `path`.
    pub fn new(path: PathBuf) -> Self {
        MetricsWriter {
            side: File::create(side(&path)).ok(),
            path,
            rows: Metrics::with_capacity(ROW_GROUP),
            seen: 0,
            file: None,
            unsaved: 0,
            saved: Instant::now(),
            keep_side: false,
        }
    }

    /// Goes on with the metrics of a run that was taken up after `steps` steps, the last of which and
    /// whose evaluations are `evaluations`. What was written after that goes.
    ///
    /// # Errors
    /// If the metrics of a step before that are missing, or the side file cannot be written.
    pub(in crate::results) fn go_on(
        path: PathBuf,
        steps: u64,
        evaluations: &[EvalEvent],
    ) -> Result<Self, ResultsError> {
        let side = side(&path);
        let mut old = if side.exists() { recover(&path)? } else { read(&path)? };
        let rows = old.step.partition_point(|&step| step <= steps as i64);
        old.truncate(rows);
        if rows as u64 != steps {
            let what = format!("has {rows} of the {steps} steps that the checkpoint has");
            return Err(ResultsError::malformed(&side, what));
        }
        // The side file has not all of an evaluation.
        for e in evaluations {
            if let Some(i) = old.step.iter().position(|&step| step == e.step as i64) {
                old.host_memory[i] = e.host_memory.map(|bytes| bytes as f64);
                old.gpu_memory[i] = e.gpu_memory.map(|bytes| bytes as f64);
                old.auc_binned_1000[i] = e.quality.auc_binned_1000;
                old.set_tables(i, &e.tables);
            }
        }
        let bytes: Vec<u8> = (0..rows).flat_map(|i| old.row_bytes(i)).collect();
        let file = write(&side, &bytes).and_then(|()| File::options().append(true).open(&side));
        let mut writer = MetricsWriter {
            side: Some(file.map_err(ResultsError::write(&side))?),
            rows: old,
            seen: 0,
            file: None,
            unsaved: 0,
            saved: Instant::now(),
            keep_side: false,
            path,
        };
        writer.seen = writer.rows.samples.last().map_or(0, |&n| n as u64);
        Ok(writer)
    }

    /// Brings the side file to the disk, with all rows so far.
    fn sync(&mut self) -> io::Result<()> {
        self.append();
        match &self.side {
            Some(side) => side.sync_data(),
            None => Err(io::Error::other("the metrics so far could not be written down")),
        }
    }

    /// Appends the latest rows to the side file, in one piece. It only matters to a run that is
    /// killed: where it cannot be written, the run goes on without it.
    fn append(&mut self) {
        self.saved = Instant::now();
        let rows = &self.rows;
        let from = rows.len().saturating_sub(self.unsaved);
        let bytes: Vec<u8> = (from..rows.len()).flat_map(|i| rows.row_bytes(i)).collect();
        self.unsaved = 0;
        if self.side.as_mut().is_some_and(|side| side.write_all(&bytes).is_err()) {
            self.side = None;
        }
    }

    /// Moves the rows in memory to the file.
    fn spill(&mut self) -> Result<(), ParquetError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = File::create(temporary(&self.path))?;
                let properties =
                    WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                self.file.insert(SerializedFileWriter::new(file, schema()?, Arc::new(properties))?)
            }
        };
        let mut group = file.next_row_group()?;
        for (_, column) in self.rows.columns() {
            match column {
                Column::Whole(cells) => put::<Int64Type>(&mut group, cells)?,
                Column::Single(cells) => put::<FloatType>(&mut group, cells)?,
                Column::Double(cells) => put::<DoubleType>(&mut group, cells)?,
                Column::Optional(cells) => put_optional(&mut group, cells)?,
            }
        }
        group.close()?;
        self.rows.truncate(0);
        Ok(())
    }

    /// Leaves the side file for who goes on with the run.
    pub(in crate::results) fn leave(mut self) {
        self.keep_side = true;
    }

    /// Writes what is left and puts the file in its place. A run without steps gets a file without
    /// rows. Gives all rows back, as far as they can be had, and why the file cannot be written, if
    /// it cannot.
    pub fn finish(mut self) -> (Metrics, Option<ResultsError>) {
        let spilled = self.file.is_some();
        let rows = self.rows.clone();
        let finished = self
            .spill()
            .and_then(|()| self.file.take().map_or(Ok(()), |file| file.close().map(|_| ())))
            .map_err(io_error)
            .and_then(|()| publish(&temporary(&self.path), &self.path))
            .map_err(ResultsError::write(&self.path));
        self.keep_side = finished.is_err();
        let all = match (finished, spilled) {
            (Ok(()), false) => return (rows, None),
            (Ok(()), true) => read(&self.path),
            // The side file may have what the other lacks.
            (Err(e), true) => return (recover(&self.path).unwrap_or(rows), Some(e)),
            (Err(e), false) => return (rows, Some(e)),
        };
        match all {
            Ok(all) => (all, None),
            Err(e) => (rows, Some(e)),
        }
    }
}

impl Drop for MetricsWriter {
    fn drop(&mut self) {
        // After `finish` there is none; before it, half a file is of no use.
        let _ = fs::remove_file(temporary(&self.path));
        if !self.keep_side {
            let _ = fs::remove_file(side(&self.path));
        }
    }
}

impl Listener for MetricsWriter {
    fn save(&mut self) -> io::Result<Option<(&'static str, Value)>> {
        self.sync()?;
        Ok(None)
    }

    fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        // Not right after the last row of a group: an evaluation may still add to it.
        if self.rows.len() >= ROW_GROUP {
            self.append();
            self.spill().map_err(io_error)?;
        }
        self.seen += u64::from(step.samples);
        self.rows.push(step, self.seen);
        self.unsaved += 1;
        if self.saved.elapsed() > SAVE_EVERY {
            self.append();
        }
        Ok(())
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> io::Result<()> {
        // An evaluation before the first step has no row.
        let rows = &mut self.rows;
        if let (Some(auc), Some(logloss), Some(host), Some(gpu), Some(binned)) = (
            rows.auc.last_mut(),
            rows.logloss.last_mut(),
            rows.host_memory.last_mut(),
            rows.gpu_memory.last_mut(),
            rows.auc_binned_1000.last_mut(),
        ) {
            *auc = Some(eval.quality.auc);
            *logloss = Some(eval.quality.logloss);
            *host = eval.host_memory.map(|bytes| bytes as f64);
            *gpu = eval.gpu_memory.map(|bytes| bytes as f64);
            *binned = eval.quality.auc_binned_1000;
            let row = rows.len() - 1;
            rows.set_tables(row, &eval.tables);
            // The row again, if it is saved already.
            self.unsaved = self.unsaved.max(1);
            self.append();
        }
        Ok(())
    }
}

fn io_error(e: ParquetError) -> io::Error {
    match e {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(e) => *e,
            Err(e) => io::Error::other(e),
        },
        e => io::Error::other(e),
    }
}

fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    put_with::<T>(group, |column| column.write_batch(values, None, None))
}

fn put_optional(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[Option<f64>],
) -> Result<(), ParquetError> {
    let present: Vec<f64> = values.iter().flatten().copied().collect();
    let levels: Vec<i16> = values.iter().map(|v| i16::from(v.is_some())).collect();
    put_with::<DoubleType>(group, |column| column.write_batch(&present, Some(&levels), None))
}

fn put_with<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    write: impl FnOnce(&mut ColumnWriterImpl<'_, T>) -> Result<usize, ParquetError>,
) -> Result<(), ParquetError> {
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    write(column.typed::<T>())?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Quality;

    fn step(i: u64) -> StepEvent {
        StepEvent {
            step: i,
            epoch: i / 100,
            samples: 128,
            loss: 1.0 / i as f32,
            learning_rate: 0.1,
            seconds: 0.5,
            data_wait: 0.125,
        }
    }

    fn eval(step: u64, auc: f64) -> EvalEvent {
        let quality = Quality {
            samples: 1,
            auc,
            logloss: 0.5,
            accuracy: 0.0,
            normalized_entropy: 0.0,
            base_rate: 0.0,
            precision: 0.0,
            recall: 0.0,
            f1: 0.0,
            average_precision: 0.0,
            auc_binned_1000: Some(auc / 2.0),
        };
        EvalEvent {
            step,
            progress: 0.0,
            samples: 0,
            elapsed: 0.0,
            seconds: 0.0,
            quality,
            best_auc: auc,
            host_memory: Some(5 << 30),
            gpu_memory: None,
            tables: Vec::new(),
        }
    }

    #[test]
    fn rows_come_back_bit_for_bit_over_several_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        let mut writer = MetricsWriter::new(path.clone());
        let n = 2 * ROW_GROUP as u64 + 3;
        for i in 1..=n {
            writer.step(&step(i)).unwrap();
            // One of them right on the last row of the first group.
            if i == 1 || i == ROW_GROUP as u64 || i == n {
                writer.eval_stop(&eval(i, 0.1 + 0.2)).unwrap();
            }
            assert!(!path.exists());
        }
        assert!(writer.finish().1.is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        let rows = read(&path).unwrap();
        assert_eq!(rows.len() as u64, n);
        let last = rows.len() - 1;
        assert_eq!(
            (rows.step[last], rows.samples[last], rows.throughput[last]),
            (n as i64, 128 * n as i64, 256.0)
        );
        assert!(
            rows.loss.iter().zip(1u64..).all(|(l, i)| l.to_bits() == (1.0 / i as f32).to_bits())
        );
        let with_auc: Vec<_> = (0..rows.len()).filter(|&i| rows.auc[i].is_some()).collect();
        assert_eq!(with_auc, [0, ROW_GROUP - 1, last]);
        assert_eq!(rows.auc[last].map(f64::to_bits), Some((0.1f64 + 0.2).to_bits()));
        assert_eq!(rows.logloss[0], Some(0.5));
        assert_eq!((rows.host_memory[0], rows.gpu_memory[0]), (Some((5u64 << 30) as f64), None));
        assert_eq!((rows.host_memory[1], rows.host_memory.len()), (None, rows.len()));
        assert_eq!(
            (rows.auc_binned_1000[0], rows.auc_binned_1000[1]),
            (Some((0.1 + 0.2) / 2.0), None)
        );
    }

    #[test]
    fn a_run_without_steps_leaves_no_rows_and_an_abandoned_one_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        let mut writer = MetricsWriter::new(path.clone());
        writer.eval_stop(&eval(0, 0.5)).unwrap();
        assert!(writer.finish().1.is_none());
        assert!(read(&path).unwrap().is_empty());
        fs::remove_file(&path).unwrap();

        let mut writer = MetricsWriter::new(path);
        (1..=ROW_GROUP as u64 + 1).for_each(|i| writer.step(&step(i)).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_run_leaves_its_rows_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        let mut writer = MetricsWriter::new(path.clone());
        for i in 1..=5 {
            writer.step(&step(i)).unwrap();
            if i == 2 {
                writer.eval_stop(&eval(i, 0.75)).unwrap();
            }
        }
        writer.append();
        writer.eval_stop(&eval(5, 0.8)).unwrap();
        // As a kill has it: nothing is finished, and the last row is cut off.
        writer.step(&step(6)).unwrap();
        writer.append();
        let side = side(&path);
        let bytes = fs::read(&side).unwrap();
        fs::write(&side, &bytes[..bytes.len() - 1]).unwrap();
        let rows = recover(&path).unwrap();
        assert_eq!(rows.step, [1, 2, 3, 4, 5]);
        assert_eq!(rows.auc, [None, Some(0.75), None, None, Some(0.8)]);
        assert_eq!((rows.loss[2], rows.samples[4]), (1.0 / 3.0, 640));
        let (all, failed) = writer.finish();
        assert!(failed.is_none() && all.len() == 6 && !side.exists());
        assert_eq!(read(&path).unwrap(), all);
    }

    /// As programs before this one wrote them.
    #[test]
    fn a_file_without_memory_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        let whole = schema().unwrap();
        let fields = whole.get_fields()[..10].to_vec();
        let old = parquet::schema::types::Type::group_type_builder("metrics");
        let old = Arc::new(old.with_fields(fields).build().unwrap());
        let mut rows = Metrics::default();
        (1..=3).for_each(|i| rows.push(&step(i), 128 * i));
        let properties = Arc::new(WriterProperties::builder().build());
        let mut file =
            SerializedFileWriter::new(File::create(&path).unwrap(), old, properties).unwrap();
        let mut group = file.next_row_group().unwrap();
        for column in [&rows.step, &rows.epoch, &rows.samples] {
            put::<Int64Type>(&mut group, column).unwrap();
        }
        put::<FloatType>(&mut group, &rows.loss).unwrap();
        for column in [&rows.learning_rate, &rows.seconds, &rows.data_wait, &rows.throughput] {
            put::<DoubleType>(&mut group, column).unwrap();
        }
        put_optional(&mut group, &rows.auc).unwrap();
        put_optional(&mut group, &rows.logloss).unwrap();
        group.close().unwrap();
        file.close().unwrap();
        assert_eq!(read(&path).unwrap(), rows);
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        assert!(read(&path).unwrap_err().to_string().starts_with("cannot read "));
        fs::write(&path, "no parquet").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.parquet: not a metrics file"), "{error}");
        let mut writer = MetricsWriter::new(path.clone());
        writer.step(&step(1)).unwrap();
        assert!(writer.finish().1.is_none());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read(&path).is_err());
    }
}
