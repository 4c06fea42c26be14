//! Finds and reads results, anybody's: our run folders, single MLPerf logs, published result trees.
//!
//! What is understood:
//!
//! | what | read from |
//! |---|---|
//! | a folder with `run.json` | our record, and `workload.toml` beside it |
//! | `.../results/<system>/<benchmark>/result_<n>.txt` | the log, `systems/<system>.json` and `scaling.json` of MLPerf's result tree |
//! | any other file | an MLPerf log |
//! | any other folder | everything of that kind below it; hidden folders and links to folders are passed over |
//! | a pattern (`results/*/quickstart`) that is no file's name | all that it matches |
//!
//! Everything ends in one type, [`Run`]. A file that cannot be read costs that file: it becomes a
//! [`Problem`](Found::problems) that names it, and reading goes on.

mod find;
mod log;
pub(in crate::results) mod own;
mod run;
mod submission;
#[cfg(test)]
mod tests;

pub use run::{Ending, Evaluation, Rates, Run, System, Task, entries};

use super::ResultsError;
use find::Source;
use std::collections::{BTreeMap, HashSet};
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
}

/// Reads all results that `paths` (files, folders, patterns) lead to. Each is read once, however
/// many paths lead to it.
pub fn read<S: AsRef<str>>(paths: &[S]) -> Found {
    let mut found = Found::default();
    let (mut systems, mut seen) = (Systems::default(), HashSet::new());
    for path in paths {
        let sources = match find::sources(path.as_ref()) {
            Ok((sources, problems)) => {
                found.problems.extend(problems);
                sources
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
                Err(problem) => found.problems.push(problem),
            }
        }
    }
    found.problems.extend(systems.problems());
    found
}
