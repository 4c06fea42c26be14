//! One slice: a child process that trains a few steps, and what its record says.

use super::{Clock, Program, Settings, SliceError, child, verdict::SliceReport};
use crate::{results::identity::Identity, workload::short::Short};
use serde::Deserialize;
use std::{
    cell::Cell,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};
use toml_edit::DocumentMut;

/// What a slice is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// To be timed; with the ceilings of the machine, where a share of the floor is wanted.
    Time { steps: u64, ceilings: bool },
    /// To be evaluated at its end.
    Evaluate { steps: u64 },
}

impl Task {
    /// The run that a slice for this is.
    pub fn short(self) -> Short {
        match self {
            Task::Time { steps, .. } => Short { steps, evaluates: false, labelled: false },
            Task::Evaluate { steps } => Short { steps, evaluates: true, labelled: false },
        }
    }
}

/// A slice that was run.
pub(super) struct Slice {
    pub wall_seconds: f64,
    pub train_seconds: f64,
    pub steps: u64,
    /// After warm-up, evaluation excluded.
    pub samples_per_second: f64,
    /// Share of the floor.
    pub efficiency: Option<f64>,
    pub auc: Option<f64>,
    pub record: Needed,
    /// The resolved workload.
    pub workload: DocumentMut,
}

/// What is needed of `run.json`; the program that wrote it may be older than this one.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Needed {
    pub system: String,
    pub versions: NeededVersions,
    pub machine: NeededMachine,
    pub workload: NeededWorkload,
    pub engine: NeededEngine,
    pub facts: Option<NeededFacts>,
    outcome: Option<NeededOutcome>,
    throughput: Option<NeededThroughput>,
    floor: Option<NeededFloor>,
    /// What exactly it was a run of.
    #[serde(skip)]
    pub identity: Identity,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct NeededVersions {
    pub dlrm_bench: String,
    pub git_commit: Option<String>,
    pub profile: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct NeededMachine {
    pub cpu: NeededCpu,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct NeededCpu {
    pub model: String,
    pub logical_cores: usize,
    pub instruction_sets: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct NeededWorkload {
    pub name: String,
    pub sha256: String,
    #[serde(default)]
    pub quirks: Vec<String>,
}

/// What was read of the data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct NeededFacts {
    pub train_samples: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct NeededEngine {
    pub kind: String,
    pub threads: usize,
    pub precision: String,
}

#[derive(Debug, Clone, Deserialize)]
struct NeededOutcome {
    steps: u64,
    train_seconds: f64,
    last_eval: Option<NeededEval>,
}

#[derive(Debug, Clone, Deserialize)]
struct NeededEval {
    quality: NeededQuality,
}

#[derive(Debug, Clone, Deserialize)]
struct NeededQuality {
    auc: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct NeededThroughput {
    steady: Option<NeededSteady>,
    training: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct NeededSteady {
    mean: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct NeededFloor {
    samples_per_second: f64,
}

impl Slice {
    pub fn report(&self, side: &'static str, block: u64) -> SliceReport {
        let (samples_per_second, efficiency) = (self.samples_per_second, self.efficiency);
        SliceReport {
            side: side.to_owned(),
            block,
            samples_per_second,
            efficiency,
            seconds: self.wall_seconds,
        }
    }
}

/// Runs slices.
pub(super) struct Slicer<'a> {
    /// A folder of its own.
    scratch: &'a Path,
    stop: &'a AtomicBool,
    /// When the budget is over, and a bit.
    deadline: Instant,
    /// Seconds of the longest slice that was timed so far.
    longest: Cell<f64>,
}

impl<'a> Slicer<'a> {
    pub fn new(settings: &'a Settings<'_>, clock: &Clock) -> Self {
        Slicer {
            scratch: &settings.scratch,
            stop: settings.stop,
            deadline: clock.deadline(),
            longest: Cell::new(0.0),
        }
    }

    /// Runs `program` for a slice, reads its record and removes its results.
    pub fn run(&self, program: &Program, task: Task) -> Result<Slice, SliceError> {
        let slice = self.run_until(program, task, self.deadline)?;
        self.longest.set(self.longest.get().max(slice.wall_seconds));
        Ok(slice)
    }

    /// Runs `program` for a slice that is to be over within `seconds`.
    pub fn run_within(
        &self,
        program: &Program,
        task: Task,
        seconds: f64,
    ) -> Result<Slice, SliceError> {
        let deadline = Instant::now() + Duration::from_secs_f64(seconds.max(0.0));
        self.run_until(program, task, deadline.min(self.deadline))
    }

    fn run_until(
        &self,
        program: &Program,
        task: Task,
        deadline: Instant,
    ) -> Result<Slice, SliceError> {
        let name = program.binary().display();
        if program.replaced() {
            let what = format!("{name} was replaced while the gate ran; start anew");
            return Err(SliceError::Cause { code: 65, what });
        }
        let [workloads, results] = ["workload", "results"].map(|name| self.scratch.join(name));
        let prepared = self.clear().and_then(|()| {
            fs::create_dir_all(&workloads)?;
            fs::create_dir(&results)?;
            program.write_workload(&workloads)
        });
        let copy = prepared.map_err(|e| self.unusable(e))?;
        let mut command = Command::new(program.binary());
        command.args(arguments(program, task, &copy, &results));
        let ended = child::run(&mut command, deadline, self.stop)
            .map_err(|e| SliceError::Cause { code: 64, what: format!("cannot run {name}: {e}") })?;
        let last = last_words(&ended.said);
        let message = format!("{name}: {}", program.about_file(&last, &copy));
        match ended.end {
            child::End::Stopped => return Err(SliceError::Interrupted),
            child::End::Late => return Err(self.late(program, task, ended.seconds)),
            child::End::Exit(status) => check(status, message)?,
        }
        let slice = read(&results, ended.seconds)
            .map_err(|what| SliceError::Failed(format!("{name}: {what}")))?;
        self.clear().map_err(|e| self.unusable(e))?;
        Ok(slice)
    }

    /// A slice that had not ended after `seconds`: it takes long, or for ever. How long an
    /// evaluation takes, slices without one do not tell.
    fn late(&self, program: &Program, task: Task, seconds: f64) -> SliceError {
        let (name, longest) = (program.binary().display(), self.longest.get());
        let what = format!("{name}: a slice had not ended after {seconds:.0} s and was killed");
        let timed = matches!(task, Task::Time { .. }) && longest > 0.0;
        if timed && seconds > 10.0 * longest + 1.0 {
            return SliceError::Failed(format!("{what}; others took {longest:.1} s at most"));
        }
        SliceError::Late(format!("{what}; give a longer --budget, unless it hangs"))
    }

    fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(self.scratch) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn unusable(&self, source: std::io::Error) -> SliceError {
        SliceError::Folder { path: self.scratch.to_owned(), source }
    }
}

/// The error that a program ended with, or else the last line that it said.
fn last_words(said: &str) -> String {
    let mut lines = said.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let error = lines.clone().find_map(|l| l.strip_prefix("error: "));
    let last = error.or_else(|| lines.next()).unwrap_or("it said nothing");
    // It is shown on a terminal.
    last.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What an exit code says: causes keep theirs, all the way to the gate's own.
fn check(status: std::process::ExitStatus, message: String) -> Result<(), SliceError> {
    match status.code() {
        // 1 is a target that a few steps did not reach.
        Some(0 | 1) => Ok(()),
        Some(4) => Err(SliceError::Quality(message)),
        Some(code @ (64 | 65 | 69 | 71 | 74)) => {
            Err(SliceError::Cause { code: code as u8, what: message })
        }
        Some(130) => Err(SliceError::Interrupted),
        Some(code) => Err(SliceError::Failed(format!("{message} (exit code {code})"))),
        None => Err(SliceError::Failed(format!("{message} ({status})"))),
    }
}

/// Reads what a slice left in the folder `results`.
fn read(results: &Path, wall_seconds: f64) -> Result<Slice, String> {
    let folder = (0..3).try_fold(results.to_owned(), |at, _| only(&at))?;
    let text = |name: &str| {
        fs::read_to_string(folder.join(name)).map_err(|e| format!("its {name} cannot be read: {e}"))
    };
    let json = text("run.json")?;
    let no_record = |e: serde_json::Error| format!("its run.json is no record: {e}");
    let mut record: Needed = serde_json::from_str(&json).map_err(no_record)?;
    record.identity = Identity::read(&json, &text("workload.toml")?).map_err(no_record)?;
    let workload = text("workload.toml")?.parse().map_err(|e| format!("its workload.toml: {e}"))?;
    let (Some(outcome), Some(throughput)) = (&record.outcome, &record.throughput) else {
        return Err("its record has no throughput".into());
    };
    let samples_per_second = throughput.steady.as_ref().map_or(throughput.training, |s| s.mean);
    let efficiency = record.floor.as_ref().map(|f| samples_per_second / f.samples_per_second);
    for (what, value) in [
        ("steps", Some(outcome.steps as f64)),
        ("train_seconds", Some(outcome.train_seconds)),
        ("throughput", Some(samples_per_second)),
        ("share of the floor", efficiency),
    ] {
        if let Some(value) = value.filter(|v| !(*v > 0.0 && v.is_finite())) {
            return Err(format!("its record's {what} is {value}; must be above 0"));
        }
    }
    Ok(Slice {
        wall_seconds,
        train_seconds: outcome.train_seconds,
        steps: outcome.steps,
        samples_per_second,
        efficiency,
        auc: outcome.last_eval.as_ref().map(|e| e.quality.auc),
        record,
        workload,
    })
}

/// The only entry of a folder.
fn only(folder: &Path) -> Result<PathBuf, String> {
    let wrong = |what: String| format!("its results in {}: {what}", folder.display());
    let mut entries = fs::read_dir(folder).map_err(|e| wrong(e.to_string()))?;
    match (entries.next(), entries.next()) {
        (Some(Ok(entry)), None) => Ok(entry.path()),
        _ => Err(wrong("there should be one entry".into())),
    }
}

/// The command line of a slice of the workload file `copy`.
fn arguments(program: &Program, task: Task, copy: &Path, results: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        vec!["run".into(), copy.into(), "--quiet".into(), "--no-plots".into()];
    if !matches!(task, Task::Time { ceilings: true, .. }) {
        args.push("--no-ceilings".into());
    }
    args.extend(["--results".into(), results.into()]);
    args.extend(program.overrides(task).into_iter().flat_map(|s| ["--set".into(), s.into()]));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_found_in_what_was_said() {
        let said = "warning: x\nerror: no \u{1b}[31mdata\n\nnote: y\n";
        assert_eq!(last_words(said), "no \u{fffd}[31mdata");
        assert_eq!([last_words("a\nb\n\n"), last_words("")], ["b", "it said nothing"]);
    }
}
