//! `dlrm-bench history`.

use super::{
    Exit, Failure, examples,
    say::{say_found, say_note},
};
use crate::{
    report::history as shown,
    results::{
        history::{self, Metric},
        table::Filter,
        tree, write_file,
    },
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench history results
  dlrm-bench history results --filter workload=quickstart --plots history
  dlrm-bench history results --of floor -o history.md

A line a commit, a table for runs that differ in nothing but program, seed and
time. Where the level changes from one run to the next, the change stands in
the line of the first commit that has it.";

/// Show what runs came to from commit to commit, and where that changed
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct HistoryArgs {
    /// Whose history: folders, patterns
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// What is followed
    #[arg(long, value_name = "METRIC", default_value = "throughput")]
    pub of: Metric,
    /// Only runs that pass, as in `compare`
    #[arg(long, value_name = "KEY=TEXT")]
    pub filter: Vec<Filter>,
    /// Chance that a table without a change shows one
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = alpha)]
    pub alpha: f64,
    /// How to write it; by the ending of FILE if not given
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write to FILE instead of standard output: .txt, .md or .json
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Draw a picture of each table into this folder (SVG and PNG)
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

values! {
    Metric {
        Throughput = "throughput": "Training samples a second, evaluations excluded",
        Floor = "floor": "Share of the floor, the time that the machine's ceilings allow",
        Time = "time": "Seconds to the target",
        Auc = "auc": "AUC of the last evaluation",
    }
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal or a pipe
    Text,
    /// For a pull request
    Markdown,
    /// Everything, single runs too
    Json,
}

fn alpha(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|a| *a > 0.0 && *a < 0.5);
    value.ok_or_else(|| "must be above 0 and below 0.5, as 0.01".to_owned())
}

/// Runs the command.
pub(super) fn run(args: &HistoryArgs) -> Result<Exit, Failure> {
    let format = args.format()?;
    let mut found = tree::read(&args.paths);
    say_found(&found);
    if found.runs.is_empty() && !found.problems.is_empty() {
        return Ok(Exit::Unreadable);
    }
    found.runs.retain(|run| args.filter.iter().all(|filter| filter.keeps(run)));
    let history = history::history(found.runs, args.of, args.alpha)
        .map_err(|e| Failure::Input(e.to_string()))?;
    if history.passed_over > 0 {
        say_note(format!(
            "{} runs passed over, which have no time or nothing to follow",
            history.passed_over
        ));
    }
    if history.series.is_empty() {
        return Err(Failure::Usage("no runs whose history could be shown".to_owned()));
    }
    let text = match format {
        Format::Text => shown::text(&history),
        Format::Markdown => shown::to_markdown(&history),
        Format::Json => {
            serde_json::to_string_pretty(&history).map_err(|e| Failure::Internal(e.to_string()))?
                + "\n"
        }
    };
    match &args.output {
        Some(path) => write_file(path, text.as_bytes())?,
        None => out!("{text}"),
    }
    if let Some(folder) = &args.plots {
        shown::draw(&history, folder)?;
    }
    Ok(if found.problems.is_empty() { Exit::Done } else { Exit::Unreadable })
}

impl HistoryArgs {
    fn format(&self) -> Result<Format, Failure> {
        let (None, Some(file)) = (self.format, &self.output) else {
            return Ok(self.format.unwrap_or(Format::Text));
        };
        let ending = file.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("md" | "markdown") => Ok(Format::Markdown),
            Some("json") => Ok(Format::Json),
            Some("txt" | "text") => Ok(Format::Text),
            _ => Err(Failure::Usage(format!(
                "-o {}: the ending must be .txt, .md or .json, or --format must be given",
                file.display()
            ))),
        }
    }
}
