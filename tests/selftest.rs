//! `dlrm-bench selftest` as a user runs it: in a folder that holds nothing.

use serde_json::Value;
use std::process::{Command, Output};

fn selftest(args: &[&str]) -> Output {
    let empty = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(empty.path())
        .arg("selftest")
        .args(args)
        .output()
        .unwrap();
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "{args:?} left something");
    out
}

#[test]
fn every_run_is_replayed_in_each_precision_without_a_file() {
    let out = selftest(&["--engine", "fused", "--device", "cpu"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 37, "{text}");
    for precision in ["fp32", "bf16", "fp16"] {
        let checks = lines.iter().filter(|l| l.contains(&format!(" {precision} ")));
        assert_eq!(checks.filter(|l| l.starts_with("ok ")).count(), 12, "{text}");
    }
    assert!(lines[0].ends_with("fp32  93 numbers, every digit"), "{text}");
    assert_eq!(lines[36], "all 36 as facebookresearch/dlrm prints them");
}

#[test]
fn as_json_each_check_says_what_differs_by_how_much() {
    let out = selftest(&["--engine", "candle", "--device", "cpu", "--json"]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8(out.stdout).unwrap();
    let checks: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(checks.len(), 12);
    let debug = checks.iter().find(|c| c["run"] == "tiny_debug").unwrap();
    assert_eq!((&debug["numbers"], &debug["engine"]), (&183.into(), &"candle".into()));
    for check in &checks {
        assert!(check["passes"] == true && check["differs"].is_null(), "{check}");
        let [loss, most] =
            [&check["largest"][0], &check["tolerance"]["loss"]].map(|v| v.as_f64().unwrap());
        assert!(0.0 < loss && loss <= most && most == 1e-6, "{check}");
    }
}

#[test]
fn a_device_that_is_not_here_is_one_line() {
    let out = selftest(&["--device", "cuda:4000000000"]);
    assert_eq!(out.status.code(), Some(69));
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.starts_with("error: cuda:4000000000: ") && error.lines().count() == 1, "{error}");
}
