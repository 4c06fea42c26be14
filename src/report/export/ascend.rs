//! The summary that the training scripts of Ascend's ModelZoo leave
//! (`test/output/<device>/<CaseName>.log`): `Key = value`, a line each. Keys of DLRM-for-PyTorch:
//! Network, RankSize, BatchSize, DeviceType, CaseName, ActualFPS, TrainingTime, TrainAccuracy,
//! ActualLoss, E2ETrainingTime. TrainingTime is milliseconds a step, `BatchSize * 1000 /
//! ActualFPS`, as those scripts compute it; E2ETrainingTime is seconds of the whole run.

use super::rows;
use crate::{
    host::escape::visible,
    results::{
        table::{Comparison, Group, Row},
        tree::Run,
    },
    stats,
};
use std::fmt::Write;

/// One block a row, an empty line between blocks. What is not known has no line.
pub fn ascend(comparison: &Comparison) -> String {
    let blocks: Vec<String> = rows(comparison).map(|(group, row)| block(group, row)).collect();
    blocks.join("\n")
}

fn block(group: &Group, row: &Row) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{key} = {}", visible(&value));
        }
    };
    let of_runs = |f: &dyn Fn(&Run) -> Option<f64>| {
        stats::mean(&row.each.iter().filter_map(f).collect::<Vec<_>>())
    };
    // Runs of ours are single processes; nothing says how many a published one had.
    let ranks: Option<u32> = row.system.architecture.as_ref().map(|_| 1);
    let rate = row.estimate(group.without_eval()).or(row.end_to_end.as_ref()).map(|e| e.mean);
    // Those scripts tell runs for accuracy from runs for speed.
    let kind = if group.task.has_target() { "acc" } else { "perf" };
    let case = row.batch.zip(ranks).map(|(b, r)| format!("{}_bs{b}_{r}p_{kind}", row.workload));
    line("Network", Some(row.workload.clone()));
    line("RankSize", ranks.map(|r| r.to_string()));
    line("BatchSize", row.batch.map(|b| b.to_string()));
    line("DeviceType", row.system.architecture.clone());
    line("CaseName", case);
    line("ActualFPS", rate.map(|r| format!("{r:.2}")));
    line("TrainingTime", row.batch.zip(rate).map(|(b, r)| format!("{:.3}", b as f64 * 1e3 / r)));
    line("TrainAccuracy", row.auc.map(|a| format!("{a:.5}")));
    line("ActualLoss", of_runs(&|r| r.loss).map(|l| format!("{l:.5}")));
    line("E2ETrainingTime", of_runs(&|r| r.seconds).map(|s| format!("{s:.1}")));
    out
}
