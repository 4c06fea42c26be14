//! One run, whoever made it.

use crate::{
    embedding::RowKind,
    results::{identity::Identity, record::Steady},
    system::Grade,
    train::events::targets,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of a run. Times are seconds, throughputs training samples per second; `None` is
/// "the results do not say".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The run's folder, or the log file.
    pub path: String,
    /// What was typed and led here.
    #[serde(skip)]
    pub argument: String,
    /// The run's name: that of its folder, or of its log without the ending.
    pub name: String,
    /// When it began, UTC (RFC 3339), by its record, or by its log's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How quiet its machine was, where a record says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<Grade>,
    /// Who ran it, on what.
    pub system: System,
    /// `workload.name` of our runs, else the benchmark.
    pub workload: String,
    /// What had to be learnt; decides what may be compared.
    pub task: Task,
    /// `fused` or `candle`; the framework in a published tree.
    pub engine: Option<String>,
    /// The program's version, where the record has it.
    pub program: Option<String>,
    /// Numbers in matrix products, and after a slash those of embedding rows where they are kept in
    /// 16 bits: `bf16`, `bf16/bf16-split`.
    pub precision: Option<String>,
    /// Samples a step, over all workers.
    pub batch: Option<u64>,
    /// Seed of initial values and order.
    pub seed: Option<u64>,
    /// Everything else that was set, by key: the workload without seed and description, or the
    /// hyperparameters of the log.
    pub settings: BTreeMap<String, String>,
    /// How it ended.
    pub ending: Ending,
    /// From `run_start` to `run_stop`, evaluations included.
    pub seconds: Option<f64>,
    /// Training samples seen by then.
    pub samples: Option<f64>,
    /// Epochs done by then, from 0, fractions included.
    pub epochs: Option<f64>,
    /// AUC of the last evaluation.
    pub auc: Option<f64>,
    /// AUC by 1000 thresholds of the same evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc_binned_1000: Option<f64>,
    /// Accuracy of the same evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Steps a second as DeepRec's benchmark computes them ([`super::super::metrics::Metrics::gstep`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gstep: Option<f64>,
    /// Mean loss of the last training batch.
    pub loss: Option<f64>,
    /// How fast it was.
    pub throughput: Rates,
    /// Share of the time that this machine's ceilings allow, if measured: 1 is as fast as can be.
    pub floor_share: Option<f64>,
    /// Energy of processors and memory from `run_start` to `run_stop`.
    pub joules: Option<f64>,
    /// `scaling_factor` beside a published log: the score's factor for converging faster than the
    /// reference.
    pub scaling_factor: Option<f64>,
    /// All evaluations, in order.
    #[serde(skip)]
    pub evaluations: Vec<Evaluation>,
    /// Oddities that a reader of the numbers should know; one sentence each.
    pub warnings: Vec<String>,
    /// What exactly it was a run of; empty for a published log, whose submission is its row.
    #[serde(default)]
    pub identity: Identity,
    /// Runs with the same key repeat one another: same system, workload, settings and identity,
    /// other seeds.
    #[serde(skip)]
    pub key: String,
}

/// Who ran it, on what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// The name to show: `system_name` of the description, else the folder's.
    pub name: String,
    /// The name of the system's folder.
    pub folder: Option<String>,
    /// `submission_platform`.
    pub platform: Option<String>,
    /// Submitter.
    pub org: Option<String>,
    /// The round in whose tree it was found: `v3.1`.
    pub round: Option<String>,
    /// Instruction set architecture, as `uname -m` names it.
    pub architecture: Option<String>,
    /// What a submission's system description says, label and value; empty for ours, whose records
    /// describe the machine.
    #[serde(skip)]
    pub description: Vec<(String, String)>,
}

impl System {
    /// All names that a person may use for it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let others =
            [&self.folder, &self.platform, &self.org].into_iter().filter_map(|n| n.as_deref());
        std::iter::once(self.name.as_str()).chain(others)
    }
}

/// What had to be learnt. Runs of different tasks are never ranked against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// MLPerf's name of the benchmark, or ours.
    pub benchmark: String,
    /// What fixes the data, by key.
    pub data: BTreeMap<String, String>,
    /// What fixes the model, by key.
    pub model: BTreeMap<String, String>,
    /// The AUC to reach.
    pub target: Option<f64>,
    /// The accuracy to reach, which is enough by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

impl Task {
    /// Why runs of `self` must not be ranked against runs of `other`; `None` if they may be.
    pub fn differs(&self, other: &Task) -> Option<String> {
        if self.benchmark != other.benchmark {
            return Some(format!("other benchmark: {}, not {}", self.benchmark, other.benchmark));
        }
        let data = entries(&self.data, &other.data).map(|d| format!("other data: {d}"));
        let model = || entries(&self.model, &other.model).map(|d| format!("other model: {d}"));
        data.or_else(model).or_else(|| {
            // Targets that are shares of the best reachable AUC are equal but for rounding.
            let equal = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-9,
                (a, b) => a.is_none() && b.is_none(),
            };
            let same = equal(self.target, other.target) && equal(self.accuracy, other.accuracy);
            let name = |task: &Task| task.targets().unwrap_or_else(|| "none".to_owned());
            (!same).then(|| format!("other target: {}, not {}", name(self), name(other)))
        })
    }

    /// Whether there is anything to reach.
    pub fn has_target(&self) -> bool {
        self.target.is_some() || self.accuracy.is_some()
    }

    /// What is to be reached, in words.
    pub fn targets(&self) -> Option<String> {
        targets(self.target, self.accuracy)
    }
}

/// The first entries in which two maps differ: `data.max_rows 500, not 1000`.
pub fn entries(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Option<String> {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing: Vec<&String> = keys.into_iter().filter(|k| a.get(*k) != b.get(*k)).collect();
    let value = |map: &BTreeMap<String, String>, key: &String| {
        map.get(key).map_or("unset", String::as_str).to_owned()
    };
    let shown: Vec<String> = differing
        .iter()
        .take(2)
        .map(|k| format!("{k} {}, not {}", value(a, k), value(b, k)))
        .collect();
    let more = differing.len() - shown.len();
    match more {
        _ if shown.is_empty() => None,
        0 => Some(shown.join("; ")),
        _ => Some(format!("{}; and {more} more", shown.join("; "))),
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The target was reached.
    Converged,
    /// It came to its end, or broke down, without reaching the target.
    NotConverged,
    /// It came to its end; there was no target.
    Finished,
    /// It was stopped from outside, or its log just ends. Such a run says nothing and counts for
    /// nothing.
    Unfinished,
}

/// An evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Epochs done before it, from 0.
    pub epochs: f64,
    /// Training samples seen before it.
    pub samples: Option<f64>,
    /// Seconds since `run_start`.
    pub seconds: f64,
    /// AUC.
    pub auc: f64,
}

/// How fast a run was, in training samples per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Samples over the time from `run_start` to `run_stop`, evaluations included: MLPerf
    /// submitters' figure.
    pub end_to_end: Option<f64>,
    /// The same without the time of evaluations.
    pub training: Option<f64>,
    /// Training steps after warm-up, with the interval of this one run.
    pub steady: Option<Steady>,
    /// What the log itself says in `tracked_stats`.
    pub logged: Option<f64>,
}

/// [`Run::precision`] of a run's numbers in products and in rows.
pub(super) fn precision(products: &str, rows: &str) -> String {
    // Logs spell it out.
    let products = if products == "bfloat16" { "bf16" } else { products };
    if rows == RowKind::Fp32.name() { products.to_owned() } else { format!("{products}/{rows}") }
}
