//! `--device` as a user gives it, where there is a GPU and where there is none.

use dlrm_bench::backend::Device;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.toml");
    std::fs::write(&file, TINY).unwrap();
    let results = dir.path().join("results");
    let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .args([
            "run".as_ref(),
            file.as_os_str(),
            "--results".as_ref(),
            results.as_os_str(),
            "--no-ceilings".as_ref(),
        ])
        .args(args)
        .output()
        .unwrap();
    assert!(out.status.success() || !results.exists(), "nothing is left of a run that never began");
    out
}

const TINY: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "criteo_kaggle"
max_rows = 500
train_samples = 2000
eval_samples = 500
[model]
kind = "dlrm"
dim = 8
bottom = [16, 8]
top = [16, 1]
[train]
batch_size = 256
[optimizer]
kind = "sgd"
learning_rate = 0.05
[eval]
every_steps = 5
batch_size = 500
"#;

/// The GPU's bits, or what a machine without one says: one line that names it.
#[test]
fn a_gpu_computes_or_what_is_missing_is_said_in_a_line() {
    let out = run(&["--device", "cuda:0", "--quiet"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    match Device::Cuda(0).open() {
        Ok(_) => assert!(out.status.success(), "{text}"),
        Err(why) => {
            eprintln!("skipped on a GPU: {why}");
            assert_eq!((out.status.code(), text.lines().count()), (Some(69), 1), "{text}");
            assert!(text.contains(&why.to_string()) && text.contains("cuda:0"), "{text}");
        }
    }
}

#[test]
fn auto_trains_anywhere_and_says_on_what() {
    let out = run(&["--device", "auto"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && text.contains("device auto: computing on "), "{text}");
}

#[test]
fn explain_prints_the_memory_of_the_gpu_without_one() {
    let out = run(&["--device", "cuda:0", "--explain"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success()
            && text.contains("# Memory of cuda:0")
            && text.contains("embedding tables"),
        "{text}"
    );
}

/// Where there is a GPU it passes; elsewhere the same line as from a run.
#[test]
fn a_gpu_is_checked_or_missed() {
    let mut check = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let out = check
        .args(["system", "--check-device", "cuda:0", "--batch", "512", "--json"])
        .output()
        .unwrap();
    let (text, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    match Device::Cuda(0).open() {
        Ok(_) => assert!(out.status.success() && text.contains("\"failed\": []"), "{text}{why}"),
        Err(missing) => {
            assert!(out.status.code() == Some(69) && why.contains(&missing.to_string()), "{why}")
        }
    }
    let cpu = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .args(["system", "--check-device", "cpu"])
        .output()
        .unwrap();
    assert_eq!(cpu.status.code(), Some(64));
}
