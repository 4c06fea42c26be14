//! `dlrm-bench check`.

use super::{
    Exit, Failure, examples,
    progress::thousands,
    say::{say_error, say_note},
};
use crate::{
    host::escape::visible,
    mllog::{
        check::{self, Severity, Verdict},
        rules,
    },
    results::tree,
};
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
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
/// and rule of all that is wrong. The round is that of the published tree in
/// which a log lies, else the one that the log states (as ours do with
/// mlperf.round), else the one that was under way when the run began by the
/// log's clock, else the newest that has the benchmark; where neither tree nor
/// log tells, a note says which was taken. Errors fail a log, warnings only
/// with --werror, notes never: they tell what MLPerf's other tools will stumble
/// on.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct CheckArgs {
    /// Logs, or folders and patterns of which every result_*.txt is taken
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<String>,
    /// The rules to judge by [default: those of the round in whose tree
    /// (training_results_vX.Y) a log lies, else those that it states, else of
    /// the round that was under way when it was written, else the newest that
    /// have the benchmark]
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

/// What tells the round of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum RoundFrom {
    /// `--ruleset`.
    Option,
    /// The published tree in which it lies.
    Tree,
    /// The log itself states it (`mlperf.round`).
    Log,
    /// The time at which its run began.
    Time,
    /// Nothing: the newest round that has the benchmark.
    Newest,
}

impl RoundFrom {
    /// Why logs were judged by `rulesets`, where that has to be said.
    fn note(self, rulesets: &str) -> Option<String> {
        Some(match self {
            RoundFrom::Option | RoundFrom::Tree | RoundFrom::Log => return None,
            RoundFrom::Time => format!(
                "no folder training_results_vX.Y above the log tells the round: judged by {rulesets}, which was under way when the run began (time_ms of run_start); --ruleset takes another"
            ),
            RoundFrom::Newest => format!(
                "nothing tells the round (no folder training_results_vX.Y above the log, no time of an earlier one in it): judged by {rulesets}, the newest that has the benchmark; --ruleset takes another"
            ),
        })
    }
}

/// The verdict on one file.
#[derive(Serialize)]
struct Checked {
    log: PathBuf,
    passes: bool,
    round_from: RoundFrom,
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
    let (logs, no_results) = tree::logs(&args.logs)?;
    if no_results > 0 {
        say_note(format!("{no_results} of the paths passed over, which hold no result_*.txt"));
    }
    let mut report = Report { passes: true, logs: Vec::new() };
    let (mut said, mut unreadable) = (BTreeMap::<_, BTreeSet<_>>::new(), false);
    for log in logs {
        let bytes = match tree::read_log(&log) {
            Ok(bytes) => bytes,
            Err(e) => {
                say_error(e);
                unreadable = true;
                continue;
            }
        };
        let (ruleset, round_from) = round(args.ruleset.as_deref(), &log, &bytes);
        let verdict = check::check(&bytes, ruleset);
        said.entry(round_from).or_default().insert(verdict.ruleset);
        let passes = verdict.passes(args.werror);
        report.passes &= passes;
        report.logs.push(Checked { log, passes, round_from, verdict });
    }
    if report.logs.is_empty() {
        return Ok(Exit::Unreadable);
    }
    for (from, rulesets) in said {
        let rulesets: Vec<_> = rulesets.into_iter().collect();
        from.note(&rulesets.join(" and ")).into_iter().for_each(say_note);
    }
    let text = match args.format {
        Format::Text => report.text(),
        Format::Json => {
            serde_json::to_string_pretty(&report)
                .map_err(|e| Failure::Internal(format!("cannot print verdicts: {e}")))?
                + "\n"
        }
    };
    out!("{text}");
    Ok(match unreadable {
        true => Exit::Unreadable,
        false if report.passes => Exit::Done,
        false => Exit::Fails,
    })
}

/// The rules to judge a log by, `None` for the newest, and what tells them.
fn round<'a>(asked: Option<&'a str>, log: &Path, bytes: &[u8]) -> (Option<&'a str>, RoundFrom) {
    if asked.is_some() {
        return (asked, RoundFrom::Option);
    }
    let of_tree = tree::round(log).and_then(|round| check::ruleset_of(&round));
    if of_tree.is_some() {
        return (of_tree, RoundFrom::Tree);
    }
    let stated = rules::stated(bytes);
    if stated.is_some() {
        return (stated, RoundFrom::Log);
    }
    match rules::when_written(bytes) {
        None => (None, RoundFrom::Newest),
        written => (written, RoundFrom::Time),
    }
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
        let (log, verdict) = (self.log.display().to_string(), &self.verdict);
        let log = visible(&log);
        let mut out = String::new();
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let count = verdict.count(severity);
            let found = verdict.findings.iter().filter(|f| f.severity == severity);
            for finding in found.take(SHOWN) {
                let colon = if finding.line.is_some() { ":" } else { ": " };
                out += &format!("{log}{colon}{}\n", visible(&finding.to_string()));
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
