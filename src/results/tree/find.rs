//! From what a person types to the files that hold results.

use crate::results::ResultsError;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A place that holds one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A folder with `run.json`.
    Run(PathBuf),
    /// An MLPerf log.
    Log(PathBuf),
}

impl Source {
    /// The same for all paths that lead to the same place.
    pub fn identity(&self) -> PathBuf {
        let (Source::Run(path) | Source::Log(path)) = self;
        path.canonicalize().unwrap_or_else(|_| path.clone())
    }
}

type Sources = (Vec<Source>, Vec<ResultsError>);

/// All runs that `argument` leads to, and folders on the way that cannot be read.
///
/// # Errors
/// If it names nothing, is a pattern that matches nothing, or leads to no results.
pub(super) fn sources(argument: &str) -> Result<Sources, ResultsError> {
    let path = Path::new(argument);
    let is_pattern = argument.contains(['*', '?', '[']);
    if path.exists() || !is_pattern {
        return below(path);
    }
    let wrong = |what: String| ResultsError::malformed(path, what);
    // As shells do it.
    let options =
        glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let matches = glob::glob_with(argument, options)
        .map_err(|e| wrong(format!("not a pattern: {} at character {}", e.msg, e.pos + 1)))?;
    let (mut sources, mut problems, mut any) = (Vec::new(), Vec::new(), false);
    for found in matches {
        any = true;
        // A pattern may match files that are no results beside those that are; only a folder
        // without any is worth a word.
        match found {
            Ok(path) if path.is_dir() => match below(&path) {
                Ok((more, wrong)) => {
                    sources.extend(more);
                    problems.extend(wrong);
                }
                Err(problem) => problems.push(problem),
            },
            Ok(path) => sources.extend(file(&path)),
            Err(e) => problems.push(ResultsError::Read { path: e.path().into(), source: e.into() }),
        }
    }
    if !any {
        return Err(wrong("nothing matches this pattern".into()));
    }
    if sources.is_empty() && problems.is_empty() {
        return Err(wrong(
            "matches no results: neither folders with run.json nor MLPerf logs".into(),
        ));
    }
    Ok((sources, problems))
}

fn below(path: &Path) -> Result<Sources, ResultsError> {
    let kind = fs::metadata(path).map_err(ResultsError::read(path))?;
    if !kind.is_dir() {
        let source = file(path).ok_or_else(|| {
            ResultsError::malformed(
                path,
                "no results: must be run.json, an MLPerf log, or a folder that holds some",
            )
        })?;
        return Ok((vec![source], Vec::new()));
    }
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    walk(path, &mut sources, &mut problems);
    if sources.is_empty() && problems.is_empty() {
        return Err(ResultsError::malformed(
            path,
            "no results in this folder: neither run.json nor result_<n>.txt",
        ));
    }
    Ok((sources, problems))
}

/// A single file that was named: a log, or part of a run folder of ours.
fn file(path: &Path) -> Option<Source> {
    let name = path.file_name()?.to_string_lossy();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if name == "run.json" || (is_log(&name) && folder.join("run.json").is_file()) {
        return Some(Source::Run(folder.into()));
    }
    // What stands beside results and is none itself; anything else may be a log, whatever its name.
    const NO_LOGS: [&str; 10] =
        ["json", "parquet", "toml", "svg", "png", "csv", "md", "html", "py", "yaml"];
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    (!ending.is_some_and(|e| NO_LOGS.contains(&e.as_str()))).then(|| Source::Log(path.into()))
}

/// `result_<n>.txt`
fn is_log(name: &str) -> bool {
    number(name).is_some()
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("result_")?.strip_suffix(".txt")?.parse().ok()
}

fn walk(folder: &Path, sources: &mut Vec<Source>, problems: &mut Vec<ResultsError>) {
    if folder.join("run.json").is_file() {
        sources.push(Source::Run(folder.into()));
        return;
    }
    let mut entries = match fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
    {
        Ok(entries) => entries,
        Err(source) => return problems.push(ResultsError::Read { path: folder.into(), source }),
    };
    // result_10 after result_9
    entries.sort_by_cached_key(|e| (number(&e.file_name().to_string_lossy()), e.file_name()));
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if !path.is_symlink() {
                walk(&path, sources, problems);
            }
        } else if is_log(&name) {
            sources.push(Source::Log(path));
        }
    }
}
