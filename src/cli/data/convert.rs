//! `dlrm-bench data convert`.

use super::{
    super::{Exit, Failure, examples, run::stop_flag},
    ColumnArgs, format, formats, input,
    output::{Output, Written, summary},
};
use crate::{
    data::{
        dense::Dense,
        format::{open, transformed::Transformed},
    },
    workload::DenseTransform,
};
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench data convert terabyte_train.bin -o train.parquet
  dlrm-bench data convert clicks.csv --label click --ignore day -o a.bin
  dlrm-bench data convert day_0.bin --dense-transform log_plus3 \\
    -o day_0_dense.npy";

/// Convert a data file to another format
///
/// Values stay as they are, but for --dense-transform. What is missing stays so
/// where the new format has a word for it, and is 0 elsewhere. A value that the
/// new format cannot hold is an error that names its row and column.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub(super) struct ConvertArgs {
    /// The file to read
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// The file to write; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Format of INPUT [default: by its ending]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    from: Option<String>,
    /// Format of FILE [default: by its ending]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Transform the dense columns, for formats that hold logarithms: ln(x + 1)
    /// with negative x as 0 (facebook, OneFlow), ln(x + 2), ln(x + 3)
    /// (TorchRec, NVIDIA), or floor(ln(x)^2) above 2 (FuxiCTR)
    #[arg(long, value_name = "WORD", value_parser = ["raw", "log1p_clamp0", "log_plus2", "log_plus3", "log_sq_bucket"], default_value = "raw")]
    dense_transform: String,
    /// Write over FILE if it is there
    #[arg(long)]
    force: bool,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub(super) fn run(args: &ConvertArgs) -> Result<Exit, Failure> {
    let from = input(&args.input, args.from.as_deref())?;
    let to = format(&args.output, args.to.as_deref(), "--to")?;
    let output = Output { path: &args.output, format: to, force: args.force, quiet: args.quiet };
    let stop = stop_flag()?;
    let mut reader = open(&args.input, from, &args.columns.columns())?;
    let transform = match args.dense_transform.as_str() {
        "log1p_clamp0" => Dense::new(DenseTransform::Log1pClamp0),
        "log_plus2" => Dense::new(DenseTransform::LogPlus2),
        "log_plus3" => Dense::new(DenseTransform::LogPlus3),
        "log_sq_bucket" => Dense::new(DenseTransform::LogSqBucket),
        _ => None,
    };
    if let Some(dense) = transform {
        reader = Box::new(Transformed::new(reader, dense, args.input.clone()));
    }
    match output.write(&mut *reader, &stop)? {
        Written::Whole { rows, bytes } => {
            println!("{}", summary(&args.output, rows, bytes));
            Ok(Exit::Done)
        }
        Written::Interrupted => Ok(Exit::Interrupted),
    }
}
