//! `dlrm-bench compare`.

use super::{Exit, Failure, examples};
use crate::{
    report::{export, table as tables},
    results::{
        table::{self, Comparison, Filter, GroupBy, Options, Rows, Sort},
        tree, write_file,
    },
};
use clap::{Args, ValueEnum};
use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Characters a line where there is no terminal.
const PIPE_WIDTH: usize = 80;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench compare results
  dlrm-bench compare results/*/quickstart --sort time --baseline my-epyc
  dlrm-bench compare training_results_v3.1 --filter org=intel
  dlrm-bench compare before after --rows path --baseline before
  dlrm-bench compare results -o table.md

A PATH is a results folder, a run's folder, an MLPerf log, a published MLPerf
tree, or a pattern. A file that cannot be read is named on standard error, the
others are compared, and the exit code is 65.";

/// Set results side by side: ours, anybody's MLPerf logs, whole result trees
///
/// One row a system and workload, with all that was set but the seed. Rows are
/// ranked within one task (same data, model and target); other tasks are set
/// apart, with the reason.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct CompareArgs {
    /// What to compare: folders, logs, patterns
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// The row that ratios refer to, instead of the best: its name, or that of
    /// its system, engine, workload or run
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// What rows are sorted by, best first; ratios are of it if it is a time
    /// or a throughput, else of the end-to-end throughput
    #[arg(long, value_name = "KEY", default_value = "throughput")]
    pub sort: SortKey,
    /// Only runs whose KEY holds TEXT (* and ? make a pattern); KEY!=TEXT for
    /// the others, TEXT for any key. Keys: system, workload, engine,
    /// precision, org, batch, round, ending, path. May be given many times
    #[arg(long, value_name = "KEY=TEXT")]
    pub filter: Vec<Filter>,
    /// A table of its own for each value of KEY
    #[arg(long, value_name = "KEY")]
    pub group_by: Option<GroupKey>,
    /// What makes a row: a system and workload, the same within each PATH, or
    /// a run
    #[arg(long, value_name = "KEY", default_value = "system")]
    pub rows: RowsKey,
    /// Price of an hour of a system, for a column of costs to target; may be
    /// given many times
    #[arg(long, value_name = "SYSTEM=PRICE", value_parser = price)]
    pub cost_per_hour: Vec<(String, f64)>,
    /// How to write it; by the ending of FILE if not given
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--sort`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SortKey {
    /// End-to-end throughput
    Throughput,
    /// Throughput without evaluations
    Steady,
    /// Time to target
    Time,
    /// Epochs to target
    Epochs,
    /// AUC of the last evaluation
    Auc,
    /// The row's name
    Name,
}

/// `--group-by`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum GroupKey {
    /// The system
    System,
    /// The workload
    Workload,
    /// The engine, or framework
    Engine,
    /// Numbers in matrix products
    Precision,
    /// Samples a step
    Batch,
    /// The submitter
    Org,
    /// MLPerf's round
    Round,
}

/// `--rows`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RowsKey {
    /// A system and workload
    System,
    /// The same within each PATH
    Path,
    /// A run
    Run,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for a terminal or a pipe
    Text,
    /// Tables for a pull request
    Markdown,
    /// Everything, single runs too
    Json,
    /// A line a row, numbers in full
    Csv,
    /// benchmark-action/github-action-benchmark, customBiggerIsBetter
    GithubActionBenchmark,
    /// Bencher Metric Format
    Bencher,
    /// A baseline of critcmp; one system
    Critcmp,
    /// Key = value, as Ascend's ModelZoo sums up a training
    Ascend,
}

fn price(text: &str) -> Result<(String, f64), String> {
    let wrong = || "must be SYSTEM=PRICE, as in my-epyc=1.25".to_owned();
    let (system, price) = text.rsplit_once('=').ok_or_else(wrong)?;
    let price: f64 = price.trim().parse().map_err(|_| wrong())?;
    match price.is_finite() && price >= 0.0 && !system.is_empty() {
        true => Ok((system.to_owned(), price)),
        false => Err(wrong()),
    }
}

/// Runs the command.
pub(super) fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    let found = tree::read(&args.paths);
    for problem in &found.problems {
        eprintln!("error: {problem}");
    }
    for (benchmark, logs) in &found.passed_over {
        eprintln!(
            "note: {logs} logs of {benchmark} passed over; only dlrm and deepfm benchmarks are compared"
        );
    }
    if found.runs.is_empty() && !found.problems.is_empty() {
        return Ok(Exit::Unreadable);
    }
    let comparison = table::build(found.runs, &args.options()).map_err(Failure::Usage)?;
    args.print(&comparison)?;
    Ok(if found.problems.is_empty() { Exit::Done } else { Exit::Unreadable })
}

impl CompareArgs {
    fn options(&self) -> Options {
        Options {
            filters: self.filter.clone(),
            rows: match self.rows {
                RowsKey::System => Rows::System,
                RowsKey::Path => Rows::Path,
                RowsKey::Run => Rows::Run,
            },
            group_by: self.group_by.map(|key| match key {
                GroupKey::System => GroupBy::System,
                GroupKey::Workload => GroupBy::Workload,
                GroupKey::Engine => GroupBy::Engine,
                GroupKey::Precision => GroupBy::Precision,
                GroupKey::Batch => GroupBy::Batch,
                GroupKey::Org => GroupBy::Org,
                GroupKey::Round => GroupBy::Round,
            }),
            sort: match self.sort {
                SortKey::Throughput => Sort::Throughput,
                SortKey::Steady => Sort::Steady,
                SortKey::Time => Sort::Time,
                SortKey::Epochs => Sort::Epochs,
                SortKey::Auc => Sort::Auc,
                SortKey::Name => Sort::Name,
            },
            baseline: self.baseline.clone(),
            price_per_hour: self.cost_per_hour.clone(),
        }
    }

    fn print(&self, comparison: &Comparison) -> Result<(), Failure> {
        let format =
            self.format.unwrap_or_else(|| self.output.as_deref().map_or(Format::Text, by_ending));
        let text = match format {
            Format::Text => {
                tables::text(comparison, if self.output.is_some() { PIPE_WIDTH } else { width() })
            }
            Format::Markdown => tables::markdown(comparison),
            Format::Json => {
                serde_json::to_string_pretty(comparison)
                    .map_err(|e| Failure::Internal(format!("no JSON: {e}")))?
                    + "\n"
            }
            Format::Csv => {
                tables::csv(comparison).map_err(|e| Failure::Internal(format!("no CSV: {e}")))?
            }
            Format::GithubActionBenchmark => export::github_action_benchmark(comparison),
            Format::Bencher => export::bencher(comparison),
            Format::Critcmp => export::critcmp(comparison).map_err(Failure::Usage)?,
            Format::Ascend => export::ascend(comparison),
        };
        match &self.output {
            Some(path) => Ok(write_file(path, text.as_bytes())?),
            None => match std::io::stdout().lock().write_all(text.as_bytes()) {
                // `compare | head` is no failure.
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                    Err(Failure::Output(format!("cannot write to standard output: {e}")))
                }
                _ => Ok(()),
            },
        }
    }
}

fn by_ending(path: &Path) -> Format {
    match path.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
        Some("md" | "markdown") => Format::Markdown,
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        _ => Format::Text,
    }
}

/// Characters a line on standard output.
fn width() -> usize {
    let stdout = std::io::stdout();
    let size = if stdout.is_terminal() { terminal_size::terminal_size_of(&stdout) } else { None };
    size.map_or(PIPE_WIDTH, |(w, _)| usize::from(w.0))
}
