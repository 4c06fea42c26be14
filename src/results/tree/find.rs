//! From what a person types to the files that hold results.

use crate::{host::names::natural, mllog::parse, results::ResultsError};
use std::{
    fs,
    io::Read,
    os::unix::fs::FileTypeExt,
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

/// What an argument leads to.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub found: Vec<Source>,
    /// What cannot be read on the way.
    pub problems: Vec<ResultsError>,
    /// Files and folders beside results that are none themselves.
    pub no_results: usize,
}

/// Which files are taken where a folder holds a run of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// The run's record.
    Runs,
    /// Its log.
    Logs,
}

/// All runs that `argument` leads to. What is no result is an error if it stands `alone`; one of
/// several paths, as shells make them of a pattern, is passed over and counted.
///
/// # Errors
/// If it names nothing, is a pattern that matches nothing, or leads to no results.
pub(super) fn sources(argument: &str, alone: bool, take: Take) -> Result<Sources, ResultsError> {
    let path = Path::new(argument);
    let is_pattern = argument.contains(['*', '?', '[']);
    let mut sources = Sources::default();
    if path.symlink_metadata().is_ok() || !is_pattern {
        match alone {
            true => named(path, take, &mut sources)?,
            false => among_others(path, take, &mut sources)?,
        }
        return Ok(sources);
    }
    let wrong = |what: String| ResultsError::malformed(path, what);
    // As shells do it.
    let options =
        glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let matches = glob::glob_with(argument, options)
        .map_err(|e| wrong(format!("not a pattern: {} at character {}", e.msg, e.pos + 1)))?;
    let mut any = false;
    for found in matches {
        any = true;
        match found {
            Ok(path) => {
                if let Err(problem) = among_others(&path, take, &mut sources) {
                    sources.problems.push(problem);
                }
            }
            Err(e) => sources
                .problems
                .push(ResultsError::Read { path: e.path().into(), source: e.into() }),
        }
    }
    if !any {
        return Err(wrong("nothing matches this pattern".into()));
    }
    if sources.found.is_empty() && sources.problems.is_empty() {
        return Err(wrong(
            "matches no results: neither folders with run.json nor MLPerf logs".into(),
        ));
    }
    Ok(sources)
}

/// A path that was typed as the only one.
fn named(path: &Path, take: Take, sources: &mut Sources) -> Result<(), ResultsError> {
    let kind = fs::metadata(path).map_err(ResultsError::read(path))?;
    if !kind.is_dir() {
        let source = file(path, take).ok_or_else(|| {
            ResultsError::malformed(
                path,
                "no results: must be run.json, an MLPerf log, or a folder that holds some",
            )
        })?;
        sources.found.push(source);
        return Ok(());
    }
    walk(path, take, sources);
    if sources.found.is_empty() && sources.problems.is_empty() {
        return Err(ResultsError::malformed(
            path,
            match take {
                Take::Runs => "no results in this folder: neither run.json nor result_*.txt",
                Take::Logs => "no result_*.txt in this folder",
            },
        ));
    }
    Ok(())
}

/// One of several paths.
fn among_others(path: &Path, take: Take, sources: &mut Sources) -> Result<(), ResultsError> {
    let kind = fs::metadata(path).map_err(ResultsError::read(path))?;
    let before = (sources.found.len(), sources.problems.len());
    if kind.is_dir() {
        walk(path, take, sources);
    } else if let Some(source) = file(path, take) {
        // What is called a log must be one; anything else tells what it is.
        let is_one = match (&source, take) {
            (Source::Log(log), Take::Runs) => is_log(&name(log)) || holds_a_log(log)?,
            _ => true,
        };
        sources.found.extend(is_one.then_some(source));
    }
    let nothing = before == (sources.found.len(), sources.problems.len());
    sources.no_results += usize::from(nothing);
    Ok(())
}

/// Whether there is a line of MLPerf's in the first 16 MiB of a file.
fn holds_a_log(path: &Path) -> Result<bool, ResultsError> {
    let read = ResultsError::read(path);
    regular(path)?;
    let mut start = Vec::new();
    match fs::File::open(path).and_then(|f| f.take(16 << 20).read_to_end(&mut start)) {
        Ok(_) => Ok(parse::lines(&start).next().is_some()),
        Err(e) => Err(read(e)),
    }
}

/// Reads a file, which must be one: opening a pipe would wait for whoever writes to it.
pub(in crate::results) fn read_file(path: &Path) -> Result<Vec<u8>, ResultsError> {
    regular(path)?;
    fs::read(path).map_err(ResultsError::read(path))
}

/// Refuses what is no regular file but for pipes that a shell has opened (`/dev/fd/63`).
pub(in crate::results) fn regular(path: &Path) -> Result<(), ResultsError> {
    let kind = fs::metadata(path).map_err(ResultsError::read(path))?.file_type();
    let opened = ["/dev/fd", "/dev/stdin", "/proc"].iter().any(|p| path.starts_with(p));
    if kind.is_file() || opened {
        return Ok(());
    }
    let what = match kind {
        k if k.is_dir() => "a folder",
        k if k.is_fifo() => "a named pipe",
        k if k.is_socket() => "a socket",
        _ => "a device",
    };
    Err(ResultsError::malformed(path, format!("{what}; must be a regular file")))
}

/// A single file that was named: a log, or part of a run folder of ours.
fn file(path: &Path, take: Take) -> Option<Source> {
    let name = name(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let of_ours = || name == "run.json" || (is_log(&name) && folder.join("run.json").is_file());
    if take == Take::Runs && of_ours() {
        return Some(Source::Run(folder.into()));
    }
    // What stands beside results and is none itself; anything else may be a log, whatever its name.
    const NO_LOGS: [&str; 12] = [
        "json", "parquet", "toml", "svg", "png", "csv", "md", "html", "py", "yaml", "markdown",
        "jsonl",
    ];
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    (!ending.is_some_and(|e| NO_LOGS.contains(&e.as_str()))).then(|| Source::Log(path.into()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `result_0.txt`, `result_5755-2405170339_01.txt`: as MLPerf's tools find them.
fn is_log(name: &str) -> bool {
    name.starts_with("result_") && name.ends_with(".txt")
}

/// Adds what lies below `folder`, logs of one folder in order of their numbers. Hidden folders and
/// links to folders are passed over.
fn walk(folder: &Path, take: Take, sources: &mut Sources) {
    if take == Take::Runs && folder.join("run.json").is_file() {
        sources.found.push(Source::Run(folder.into()));
        return;
    }
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(source) => {
            sources.problems.push(ResultsError::Read { path: folder.into(), source });
            return;
        }
    };
    entries.sort_by_cached_key(|e| natural(&e.file_name().to_string_lossy()));
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if !path.is_symlink() {
                walk(&path, take, sources);
            }
        } else if is_log(&name) {
            sources.found.push(Source::Log(path));
        }
    }
}
