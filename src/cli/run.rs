//! `dlrm-bench run`.

use super::{
    Exit, Failure, MAX_SEED,
    convergence::{self, Judged},
    examples, explain,
    facebook::{Facebook, FacebookArgs},
    loader_only::loader_only,
    progress::{Progress, Show, counted},
    ready,
    resume::{self, Resume},
    run_output::{Closed, Extras, RunOutput},
    seed,
    series::series,
    summary, terminal, threads, utf8_path, whole,
    workloads::WorkloadPlace,
};
use crate::{
    engine::{EngineError, EngineKind},
    host::env,
    report::{tensorboard::TensorBoard, trace::Trace},
    results::{record::Series, reference::ReferenceRecord, tree},
    train::{
        self, Job, TrainError,
        events::{Listener, Outcome, StopReason},
        failure::failure_folder,
    },
    workload::{
        Missing, Resolved, parse,
        short::{self, Given, Short},
    },
};
use clap::{Args, ValueEnum};
use std::{
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench run quickstart
  dlrm-bench run workloads/quickstart.toml --explain
  dlrm-bench run quickstart --runs 5
  dlrm-bench run quickstart --set train.batch_size=4096 --seed 7
  dlrm-bench run quickstart --steps 200
  FRAPPE=~/frappe_x1 dlrm-bench run frappe-deepfm --json

docs/workload-file.md explains every key of a workload file.";

/// Runs of a series at most.
const MAX_RUNS: u64 = 10_000;

/// Train one model to its target, and leave a record of it
///
/// Reads the workload file, trains, evaluates, and leaves a folder with the
/// MLPerf log, the record, plots and the resolved workload.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct RunArgs {
    /// The workload: a file (TOML) that says what to train, on what data, until
    /// when, or the name of one that dlrm-bench workloads lists
    #[arg(value_parser = WorkloadPlace, hide_possible_values = true, required_unless_present = "resume")]
    pub workload: Option<PathBuf>,
    /// Replace one value, as in --set train.batch_size=4096; may be given
    /// many times. VALUE is TOML, a bare word is a string; nothing after the
    /// = takes the key out
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Who computes: fused (ours) or candle; short for --set engine.kind=...
    #[arg(long, value_parser = EngineKind::ALL.map(EngineKind::name))]
    pub engine: Option<String>,
    /// What computes: cpu, cuda:N (GPU number N), or auto (cuda:0 where all
    /// that it needs is there, else the CPU; says which); short for --set
    /// engine.device=...
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Threads, 0 = all cores; short for --set engine.threads=... Results do
    /// not depend on it
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    pub threads: Option<usize>,
    /// Seed of initial values, dropout and order; short for --set
    /// train.seed=...
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = seed)]
    pub seed: Option<u64>,
    /// Only train N steps, to see how fast they are: no evaluation, no target,
    /// no quality is judged. Short for --set train.max_steps=N, eval.every=never
    /// and the like
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64, 1, MAX_SEED>, conflicts_with = "reference")]
    pub steps: Option<u64>,
    /// Train N times, with seeds counted up from train.seed, and sum up as
    /// MLPerf does: the mean time to target without the fastest and the
    /// slowest run; one run that misses it may be the slowest, two are too
    /// many. Each run leaves a folder of its own
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true, value_parser = whole::<u32, 1, MAX_RUNS>)]
    pub runs: u32,
    /// The seeds instead, as in --seeds 3,7,11
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = seed, conflicts_with_all = ["runs", "seed"])]
    pub seeds: Vec<u64>,
    /// Go on where the newest whole checkpoint stands: of the run in FOLDER, or
    /// without FOLDER of the newest run of the workload that is not over. If
    /// there is none, a new run begins
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, conflicts_with_all = ["explain", "loader_only", "runs", "seeds"])]
    pub resume: Option<Option<PathBuf>>,
    /// Say whether it converges like this record, made by dlrm-bench record
    /// [default: the workload's own, where there is one]
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// Folder for results
    #[arg(long, value_name = "DIR", default_value = "results", value_parser = utf8_path())]
    pub results: PathBuf,
    /// Only print the workload with every default filled in and where each
    /// value came from, the data to be read, the memory it will take and how
    /// fast a step could be at best on this machine
    #[arg(long)]
    pub explain: bool,
    /// Refuse a workload whose data are not there, rather than train on what
    /// its data.otherwise says
    #[arg(long)]
    pub strict_data: bool,
    /// Do not train: only read the training data, batch by batch, for at most
    /// ten seconds, and say how fast that goes
    #[arg(long, conflicts_with_all = ["explain", "runs", "seeds", "reference", "no_ceilings", "no_plots"])]
    pub loader_only: bool,
    /// Do not measure what the machine can do at most (half a second)
    #[arg(long)]
    pub no_ceilings: bool,
    /// Do not draw plots
    #[arg(long)]
    pub no_plots: bool,
    /// Write losses and metrics for TensorBoard, into DIR/NAME/, NAME being
    /// the run's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["explain", "loader_only"])]
    pub tensorboard: Option<PathBuf>,
    /// Write a trace for chrome://tracing or Perfetto: waiting for data, the
    /// phases of each step (on a GPU, and with candle, the step as a whole),
    /// evaluations
    #[arg(long, value_name = "FILE", conflicts_with_all = ["explain", "loader_only", "runs", "seeds"])]
    pub trace: Option<PathBuf>,
    /// Steps that are traced, the first and the last, as in 101..200; at most
    /// 100,000 of them
    #[arg(long, value_name = "FROM..TO", default_value = "1..1000", requires = "trace", value_parser = trace_steps)]
    pub trace_steps: RangeInclusive<u64>,
    /// Show where the time of a step went, phase by phase
    #[arg(long, conflicts_with_all = ["json", "explain", "loader_only", "runs", "seeds"])]
    pub profile: bool,
    /// Say at the end what training has left as it was: rows of tables and
    /// outputs of layers that have never moved, units that never fire
    #[arg(long, conflicts_with_all = ["explain", "loader_only"])]
    pub diagnose: bool,
    /// No progress, only the summary
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Progress and summary as JSON, one object a line, on standard output
    #[arg(long)]
    pub json: bool,
    /// Print on standard output what dlrm_s_pytorch.py of facebookresearch/dlrm
    /// does, line by line; the summary goes to standard error
    #[arg(long, value_enum, conflicts_with_all = ["json", "quiet", "explain", "loader_only", "runs", "seeds"])]
    pub format: Option<Format>,
    /// What is printed then
    #[command(flatten)]
    pub facebook: FacebookArgs,
}

