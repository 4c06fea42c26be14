//! Judges an MLPerf log by the rules of its round, as MLPerf's own compliance checker does, and
//! says what is wrong in which line.
//!
//! Errors are what the official checker (mlcommons/logging, `compliance_checker`) fails or dies on;
//! warnings are what it fails on with `--werror`; notes are what it does not look at and what hurts
//! later (in its RCP and package checkers). In three places this one is stricter on purpose: `NaN`
//! and `Infinity` are no JSON, a `key` is a string, and `time_ms` is finite.
//!
//! ```
//! use dlrm_bench::mllog::check::{check, Severity};
//! let verdict = check(b":::MLLOG {\"key\": \"seed\", \"time_ms\": 17, \"value\": 3}\n", None);
//! assert!(!verdict.passes(false));
//! assert_eq!(verdict.findings[0].to_string(), "1: error: seed has no metadata; must be an object, {} if there is nothing to say");
//! ```

mod holds;
mod occurrences;
#[cfg(test)]
mod tests;

use super::{
    parse::{self, Event, LineError},
    rules::{Check, Division, InitLimit, ROUNDS, Round, Rule, RuleSet, Target, stated},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The log fails.
    Error,
    /// The log fails if warnings are errors.
    Warning,
    /// The log passes; something else may go wrong later.
    Note,
}

/// The kind of rule that a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// The form of a line.
    Format,
    /// The benchmark is not one of the ruleset.
    Benchmark,
    /// How often a key is there.
    Count,
    /// A value.
    Value,
    /// An entry of the metadata.
    Metadata,
    /// Which line comes first.
    Order,
    /// How long initialisation may take.
    InitTime,
    /// The AUC to be reached.
    Target,
    /// The tensors to be initialised.
    Tensors,
    /// Nothing that this checker fails on.
    Later,
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is, from 1; `None` = something is missing.
    pub line: Option<usize>,
    /// The key it is about, where there is one.
    pub key: Option<String>,
    /// The kind of rule.
    pub rule: Broken,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}: {}", self.message)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What the log says it is of.
    pub benchmark: Option<String>,
    /// What it says it was made under.
    pub division: Option<Division>,
    /// The ruleset it was judged by.
    pub ruleset: &'static str,
    /// What was found, in order of lines; what is missing comes last.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether the log passes.
    pub fn passes(&self, warnings_are_errors: bool) -> bool {
        !self.findings.iter().any(|f| match f.severity {
            Severity::Error => true,
            Severity::Warning => warnings_are_errors,
            Severity::Note => false,
        })
    }

    /// How many findings are that bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }
}

/// The rulesets there are, oldest first.
pub fn rulesets() -> impl Iterator<Item = &'static str> {
    ROUNDS.iter().map(|r| r.ruleset)
}

/// The ruleset of a round, `3.1.0` of `3.1`; `None` if there is none of ours in it.
pub fn ruleset_of(round: &str) -> Option<&'static str> {
    rulesets().find(|r| r.strip_suffix(".0") == Some(round))
}

/// Judges `log`. Without a `ruleset` (one of [`rulesets`]) that which the log states is taken, or
/// the newest that has the benchmark.
pub fn check(log: &[u8], ruleset: Option<&str>) -> Verdict {
    let ruleset = ruleset.or_else(|| stated(log));
    let mut findings = Vec::new();
    let events = events(log, &mut findings);
    let first = |key: &str| events.iter().find(|(_, e)| e.key == key);
    let benchmark = first("submission_benchmark");
    let division =
        first("submission_division").and_then(|(_, e)| e.text()).and_then(Division::named);
    let round = match benchmark.map(|(line, e)| (line, e.text().map(|b| Round::of(b, ruleset)))) {
        Some((_, Some(Ok(round)))) => Some(round),
        Some((line, Some(Err(what)))) => {
            let message = format!("submission_benchmark {what}");
            findings.push(Finding::error(
                *line,
                "submission_benchmark",
                Broken::Benchmark,
                message,
            ));
            None
        }
        Some((line, None)) => {
            let message =
                "submission_benchmark is no string; must be one of dlrm, dlrm_dcnv2, deepfm"
                    .to_owned();
            findings.push(Finding::error(
                *line,
                "submission_benchmark",
                Broken::Benchmark,
                message,
            ));
            None
        }
        // That it is missing is found below.
        None => None,
    };
    // A log whose benchmark is not known is still held to what every log must have.
    let newest = || {
        ROUNDS
            .iter()
            .rev()
            .find(|r| ruleset.is_none_or(|name| name == r.ruleset))
            .unwrap_or(&ROUNDS[0])
    };
    let general = round.unwrap_or_else(newest);
    let rules = general.rule_set(division.filter(|_| round.is_some()));
    let mut judge = Judge::new(&rules);
    for (line, event) in &events {
        judge.line(*line, event, &mut findings);
    }
    occurrences::judge(&rules, &events, &mut findings);
    later(&events, division, &mut findings);
    findings.sort_by_key(|f| f.line.unwrap_or(usize::MAX));
    let benchmark = benchmark.and_then(|(_, e)| e.text()).map(ToOwned::to_owned);
    Verdict { benchmark, division, ruleset: general.ruleset, findings }
}

