//! The numbers of MLPerf results that were published in round 3.1, from their logs.

use dlrm_bench::results::{
    table::{self, Comparison, Options, Row},
    tree,
};
use std::path::Path;

fn compare(paths: &[&str]) -> Option<Comparison> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mlperf/published/v3.1");
    if !root.is_dir() {
        eprintln!("skipped: {} is not here", root.display());
        return None;
    }
    let paths: Vec<String> = paths.iter().map(|p| root.join(p).display().to_string()).collect();
    let found = tree::read(&paths);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    Some(table::build(found.runs, &Options::default()).unwrap())
}

fn near(value: Option<f64>, expected: f64, relative: f64) {
    assert!(
        value.is_some_and(|v| (v / expected - 1.0).abs() < relative),
        "{value:?} is not {expected}"
    );
}

fn rates(row: &Row) -> (Option<f64>, Option<f64>) {
    (row.end_to_end.map(|e| e.mean), row.training.map(|e| e.mean))
}

#[test]
fn scores_are_the_published_ones_before_scaling() {
    let Some(c) = compare(&[""]) else { return };
    assert_eq!(c.groups.len(), 1, "one task");
    let [dgx, spr] = c.groups[0].rows.as_slice() else { panic!("{:?}", c.groups[0].rows) };
    assert_eq!(
        (dgx.system.platform.as_deref(), dgx.system.org.as_deref()),
        (Some("1xNVIDIA DGX H100"), Some("NVIDIA"))
    );
    assert_eq!(
        (spr.label.as_str(), spr.system.round.as_deref()),
        ("4-nodes-SPR-pytorch", Some("v3.1"))
    );
    assert_eq!((dgx.runs, dgx.converged, spr.runs, spr.converged), (10, 10, 10, 10));
    assert_eq!((dgx.batch, spr.batch), (Some(55296), Some(65536)));
    // Minutes, olympic mean of ten unscaled runs.
    assert_eq!(dgx.seconds_to_target.map(|s| format!("{:.2}", s / 60.0)).as_deref(), Some("3.84"));
    assert_eq!(spr.seconds_to_target.map(|s| format!("{:.1}", s / 60.0)).as_deref(), Some("227.1"));
    near(dgx.scaling_factor, 1.0238095238, 1e-9);
    near(spr.ratio, 253.2 / 13547.0, 1e-3);
    // HugeCTR's own tracked_stats agree: no warnings.
    assert!(dgx.each.iter().chain(&spr.each).all(|r| r.warnings.is_empty()));
    near(dgx.each[0].throughput.logged, 13_523_406.36, 1e-6);
}

/// The throughputs that were worked out by hand are those of one run each, the first.
#[test]
fn throughput_of_one_run_is_that_of_its_submitter() {
    let log = |org_system: &str| format!("{org_system}/dlrm_dcnv2/result_0.txt");
    let dgx = log("NVIDIA/results/eos_ngc23.09_merlin_hugectr");
    let Some(c) = compare(&[&dgx]) else { return };
    let (end_to_end, training) = rates(&c.groups[0].rows[0]);
    near(end_to_end, 13.52e6, 1e-3);
    near(end_to_end, 13_523_406.36, 1e-4);
    near(training, 15.22e6, 1e-3);
    let Some(c) = compare(&[&log("Intel/results/4-nodes-SPR-pytorch")]) else { return };
    near(rates(&c.groups[0].rows[0]).0, 252e3, 1e-3);
}
