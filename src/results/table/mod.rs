//! Runs side by side: one row a system and workload, rows of one task ranked, the others set apart.

mod build;
mod field;
mod filter;
mod name;
pub(in crate::results) mod rcp;
mod row;
#[cfg(test)]
mod tests;

pub use build::{Options, Rows, build, is_called};
pub use field::{Fact, Field, Figure};
pub use filter::Filter;
pub use row::{CONFIDENCE, ENOUGH_RUNS, Estimate};

use super::{
    identity::Identity,
    tree::{Run, System, Task},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the layout of [`Comparison`] as JSON. Raised when a reader of the old layout would
/// misread the new one.
pub const SCHEMA_VERSION: u32 = 1;

/// All rows. `compare --format json` is this, and every other format shows its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Layout, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What rows are sorted by.
    pub sort: Field,
    /// What tables show, as it was asked for; empty = what there is to tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Field>,
    /// The row that ratios refer to, as it was asked for; `None` = the best of each group.
    pub baseline: Option<String>,
    /// The first group holds the baseline, or the most rows; the others are set apart from it.
    pub groups: Vec<Group>,
}

/// Rows of one task, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The workload, or the benchmark where several workloads share the task.
    pub title: String,
    /// What had to be learnt.
    pub task: Task,
    /// Value of `--group-by`.
    pub by: Option<String>,
    /// Why these rows must not be ranked against those of the first group; `None` for the first.
    pub apart: Option<String>,
    /// What [`Row::ratio`] is a ratio of.
    pub ratio_of: Measure,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One system and workload. Throughputs are training samples per second, times seconds; `None` is
/// "not known".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// A name that no other row of this comparison has: the system's, and as much behind it as
    /// tells it from the others.
    pub label: String,
    /// A name for files that live on, such as histories: made of the row's own facts alone, and
    /// not of the program, whose commits a history follows.
    #[serde(default)]
    pub name: String,
    /// What exactly its runs were runs of.
    #[serde(default)]
    pub identity: Identity,
    /// Who ran it, on what.
    pub system: System,
    /// What was run.
    pub workload: String,
    /// `fused`, `candle`, or a published system's framework.
    pub engine: Option<String>,
    /// The program's version.
    pub program: Option<String>,
    /// Numbers in matrix products, and in embedding rows after a slash where they are kept in 16
    /// bits.
    pub precision: Option<String>,
    /// Samples a step.
    pub batch: Option<u64>,
    /// Runs that count.
    pub runs: usize,
    /// Those of them that reached the target.
    pub converged: usize,
    /// Unfinished runs, which do not count.
    pub unfinished: usize,
    /// Throughput from `run_start` to `run_stop`, evaluations included, as MLPerf submitters
    /// compute it: mean over runs.
    pub end_to_end: Option<Estimate>,
    /// The same without evaluations.
    pub training: Option<Estimate>,
    /// Training steps after warm-up. Of one run: with the interval of its block bootstrap.
    pub steady: Option<Estimate>,
    /// How many times better than the baseline, or the best row, by [`Group::ratio_of`]; `None` in
    /// a group of one.
    pub ratio: Option<f64>,
    /// Mean time to target without the fastest and the slowest run, MLPerf's score, unscaled.
    pub seconds_to_target: Option<f64>,
    /// The same for epochs.
    pub epochs_to_target: Option<f64>,
    /// Factor for converging faster than the reference that MLPerf's checker left beside the logs.
    /// Not applied.
    pub scaling_factor: Option<f64>,
    /// Mean AUC of the last evaluations.
    pub auc: Option<f64>,
    /// Mean accuracy of the last evaluations, where they all know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean share of the time that the machine's ceilings allow.
    pub floor_share: Option<f64>,
    /// Energy of processors and memory to the target in joules, mean without the most and the
    /// least; `None` unless every run knows it.
    pub joules_to_target: Option<f64>,
    /// Energy of a training sample in joules, evaluations included; `None` unless every run knows
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules_a_sample: Option<f64>,
    /// Price of the time to target, if the system's price is known.
    pub cost: Option<f64>,
    /// Price of the time of an epoch, evaluations included, if the system's price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_an_epoch: Option<f64>,
    /// Settings in which the row differs from the baseline, or the best row: `optimizer.kind "sgd",
    /// not "adam"`.
    pub differences: Option<String>,
    /// What a reader should know; one sentence each.
    pub notes: Vec<String>,
    /// What was set, as far as all runs agree.
    pub settings: BTreeMap<String, String>,
    /// The runs, unfinished ones too.
    pub each: Vec<Run>,
}

/// A number by which rows are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`Row::end_to_end`]
    EndToEnd,
    /// [`Row::training`]
    Training,
    /// [`Row::steady`]
    Steady,
    /// [`Row::seconds_to_target`]
    SecondsToTarget,
}

impl Measure {
    /// Its value for a row.
    pub fn of(self, row: &Row) -> Option<f64> {
        let mean = |e: &Option<Estimate>| e.as_ref().map(|e| e.mean);
        match self {
            Measure::EndToEnd => mean(&row.end_to_end),
            Measure::Training => mean(&row.training),
            Measure::Steady => mean(&row.steady),
            Measure::SecondsToTarget => row.seconds_to_target,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Measure::EndToEnd => "end-to-end throughput",
            Measure::Training => "training throughput",
            Measure::Steady => "steady throughput",
            Measure::SecondsToTarget => "time to target",
        }
    }

    /// How many times better `value` is than `baseline`.
    fn ratio(self, value: f64, baseline: f64) -> f64 {
        if self == Measure::SecondsToTarget { baseline / value } else { value / baseline }
    }
}

impl Group {
    /// The throughput without evaluations that all rows of the group have: steady state if they do,
    /// else all training steps.
    pub fn without_eval(&self) -> Measure {
        if self.rows.iter().all(|r| r.steady.is_some()) {
            Measure::Steady
        } else {
            Measure::Training
        }
    }
}

impl Row {
    /// [`Measure::of`] with its interval, for throughputs.
    pub fn estimate(&self, measure: Measure) -> Option<&Estimate> {
        match measure {
            Measure::EndToEnd => self.end_to_end.as_ref(),
            Measure::Training => self.training.as_ref(),
            Measure::Steady => self.steady.as_ref(),
            Measure::SecondsToTarget => None,
        }
    }
}
