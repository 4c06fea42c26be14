//! `dlrm-bench report`.

use super::{Exit, Failure, examples, say::say_found, table_args::TableArgs, terminal};
use crate::{
    host::escape::visible,
    report::html,
    results::{self, table, tree},
};
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench report results
  dlrm-bench report results ../published -o report.html --title 'Two machines'
  dlrm-bench report results --sort steady --filter train.batch_size=2048";

/// Show runs on one HTML page
///
/// Writes a page that needs nothing but itself: compare's tables, curves of
/// loss and AUC, where the time of a step went, machines and workloads. It can
/// be sent, printed, and read on a phone. What cannot be read is named on
/// standard error and on the page, and the exit code is 65.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct ReportArgs {
    /// Run folders, MLPerf logs and result trees, or folders and patterns that
    /// lead to some
    #[arg(required = true)]
    pub results: Vec<String>,
    /// Where to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub output: PathBuf,
    /// The page's heading
    #[arg(long, default_value = "Training of recommenders")]
    pub title: String,
    /// What tables show
    #[command(flatten)]
    pub table: TableArgs,
}

/// Runs the command.
pub(super) fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    if let Some(ending) = args.output.extension()
        && !["html", "htm", "xhtml"].iter().any(|e| ending.eq_ignore_ascii_case(e))
    {
        return Err(Failure::Usage(format!(
            "-o {}: the page is HTML; the ending must be .html",
            args.output.display()
        )));
    }
    let found = tree::read(&args.results);
    let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    say_found(&found);
    if found.runs.is_empty() && !problems.is_empty() {
        return Ok(Exit::Unreadable);
    }
    let comparison = table::build(found.runs, &args.table.options()?).map_err(Failure::Usage)?;
    args.table.check_prices(&comparison)?;
    let page = html::page(&comparison, &args.title, &problems)
        .map_err(|e| Failure::Internal(format!("cannot make the page: {e}")))?;
    results::write_file(&args.output, page.as_bytes())?;
    terminal::tell_of(
        &args.output,
        &format!("written to {}", visible(&args.output.display().to_string())),
    );
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Unreadable })
}
