//! `dlrm-bench data convert`.

use super::{
    super::{Exit, Failure, examples, run::stop_flag},
    ColumnArgs, TransformArgs, format, formats, input, open,
    output::{Output, Written, summary},
    tell,
};
use crate::data::format::hotness::{Counted, Counter};
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
/// new format cannot hold is an error that names its row and column. Where it
/// holds a fixed number of ids a column and INPUT may hold any, INPUT is read
/// twice.
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
    #[command(flatten)]
    transform: TransformArgs,
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
    let output = Output {
        path: &args.output,
        from: &args.input,
        format: to,
        force: args.force,
        quiet: args.quiet,
    };
    let stop = stop_flag()?;
    let Some(mut reader) = open(&args.input, from, &args.columns, &stop)? else {
        return Ok(Exit::Interrupted);
    };
    tell(&args.input, reader.told());
    // A pipe cannot be read twice.
    let again = args.input.metadata().is_ok_and(|m| m.is_file() || m.is_dir());
    let counter = Counter::new(&args.input, reader.layout(), &args.output, to).filter(|_| again);
    if let Some(counter) = counter {
        let Some(mut first) = open(&args.input, from, &args.columns, &stop)? else {
            return Ok(Exit::Interrupted);
        };
        match output.count(&mut *first, counter, &stop)? {
            Some(layout) => reader = Box::new(Counted::new(reader, layout)),
            None => return Ok(Exit::Interrupted),
        }
    }
    let mut reader = args.transform.apply(reader, &args.input);
    match output.write(&mut *reader, &stop)? {
        Written::Whole { rows, bytes } => {
            summary(&args.output, rows, bytes, "");
            Ok(Exit::Done)
        }
        Written::Interrupted => Ok(Exit::Interrupted),
    }
}