/// Steps of a trace at most; each takes up to two kilobytes of the file.
const MAX_TRACED: u64 = 100_000;

/// Takes the first and the last step of a trace.
fn trace_steps(text: &str) -> Result<RangeInclusive<u64>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| {
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        (1 <= from && from <= to && to - from < MAX_TRACED).then_some(from..=to)
    });
    ends.ok_or_else(|| {
        format!(
            "must be the first and the last step, as in 101..200, and at most {MAX_TRACED} of them"
        )
    })
}

/// Whose lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Those of facebookresearch/dlrm
    Facebook,
}

impl RunArgs {
    /// The workload with all overrides, as it is run on this machine. Its file is read this once.
    fn load(&self) -> Result<Resolved, Failure> {
        let missing = if self.strict_data { Missing::Refuse } else { Missing::TakeOtherwise };
        let set = self.overrides();
        let file = match (&self.workload, &self.resume) {
            (Some(file), None | Some(None)) => file,
            (None, Some(Some(folder))) if set.is_empty() && self.steps.is_none() => {
                return resume::workload_of(
                    folder,
                    "name the one that holds its workload.toml, or put the workload before --resume",
                );
            }
            (None, Some(Some(_))) => {
                return Err(Failure::Usage(
                    "a run goes on as it was begun; leave out --set, --engine, --device, --threads, --seed and --steps"
                        .to_owned(),
                ));
            }
            (Some(_), Some(Some(_))) => {
                return Err(Failure::Usage(
                    "--resume FOLDER goes on with the workload in that folder; leave out the workload, or FOLDER"
                        .to_owned(),
                ));
            }
            (None, None | Some(None)) => {
                return Err(Failure::Usage(
                    "which run? Name the workload before --resume, or a run's folder after it"
                        .to_owned(),
                ));
            }
        };
        let text = parse::text(file)?;
        let set = self.shortened(&text, set)?;
        ready::resolve(file, text, set, missing, self.quiet)
    }

    /// The overrides `set` of the workload `text`, with those of `--steps` behind them.
    fn shortened(&self, text: &str, set: Vec<String>) -> Result<Vec<String>, Failure> {
        let Some(steps) = self.steps else { return Ok(set) };
        let short = Short { steps, evaluates: false, labelled: true };
        let own = Given::new(text, &set).overrides(short);
        match short::in_vain(&set, &own) {
            None => Ok([set, own].concat()),
            Some(key) => Err(Failure::Usage(format!(
                "--steps {steps} trains so many steps without evaluation and target, so that {key} has no effect; leave one of them out"
            ))),
        }
    }

