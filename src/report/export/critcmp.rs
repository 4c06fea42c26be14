//! A baseline of `critcmp` (BurntSushi/critcmp, what its `--export` writes and its `src/data.rs`
//! reads): criterion's estimates in nanoseconds by name of benchmark. The time is that of a step,
//! the elements are its samples, so that critcmp's column of throughput is ours.

use super::json;
use crate::results::table::{Comparison, Group, Row};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;

/// Standard deviations of a normal distribution to each side of a 95% interval.
const Z: f64 = 1.959_964;

/// All rows of one system as a baseline of the system's name, benchmarks named by workload.
/// Throughput is without evaluations where it is known.
///
/// # Errors
/// If there are several systems, since a file holds one baseline, or two rows of one workload.
pub fn critcmp(comparison: &Comparison) -> Result<String, String> {
    let mut systems: Vec<(&str, Option<&str>)> = super::rows(comparison)
        .map(|(_, r)| (r.system.name.as_str(), r.system.org.as_deref()))
        .collect();
    systems.sort_unstable();
    systems.dedup();
    let &[(system, _)] = systems.as_slice() else {
        let named = |(name, org): &(&str, Option<&str>)| match org {
            Some(org) => format!("{name} of {org}"),
            None => (*name).to_owned(),
        };
        let names = systems.iter().map(named).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "a file of critcmp holds one system; choose one with --filter system=NAME ({names})"
        ));
    };
    let mut benchmarks: BTreeMap<String, Value> = BTreeMap::new();
    for (group, row) in super::rows(comparison) {
        let Some(benchmark) = benchmark(group, row) else { continue };
        // What a name says beyond the system tells rows of one workload apart.
        let detail = row.name.strip_prefix(system).unwrap_or(&row.name).trim();
        let name = format!("{}/{detail}", row.workload);
        benchmarks.insert(name.clone(), named(benchmark, &name, &row.workload, system));
    }
    if benchmarks.is_empty() {
        return Err("no row has a throughput to export".to_owned());
    }
    Ok(json(&object!({"name": system, "benchmarks": benchmarks})))
}

fn named(estimates: (Value, u64), name: &str, workload: &str, system: &str) -> Value {
    let (estimates, samples) = estimates;
    object!({
        "baseline": system,
        "fullname": format!("{system}/{name}"),
        "criterion_benchmark_v1": {
            "group_id": workload,
            "function_id": null,
            "value_str": null,
            "throughput": {"Bytes": null, "Elements": samples},
            "full_id": name,
            "directory_name": name,
        },
        "criterion_estimates_v1": estimates,
    })
}

/// Estimates of a step's nanoseconds, and its samples.
fn benchmark(group: &Group, row: &Row) -> Option<(Value, u64)> {
    let measure = group.without_eval();
    let rate = row.estimate(measure).or(row.end_to_end.as_ref())?;
    let samples = row.batch.unwrap_or(1);
    let nanoseconds = |rate: f64| 1e9 * samples as f64 / rate;
    let mean = nanoseconds(rate.mean);
    let (low, high) = (rate.high.map_or(mean, nanoseconds), rate.low.map_or(mean, nanoseconds));
    let standard_error = (high - low) / (2.0 * Z);
    let deviation = standard_error * (rate.runs as f64).sqrt();
    let stats = |x: f64, low: f64, high: f64| {
        object!({
            "confidence_interval": {"confidence_level": 0.95, "lower_bound": low, "upper_bound": high},
            "point_estimate": x,
            "standard_error": standard_error,
        })
    };
    let spread = |x: f64| stats(x, x, x);
    let centre = stats(mean, low, high);
    // Of a normal distribution.
    let median_abs_dev = spread(0.6745 * deviation);
    let estimates = object!({"mean": centre, "median": centre, "slope": centre, "median_abs_dev": median_abs_dev, "std_dev": spread(deviation)});
    Some((estimates, samples))
}
