//! Bencher Metric Format, for `bencher run --adapter json --file FILE`: benchmark -> measure ->
//! `{value, lower_value, upper_value}` (bencher.dev, reference "Bencher Metric Format"). Measures
//! are slugs: `throughput` is built in, the others are made on first sight.

use super::{json, name, rows};
use crate::results::table::{Comparison, Estimate};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Metric {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

/// All measurements of each row.
pub fn bencher(comparison: &Comparison) -> String {
    let plain = |value: Option<f64>| {
        value.map(|value| Metric { value, lower_value: None, upper_value: None })
    };
    let estimate = |e: Option<Estimate>| {
        e.map(|e| Metric { value: e.mean, lower_value: e.low, upper_value: e.high })
    };
    let benchmarks: BTreeMap<String, BTreeMap<&str, Metric>> = rows(comparison)
        .map(|(_, row)| {
            let measures = [
                ("throughput", estimate(row.end_to_end)),
                ("training-throughput", estimate(row.training)),
                ("steady-throughput", estimate(row.steady)),
                ("seconds-to-target", plain(row.seconds_to_target)),
                ("epochs-to-target", plain(row.epochs_to_target)),
                ("auc", plain(row.auc)),
                ("floor-share", plain(row.floor_share)),
            ];
            (name(row), measures.into_iter().filter_map(|(slug, m)| Some((slug, m?))).collect())
        })
        .collect();
    json(&benchmarks)
}
