//! A run as a trace for chrome://tracing and Perfetto: what was done when, in the Trace Event Format
//! (JSON array of complete events).

use super::named;
use crate::{
    engine::Lap,
    host::atomic_file::Reserved,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent},
};
use serde_json::{Value, json};
use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Evaluations of a trace at most.
const EVALUATIONS: usize = 10_000;

/// Room on the disk that is taken beforehand.
const ROOM: usize = 64 << 10;

/// Collects a run's events and writes them when it is over.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    file: Reserved,
    /// Steps that are traced, counted from 1.
    steps: RangeInclusive<u64>,
    began: Instant,
    /// Where the last event ended: what follows begins there or later, lest they overlap.
    last: Instant,
    evaluating: Option<Instant>,
    evaluations: usize,
    /// Laps of the step that is not told of yet.
    laps: Vec<Lap>,
    events: Vec<Value>,
}

impl Trace {
    /// A trace of `steps`, to be written to `path`; its time begins now.
    ///
    /// # Errors
    /// If no file can be written there.
    pub fn new(path: &Path, steps: RangeInclusive<u64>) -> io::Result<Self> {
        let file = match path.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Reserved::new(path, ROOM),
        };
        let file = file.map_err(|e| named(path, &e))?;
        let now = Instant::now();
        let mut trace = Trace {
            path: path.to_owned(),
            file,
            steps,
            began: now,
            last: now,
            evaluating: None,
            evaluations: 0,
            laps: Vec::new(),
            events: Vec::new(),
        };
        trace.name("process_name", "dlrm-bench");
        trace.name("thread_name", "training");
        Ok(trace)
    }

    fn name(&mut self, what: &str, name: &str) {
        let args = json!({ "name": name });
        self.events.push(json!({"name": what, "ph": "M", "pid": 1, "tid": 1, "args": args}));
    }

    /// A complete event.
    fn event(&mut self, name: &str, kind: &str, from: Instant, to: Instant, args: Value) {
        let micros = |d: Duration| d.as_nanos() as f64 / 1e3;
        let (ts, dur) = (micros(from - self.began), micros(to.max(from) - from));
        self.events.push(json!({
            "name": name, "cat": kind, "ph": "X", "ts": ts, "dur": dur, "pid": 1, "tid": 1, "args": args,
        }));
    }
}

impl Listener for Trace {
    fn init_start(&mut self) -> io::Result<()> {
        self.began = Instant::now();
        self.last = self.began;
        Ok(())
    }

    fn run_start(&mut self, _facts: &RunFacts) -> io::Result<()> {
        let now = Instant::now();
        self.event("initialise", "run", self.began, now, json!({}));
        self.last = now;
        Ok(())
    }

    fn wants_laps(&self, step: u64) -> bool {
        self.steps.contains(&step)
    }

    fn laps(&mut self, step: u64, laps: &[Lap]) -> io::Result<()> {
        if self.steps.contains(&step) {
            self.laps.extend_from_slice(laps);
        }
        Ok(())
    }

    fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        let now = Instant::now();
        if self.steps.contains(&step.step) {
            let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or_default();
            let from = now.checked_sub(seconds(step.seconds)).unwrap_or(now).max(self.last);
            let args = json!({"step": step.step, "epoch": step.epoch, "samples": step.samples, "loss": step.loss});
            self.event("step", "step", from, now, args);
            let waited = (from + seconds(step.data_wait)).min(now);
            self.event("data_wait", "phase", from, waited, json!({}));
            for lap in std::mem::take(&mut self.laps) {
                let (from, to) = (lap.from.max(waited), lap.to.min(now));
                self.event(lap.phase.name(), "phase", from.min(to), to, json!({}));
            }
        }
        self.last = now;
        Ok(())
    }

    fn eval_start(&mut self, _progress: f64) -> io::Result<()> {
        self.evaluating = Some(Instant::now());
        Ok(())
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> io::Result<()> {
        let now = Instant::now();
        if let Some(from) = self.evaluating.take().filter(|_| self.evaluations < EVALUATIONS) {
            self.evaluations += 1;
            let args = json!({"step": eval.step, "auc": eval.quality.auc});
            self.event("evaluate", "evaluation", from, now, args);
        }
        self.last = now;
        Ok(())
    }

    fn run_stop(&mut self, _outcome: &Outcome) -> io::Result<()> {
        let mut text = String::from("[\n");
        for (i, event) in self.events.iter().enumerate() {
            let end = if i + 1 < self.events.len() { ",\n" } else { "\n]\n" };
            text += &(event.to_string() + end);
        }
        self.file.publish(text.as_bytes()).map_err(|e| named(&self.path, &e))
    }
}
