//! Finds and reads results, anybody's: our run folders, single MLPerf logs, published result trees.
//!
//! What is understood:
//!
//! | what | read from |
//! |---|---|
//! | a folder with `run.json` | our record, and `workload.toml` beside it |
//! | `.../results/<system>/<benchmark>/result_*.txt` | the log, `systems/<system>.json` and `scaling.json` of MLPerf's result tree |
//! | any other file | an MLPerf log |
//! | any other folder | everything of that kind below it; hidden folders and links to folders are passed over |
//! | a pattern (`results/*/quickstart`) that is no file's name | all that it matches |
//!
//! Everything ends in one type, [`Run`]. A file that cannot be read costs that file: it becomes a
//! [`Problem`](Found::problems) that names it, and reading goes on.

pub(in crate::results) mod find;
mod log;
pub(in crate::results) mod own;
pub(crate) use own::metrics;
mod run;
mod submission;
#[cfg(test)]
mod tests;

pub use run::{Ending, Evaluation, Rates, Run, System, Task, entries};

use super::ResultsError;
use find::Source;
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};
use submission::Systems;

/// Benchmarks of recommenders begin with one of these; other benchmarks of a result tree are passed
/// over.
const FAMILIES: [&str; 2] = ["dlrm", "deepfm"];

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Runs, in order of arguments, then of paths.
    pub runs: Vec<Run>,
    /// What could not be read; one sentence each, which names the file.
    pub problems: Vec<ResultsError>,
    /// Logs of other benchmarks that were passed over, by benchmark.
    pub passed_over: BTreeMap<String, usize>,
    /// Paths, of several or of a pattern, that are no results and were passed over.
    pub no_results: usize,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.problems.is_empty() && self.passed_over.is_empty()
    }

    /// What was passed over, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.no_results > 0 {
            let (paths, are) = match self.no_results {
                1 => ("path", "is no result"),
                _ => ("paths", "are no results"),
            };
            notes.push(format!(
                "{} {paths} passed over, which {are} (neither folders with run.json nor MLPerf logs)",
                self.no_results
            ));
        }
        for (benchmark, logs) in &self.passed_over {
            let logs = match logs {
                1 => "1 log".to_owned(),
                n => format!("{n} logs"),
            };
            notes.push(format!(
                "{logs} of {benchmark} passed over; only dlrm and deepfm benchmarks are read"
            ));
        }
        notes
    }
}

/// The bytes of a log.
///
/// # Errors
/// If it cannot be read, or is no regular file.
pub fn read_log(path: &Path) -> Result<Vec<u8>, ResultsError> {
    find::read_file(path)
}

/// The round in whose tree (`training_results_v3.1` or `v3.1`) a log lies: `3.1`.
pub fn round(log: &Path) -> Option<String> {
    let log = log.canonicalize().unwrap_or_else(|_| log.into());
    submission::round_of(&log).map(|round| round.trim_start_matches('v').to_owned())
}

/// The MLPerf logs that `paths` (files, folders, patterns) lead to, those of our runs too, and how
/// many of several paths lead to none.
///
/// # Errors
/// If one of them cannot be read, or they lead to no log.
pub fn logs<S: AsRef<str>>(paths: &[S]) -> Result<(Vec<PathBuf>, usize), ResultsError> {
    let (mut logs, mut no_results) = (Vec::new(), 0);
    for path in paths {
        let sources = find::sources(path.as_ref(), paths.len() == 1, find::Take::Logs)?;
        if let Some(problem) = sources.problems.into_iter().next() {
            return Err(problem);
        }
        no_results += sources.no_results;
        let path = |source| match source {
            Source::Run(path) | Source::Log(path) => path,
        };
        logs.extend(sources.found.into_iter().map(path));
    }
    match paths.first() {
        Some(first) if logs.is_empty() => {
            let more = if paths.len() > 1 { ", nor do the other paths" } else { "" };
            let what = format!("leads to no result_*.txt{more}");
            Err(ResultsError::malformed(Path::new(first.as_ref()), what))
        }
        _ => Ok((logs, no_results)),
    }
}

/// Reads all results that `paths` (files, folders, patterns) lead to. Each is read once, however
/// many paths lead to it.
pub fn read<S: AsRef<str>>(paths: &[S]) -> Found {
    let mut found = Found::default();
    let (mut systems, mut seen) = (Systems::default(), HashSet::new());
    for path in paths {
        let sources = match find::sources(path.as_ref(), paths.len() == 1, find::Take::Runs) {
            Ok(sources) => {
                found.problems.extend(sources.problems);
                found.no_results += sources.no_results;
                sources.found
            }
            Err(problem) => {
                found.problems.push(problem);
                continue;
            }
        };
        for source in sources {
            if !seen.insert(source.identity()) {
                continue;
            }
            let read = match &source {
                Source::Run(folder) => own::read(folder),
                Source::Log(file) => log::read(file, &mut systems),
            };
            match read {
                Ok(run) if FAMILIES.iter().any(|f| run.task.benchmark.starts_with(f)) => {
                    found.runs.push(Run { argument: path.as_ref().to_owned(), ..run });
                }
                Ok(run) => *found.passed_over.entry(run.task.benchmark).or_default() += 1,
                Err(problem) => found.problems.push(not_begun(&source).unwrap_or(problem)),
            }
        }
    }
    if let (Some(path), true) = (paths.first(), found.is_empty()) {
        let what =
            "no results, nor are the other paths: neither folders with run.json nor MLPerf logs";
        found.problems.push(ResultsError::malformed(Path::new(path.as_ref()), what));
        found.no_results = 0;
    }
    found.problems.extend(systems.problems());
    found
}

/// What is to be said of a run of ours that has not come to train: its folder holds the workload,
/// but no record, and a log without a run.
fn not_begun(source: &Source) -> Option<ResultsError> {
    let Source::Log(log) = source else { return None };
    let folder = log.parent()?;
    let bytes = find::read_file(log).ok()?;
    let begun =
        crate::mllog::parse::lines(&bytes).any(|l| l.event.is_ok_and(|e| e.key == "run_start"));
    (!begun && folder.join("workload.toml").is_file()).then(|| {
        ResultsError::malformed(
            folder,
            "training has not begun: the run is only starting, or was stopped while it opened its data",
        )
    })
}
