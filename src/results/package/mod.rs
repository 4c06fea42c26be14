//! Runs of ours as an MLPerf submission: one folder for an organisation, as MLPerf's package
//! checker wants it.
//!
//! ```text
//! ORG/systems/<system>.json
//! ORG/results/<system>/<benchmark>/result_0.txt ...
//! ORG/benchmarks/<benchmark>/implementations/dlrm-bench/
//! ```
//!
//! Logs are copied as they are. What the rules do not allow (too few runs, runs of different
//! workloads, logs that break a rule) is an error here, so that the official checkers find nothing.
//! Layout and rules: mlcommons/logging, `package_checker` and `repo_checker`; training_policies,
//! training_rules.adoc.

mod choose;
mod convergence;
mod groups;
mod system;
mod write;

pub use system::FIELDS;

use super::{
    ResultsError, RunRecord, identity, record,
    table::{Filter, rcp},
    tree::{self, Ending, Run},
};
use crate::{
    mllog::{
        Benchmark,
        check::{self, Severity, Verdict},
        parse,
        rules::Division,
    },
    stats::{self, Score},
    workload,
};
use convergence::ReferencePoints;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use system::Description;

/// The largest file that MLPerf's repository takes, in bytes.
const LARGEST: u64 = 50 << 20;

/// What to package and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The organisation, which is also the folder's name.
    pub org: String,
    /// The rules; `None` = the newest that have the benchmark.
    pub ruleset: Option<String>,
    /// Package fewer runs than the rules ask for.
    pub allow_incomplete: bool,
    /// Reference convergence points to judge the runs by, in MLPerf's form.
    pub reference_points: Option<PathBuf>,
    /// Only the groups of these names: `SYSTEM/WORKLOAD`, or what it begins with or ends with; all
    /// if empty.
    pub only: Vec<String>,
    /// Only runs that all of these keep.
    pub filters: Vec<Filter>,
    /// Fields of the system description that are not to be what was found, by name; see [`FIELDS`].
    pub fields: BTreeMap<String, String>,
}

/// A submission, ready to be written.
#[derive(Debug)]
pub struct Package {
    org: String,
    /// What it holds.
    pub entries: Vec<Entry>,
    /// Runs that could not be read and are not in it, a sentence each.
    pub left_out: Vec<String>,
    systems: BTreeMap<String, Description>,
}

/// The runs of one benchmark on one system.
#[derive(Debug)]
pub struct Entry {
    /// Name of the system's folder.
    pub system: String,
    /// MLPerf's name, or ours.
    pub benchmark: &'static Benchmark,
    /// The division that all logs name.
    pub division: Division,
    /// The ruleset that they were judged by.
    pub ruleset: &'static str,
    /// The runs in order of time: these become `result_0.txt` and so on.
    pub runs: Vec<Packaged>,
    /// Seconds to target by MLPerf's rule: mean without the fastest and the slowest. `None` = there
    /// is none.
    pub score: Option<f64>,
    /// What a submitter should know; one sentence each.
    pub notes: Vec<String>,
}

/// One run.
#[derive(Debug)]
pub struct Packaged {
    /// Its folder.
    pub folder: PathBuf,
    record: RunRecord,
    run: Run,
    log: Vec<u8>,
}

/// Reads the runs that `paths` lead to and puts them together.
///
/// # Errors
/// All reasons why this is no submission, one sentence each.
pub fn plan<S: AsRef<str>>(paths: &[S], options: &Options) -> Result<Package, Vec<String>> {
    let mut problems = Vec::new();
    if let Some(problem) = unfit_name(&options.org) {
        problems.push(format!("the organisation's name is {:?}, which {problem}", options.org));
    }
    let mut left_out = Vec::new();
    let mut runs = own_runs(paths, &mut problems, &mut left_out);
    filter(&mut runs, &options.filters, &mut problems);
    let groups = groups::of(runs);
    let listed = groups::list(&groups);
    let several = groups.len() > 1;
    let chosen = groups::choose(groups, &options.only).unwrap_or_else(|what| {
        problems.push(what);
        Vec::new()
    });
    let (mut entries, mut systems) = (Vec::new(), BTreeMap::<String, Description>::new());
    for (system, benchmark, runs) in groups::by_folder(chosen) {
        match entry(&system, &benchmark, runs, options) {
            Ok(entry) => entries.push(entry),
            Err(more) => {
                problems.extend(more.into_iter().map(|p| format!("{system}/{benchmark}: {p}")))
            }
        }
    }
    if let Some(path) = &options.reference_points {
        judge_convergence(path, &mut entries, &mut problems);
    }
    for entry in &entries {
        let new = Description::of(&entry.runs[0].record, options, entry.division, status(entry));
        if systems.get(&entry.system).is_some_and(|old| old.division != new.division) {
            problems.push(format!(
                "{}: its runs are of the open and the closed division, but a system's description has one; package them apart",
                entry.system
            ));
        }
        systems.insert(entry.system.clone(), new);
    }
    if problems.is_empty() {
        return Ok(Package { org: options.org.clone(), entries, left_out, systems });
    }
    problems.extend(left_out);
    if several {
        problems.push("choose among the groups of runs with --only NAME, or runs with --filter KEY=TEXT; there are".into());
        problems.extend(listed);
    }
    Err(problems)
}