    /// The run that is to go on, if one is to.
    fn resume(&self, resolved: &Resolved) -> Result<Option<Resume>, Failure> {
        match &self.resume {
            None => Ok(None),
            Some(Some(folder)) => resume::in_folder(folder, resolved).map(Some),
            Some(None) => {
                if !resolved.workload.checkpoint.is_on() {
                    return Err(Failure::Usage(
                        "this workload writes no checkpoints; say when, as in --set checkpoint.every_steps=1000"
                            .to_owned(),
                    ));
                }
                let found = resume::newest(&self.results, resolved)?;
                if found.is_none() && !self.quiet {
                    errln!(
                        "no run of this workload below {} can go on; a new one begins",
                        self.results.display()
                    );
                }
                Ok(found)
            }
        }
    }

    /// Values that are replaced; those of options of their own come after every `--set`.
    fn overrides(&self) -> Vec<String> {
        let mut set = self.set.clone();
        set.extend(self.engine.as_ref().map(|e| format!("engine.kind={e}")));
        set.extend(self.device.as_ref().map(|d| format!("engine.device=\"{d}\"")));
        set.extend(self.threads.map(|n| format!("engine.threads={n}")));
        // One seed of a list is that of the one run.
        let only = self.seeds.first().filter(|_| self.seeds.len() == 1).copied();
        set.extend(self.seed.or(only).map(|n| format!("train.seed={n}")));
        set
    }

