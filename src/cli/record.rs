//! `dlrm-bench record`.

use super::{Exit, Failure, examples, say::say_found, terminal};
use crate::results::{reference::ReferenceRecord, tree};
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench run my.toml --runs 10 --seed 101
  dlrm-bench record results/*/my -o reference_logs/my.json
  dlrm-bench run my.toml --runs 5 --reference reference_logs/my.json";

/// Make a convergence record of runs, for later runs to be held against
///
/// The runs are of one workload with different seeds, at least 3 at each batch
/// size (10 are better), and all reached the target. What cannot be read is
/// named and left out, and the exit code is 65.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct RecordArgs {
    /// Run folders, or folders and patterns that lead to some
    #[arg(value_name = "RESULTS", required = true)]
    pub results: Vec<String>,
    /// The record to write (JSON)
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &RecordArgs) -> Result<Exit, Failure> {
    let found = tree::read(&args.results);
    say_found(&found);
    if found.runs.is_empty() && !found.problems.is_empty() {
        return Ok(Exit::Unreadable);
    }
    let record = ReferenceRecord::from_runs(&found.runs).map_err(Failure::Input)?;
    record.write(&args.output)?;
    for point in &record.points {
        let epochs: Vec<f64> = point.runs.iter().map(|r| r.epochs).collect();
        let mean = crate::stats::olympic_mean(&epochs).unwrap_or_default();
        let (batch, runs) = (point.batch_size, epochs.len());
        terminal::tell_of(
            &args.output,
            &format!("batch {batch}: {runs} runs, {mean:.3} epochs to the target"),
        );
    }
    Ok(if found.problems.is_empty() { Exit::Done } else { Exit::Unreadable })
}