/// Leaves the runs that all filters keep.
fn filter(runs: &mut Vec<Packaged>, filters: &[Filter], problems: &mut Vec<String>) {
    let all: Vec<Run> = runs.iter().map(|p| p.run.clone()).collect();
    for filter in filters {
        if let Err(what) = filter.check(&all) {
            problems.push(format!("--filter: {what}"));
            return;
        }
    }
    runs.retain(|p| filters.iter().all(|f| f.keeps(&p.run)));
    if runs.is_empty() && !all.is_empty() {
        problems.push(format!("none of the {} runs passes the filters", all.len()));
    }
}

/// Adds what the reference points say of each entry.
fn judge_convergence(path: &Path, entries: &mut [Entry], problems: &mut Vec<String>) {
    let points = match ReferencePoints::read(path) {
        Ok(points) => points,
        Err(e) => return problems.push(e.to_string()),
    };
    for entry in entries {
        match points.judge(entry) {
            Ok(said) => entry.notes.push(said),
            Err(problem) => {
                problems.push(format!("{}/{}: {problem}", entry.system, entry.benchmark.name))
            }
        }
    }
}

impl Package {
    /// Fields of the system descriptions that this program could not find out, by system.
    pub fn empty_fields(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.systems.iter().map(|(name, description)| (name.as_str(), description.empty()))
    }
}

/// Runs with a record. One of ours that is broken is left out; everything else that was found is a
/// problem.
fn own_runs<S: AsRef<str>>(
    paths: &[S],
    problems: &mut Vec<String>,
    left_out: &mut Vec<String>,
) -> Vec<Packaged> {
    let found = tree::read(paths);
    for problem in &found.problems {
        match problem {
            ResultsError::Malformed { .. } if !found.runs.is_empty() => {
                left_out.push(problem.to_string());
            }
            _ => problems.push(problem.to_string()),
        }
    }
    let mut runs = Vec::new();
    for run in found.runs {
        let folder = PathBuf::from(&run.path);
        let path = folder.join("run.json");
        let killed = || {
            let beside = Path::new(&run.path).parent().map(|f| f.join("workload.toml"));
            beside.is_some_and(|f| f.is_file())
        };
        if !path.is_file() && killed() {
            left_out.push(format!("{}: the run was killed and left no record", run.path));
            continue;
        }
        if !path.is_file() {
            problems.push(format!(
                "{}: no run of this program's (there is no run.json beside the log)",
                run.path
            ));
            continue;
        }
        let log = folder.join("result_0.txt");
        let read = fs::read(&log).map_err(|e| format!("cannot read {}: {e}", log.display()));
        match (record::read(&path), read) {
            (Ok(_), Ok(log)) if log.len() as u64 > LARGEST => {
                problems.push(format!(
                    "{}: result_0.txt has more than 50 MB, which MLPerf's repository does not take",
                    run.path
                ));
            }
            (Ok(record), Ok(log)) => runs.push(Packaged { folder, record, run, log }),
            (Err(e), _) => problems.push(e.to_string()),
            (_, Err(e)) => problems.push(e),
        }
    }
    if runs.is_empty() && problems.is_empty() {
        problems.push("no runs here".into());
    }
    runs
}

