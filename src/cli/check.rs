//! `dlrm-bench check`.

use super::{Exit, Failure, examples, progress::thousands};
use crate::mllog::check::{self, Severity, Verdict};
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use serde::Serialize;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Findings of a kind that are printed for one log; JSON has them all.
const SHOWN: usize = 50;

const EXAMPLES: &str = "\
Examples:
  dlrm-bench check results/*/*/*/result_0.txt
  dlrm-bench check result_3.txt --ruleset 3.1.0 --werror
  dlrm-bench check submission/ --format json";

/// Judge MLPerf logs by the rules of their round
///
/// Checks logs of dlrm (rulesets 0.7.0 to 2.1.0), dlrm_dcnv2 (3.0.0 to 6.0.0)
/// and deepfm (ours) as MLPerf's compliance checker does, and names line, key
/// and rule of all that is wrong. Errors fail a log, warnings only with
/// --werror, notes never: they tell what MLPerf's other tools will stumble on.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct CheckArgs {
    /// Logs, or folders of which every result_*.txt is taken
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,
    /// The rules to judge by [default: the newest that have the benchmark]
    #[arg(long, value_parser = PossibleValuesParser::new(check::rulesets()))]
    pub ruleset: Option<String>,
    /// Warnings fail a log too
    #[arg(long)]
    pub werror: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How verdicts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// The verdict on one file.
#[derive(Serialize)]
struct Checked {
    log: PathBuf,
    passes: bool,
    #[serde(flatten)]
    verdict: Verdict,
}

/// All verdicts.
#[derive(Serialize)]
struct Report {
    passes: bool,
    logs: Vec<Checked>,
}

/// Runs the command.
pub(super) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let mut logs = Vec::new();
    for path in &args.logs {
        find(path, &mut logs)?;
    }
    let mut report = Report { passes: true, logs: Vec::new() };
    for log in logs {
        let bytes = fs::read(&log).map_err(|e| unreadable(&log, &e))?;
        let verdict = check::check(&bytes, args.ruleset.as_deref());
        let passes = verdict.passes(args.werror);
        report.passes &= passes;
        report.logs.push(Checked { log, passes, verdict });
    }
    let text = match args.format {
        Format::Text => report.text(),
        Format::Json => {
            serde_json::to_string_pretty(&report)
                .map_err(|e| Failure::Internal(format!("cannot print verdicts: {e}")))?
                + "\n"
        }
    };
    // Whoever closes the pipe has read enough.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(if report.passes { Exit::Done } else { Exit::Fails })
}

/// Adds `path`, or what lies in it.
fn find(path: &Path, logs: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        logs.push(path.to_owned());
        return Ok(());
    }
    let before = logs.len();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| unreadable(&folder, &e))? {
            let entry = entry.map_err(|e| unreadable(&folder, &e))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // What a link leads to is found where it is; following it could go round in circles.
            match entry.file_type().map_err(|e| unreadable(&entry.path(), &e))? {
                t if t.is_dir() => folders.push(entry.path()),
                _ if name.starts_with("result_") && name.ends_with(".txt") => {
                    logs.push(entry.path())
                }
                _ => {}
            }
        }
    }
    if logs.len() == before {
        return Err(Failure::Input(format!("{}: no result_*.txt in this folder", path.display())));
    }
    logs[before..].sort();
    Ok(())
}

fn unreadable(path: &Path, e: &io::Error) -> Failure {
    Failure::Input(format!("cannot read {}: {e}", path.display()))
}

impl Report {
    fn text(&self) -> String {
        let mut out = String::new();
        for checked in &self.logs {
            out += &checked.text();
        }
        if self.logs.len() > 1 {
            let failed = self.logs.iter().filter(|l| !l.passes).count();
            out += &match failed {
                0 => format!("all {} logs pass\n", self.logs.len()),
                n => format!("{n} of {} logs fail\n", self.logs.len()),
            };
        }
        out
    }
}

impl Checked {
    fn text(&self) -> String {
        let (log, verdict) = (self.log.display(), &self.verdict);
        let mut out = String::new();
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let count = verdict.count(severity);
            let found = verdict.findings.iter().filter(|f| f.severity == severity);
            for finding in found.take(SHOWN) {
                let colon = if finding.line.is_some() { ":" } else { ": " };
                out += &format!("{log}{colon}{finding}\n");
            }
            if count > SHOWN {
                out += &format!(
                    "{log}: and {} more of this kind\n",
                    thousands((count - SHOWN) as u64)
                );
            }
        }
        let word = if self.passes { "pass" } else { "FAIL" };
        let benchmark = verdict
            .benchmark
            .as_deref()
            .map_or("no benchmark".into(), |b| b.escape_debug().to_string());
        let division = verdict.division.map_or("no division", |d| d.name());
        out + &format!(
            "{log}: {word} ({benchmark}, {division}, ruleset {}){}\n",
            verdict.ruleset,
            counts(verdict)
        )
    }
}

/// `: 2 errors, 1 note`, or nothing.
fn counts(verdict: &Verdict) -> String {
    let kinds =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts = kinds.map(|(severity, word)| (verdict.count(severity), word));
    let parts: Vec<_> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}
