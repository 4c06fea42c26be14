//! What `dlrm-bench run` is told.

use crate::{
    cli::{
        MAX_SEED, examples, facebook::FacebookArgs, seed, threads, utf8_path, whole,
        workloads::WorkloadPlace,
    },
    engine::EngineKind,
    workload::sweep::Axis,
};
use clap::{Args, ValueEnum};
use std::{ops::RangeInclusive, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench run quickstart
  dlrm-bench run workloads/quickstart.toml --explain
  dlrm-bench run quickstart --runs 5
  dlrm-bench run quickstart --set train.batch_size=4096 --seed 7
  dlrm-bench run quickstart --steps 200
  dlrm-bench run quickstart --steps 200 --sweep engine.threads=1,2,4 --runs 3
  FRAPPE=~/frappe_x1 dlrm-bench run frappe-deepfm --json

docs/workload-file.md explains every key of a workload file.";

/// More ranks, or samples for each, than this are a slip.
const MAX_RANKS: u64 = 1 << 16;
const MAX_BATCH: u64 = 1 << 24;

/// Runs of a series at most.
pub(in crate::cli) const MAX_RUNS: u64 = 10_000;

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
    /// Refuse to run unless so many ranks train together, started by mpirun or
    /// srun (docs/ranks.md)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize, 1, MAX_RANKS>)]
    pub ranks: Option<usize>,
    /// Samples of a batch for each rank; short for --set train.batch_size=N
    /// times the number of ranks
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize, 1, MAX_BATCH>)]
    pub batch_size_per_rank: Option<usize>,
    /// Train N times, with seeds counted up from train.seed, and sum up as
    /// MLPerf does: the mean time to target without the fastest and the
    /// slowest run; one run that misses it may be the slowest, two are too
    /// many. Each run leaves a folder of its own
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true, value_parser = whole::<u32, 1, MAX_RUNS>)]
    pub runs: u32,
    /// The seeds instead, as in --seeds 3,7,11
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = seed, conflicts_with_all = ["runs", "seed"])]
    pub seeds: Vec<u64>,
    /// Train all combinations of several values, as in --sweep
    /// train.batch_size=512,2048 --sweep engine.threads=1,2, each as often as
    /// --runs says, in turns; ends with a table and a picture of them.
    /// --resume goes on with the runs that are missing
    #[arg(long, value_name = "KEY=VALUES")]
    pub sweep: Vec<Axis>,
    /// Go on where the newest whole checkpoint stands: of the run in FOLDER, or
    /// without FOLDER of the newest run of the workload that is not over. If
    /// there is none, a new run begins
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, conflicts_with_all = ["explain", "loader_only"])]
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
    /// Do not measure what the machine can do at most (a third of a second
    /// before the run and after it)
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
    /// Expect the hits of embedding.cache by how often ids are asked for, as
    /// dlrm-bench data profile DATA --json has counted them [default: by the laws
    /// of planted data]
    #[arg(long, value_name = "FILE", conflicts_with = "loader_only")]
    pub ids_profile: Option<PathBuf>,
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