fn entry(
    system: &str,
    benchmark: &str,
    runs: Vec<Packaged>,
    options: &Options,
) -> Result<Entry, Vec<String>> {
    let known = Benchmark::named(benchmark)
        .ok_or_else(|| vec!["MLPerf and we know no such benchmark".to_owned()])?;
    let mut notes = Vec::new();
    let (runs, unfinished): (Vec<_>, Vec<_>) =
        runs.into_iter().partition(|p| p.run.ending != Ending::Unfinished);
    if !unfinished.is_empty() {
        notes.push(format!(
            "{} left out, which did not come to an end",
            counted(unfinished.len(), "run")
        ));
    }
    let Some(first) = runs.first() else { return Err(vec!["no run came to an end".into()]) };
    if let Some((other, difference)) = runs.iter().find_map(|p| Some((p, difference(first, p)?))) {
        let (a, b) = (first.folder.display(), other.folder.display());
        return Err(vec![format!(
            "runs must be of one workload, and only seeds may differ: {b} and {a} have {difference}"
        )]);
    }
    let found = runs.len();
    let runs = choose::runs(runs, known.runs);
    let mut problems = Vec::new();
    problems.extend(runs.iter().find_map(untrue));
    if found > known.runs {
        notes.push(format!(
            "{} of {found} runs taken: the {} in a row with the median score",
            runs.len(),
            runs.len()
        ));
    } else if found < known.runs {
        let what = format!("{}, but a submission has {}", counted(found, "run"), known.runs);
        match options.allow_incomplete {
            true => notes.push(format!("{what}: MLPerf's package checker will refuse it")),
            false => problems.push(format!(
                "{what}; make {} more, or say --allow-incomplete",
                known.runs - found
            )),
        }
    }
    let (division, ruleset) = judge(&runs, options, &mut problems, &mut notes);
    same_seeds(&runs, division, &mut problems, &mut notes);
    if !problems.is_empty() {
        return Err(problems);
    }
    let seconds: Vec<_> =
        runs.iter().map(|p| p.run.seconds.filter(|_| p.run.ending == Ending::Converged)).collect();
    let score = match stats::score(&seconds) {
        Score::Valid(score) => Some(score),
        Score::Invalid { .. } => None,
    };
    for note in later(known, division, &runs, options) {
        notes.push(note);
    }
    Ok(Entry { system: system.to_owned(), benchmark: known, division, ruleset, runs, score, notes })
}

/// Why a run is not what its labels say: reading its workload again asks for what running it does.
fn untrue(packaged: &Packaged) -> Option<String> {
    workload::load(&packaged.folder.join("workload.toml"), &[]).err().map(|e| e.to_string())
}

/// Why two runs are none of one submission.
fn difference(a: &Packaged, b: &Packaged) -> Option<String> {
    if a.run.key == b.run.key {
        return None;
    }
    let differs = |what: &str, a: &str, b: &str| (a != b).then(|| format!("{what} {b} and {a}"));
    let program = |p: &Packaged| p.run.program.clone().unwrap_or_default();
    a.run
        .task
        .differs(&b.run.task)
        .or_else(|| differs("workload", &a.run.workload, &b.run.workload))
        .or_else(|| tree::entries(&b.run.settings, &a.run.settings))
        .or_else(|| differs("program", &program(a), &program(b)))
        .or_else(|| {
            let found = identity::differences(&b.run.identity, &a.run.identity);
            found.first().map(|d| format!("another {d}"))
        })
        .or_else(|| Some("different records".into()))
}

