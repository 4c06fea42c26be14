//! For the GitHub action `benchmark-action/github-action-benchmark`, tool `customBiggerIsBetter`:
//! an array of `{name, unit, value, range, extra}` (its README, "Custom benchmarks"). Only
//! throughputs: the action takes bigger for better throughout one file.

use super::{json, name, rows};
use crate::results::table::{Comparison, Estimate, Row};
use serde::Serialize;

#[derive(Serialize)]
struct Entry {
    name: String,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// End-to-end throughput of each row, and that without evaluations where it is known.
pub fn github_action_benchmark(comparison: &Comparison) -> String {
    let mut entries = Vec::new();
    for (group, row) in rows(comparison) {
        let measures = [
            ("end to end", row.end_to_end),
            ("training", row.estimate(group.without_eval()).copied()),
        ];
        for (what, estimate) in measures {
            entries.extend(estimate.map(|e| entry(row, what, &e)));
        }
    }
    json(&entries)
}

fn entry(row: &Row, what: &str, e: &Estimate) -> Entry {
    let mut facts = vec![format!("runs: {}", row.runs)];
    facts.extend(row.batch.map(|b| format!("batch: {b}")));
    facts.extend(row.precision.iter().map(|p| format!("precision: {p}")));
    facts.extend(row.program.iter().map(|p| format!("program: {p}")));
    Entry {
        name: format!("{} {what}", name(row)),
        unit: "samples/s",
        value: e.mean,
        range: e.low.zip(e.high).map(|(low, high)| format!("± {:.0}", (high - low) / 2.0)),
        extra: facts.join("\n"),
    }
}
