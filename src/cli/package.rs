//! `dlrm-bench package`.

use super::{Exit, Failure, examples, say::say_error};
use crate::{
    host::escape::visible,
    mllog::check,
    results::{
        package::{self, Entry, FIELDS, Options},
        table::Filter,
    },
};
use clap::{Args, builder::PossibleValuesParser};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench package results/amd-epyc-2c/quickstart --org X -o submission
  dlrm-bench package results --only my-epyc/quickstart --org X -o submission
  dlrm-bench package results --filter engine.threads=2 --org X -o submission
  dlrm-bench package results --org X -o submission \\
    --set host_processors_per_node=2 --set cooling=Air
  python -m mlperf_logging.package_checker submission/X training 2.1.0";

/// Put runs together as an MLPerf submission
///
/// Writes DIR/ORG/ with logs, system descriptions and how to run it again, as
/// MLPerf's package_checker and repo_checker want it. Runs of one benchmark on
/// one system belong together: 5 of dlrm and deepfm, 10 of dlrm_dcnv2, of one
/// workload, with different seeds. Logs are copied as they are, and checked.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct PackageArgs {
    /// Run folders of ours, or folders and patterns that lead to some
    #[arg(required = true)]
    pub results: Vec<String>,
    /// The submitting organisation; also the name of the folder
    #[arg(long, value_name = "ORG")]
    pub org: String,
    /// Where to write
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// The rules to judge the logs by [default: those that they state, else the
    /// newest that have the benchmark]
    #[arg(long, value_parser = PossibleValuesParser::new(check::rulesets()))]
    pub ruleset: Option<String>,
    /// Reference convergence points to test the runs by, a file like MLPerf's
    /// rcps_dlrm_dcnv2.json; runs that converge too fast are refused
    #[arg(long, value_name = "FILE")]
    pub rcp: Option<PathBuf>,
    /// Only the runs of this group, SYSTEM/WORKLOAD or a part of it; may be
    /// given many times. Where runs of several groups do not go together they
    /// are listed
    #[arg(long, value_name = "GROUP")]
    pub only: Vec<String>,
    /// Only runs whose KEY holds TEXT, as `compare --filter`: any key of the
    /// workload, or system, workload, engine, precision, batch, program,
    /// ending, grade, path; may be given many times
    #[arg(long, value_name = "KEY=TEXT")]
    pub filter: Vec<Filter>,
    /// Package fewer runs than the rules ask for
    #[arg(long)]
    pub allow_incomplete: bool,
    /// A field of the system descriptions that the program cannot know or
    /// has wrong, as in --set cooling=Air; may be given many times
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = field)]
    pub set: Vec<(String, String)>,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be FIELD=VALUE")?;
    // Two fields say what the logs must say too.
    let known = FIELDS.iter().filter(|f| !["submitter", "division"].contains(f));
    if !known.clone().any(|f| *f == name) {
        let known: Vec<_> = known.copied().collect();
        return Err(format!("no field is called {name:?}; must be one of {}", known.join(", ")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(super) fn run(args: &PackageArgs) -> Result<Exit, Failure> {
    let options = Options {
        org: args.org.clone(),
        ruleset: args.ruleset.clone(),
        reference_points: args.rcp.clone(),
        allow_incomplete: args.allow_incomplete,
        only: args.only.clone(),
        filters: args.filter.clone(),
        fields: args.set.iter().cloned().collect(),
    };
    // One line a reason: a submitter wants to know all that is missing.
    let package = package::plan(&args.results, &options).map_err(|mut problems| {
        let last = problems.pop().unwrap_or_default();
        problems.iter().for_each(say_error);
        Failure::Input(last)
    })?;
    let folder = package.write(&args.output)?;
    package.left_out.iter().for_each(say_error);
    for line in package.entries.iter().flat_map(entry_lines) {
        outln!("{}", visible(&line));
    }
    for (system, empty) in package.empty_fields() {
        outln!("{system}: left empty, as nobody knows: {} (--set FIELD=VALUE)", empty.join(", "));
    }
    outln!("written to {}", visible(&folder.display().to_string()));
    Ok(if package.left_out.is_empty() { Exit::Done } else { Exit::Unreadable })
}

fn entry_lines(entry: &Entry) -> Vec<String> {
    let name = format!("{}/{}", entry.system, entry.benchmark.name);
    let runs = match entry.runs.len() {
        1 => "1 run".to_owned(),
        n => format!("{n} runs"),
    };
    let score = match entry.score {
        Some(seconds) => {
            format!("score {:.3} min (mean without fastest and slowest)", seconds / 60.0)
        }
        None => "no score, as fewer than all but one reached a target".into(),
    };
    let mut lines = vec![format!(
        "{name}: {runs}, {} division, ruleset {}; {score}",
        entry.division.name(),
        entry.ruleset
    )];
    lines.extend(entry.notes.iter().map(|note| format!("{name}: note: {note}")));
    lines
}
