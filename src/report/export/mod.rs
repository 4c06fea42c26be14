//! A comparison in the formats of tools that people already run: one file a tool.

mod ascend;
mod bencher;
mod critcmp;
mod deeprec;
mod github_action;
#[cfg(test)]
mod tests;

pub use ascend::ascend;
pub use bencher::bencher;
pub use critcmp::critcmp;
pub use deeprec::deeprec;
pub use github_action::github_action_benchmark;

use crate::results::table::{Comparison, Group, Row};
use serde::Serialize;

/// All rows with their groups.
fn rows(comparison: &Comparison) -> impl Iterator<Item = (&Group, &Row)> {
    comparison.groups.iter().flat_map(|g| g.rows.iter().map(move |r| (g, r)))
}

/// `quickstart/amd-epyc-2c fused fp32 batch 2048 ...`, a name that stays the same from run to run,
/// whatever else is compared.
fn name(row: &Row) -> String {
    format!("{}/{}", row.workload, row.name)
}

fn json(value: &impl Serialize) -> String {
    // Maps with string keys and finite numbers: nothing that JSON could not hold.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}
