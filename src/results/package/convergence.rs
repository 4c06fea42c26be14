//! MLPerf's test of reference convergence points (RCP) on the runs of a submission.
//!
//! The points are read from a file as MLPerf writes it (mlcommons/logging,
//! `rcp_checker/training_*/rcps_*.json`): `{"name": {"Benchmark": "dlrm_dcnv2", "BS": 65536,
//! "Epochs to converge": [0.75, ...], ...}, ...}`.

use super::{Entry, Packaged};
use crate::{
    mllog::parse,
    results::{ResultsError, reference::ReferenceRecord},
    stats::{Convergence, Judged, Reference, ReferencePoint},
};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

/// Reference points by benchmark.
#[derive(Debug)]
pub(super) struct ReferencePoints(BTreeMap<String, Vec<ReferencePoint>>);

/// A point as MLPerf's files have it; they hold more.
#[derive(Deserialize)]
struct Point {
    #[serde(rename = "Benchmark")]
    benchmark: String,
    #[serde(rename = "BS")]
    batch_size: u64,
    #[serde(rename = "Epochs to converge")]
    epochs: Vec<f64>,
}

impl ReferencePoints {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let text = fs::read_to_string(path).map_err(ResultsError::read(path))?;
        let points: BTreeMap<String, Point> = serde_json::from_str(&text).map_err(|e| {
            let what = match serde_json::from_str::<ReferenceRecord>(&text) {
                Ok(record) => format!(
                    "a convergence record of {} (dlrm-bench record), for run --reference; --rcp takes reference convergence points as MLPerf writes them (rcps_dlrm.json)",
                    record.workload
                ),
                Err(_) => format!(
                    "no reference convergence points as MLPerf writes them: must be {{\"NAME\": {{\"Benchmark\": ..., \"BS\": ..., \"Epochs to converge\": [...]}}}}; {e}"
                ),
            };
            ResultsError::malformed(path, what)
        })?;
        let mut by_benchmark: BTreeMap<String, Vec<ReferencePoint>> = BTreeMap::new();
        for Point { benchmark, batch_size, epochs } in points.into_values() {
            by_benchmark.entry(benchmark).or_default().push(ReferencePoint { batch_size, epochs });
        }
        Ok(ReferencePoints(by_benchmark))
    }

    /// Judges the runs of `entry`.
    ///
    /// # Errors
    /// Why MLPerf's rcp_checker would refuse them.
    pub fn judge(&self, entry: &Entry) -> Result<String, String> {
        let name = entry.benchmark.name;
        let points = self
            .0
            .get(name)
            .ok_or_else(|| format!("the file of reference points has none of {name}"))?;
        let reference = Reference::new(points, entry.benchmark.runs).map_err(|e| e.to_string())?;
        let epochs: Vec<_> = entry.runs.iter().map(epochs).collect();
        let batch_size = entry.runs[0].record.workload.batch_size as u64;
        let beside = |j: &Judged| {
            format!(
                "mean {:.5} epochs, reference {:.5} at batch size {batch_size}",
                j.mean, j.accepted.mean
            )
        };
        match reference.judge(batch_size, &epochs).map_err(|e| e.to_string())? {
            Convergence::TooFast(j) => Err(format!(
                "converges too fast to be accepted: {}; the least is {:.5}",
                beside(&j),
                j.accepted.fastest
            )),
            Convergence::NotConverged { missed, runs } => {
                Err(format!("{missed} of {runs} runs missed the target; MLPerf allows one"))
            }
            Convergence::Like(j) => Ok(format!(
                "converges like the reference: {}; the score's factor is {:.4}",
                beside(&j),
                j.scaling
            )),
            Convergence::TooSlow(j) => Ok(format!(
                "converges more slowly than the reference, which MLPerf accepts: {}; up to {:.5} would be chance",
                beside(&j),
                j.accepted.slowest
            )),
        }
    }
}

/// `epoch_num` of the last evaluation before a `run_stop` with success, to three decimals as MLPerf
/// takes it.
fn epochs(run: &Packaged) -> Option<f64> {
    let mut last = None;
    for event in parse::lines(&run.log).filter_map(|l| l.event.ok()) {
        match event.key.as_str() {
            "eval_accuracy" => last = event.meta_number("epoch_num"),
            "run_stop" => {
                let success = event.meta("status").is_some_and(|s| s == "success");
                return last.filter(|_| success).map(|e| (e * 1e3).round() / 1e3);
            }
            _ => {}
        }
    }
    None
}
