//! A run for TensorBoard: an event file with the scalars that facebookresearch/dlrm writes.

mod record;

use super::named;
use crate::{
    host::atomic_file::{create_folders, sync_folder},
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Points of the loss curve of a run at most; each is the mean of the steps since the one before.
const POINTS: u64 = 10_000;

/// Writes `DIR/<run>/events.out.tfevents.*` while a run goes on. On the disk after each evaluation,
/// and at the end.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: BufWriter<File>,
    /// The time of day at which the file began, and the clock since.
    began: (f64, Instant),
    /// Steps of a point.
    every: u64,
    max_steps: u64,
    /// Samples since the last point, and the sum of their losses.
    since: (f64, f64),
}

impl TensorBoard {
    /// Makes the folder and the file.
    ///
    /// # Errors
    /// If it cannot be made or written, with its path.
    pub fn create(folder: &Path, run: &str) -> io::Result<Self> {
        let folder = folder.join(run);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let name =
            format!("events.out.tfevents.{:010}.dlrm-bench.{}", now as u64, std::process::id());
        let path = folder.join(name);
        let file = create_folders(&folder)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path))
            .map_err(|e| named(&path, &e))?;
        let began = (now, Instant::now());
        let file = BufWriter::new(file);
        let mut board =
            TensorBoard { path, file, began, every: 1, max_steps: 0, since: (0.0, 0.0) };
        board.write(&record::version(now)).and_then(|()| board.keep())?;
        sync_folder(&folder).map_err(|e| named(&board.path, &e))?;
        Ok(board)
    }

    fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let (day, clock) = self.began;
        let time = day + clock.elapsed().as_secs_f64();
        // One event each, as torch's SummaryWriter has it.
        values.iter().try_for_each(|&(tag, value)| {
            self.write(&record::scalar(time, step, tag, value as f32))
        })
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&record::framed(event)).map_err(|e| named(&self.path, &e))
    }

    /// Brings what is written to the disk.
    fn keep(&mut self) -> io::Result<()> {
        let kept = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        kept.map_err(|e| named(&self.path, &e))
    }

    fn loss(&mut self, step: u64) -> io::Result<()> {
        let (samples, sum) = std::mem::take(&mut self.since);
        if samples == 0.0 {
            return Ok(());
        }
        self.scalars(step, &[("Train/Loss", sum / samples)])
    }
}

impl Listener for TensorBoard {
    fn run_start(&mut self, facts: &RunFacts) -> io::Result<()> {
        self.every = facts.max_steps.div_ceil(POINTS).max(1);
        self.max_steps = facts.max_steps;
        Ok(())
    }

    fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        let samples = f64::from(step.samples);
        self.since.0 += samples;
        self.since.1 += samples * f64::from(step.loss);
        if step.step.is_multiple_of(self.every) || step.step == self.max_steps {
            self.loss(step.step)?;
        }
        Ok(())
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> io::Result<()> {
        let q = &eval.quality;
        self.loss(eval.step)?;
        let values = [
            ("mlperf-metrics-test/recall", q.recall),
            ("mlperf-metrics-test/precision", q.precision),
            ("mlperf-metrics-test/f1", q.f1),
            ("mlperf-metrics-test/ap", q.average_precision),
            ("mlperf-metrics-test/roc_auc", q.auc),
            ("mlperf-metrics-test/accuracy", q.accuracy),
            ("Test/Acc", q.accuracy),
        ];
        self.scalars(eval.step, &values)?;
        self.keep()
    }

    fn run_stop(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.loss(outcome.steps)?;
        self.keep()
    }
}
