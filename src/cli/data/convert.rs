//! `dlrm-bench data convert`.

use super::{
    super::{Exit, Failure, examples, run::stop_flag},
    ColumnArgs, TextArgs, TransformArgs, format, formats, input, open_text,
    output::{Output, Written, summary},
    tell,
};
use crate::data::{
    format::{
        Format, Reader,
        hotness::{Counted, Counter},
        texts::Texts,
    },
    texts::{Gathered, Hashed},
};
use clap::Args;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

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
/// twice, and so it is where it holds text, whose values are numbered from 1 in
/// their order unless --hash is given.
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
    text: TextArgs,
    /// Hash categories of text to ids below N instead of numbering them, so that
    /// all files of a data set have the same
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    hash: Option<u32>,
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
    let Some(reader) = reader(args, from, to, &output, &stop)? else {
        return Ok(Exit::Interrupted);
    };
    let mut reader = args.transform.apply(reader, &args.input);
    match output.write(&mut *reader, &stop)? {
        Written::Whole { rows, bytes } => {
            summary(&args.output, rows, bytes, "");
            Ok(Exit::Done)
        }
        Written::Interrupted => Ok(Exit::Interrupted),
    }
}

/// The reader of the input, which is read once before where only that tells how many ids its rows
/// hold, or which texts there are; `None` if `stop` was set.
fn reader(
    args: &ConvertArgs,
    from: Format,
    to: Format,
    output: &Output<'_>,
    stop: &AtomicBool,
) -> Result<Option<Box<dyn Reader>>, Failure> {
    let open = |texts: Arc<dyn Texts>| {
        open_text(&args.input, from, (&args.columns, &args.text), texts, stop)
    };
    let gathered = Arc::new(Gathered::default());
    let opened = match args.hash {
        Some(buckets) => open(Arc::new(Hashed::new(buckets as usize)))?,
        None => open(gathered.clone())?,
    };
    let Some(first) = opened else { return Ok(None) };
    tell(&args.input, first.told());
    let text = first.texts();
    if text.is_empty() && args.hash.is_some() {
        return Err(Failure::Usage(format!(
            "--hash: {} has no categorical column of text; leave it out",
            args.input.display()
        )));
    }
    let numbered = !text.is_empty() && args.hash.is_none();
    // A pipe cannot be read twice.
    let again = args.input.metadata().is_ok_and(|m| m.is_file() || m.is_dir());
    if numbered && !again {
        return Err(Failure::Usage(format!(
            "{}: holds text, and is no file that can be read twice to number it; name --hash N",
            args.input.display()
        )));
    }
    let counter = Counter::new(&args.input, first.layout(), &args.output, to).filter(|_| again);
    if counter.is_none() && !numbered {
        return Ok(Some(first));
    }
    let names: Vec<String> = text.iter().map(|&k| first.layout().ids[k].name.clone()).collect();
    let Some(layout) = output.count(first, counter, stop)? else { return Ok(None) };
    let texts: Arc<dyn Texts> = match args.hash {
        Some(buckets) => Arc::new(Hashed::new(buckets as usize)),
        None => Arc::new(gathered.numbered()),
    };
    if numbered {
        let names = names.join(", ");
        tell(
            &args.input,
            &[format!(
                "text of {names} is numbered by the values of this file alone; --hash N gives all files of a data set the same ids"
            )],
        );
    }
    let reader = open(texts)?;
    Ok(reader.map(|reader| -> Box<dyn Reader> { Box::new(Counted::new(reader, layout)) }))
}
