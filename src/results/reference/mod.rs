//! Convergence records (`reference_logs/<workload>.json`): how a workload is known to converge over
//! many seeds, and whether other runs converge like that.
//!
//! A record holds a *point* for each batch size: the epochs to target of every run, with its AUC
//! and loss curves. Runs are judged by MLPerf's test of reference convergence points in both
//! directions ([`crate::stats::Reference`]): too fast is suspicious, too slow is a loss. What may
//! differ from the record's runs is how it was computed (engine, precision, optimizer, learning
//! rate), since that is what the test is for; data, model and target may not.

mod from_runs;
mod judge;
#[cfg(test)]
mod tests;

pub use judge::Verdict;

use super::{ResultsError, tree::Task, write_file};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path};

/// Layout of the file. Raised when a reader of the old layout would misread the new one.
pub const SCHEMA_VERSION: u32 = 1;

/// The record of the planted twin of a workload.
macro_rules! planted {
    ($name:literal) => {
        (
            concat!($name, "-planted"),
            include_str!(concat!("../../../reference_logs/", $name, "-planted.json")),
        )
    };
}

/// The records that the program carries within itself.
const SHIPPED: &[(&str, &str)] = &[
    ("quickstart", include_str!("../../../reference_logs/quickstart.json")),
    planted!("deeprec"),
    planted!("deeprec-normalized"),
    planted!("fuxictr-deepfm"),
    planted!("mlperf-v2"),
    planted!("nvidia"),
    planted!("oneflow-deepfm"),
    planted!("oneflow-deepfm-plateau"),
    planted!("oneflow-dlrm"),
];

/// How a workload converges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// Layout of this file, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `workload.name`.
    pub workload: String,
    /// What had to be learnt.
    pub task: Task,
    /// By batch size, ascending.
    pub points: Vec<Point>,
}

/// Runs at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Samples a step.
    pub batch_size: u64,
    /// Who computed it.
    pub engine: Option<String>,
    /// Numbers in matrix products.
    pub precision: Option<String>,
    /// Where.
    pub system: String,
    /// By which version of the program.
    pub program: Option<String>,
    /// All else that was set: optimizer, schedule, evaluation.
    pub settings: BTreeMap<String, String>,
    /// A run a seed.
    pub runs: Vec<Curve>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Seed of initial values and order.
    pub seed: Option<u64>,
    /// Epochs to the target.
    pub epochs: f64,
    /// Training samples to the target.
    pub samples: Option<f64>,
    /// Epochs and AUC of each evaluation.
    pub auc: Vec<(f64, f64)>,
    /// Epochs and training loss, the mean over the steps since the entry before.
    pub loss: Vec<(f64, f64)>,
}

impl ReferenceRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// If the file cannot be read or is no record of convergence.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let text = fs::read_to_string(path).map_err(ResultsError::read(path))?;
        Self::parse(&text).map_err(|what| ResultsError::malformed(path, what))
    }

    /// The record of `workload` that the program carries within itself.
    pub fn shipped(workload: &str) -> Option<Self> {
        let (_, text) = SHIPPED.iter().find(|(name, _)| *name == workload)?;
        Self::parse(text).ok()
    }

    fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let wrong = |e: serde_json::Error| format!("not a convergence record: {e}");
        let Version { schema_version } = serde_json::from_str(text).map_err(wrong)?;
        if schema_version != SCHEMA_VERSION {
            return Err(format!(
                "schema_version is {schema_version}, but this program reads {SCHEMA_VERSION}"
            ));
        }
        let record: Self = serde_json::from_str(text).map_err(wrong)?;
        // Whatever a file says, the test can be made, or the file is refused here.
        record.reference(from_runs::FEWEST_RUNS).map_err(|e| e.to_string())?;
        Ok(record)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let mut text = serde_json::to_string(self)
            .map_err(|e| ResultsError::malformed(path, e.to_string()))?;
        // A line a run: short, and a difference between two records can be read.
        text = text
            .replace("{\"seed\"", "\n{\"seed\"")
            .replace("{\"batch_size\"", "\n{\"batch_size\"");
        text.push('\n');
        write_file(path, text.as_bytes())
    }
}
