//! The table that DeepRec's benchmark prints (DeepRec-AI/DeepRec: modelzoo/benchmark/cpu,
//! log_process.py): for each model lines of framework, numbers, accuracy, AUC by 1000 thresholds, steps
//! a second by its rule ([`crate::results::metrics::Metrics::gstep`]), samples a second as that
//! times the batch, and the speed in percent of the baseline's.

use crate::{
    host::escape::visible,
    results::{
        metrics::GSTEP_STEPS,
        table::{Comparison, Row, is_called},
        tree::Run,
    },
    stats,
};
use std::fmt::Write;

/// One block a workload. What is not known is `-`. The baseline is the one that was asked for, or
/// the candle engine's row in f32, which stands where DeepRec has stock TensorFlow.
pub fn deeprec(comparison: &Comparison) -> String {
    let mut out = format!(
        "{:<8} {:>10} {:<10} {:<10} {:<10} {:>10} {:>12} {:>10}\n",
        "Model", "FrameWork", "Datatype", "ACC", "AUC", "Gstep", "Throughput", "Speedup"
    );
    let mut too_short = false;
    let mut workloads: Vec<&str> = super::rows(comparison).map(|(_, r)| &r.workload[..]).collect();
    workloads.sort_unstable();
    workloads.dedup();
    for workload in workloads {
        let rows = || super::rows(comparison).map(|(_, r)| r).filter(|r| r.workload == workload);
        let baseline = match &comparison.baseline {
            Some(name) => rows().find(|r| is_called(r, name)),
            None => rows().find(|r| is_community(r)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}:", visible(workload));
        for row in rows() {
            too_short |= gstep(row).is_none();
            let _ = writeln!(out, "{}", line(row, baseline));
        }
    }
    if too_short {
        let _ = writeln!(
            out,
            "Gstep is the mean of steps a second over points of 100 steps, without the first 20 and the last: \
             a run without it is shorter than {GSTEP_STEPS} steps, or its steps were not recorded"
        );
    }
    out
}

fn is_community(row: &Row) -> bool {
    row.engine.as_deref() == Some("candle") && row.precision.as_deref() == Some("fp32")
}

fn line(row: &Row, baseline: Option<&Row>) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rate = gstep(row);
    let speedup = match baseline {
        Some(base) if base.label == row.label => Some("baseline".to_owned()),
        Some(base) => rate.zip(gstep(base)).map(|(r, b)| format!("{:.2}%", 100.0 * r / b)),
        None => None,
    };
    let words = |x: &Option<String>| known(x.as_deref().map(|x| visible(x).into_owned()));
    format!(
        "{:<8} {:>10} {:<10} {:<10} {:<10} {:>10} {:>12} {:>10}",
        "",
        words(&row.engine),
        words(&row.precision).to_uppercase(),
        known(mean(row, |r| r.accuracy).map(|x| format!("{x:.6}"))),
        known(mean(row, |r| r.auc_binned_1000).map(|x| format!("{x:.6}"))),
        known(rate.map(|x| format!("{x:.2}"))),
        known(rate.zip(row.batch).map(|(x, b)| format!("{:.2}", x * b as f64))),
        known(speedup)
    )
}

fn gstep(row: &Row) -> Option<f64> {
    mean(row, |r| r.gstep)
}

fn mean(row: &Row, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
    stats::mean(&row.each.iter().filter_map(of).collect::<Vec<_>>())
}
