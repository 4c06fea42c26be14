//! One slice: a child process that trains a few steps, and what its record says.

use super::verdict::SliceReport;
use serde::Deserialize;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};
use toml_edit::DocumentMut;

/// What is run.
#[derive(Debug, Clone)]
pub struct Program {
    /// A `dlrm-bench`.
    pub binary: PathBuf,
    /// Its workload file.
    pub workload: PathBuf,
    /// Overrides, `KEY=VALUE`.
    pub set: Vec<String>,
}

/// Why there is no slice.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The loss or a prediction was not a number.
    #[error("{0}")]
    Quality(String),
    /// The program cannot run the workload (EX_USAGE).
    #[error("{0}")]
    Workload(String),
    /// Not enough memory.
    #[error("{0}")]
    Memory(String),
    /// The budget is over before there are slices enough.
    #[error("{0}")]
    TooFew(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// The folder for slices cannot be used.
    #[error("cannot write {path}: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a slice is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// To be timed; with the ceilings of the machine, where a share of the floor is wanted.
    Time { steps: u64, ceilings: bool },
    /// To be evaluated at its end.
    Evaluate { steps: u64 },
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
    outcome: Option<NeededOutcome>,
    throughput: Option<NeededThroughput>,
    floor: Option<NeededFloor>,
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
    pub scratch: &'a Path,
    pub stop: &'a AtomicBool,
}

impl Slicer<'_> {
    /// Runs `program` for a slice, reads its record and removes its results.
    pub fn run(&self, program: &Program, task: Task) -> Result<Slice, SliceError> {
        let folder = |source| SliceError::Folder { path: self.scratch.to_owned(), source };
        // Left over from a slice that failed.
        if self.scratch.exists() {
            fs::remove_dir_all(self.scratch).map_err(folder)?;
        }
        fs::create_dir_all(self.scratch).map_err(folder)?;
        let began = Instant::now();
        let child = Command::new(&program.binary)
            .args(arguments(program, task, self.scratch))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        let name = program.binary.display();
        let output = child.map_err(|e| SliceError::Workload(format!("cannot run {name}: {e}")))?;
        let wall_seconds = began.elapsed().as_secs_f64();
        if self.stop.load(Ordering::Relaxed) {
            return Err(SliceError::Interrupted);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message = || {
            let last =
                said.lines().rev().find_map(|l| l.strip_prefix("error: ")).or(said.lines().last());
            format!("{name}: {}", last.unwrap_or("it said nothing"))
        };
        match output.status.code() {
            // 1 is a target that a few steps did not reach.
            Some(0 | 1) => {}
            Some(4) => return Err(SliceError::Quality(message())),
            Some(64) => return Err(SliceError::Workload(message())),
            Some(71) => return Err(SliceError::Memory(message())),
            Some(130) => return Err(SliceError::Interrupted),
            Some(code) => {
                return Err(SliceError::Failed(format!("{} (exit code {code})", message())));
            }
            None => return Err(SliceError::Failed(format!("{name} was killed by a signal"))),
        }
        let slice = self
            .read(wall_seconds)
            .map_err(|what| SliceError::Failed(format!("{name}: {what}")))?;
        fs::remove_dir_all(self.scratch).map_err(folder)?;
        Ok(slice)
    }

    fn read(&self, wall_seconds: f64) -> Result<Slice, String> {
        let folder = (0..3).try_fold(self.scratch.to_owned(), |at, _| only(&at))?;
        let text = |name: &str| {
            fs::read_to_string(folder.join(name))
                .map_err(|e| format!("its {name} cannot be read: {e}"))
        };
        let record: Needed = serde_json::from_str(&text("run.json")?)
            .map_err(|e| format!("its run.json is no record: {e}"))?;
        let workload =
            text("workload.toml")?.parse().map_err(|e| format!("its workload.toml: {e}"))?;
        let (Some(outcome), Some(throughput)) = (&record.outcome, &record.throughput) else {
            return Err("its record has no throughput".into());
        };
        let samples_per_second = throughput.steady.as_ref().map_or(throughput.training, |s| s.mean);
        Ok(Slice {
            wall_seconds,
            train_seconds: outcome.train_seconds,
            steps: outcome.steps,
            samples_per_second,
            efficiency: record.floor.as_ref().map(|f| samples_per_second / f.samples_per_second),
            auc: outcome.last_eval.as_ref().map(|e| e.quality.auc),
            record,
            workload,
        })
    }
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

/// The command line of a slice.
fn arguments(program: &Program, task: Task, scratch: &Path) -> Vec<OsString> {
    let (steps, every, ceilings) = match task {
        Task::Time { steps, ceilings } => (steps, "never", ceilings),
        Task::Evaluate { steps } => (steps, "end", false),
    };
    let mut args: Vec<OsString> =
        vec!["run".into(), program.workload.clone().into(), "--quiet".into(), "--no-plots".into()];
    if !ceilings {
        args.push("--no-ceilings".into());
    }
    args.extend(["--results".into(), scratch.into()]);
    let mut set = program.set.clone();
    // Nothing but steps: no evaluation on the way, and no target or patience, which would need one.
    set.extend(
        ["every_steps", "every_epochs", "patience", "restore_best"]
            .map(|key| format!("eval.{key}="))
            .into_iter()
            .chain([
                "target.auc=".to_owned(),
                "target.share_of_best=".to_owned(),
                format!("eval.every={every}"),
                format!("train.max_steps={steps}"),
            ]),
    );
    args.extend(set.iter().flat_map(|s| ["--set".into(), OsString::from(s)]));
    args
}
