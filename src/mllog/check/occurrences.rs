//! Rules that look at all lines of a key: how many there are, whether the target is met, which
//! tensors were initialised.

use super::{Broken, Finding, RuleSet, Severity, Target, holds};
use crate::mllog::{parse::Event, rules::Count};
use serde_json::Value;
use std::collections::HashMap;

/// Adds what is found to `findings`.
pub(super) fn judge(rules: &RuleSet, events: &[(usize, Event)], findings: &mut Vec<Finding>) {
    let mut lines: HashMap<&str, Vec<(usize, &Event)>> = HashMap::new();
    for (line, event) in events {
        // A line without value or metadata stops MLPerf's checker; here it counts as being there.
        lines.entry(&event.key).or_default().push((*line, event));
    }
    let of = |key: &str| lines.get(key).map_or(&[][..], Vec::as_slice);
    for rule in &rules.rules {
        let (key, found) = (rule.key, of(rule.key));
        match rule.count {
            Count::Once if found.is_empty() => {
                findings.push(Finding::missing(
                    Some(key),
                    Broken::Count,
                    format!("{key} is missing; must be there exactly once"),
                ));
            }
            Count::Once if found.len() > 1 => findings.push(repeated(key, found)),
            Count::AtLeastOnce if found.is_empty() => {
                findings.push(Finding::missing(
                    Some(key),
                    Broken::Count,
                    format!("{key} is missing; must be there at least once"),
                ));
            }
            Count::ThisOr(other) if found.is_empty() && of(other).is_empty() => {
                let message = format!("{key} and {other} are missing; one of them must be there");
                let told = format!("{other} and {key} are missing; one of them must be there");
                if !findings.iter().any(|f| f.message == told) {
                    findings.push(Finding::missing(Some(key), Broken::Count, message));
                }
            }
            Count::Once | Count::AtLeastOnce | Count::ThisOr(_) | Count::Any => {}
        }
    }
    if let Some(target) = &rules.target {
        findings.extend(missed(target, of("eval_accuracy")));
    }
    if !rules.tensors.is_empty() {
        tensors(rules.tensors, of("weights_initialization"), findings);
    }
}

fn repeated(key: &str, found: &[(usize, &Event)]) -> Finding {
    let value = |e: &Event| e.value.clone().unwrap_or(Value::Null);
    let first = value(found[0].1);
    let other = found.iter().find(|(_, e)| !holds::equal(&first, &value(e)));
    let lines = listed(found);
    let (severity, message) = match other {
        None => (
            Severity::Warning,
            format!("{key} is on lines {lines}, with one value; must be there exactly once"),
        ),
        Some((_, e)) => {
            let (a, b) = (holds::shown(Some(&first)), holds::shown(e.value.as_ref()));
            (
                Severity::Error,
                format!(
                    "{key} is on lines {lines}, with values {a} and {b}; must be there exactly once"
                ),
            )
        }
    };
    let line = other.or_else(|| found.get(1)).map(|(line, _)| *line);
    Finding { severity, line, key: Some(key.to_owned()), rule: Broken::Count, message }
}

fn listed(found: &[(usize, &Event)]) -> String {
    let lines: Vec<_> = found.iter().take(4).map(|(line, _)| line.to_string()).collect();
    let more =
        if found.len() > 4 { format!(" and {} more", found.len() - 4) } else { String::new() };
    lines.join(", ") + &more
}

/// No evaluation is where the target wants one.
fn missed(target: &Target, found: &[(usize, &Event)]) -> Option<Finding> {
    let reached: Vec<f64> =
        found.iter().filter_map(|(_, e)| holds::number(e.value.as_ref())).collect();
    if found.is_empty() || reached.iter().any(|auc| target.met_by(*auc)) {
        return None;
    }
    let must = match (target.from, target.perfect) {
        (Some(from), true) => format!("from {from} to 1"),
        (Some(from), false) => format!("at least {from} and below 1"),
        (None, true) => "at most 1".into(),
        (None, false) => "below 1".into(),
    };
    let best = reached.iter().copied().max_by(f64::total_cmp);
    let mut message = match best {
        Some(best) => {
            format!(
                "eval_accuracy never meets the target: the highest of {} is {best}; one must be {must}",
                reached.len()
            )
        }
        None => format!("eval_accuracy never meets the target; one must be {must}"),
    };
    if target.from.is_some_and(|from| holds::widened(best, from)) {
        message += " (compare in 64 bits: this is what 32 bits make of the target)";
    }
    Some(Finding::missing(Some("eval_accuracy"), Broken::Target, message))
}

fn tensors(expected: &[&str], found: &[(usize, &Event)], findings: &mut Vec<Finding>) {
    const KEY: &str = "weights_initialization";
    for name in expected {
        let lines: Vec<_> = found
            .iter()
            .filter(|(_, e)| e.meta("tensor").and_then(Value::as_str) == Some(name))
            .copied()
            .collect();
        match lines.as_slice() {
            [] => {
                let message =
                    format!("{KEY} of tensor {name} is missing; must be there exactly once");
                findings.push(Finding::missing(Some(KEY), Broken::Tensors, message));
            }
            [_] => {}
            [_, (second, _), ..] => {
                let message = format!(
                    "{KEY} of tensor {name} is on lines {}; must be there exactly once",
                    listed(&lines)
                );
                findings.push(Finding::error(*second, KEY, Broken::Tensors, message));
            }
        }
    }
    for (line, event) in found {
        let Some(tensor) = event.meta("tensor") else { continue };
        if !tensor.as_str().is_some_and(|t| expected.contains(&t)) {
            let message = format!(
                "{KEY} of tensor {}; must be one of {}",
                holds::shown(Some(tensor)),
                expected.join(", ")
            );
            findings.push(Finding::error(*line, KEY, Broken::Tensors, message));
        }
    }
}