    /// Seeds of all runs; those that are not given count up from `first`.
    fn seeds_from(&self, first: u64) -> Result<Vec<u64>, Failure> {
        let seeds = match &self.seeds {
            seeds if seeds.is_empty() => {
                let runs = u64::from(self.runs);
                if first > MAX_SEED - (runs - 1) {
                    return Err(Failure::Usage(format!(
                        "{runs} seeds from {first} on pass {MAX_SEED}, the largest; begin with a smaller one"
                    )));
                }
                (first..first + runs).collect()
            }
            seeds => seeds.clone(),
        };
        let mut sorted: Vec<u64> = seeds.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(Failure::Usage(format!(
                "seed {} twice; runs of a series need different seeds",
                twice[0]
            ))),
            None => Ok(seeds),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let resolved = args.load()?;
    if resolved.workload.engine.kind == EngineKind::Candle {
        // No thread has been started yet.
        env::set_library_threads(resolved.workload.engine.threads);
    }
    if args.explain {
        out!("{}", explain::explain(&resolved)?);
        return Ok(Exit::Done);
    }
    if let Some(path) = &args.reference {
        // Said before the work, not after it.
        ReferenceRecord::read(path)?;
    }
    let stop = stop_flag()?;
    if args.loader_only {
        return loader_only(&resolved.workload, args.quiet, args.json, &stop);
    }
    if let Some(steps) = args.steps {
        errln!(
            "{} for their speed alone: no evaluation, no target, no quality is judged",
            counted(steps, "step")
        );
    }
    let show = match (args.quiet || args.format.is_some(), args.json) {
        (true, _) => Show::Quiet,
        (_, true) => Show::Json,
        _ => Show::Auto,
    };
    let seeds = args.seeds_from(resolved.workload.train.seed)?;
    if seeds.len() > 1 {
        return series(args, &resolved, &seeds, show, &stop);
    }
    let Ran { closed: Closed { record, folder, lost }, outcome } =
        one(args, &resolved, show, &stop, None)?;
    let outcome = outcome?;
    let found = tree::read(&[folder.path().display().to_string()]);
    let judged = convergence::judge(args.reference.as_deref(), &found.runs)?
        .filter(|_| outcome.reason != StopReason::Interrupted);
    if args.json {
        if let Some(diagnosis) = &record.diagnosis {
            outln!("{}", serde_json::json!({"event": "diagnosis", "diagnosis": diagnosis}));
        }
        if let Some(verdict) = judged.as_ref().and_then(Judged::verdict) {
            outln!("{}", serde_json::json!({"event": "convergence", "convergence": verdict}));
        }
    } else {
        let sentence = judged.as_ref().map(Judged::sentence);
        let mut text = summary::diagnosis(&record);
        text += &summary::summary(&record, folder.path(), sentence.as_deref());
        if args.profile {
            text = summary::profile(&record) + &text;
        }
        match args.format {
            None => out!("{text}"),
            Some(Format::Facebook) => terminal::err(format_args!("{text}")),
        }
    }
    if let Some(failure) = lost {
        return Err(failure);
    }
    Ok(match outcome.reason {
        StopReason::Interrupted => Exit::Interrupted,
        _ if outcome.success => Exit::Done,
        _ => Exit::Fails,
    })
}

/// A run that is over.
pub(super) struct Ran {
    /// What it leaves.
    pub closed: Closed,
    /// How it ended, or why it could not go on.
    pub outcome: Result<Outcome, Failure>,
}

/// One run with all that it leaves. Errors are those that leave no record.
pub(super) fn one(
    args: &RunArgs,
    resolved: &Resolved,
    show: Show,
    stop: &AtomicBool,
    series: Option<Series>,
) -> Result<Ran, Failure> {
    let w = &resolved.workload;
    let mut facebook = args.format.map(|_| Facebook::begin(&args.facebook, w, stop)).transpose()?;
    let extras = Extras { ceilings: !args.no_ceilings, plots: !args.no_plots };
    let resume = args.resume(resolved)?;
    let mut output = match &resume {
        Some(r) => RunOutput::go_on(&r.folder, resolved, &r.progress, extras)?,
        None => RunOutput::open(&args.results, resolved, series, extras)?,
    };
    let checkpoints = output.checkpoints(w);
    let (mut board, mut trace) = match followers(args, output.name()) {
        Ok(followers) => followers,
        Err(e) => {
            output.discard();
            return Err(Failure::Output(e.to_string()));
        }
    };
    let mut progress = Progress::new(show);
    let from = resume.as_ref().map(|r| &r.loaded);
    let failure = failure_folder(output.path());
    let job = Job {
        checkpoints: Some(&checkpoints),
        from,
        failure: Some(&failure),
        diagnose: args.diagnose,
        ..Job::new(&resolved.workload, stop)
    };
    let mut listeners: Vec<&mut dyn Listener> =
        vec![&mut output.log, &mut output.recorder, &mut progress];
    listeners.extend(facebook.as_mut().map(|f| f as &mut dyn Listener));
    listeners.extend(board.as_mut().map(|b| b as &mut dyn Listener));
    listeners.extend(trace.as_mut().map(|t| t as &mut dyn Listener));
    let done = match train::run(&job, &mut listeners) {
        // The log says so, and the record.
        Err(TrainError::Interrupted) if output.goes_on() && !output.recorder.begun() => {
            output.discard();
            return Err(TrainError::Interrupted.into());
        }
        Err(TrainError::Interrupted) => {
            let closed = output.close(&resolved.workload, None);
            let outcome = closed.record.outcome.clone().ok_or(TrainError::Interrupted)?;
            return Ok(Ran { closed, outcome: Ok(outcome) });
        }
        Err(failed) if !output.recorder.begun() => {
            output.discard();
            return Err(failed.into());
        }
        done => done,
    };
    let closed = output.close(&resolved.workload, done.as_ref().ok());
    let printed = match (&facebook, &done) {
        (Some(facebook), Ok(finished)) => facebook.end(finished),
        _ => Ok(()),
    };
    let outcome = done.map(|finished| finished.outcome).map_err(Failure::from);
    Ok(Ran { closed, outcome: outcome.and_then(|outcome| printed.map(|()| outcome)) })
}

/// What writes files of its own while the run called `name` goes on, where it was asked for.
fn followers(args: &RunArgs, name: &str) -> std::io::Result<(Option<TensorBoard>, Option<Trace>)> {
    let board = args.tensorboard.as_ref().map(|dir| TensorBoard::create(dir, name));
    let trace = args.trace.as_ref().map(|file| Trace::new(file, args.trace_steps.clone()));
    Ok((board.transpose()?, trace.transpose()?))
}

/// A flag that Ctrl-C and SIGTERM set. A second signal ends the process at once.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
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
            TrainError::Interrupted => Failure::Interrupted(e.to_string()),
            TrainError::Checkpoint(e) => e.into(),
            TrainError::Closed => Failure::Closed,
            TrainError::Listener(_) => Failure::Output(e.to_string()),
            TrainError::Memory(_)
            | TrainError::DeviceMemory(_)
            | TrainError::Engine(EngineError::Memory { .. }) => Failure::Memory(e.to_string()),
            e if e.is_quality() => Failure::Quality(e.to_string()),
            e => Failure::Internal(e.to_string()),
        }
    }
}
