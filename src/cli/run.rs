//! `dlrm-bench run`.

use super::{
    Exit, Failure, explain,
    kept::Kept,
    progress::{Progress, Show},
    summary,
};
use crate::{
    engine::EngineError,
    train::{self, Job, TrainError, events::StopReason},
    workload::{self, Resolved},
};
use clap::Args;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench run workloads/quickstart.toml
  dlrm-bench run workloads/quickstart.toml --explain
  dlrm-bench run workloads/quickstart.toml --set train.batch_size=4096 --seed 7
  FRAPPE=~/frappe_x1 dlrm-bench run workloads/frappe-deepfm.toml --json

docs/workload-file.md explains every key of a workload file.";

/// Train one model to its target, and leave a record of it
///
/// Reads the workload file, trains, evaluates, and leaves a folder with the
/// MLPerf log, the record, plots and the resolved workload.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct RunArgs {
    /// The workload file (TOML): what to train, on what data, until when
    pub workload: PathBuf,
    /// Replace one value, as in --set train.batch_size=4096; may be given
    /// many times. VALUE is TOML, a bare word is a string; nothing after the
    /// = takes the key out
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Who computes: fused (ours) or candle; short for --set engine.kind=...
    #[arg(long, value_parser = ["fused", "candle"])]
    pub engine: Option<String>,
    /// Threads, 0 = all cores; short for --set engine.threads=... Results do
    /// not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Seed of initial values, dropout and order; short for --set
    /// train.seed=...
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Folder for results
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Only print the workload with every default filled in and where each
    /// value came from, the data to be read, the memory it will take and how
    /// fast a step could be at best on this machine
    #[arg(long)]
    pub explain: bool,
    /// No progress, only the summary
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Progress and summary as JSON, one object a line, on standard output
    #[arg(long)]
    pub json: bool,
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", super::EXIT_CODES)
}

impl RunArgs {
    /// The workload with all overrides; `--engine`, `--threads` and `--seed` come after every `--set`.
    pub fn load(&self) -> Result<Resolved, Failure> {
        let mut set = self.set.clone();
        set.extend(self.engine.as_ref().map(|e| format!("engine.kind={e}")));
        set.extend(self.threads.map(|n| format!("engine.threads={n}")));
        set.extend(self.seed.map(|n| format!("train.seed={n}")));
        Ok(workload::load(&self.workload, &set)?)
    }
}

/// Runs the command.
pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let resolved = args.load()?;
    if args.explain {
        print!("{}", explain::explain(&resolved)?);
        return Ok(Exit::Done);
    }
    let stop = stop_flag()?;
    let show = match (args.quiet, args.json) {
        (true, _) => Show::Quiet,
        (_, true) => Show::Json,
        _ => Show::Auto,
    };
    let mut kept = Kept::open(&args.results, &resolved)?;
    let mut progress = Progress::new(show);
    let job = Job { workload: &resolved.workload, stop: &stop };
    let done = train::run(&job, &mut [&mut kept.log, &mut kept.recorder, &mut progress]);
    let (record, folder) = kept.close(&resolved.workload, done.as_ref().ok())?;
    let finished = done?;
    if !args.json {
        print!("{}", summary::summary(&record, folder.path()));
    }
    Ok(match finished.outcome.reason {
        StopReason::Interrupted => Exit::Interrupted,
        _ if finished.outcome.success => Exit::Done,
        _ => Exit::Fails,
    })
}

/// A flag that Ctrl-C and SIGTERM set. A second signal ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
    })
    .map_err(|e| Failure::Internal(format!("cannot catch Ctrl-C: {e}")))?;
    Ok(stop)
}

impl From<TrainError> for Failure {
    fn from(e: TrainError) -> Self {
        match e {
            TrainError::Workload(e) => e.into(),
            TrainError::Data(e) => e.into(),
            TrainError::Listener(_) => Failure::Output(e.to_string()),
            TrainError::Memory(_) | TrainError::Engine(EngineError::Memory { .. }) => Failure::Memory(e.to_string()),
            e if e.is_quality() => Failure::Quality(e.to_string()),
            e => Failure::Internal(e.to_string()),
        }
    }
}