/// The lines that can be judged, with their numbers; the others are findings.
fn events(log: &[u8], findings: &mut Vec<Finding>) -> Vec<(usize, Event)> {
    let mut events = Vec::new();
    for line in parse::lines(log) {
        let number = line.number;
        let mut found = |severity, key: Option<&str>, rule, message| {
            findings.push(Finding {
                severity,
                line: Some(number),
                key: key.map(ToOwned::to_owned),
                rule,
                message,
            });
        };
        let event = match line.event {
            Ok(event) => event,
            Err(e @ LineError::NoSpace) => {
                found(Severity::Note, None, Broken::Format, e.to_string());
                continue;
            }
            Err(e) => {
                found(Severity::Error, None, Broken::Format, e.to_string());
                continue;
            }
        };
        // Whatever the key holds, a finding is one line.
        let key = &*event.key.escape_debug().to_string();
        if event.value.is_none() {
            found(
                Severity::Error,
                Some(key),
                Broken::Format,
                format!("{key} has no value; must be null if there is nothing to say"),
            );
        }
        if event.metadata.is_none() {
            let what = format!(
                "{key} has no metadata; must be an object, {{}} if there is nothing to say"
            );
            found(Severity::Error, Some(key), Broken::Format, what);
        }
        if let Some(word) = taken_for(&line.text, key) {
            let what = format!(
                "{key}: this line contains the word {word}, and MLPerf's rcp_checker takes it for a line of that key"
            );
            found(Severity::Note, Some(key), Broken::Later, what);
        }
        events.push((number, event));
    }
    if events.is_empty() {
        findings.push(Finding::missing(
            None,
            Broken::Format,
            format!("no line holds \"{}\" and an event", parse::TOKEN),
        ));
    }
    events
}

/// The key that MLPerf's RCP checker, which looks for words in raw lines, takes this line's to be.
fn taken_for(text: &str, key: &str) -> Option<&'static str> {
    let said = text.rfind(parse::TOKEN).map_or(text, |at| &text[at..]);
    ["global_batch_size", "submission_benchmark", "eval_accuracy", "eval_error"]
        .into_iter()
        .find(|word| key != *word && said.contains(word))
}

/// What passes here and fails in MLPerf's other checkers.
fn later(events: &[(usize, Event)], division: Option<Division>, findings: &mut Vec<Finding>) {
    let mut note = |line, key: &str, message: &str| {
        let (key, message) = (Some(key.to_owned()), message.to_owned());
        findings.push(Finding {
            severity: Severity::Note,
            line,
            key,
            rule: Broken::Later,
            message,
        });
    };
    for (line, event) in events.iter().filter(|(_, e)| e.key == "run_stop") {
        if event.meta("status").is_some_and(|s| s != "success") {
            note(
                Some(*line),
                "run_stop",
                "run_stop: status is not \"success\"; the run counts as not converged",
            );
        }
    }
    if division == Some(Division::Closed) && !events.iter().any(|(_, e)| e.key == "seed") {
        note(
            None,
            "seed",
            "seed is missing; MLPerf's package_checker wants one in every run of the closed division",
        );
    }
}

/// What is known of a log up to the line at hand.
struct Judge<'a> {
    rules: &'a RuleSet,
    by_key: HashMap<&'static str, &'static Rule>,
    seen: HashSet<&'a str>,
    /// Open intervals by name, with their `epoch_num`.
    open: HashMap<&'a str, Option<&'a Value>>,
    first_init: Option<f64>,
    division: Option<&'a Event>,
}

impl<'a> Judge<'a> {
    fn new(rules: &'a RuleSet) -> Self {
        let by_key = rules.rules.iter().map(|r| (r.key, *r)).collect();
        Judge {
            rules,
            by_key,
            seen: HashSet::new(),
            open: HashMap::new(),
            first_init: None,
            division: None,
        }
    }

