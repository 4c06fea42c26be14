//! What the tools' readers look for.

use super::*;
use crate::{report::tests::comparison, results::table::Options};
use serde_json::Value;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What exports call the row of a system.
fn called(comparison: &Comparison, system: &str) -> String {
    let rows = comparison.groups.iter().flat_map(|g| &g.rows);
    rows.filter(|r| r.system.name == system).map(name).next().unwrap()
}

#[test]
fn github_action_benchmark_takes_names_units_and_numbers() {
    let comparison = comparison(&Options::default());
    let big = called(&comparison, "big_one");
    assert!(big.starts_with("dlrm_dcnv2/big_one ") && big.ends_with(" batch 55296"), "{big}");
    let entries = parsed(&github_action_benchmark(&comparison));
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 6);
    for e in entries {
        assert!(e["name"].is_string() && e["unit"] == "samples/s" && e["value"].is_f64(), "{e}");
    }
    assert_eq!(
        (&entries[0]["name"], &entries[0]["value"]),
        (&format!("{big} end to end").into(), &13_546_810.0.into())
    );
    assert!(
        entries[0]["range"].as_str().unwrap().starts_with("± ")
            && entries[2].get("range").is_none()
    );
    let mut names: Vec<&str> = entries.iter().map(|e| e["name"].as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), 6);
}

#[test]
fn bencher_takes_measures_by_slug() {
    let comparison = comparison(&Options::default());
    let benchmarks = parsed(&bencher(&comparison));
    let big = &benchmarks[called(&comparison, "big_one")];
    assert_eq!(big["throughput"]["value"], 13_546_810.0);
    assert!(big["throughput"]["lower_value"].as_f64() < big["throughput"]["value"].as_f64());
    assert_eq!(big["seconds-to-target"], serde_json::json!({"value": 230.0}));
    assert!(
        big.as_object()
            .unwrap()
            .keys()
            .all(|k| k.len() <= 64 && k.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
    );
    assert!(big.get("steady-throughput").is_none());
}

#[test]
fn critcmp_takes_one_system_and_shows_its_throughput() {
    let error = critcmp(&comparison(&Options::default())).unwrap_err();
    assert!(
        error.starts_with(
            "a file of critcmp holds one system; choose one with --filter system=NAME (4-nodes"
        ),
        "{error}"
    );
    let one = Options { filters: vec!["system=big_one".parse().unwrap()], ..Options::default() };
    let baseline = parsed(&critcmp(&comparison(&one)).unwrap());
    assert_eq!(baseline["name"], "big_one");
    let (name, benchmark) = baseline["benchmarks"].as_object().unwrap().iter().next().unwrap();
    assert!(name.starts_with("dlrm_dcnv2/"), "{name}");
    assert_eq!(
        (&benchmark["baseline"], &benchmark["fullname"]),
        (&"big_one".into(), &format!("big_one/{name}").into())
    );
    let estimates = &benchmark["criterion_estimates_v1"];
    for name in ["mean", "median", "median_abs_dev", "slope", "std_dev"] {
        let e = &estimates[name];
        assert!(e["point_estimate"].is_f64() && e["standard_error"].is_f64(), "{name}");
        assert!(e["confidence_interval"]["lower_bound"].is_f64());
    }
    // What critcmp makes of it: elements over mean nanoseconds.
    let elements = benchmark["criterion_benchmark_v1"]["throughput"]["Elements"].as_f64().unwrap();
    let rate = elements * 1e9 / estimates["mean"]["point_estimate"].as_f64().unwrap();
    assert!((rate / (1.1256 * 13_546_810.0) - 1.0).abs() < 1e-9);
}

#[test]
fn ascend_takes_keys_and_values() {
    let text = ascend(&comparison(&Options::default()));
    let first: Vec<(&str, &str)> =
        text.lines().take_while(|l| !l.is_empty()).map(|l| l.split_once(" = ").unwrap()).collect();
    let value = |key: &str| first.iter().find(|(k, _)| *k == key).unwrap().1;
    assert_eq!(value("CaseName"), "dlrm_dcnv2_bs55296_1p_acc");
    assert_eq!(
        (value("RankSize"), value("BatchSize"), value("DeviceType")),
        ("1", "55296", "x86_64")
    );
    let fps: f64 = value("ActualFPS").parse().unwrap();
    assert!((fps / (1.1256 * 13_546_810.0) - 1.0).abs() < 1e-6);
    let step: f64 = value("TrainingTime").parse().unwrap();
    assert!((step - 55296.0 * 1000.0 / fps).abs() < 1e-3);
    assert_eq!(
        (value("ActualLoss"), value("E2ETrainingTime"), value("TrainAccuracy")),
        ("0.12500", "230.0", "0.80294")
    );
    assert_eq!(text.matches("Network = ").count(), 3);
}
