//! `dlrm-bench data generate`.

use super::{
    super::{Exit, Failure, examples, run::stop_flag, seed},
    TransformArgs, format, formats,
    output::{Output, Written, summary},
};
use crate::{
    data::{format::planted::PlantedReader, source::planted},
    workload::{IdKind, PlantedConfig},
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench data generate criteo_kaggle --samples 1000000 -o train.bin
  dlrm-bench data generate criteo_kaggle --split eval --samples 100000 -o a.bin
  dlrm-bench data generate criteo_kaggle --samples 100000 \\
    --dense-transform log_plus3 --to nvidia -o data/train
  dlrm-bench data generate custom --tables 1000,50 --hotness 3,1 --dense 4 \\
    --samples 10000 -o tiny.parquet";

/// Evaluation samples by which the best AUC is told; as many as planted data has by default.
const EVAL_SAMPLES: u64 = 200_000;

/// Write planted data to a file
///
/// The same log as with data.source = "planted", so that its best reachable
/// AUC is known. Dense columns are counts before any logarithm but that of
/// --dense-transform. Sample i depends on the seed, the split and i alone.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub(super) struct GenerateArgs {
    /// Cardinalities, id distributions and truth
    #[arg(value_parser = ["criteo_kaggle", "criteo_terabyte", "custom"])]
    preset: String,
    /// How many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
    /// The file to write; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Format of FILE [default: by its ending]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: Option<String>,
    /// Which of the two logs
    #[arg(long, value_enum, default_value_t = Split::Train)]
    split: Split,
    /// Number of the first sample
    #[arg(long, value_name = "N", default_value_t = 0)]
    start: u64,
    /// Seed of truth and samples
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// No table has more rows than this
    #[arg(long, value_name = "N")]
    max_rows: Option<usize>,
    /// Rows of each table (custom)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tables: Vec<usize>,
    /// Ids of a sample in each table (custom) [default: 1 each]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    hotness: Vec<usize>,
    /// Exponents of Zipf's law, by which ids of each table occur (custom)
    /// [default: by size]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    exponents: Vec<f64>,
    /// Number of dense columns (custom) [default: 13]
    #[arg(long, value_name = "N")]
    dense: Option<usize>,
    /// Share of positive labels [default: the preset's]
    #[arg(long, value_name = "SHARE")]
    positive_rate: Option<f64>,
    #[command(flatten)]
    transform: TransformArgs,
    /// Write over FILE if it is there
    #[arg(long)]
    force: bool,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
}

/// The logs of planted data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    /// To learn from.
    Train,
    /// To be judged by.
    Eval,
}

/// Runs the command.
pub(super) fn run(args: &GenerateArgs) -> Result<Exit, Failure> {
    let to = format(&args.output, args.to.as_deref(), "--to")?;
    let output = Output {
        path: &args.output,
        from: &args.output,
        format: to,
        force: args.force,
        quiet: args.quiet,
    };
    let end = args.start.checked_add(args.samples);
    let end =
        end.ok_or_else(|| Failure::Usage("--start and --samples together pass 2^64".into()))?;
    let config = PlantedConfig {
        preset: args.preset.clone(),
        max_rows: args.max_rows,
        fit_memory: false,
        tables: args.tables.clone(),
        hotness: args.hotness.clone(),
        exponents: args.exponents.clone(),
        dense: args.dense,
        train_samples: end,
        eval_samples: EVAL_SAMPLES,
        seed: args.seed,
        positive_rate: args.positive_rate,
        ids: IdKind::Rows,
    };
    // The keys of a workload file have the names of the options here.
    let options = |e: String| {
        e.replace("data.max_rows", "--max-rows")
            .replace("data.positive_rate", "--positive-rate")
            .replace("data.", "--")
    };
    let data = planted::open(&config).map_err(|e| Failure::Usage(options(e.to_string())))?;
    let stop = stop_flag()?;
    let split = if args.split == Split::Train { data.train } else { data.eval };
    let planted = Box::new(PlantedReader::new(split, args.start, args.samples));
    match output.write(&mut *args.transform.apply(planted, &args.output), &stop)? {
        Written::Whole { rows, bytes } => {
            let best = data.facts.best_auc.map(|best| {
                format!(
                    "\nbest reachable AUC {best:.5} (on the first {EVAL_SAMPLES} samples of the eval split)"
                )
            });
            summary(&args.output, rows, bytes, &best.unwrap_or_default());
            Ok(Exit::Done)
        }
        Written::Interrupted => Ok(Exit::Interrupted),
    }
}