    /// Judges a line and remembers it.
    fn line(&mut self, line: usize, event: &'a Event, findings: &mut Vec<Finding>) {
        let Some(rule) = self.by_key.get(event.key.as_str()) else { return };
        // A line without value or metadata has had its finding.
        if event.value.is_some() && event.metadata.is_some() {
            let broken = rule.checks.iter().filter_map(|c| self.broken(c, event));
            findings.extend(
                broken.map(|(rule, message)| Finding::error(line, &event.key, rule, message)),
            );
            if event.key == "eval_accuracy"
                && self.rules.target.is_some()
                && holds::number(event.value.as_ref()).is_none()
            {
                let message = format!(
                    "eval_accuracy is {}; must be a number",
                    holds::shown(event.value.as_ref())
                );
                findings.push(Finding::error(line, &event.key, Broken::Value, message));
            }
        }
        self.seen.insert(&event.key);
        match event.key.as_str() {
            "init_start" => {
                self.first_init =
                    Some(self.first_init.map_or(event.time_ms, |first| first.min(event.time_ms)))
            }
            "submission_division" => self.division = self.division.or(Some(event)),
            _ => {}
        }
        match event.key.rsplit_once('_') {
            Some((interval, "start")) => drop(self.open.insert(interval, event.meta("epoch_num"))),
            Some((interval, "stop")) => drop(self.open.remove(interval)),
            _ => {}
        }
    }

    /// What `event` breaks of `check`.
    fn broken(&self, check: &Check, event: &Event) -> Option<(Broken, String)> {
        let key = &event.key;
        let order = |right: bool, what: String| (!right).then_some((Broken::Order, what));
        match *check {
            Check::After(other) => order(
                self.seen.contains(other),
                format!("{key} has no {other} before it; must come after one"),
            ),
            Check::Before(other) if other == key => {
                order(!self.seen.contains(other), format!("{key} comes a second time"))
            }
            Check::Before(other) => order(
                !self.seen.contains(other),
                format!("{key} comes after {other}; must come before it"),
            ),
            Check::Within(name) => order(
                self.open.contains_key(name),
                format!("{key} stands where no {name}_start is open"),
            ),
            Check::Outside(name) => order(
                !self.open.contains_key(name),
                format!("{key} comes before the last {name}'s {name}_stop"),
            ),
            Check::SameEpoch(name) => {
                let open = self.open.get(name)?;
                let (open, closed) = (holds::number(*open), holds::number(event.meta("epoch_num")));
                let what =
                    || format!("{key} has another epoch_num in its metadata than its {name}_start");
                (open.is_none() || open != closed).then(|| (Broken::Metadata, what()))
            }
            Check::InitForward => {
                let back = event.time_ms < self.first_init?;
                back.then(|| {
                    (Broken::InitTime, format!("{key} has a time_ms before that of the first init_start; must come after it"))
                })
            }
            Check::InitInTime => self.init_in_time(event),
            _ => holds::broken(check, event),
        }
    }

    fn init_in_time(&self, event: &Event) -> Option<(Broken, String)> {
        let key = &event.key;
        let minutes = match (self.rules.init, self.division) {
            (InitLimit::Minutes(minutes), _) => minutes,
            (InitLimit::ByDivision { open, .. }, Some(division))
                if division.text() == Some("open") =>
            {
                open
            }
            (InitLimit::ByDivision { closed, .. }, Some(_)) => closed,
            (InitLimit::ByDivision { .. }, None) => 0,
        };
        let taken = event.time_ms - self.first_init?;
        (taken >= minutes as f64 * 60e3).then(|| {
            let what = match minutes {
                0 => format!("{key} has no submission_division before it, which says how long it may take; must come after one"),
                _ => format!("{key} comes {:.1} minutes after the first init_start; must come within {minutes}", taken / 60e3),
            };
            (Broken::InitTime, what)
        })
    }
}

impl Finding {
    fn error(line: usize, key: &str, rule: Broken, message: String) -> Self {
        Finding {
            severity: Severity::Error,
            line: Some(line),
            key: Some(key.to_owned()),
            rule,
            message,
        }
    }

    fn missing(key: Option<&str>, rule: Broken, message: String) -> Self {
        Finding {
            severity: Severity::Error,
            line: None,
            key: key.map(ToOwned::to_owned),
            rule,
            message,
        }
    }
}