/// Judges all logs. One that fails is the slowest of an olympic score; two are too many.
fn judge(
    runs: &[Packaged],
    options: &Options,
    problems: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> (Division, &'static str) {
    let mut failing = Vec::new();
    let (mut division, mut ruleset) = (None, "");
    for packaged in runs {
        let log = packaged.folder.join("result_0.txt");
        let verdict = check::check(&packaged.log, options.ruleset.as_deref());
        ruleset = verdict.ruleset;
        if let Some(error) = verdict.findings.iter().find(|f| f.severity == Severity::Error) {
            failing.push(format!("{}:{error}", log.display()));
        }
        problems
            .extend(another(packaged, &verdict).map(|what| format!("{}: {what}", log.display())));
        match (division, verdict.division) {
            (Some(one), Some(other)) if one != other => {
                problems.push(format!(
                    "{}: of the {} division, but others are not",
                    log.display(),
                    other.name()
                ));
            }
            (None, found) => division = found,
            _ => {}
        }
    }
    match failing.as_slice() {
        [] => {}
        [one] if runs.len() > 1 => {
            notes.push(format!("one log breaks a rule and counts as the slowest: {one}"))
        }
        all => problems.extend(all.iter().cloned()),
    }
    if division.is_none() && failing.is_empty() {
        problems.push("no log names its division".into());
    }
    (division.unwrap_or(Division::Open), ruleset)
}

/// How a log's labels differ from those of the run's record.
fn another(packaged: &Packaged, log: &Verdict) -> Option<String> {
    let recorded = &packaged.record.workload;
    if let Some(benchmark) = log.benchmark.as_ref().filter(|b| **b != recorded.benchmark) {
        return Some(format!("of benchmark {benchmark}, but run.json of {}", recorded.benchmark));
    }
    let (said, recorded) = (log.division?, Division::named(&recorded.division)?);
    (said != recorded).then(|| {
        format!("of the {} division, but run.json of the {} one", said.name(), recorded.name())
    })
}

/// The closed division wants another seed in each run.
fn same_seeds(
    runs: &[Packaged],
    division: Division,
    problems: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    for (i, b) in runs.iter().enumerate() {
        let Some(a) = runs[..i].iter().find(|a| a.record.workload.seed == b.record.workload.seed)
        else {
            continue;
        };
        let (one, other) = (a.folder.display(), b.folder.display());
        let what = format!("{one} and {other} have the same seed, {}", b.record.workload.seed);
        match division {
            Division::Closed => problems.push(what),
            Division::Open => notes.push(what),
        }
        return;
    }
}

/// What MLPerf's other tools will say.
fn later(
    benchmark: &Benchmark,
    division: Division,
    runs: &[Packaged],
    options: &Options,
) -> Vec<String> {
    let mut notes = Vec::new();
    match (benchmark.name, division) {
        ("deepfm", _) => {
            notes.push("no MLPerf round has deepfm; the package checker passes over it".into())
        }
        ("dlrm", Division::Closed) => {
            notes.push("MLPerf's package checker has no convergence points of dlrm and ends with a KeyError on it".into());
            let batch = runs.first().map(|p| p.record.workload.batch_size as u64);
            let epochs = rcp::epochs(runs.iter().map(|p| &p.run));
            notes.extend(batch.and_then(|batch| rcp::first_dlrm(batch, &epochs)));
        }
        (_, Division::Closed) => notes
            .push("the package checker also tests convergence, and may write scaling.json".into()),
        _ => {}
    }
    let org = runs.first().and_then(|p| logged(&p.log, "submission_org"));
    if let Some(org) = org.filter(|o| *o != options.org) {
        notes.push(format!(
            "the logs say submission_org {org:?}; set mlperf.org in the workload for the next runs"
        ));
    }
    let mut warnings: Vec<&String> = runs.iter().flat_map(|p| &p.run.warnings).collect();
    warnings.dedup();
    notes.extend(warnings.into_iter().cloned());
    notes
}

/// The first value of a key, if it is a string.
fn logged(log: &[u8], key: &str) -> Option<String> {
    let event = parse::lines(log).filter_map(|l| l.event.ok()).find(|e| e.key == key)?;
    event.text().map(ToOwned::to_owned)
}

/// How the system can be had: as the logs say it, in the words of system descriptions.
fn status(entry: &Entry) -> &'static str {
    match logged(&entry.runs[0].log, "submission_status").as_deref() {
        Some("onprem") => "Available on-premise",
        Some("cloud") => "Available cloud",
        Some("preview") => "Preview",
        _ => "Research, Development, or Internal (RDI)",
    }
}

/// What git and MLPerf's repository do not like about a name.
fn unfit_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        n if n.starts_with('.') => Some("begins with a dot"),
        n if n.contains(char::is_whitespace) => Some("holds a space; write _ for it"),
        n if n.contains(['/', '\\']) => Some("holds a slash"),
        n if n.chars().any(char::is_control) => Some("holds a control character"),
        _ => None,
    }
}

/// A system's name as a folder.
fn folder_name(system: &str) -> String {
    let name: String = system
        .chars()
        .map(|c| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '_' })
        .collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "system".into() } else { name.to_owned() }
}

/// `1 run`, `3 runs`.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
