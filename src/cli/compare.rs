//! `dlrm-bench compare`.

use super::{Exit, Failure, examples, say::say_found, table_args::TableArgs};
use crate::{
    report::{export, table as tables},
    results::{
        table::{self, Comparison, Options, Rows},
        tree, write_file,
    },
};
use clap::{Args, ValueEnum};
use std::{
    io::IsTerminal,
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
  dlrm-bench compare results --columns train.batch_size,engine.threads,steady

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
    /// What rows are sorted, filtered and grouped by, and what is shown
    #[command(flatten)]
    pub table: TableArgs,
    /// What makes a row: a system and workload, the same within each PATH, or
    /// a run
    #[arg(long, value_name = "KEY", default_value = "system")]
    pub rows: Rows,
    /// How to write it; by the ending of FILE if not given
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

values! {
    Rows {
        System = "system": "A system and workload",
        Path = "path": "The same within each PATH",
        Run = "run": "A run",
    }
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
    /// The same as a workbook of Excel's; to a file
    Xlsx,
    /// benchmark-action/github-action-benchmark, customBiggerIsBetter
    GithubActionBenchmark,
    /// Bencher Metric Format
    Bencher,
    /// A baseline of critcmp; one system
    Critcmp,
    /// Key = value, as Ascend's ModelZoo sums up a training
    Ascend,
    /// The table of DeepRec's benchmark, with its rule for throughput
    Deeprec,
}

/// Runs the command.
pub(super) fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    let format = args.format()?;
    let found = tree::read(&args.paths);
    say_found(&found);
    if found.runs.is_empty() && !found.problems.is_empty() {
        return Ok(Exit::Unreadable);
    }
    let options = Options { rows: args.rows, ..args.table.options()? };
    let comparison = table::build(found.runs, &options).map_err(Failure::Usage)?;
    args.table.check_prices(&comparison)?;
    args.print(&comparison, format)?;
    Ok(if found.problems.is_empty() { Exit::Done } else { Exit::Unreadable })
}

impl CompareArgs {
    /// How to write it, as was said or as the file's ending says.
    fn format(&self) -> Result<Format, Failure> {
        match (self.format, &self.output) {
            (Some(format), _) => Ok(format),
            (None, Some(file)) => by_ending(file),
            (None, None) => Ok(Format::Text),
        }
    }

    fn print(&self, comparison: &Comparison, format: Format) -> Result<(), Failure> {
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
            Format::Xlsx => return self.workbook(comparison),
            Format::Csv => {
                tables::csv(comparison).map_err(|e| Failure::Internal(format!("no CSV: {e}")))?
            }
            Format::GithubActionBenchmark => export::github_action_benchmark(comparison),
            Format::Bencher => export::bencher(comparison),
            Format::Critcmp => export::critcmp(comparison).map_err(Failure::Usage)?,
            Format::Ascend => export::ascend(comparison),
            Format::Deeprec => export::deeprec(comparison),
        };
        match &self.output {
            Some(path) => Ok(write_file(path, text.as_bytes())?),
            None => {
                out!("{text}");
                Ok(())
            }
        }
    }
}

impl CompareArgs {
    fn workbook(&self, comparison: &Comparison) -> Result<(), Failure> {
        let Some(path) = &self.output else {
            return Err(Failure::Usage("--format xlsx is for files: -o FILE.xlsx".into()));
        };
        let bytes = tables::xlsx(comparison)
            .map_err(|e| Failure::Output(format!("cannot write {}: {e}", path.display())))?;
        Ok(write_file(path, &bytes)?)
    }
}

/// # Errors
/// For an ending that stands for something else.
fn by_ending(path: &Path) -> Result<Format, Failure> {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let instead = match ending.as_deref() {
        Some("md" | "markdown") => return Ok(Format::Markdown),
        Some("json") => return Ok(Format::Json),
        Some("csv") => return Ok(Format::Csv),
        Some("xlsx") => return Ok(Format::Xlsx),
        None | Some("txt" | "text" | "log" | "out") => return Ok(Format::Text),
        Some("html" | "htm") => "dlrm-bench report writes HTML; ",
        Some(_) => "",
    };
    Err(Failure::Usage(format!(
        "-o {}: {instead}the ending must be .txt, .md, .json, .csv or .xlsx, or --format must be given",
        path.display()
    )))
}

/// Characters a line on standard output.
pub(super) fn width() -> usize {
    let stdout = std::io::stdout();
    let size = if stdout.is_terminal() { terminal_size::terminal_size_of(&stdout) } else { None };
    size.map_or(PIPE_WIDTH, |(w, _)| usize::from(w.0))
}
