//! The numbers of MLPerf results that were published in rounds 1.1 to 4.0, from their logs.

use dlrm_bench::results::{
    table::{self, Comparison, Options, Row},
    tree,
};
use std::path::{Path, PathBuf};

fn published() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mlperf/published");
    if !root.is_dir() {
        eprintln!("skipped: {} is not here", root.display());
        return None;
    }
    Some(root)
}

fn compare(paths: &[&str]) -> Option<Comparison> {
    let root = published()?;
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

/// Minutes times the factor that stands beside the logs.
fn score(row: &Row) -> Option<f64> {
    row.seconds_to_target.map(|s| s * row.scaling_factor.unwrap_or(1.0) / 60.0)
}

fn row<'a>(comparison: &'a Comparison, folder: &str) -> &'a Row {
    let mut rows = comparison.groups.iter().flat_map(|g| &g.rows);
    rows.find(|r| r.system.folder.as_deref() == Some(folder)).unwrap()
}

#[test]
fn every_round_has_the_rates_that_its_logs_say_and_epochs_of_one_epoch() {
    let Some(c) = compare(&["v1.1", "v2.0", "v2.1", "v3.1", "v4.0"]) else { return };
    let titles: Vec<(&str, usize)> =
        c.groups.iter().map(|g| (g.title.as_str(), g.rows.len())).collect();
    assert_eq!(titles, [("dlrm", 4), ("dlrm_dcnv2", 3)], "two tasks, two tables");
    let runs: Vec<_> = c
        .groups
        .iter()
        .flat_map(|g| &g.rows)
        .flat_map(|r| r.each.iter().map(move |e| (r, e)))
        .collect();
    assert_eq!(runs.len(), 5 + 5 + 5 + 5 + 20 + 10);
    let mut tracked = 0;
    for (row, run) in runs {
        let at = format!("{} {}", row.label, run.path);
        assert!(run.epochs.is_some_and(|e| e > 0.0 && e <= 1.0), "{at}: {:?} epochs", run.epochs);
        assert!(run.evaluations.iter().all(|e| e.epochs > 0.0 && e.epochs <= 1.0), "{at}");
        // One submitter counts epochs of a batch that is not its own.
        let odd = run.warnings.iter().all(|w| w.starts_with("train_samples behind run_stop says"));
        let is_nettrix = run.system.org.as_deref() == Some("Nettrix");
        assert!(run.warnings.is_empty() || (odd && is_nettrix), "{at}: {:?}", run.warnings);
        assert!(run.throughput.training > run.throughput.end_to_end, "{at}: {:?}", run.throughput);
        if let Some(logged) = run.throughput.logged {
            near(run.throughput.end_to_end, logged, 0.005);
            tracked += 1;
        }
    }
    assert!(tracked > 30, "{tracked} logs say their throughput");
}

#[test]
fn scores_are_the_published_ones() {
    let Some(c) = compare(&["v1.1", "v2.0", "v2.1", "v3.1", "v4.0"]) else { return };
    for (folder, minutes, rate) in [
        ("dgxa100_ngc21.09_merlin_hugectr", 1.70912, Some(36.83e6)),
        ("dgxa100_n8_ngc21.09_merlin_hugectr", 0.684856, None),
        ("X640G40_8xA30_hugectr", 5.468133, Some(5.645e6)),
    ] {
        near(score(row(&c, folder)), minutes, 1e-5);
        if let Some(rate) = rate {
            near(rates(row(&c, folder)).0, rate, 1e-3);
        }
    }
    // MLPerf's test of convergence finds the factors that stand beside the logs.
    for folder in ["eos_ngc23.09_merlin_hugectr", "1xSMC-H100-SXM-80GB"] {
        let row = row(&c, folder);
        let note = row.notes.iter().find(|n| n.starts_with("converges like")).unwrap();
        let factor = format!("the score's factor is {:.4}", row.scaling_factor.unwrap());
        assert!(note.contains(&factor), "{note}");
    }
    // Of the first dlrm only means are known, and of rounds before 2.0 none.
    let said = |folder: &str| row(&c, folder).notes.iter().find(|n| n.contains("is unknown:"));
    let preview = said("dgxh100_preview").unwrap();
    assert!(preview.contains("mean 0.900 epochs, reference 0.902 (29 runs)"), "{preview}");
    let small = said("X640G40_8xA30_hugectr").unwrap();
    assert!(small.ends_with("from 32768 to 71680, not 27648"), "{small}");
    assert_eq!(said("dgxa100_ngc21.09_merlin_hugectr"), None);
    let spr = row(&c, "4-nodes-SPR-pytorch");
    assert!(spr.notes.iter().any(|n| n.starts_with("converges more slowly")), "{:?}", spr.notes);
    let smc = row(&c, "1xSMC-H100-SXM-80GB");
    assert_eq!((smc.runs, smc.converged), (10, 10));
    near(score(smc).map(|minutes| 60.0 * minutes), 233.1, 1e-3);
}

#[test]
fn round_3_1_before_scaling() {
    let Some(c) = compare(&["v3.1"]) else { return };
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
    let log = |org_system: &str| format!("v3.1/{org_system}/dlrm_dcnv2/result_0.txt");
    let dgx = log("NVIDIA/results/eos_ngc23.09_merlin_hugectr");
    let Some(c) = compare(&[&dgx]) else { return };
    let (end_to_end, training) = rates(&c.groups[0].rows[0]);
    near(end_to_end, 13.52e6, 1e-3);
    near(end_to_end, 13_523_406.36, 1e-4);
    near(training, 15.22e6, 1e-3);
    let Some(c) = compare(&[&log("Intel/results/4-nodes-SPR-pytorch")]) else { return };
    near(rates(&c.groups[0].rows[0]).0, 252e3, 1e-3);
}
