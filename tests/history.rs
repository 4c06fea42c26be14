//! `dlrm-bench history`, as a user has it.

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", preset = "custom", tables = [20, 3], dense = 2, train_samples = 3000, eval_samples = 300 }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [8, 1] }
train = { batch_size = 64, max_steps = 20 }
optimizer = { kind = "sgd", learning_rate = 0.05 }
eval.every = "end"
mlperf.platform = "here"
"#;

fn dlrm_bench(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(dir).args(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The folder of the only run below a folder.
fn only(folder: &Path) -> PathBuf {
    if folder.join("run.json").is_file() {
        return folder.to_owned();
    }
    let mut folders = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    only(&folders.next().unwrap())
}

/// Results of a real run, told again as runs of other days, programs and speeds.
fn bench(runs: &[(&str, &str, f64)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
    let args = ["run", "w.toml", "--no-plots", "--no-ceilings", "--quiet", "--results", "first"];
    let done = dlrm_bench(dir.path(), &args);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let run = only(&dir.path().join("first"));
    let record: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    for (k, (day, commit, speed)) in runs.iter().enumerate() {
        let mut record = record.clone();
        record["started"] = json!(format!("2026-11-{day}T10:00:00Z"));
        record["versions"]["git_commit"] = json!(commit);
        record["throughput"]["training"] = json!(speed);
        record["throughput"]["steady"] = Value::Null;
        let folder = dir.path().join(format!("results/here/tiny/run-{k}"));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(run.join("workload.toml"), folder.join("workload.toml")).unwrap();
        fs::write(folder.join("run.json"), record.to_string()).unwrap();
    }
    dir
}

#[test]
fn a_slower_commit_is_found_and_dated() {
    // Not in order of time, as folders are read.
    let bench = bench(&[
        ("05", "ccc", 89_800.0),
        ("01", "aaa", 100_100.0),
        ("02", "aaa", 99_700.0),
        ("03", "bbb", 100_400.0),
        ("04", "bbb", 99_900.0),
        ("06", "ccc", 90_300.0),
        ("07", "ddd", 89_900.0),
    ]);
    let dir = bench.path();
    let text = out(&dlrm_bench(dir, &["history", "results"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("tiny on ") && lines[0].ends_with(": 1 change in 7 runs"),
        "{text}"
    );
    let (before, after) = (lines[4], lines[5]);
    assert!(before.contains("2026-11-03  bbb") && before.ends_with("100.1k"), "{text}");
    assert!(after.contains("2026-11-05  ccc") && after.contains("90.05k  -10.0% (95%"), "{text}");
    assert!(lines[6].contains("ddd") && lines.iter().all(|l| l.chars().count() <= 80), "{text}");
    let json = out(&dlrm_bench(dir, &["history", "results", "--format", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    let series = &json["series"][0];
    assert_eq!(series["steps"][0]["at"], 4);
    assert_eq!(series["steps"][0]["commits"], json!(["bbb", "ccc"]));
    assert_eq!(series["points"].as_array().unwrap().len(), 7);
    let written =
        dlrm_bench(dir, &["history", "results", "-o", "history.md", "--plots", "pictures"]);
    assert_eq!(written.status.code(), Some(0));
    let markdown = fs::read_to_string(dir.join("history.md")).unwrap();
    assert!(markdown.contains("| 2026-11-05 | ccc | 2 | 90.05k | **-10.0% (95%"), "{markdown}");
    let svg = fs::read_to_string(dir.join("pictures/history.svg")).unwrap();
    assert!(svg.contains("1 change in 7 runs, 2026-11-01 to 2026-11-07"), "{svg}");
    assert!(dir.join("pictures/history.png").is_file());
}

#[test]
fn what_differs_in_more_than_the_program_is_another_series() {
    let bench = bench(&[("01", "aaa", 1e5), ("02", "aaa", 1e5), ("03", "bbb", 1e5)]);
    let path = bench.path().join("results/here/tiny/run-2/run.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["machine"]["cpu"]["model"] = json!("another");
    fs::write(&path, record.to_string()).unwrap();
    let json = out(&dlrm_bench(bench.path(), &["history", "results", "--format", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    let points: Vec<usize> = json["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["points"].as_array().unwrap().len())
        .collect();
    assert_eq!(points, [2, 1]);
    // Nothing to follow, and nothing at all.
    let floor = dlrm_bench(bench.path(), &["history", "results", "--of", "floor"]);
    assert_eq!(floor.status.code(), Some(64));
    let told = String::from_utf8_lossy(&floor.stderr).into_owned();
    assert!(
        told.contains("3 runs passed over") && told.contains("no runs whose history"),
        "{told}"
    );
    for args in [&["history", "none"][..], &["history", "results", "-o", "x.pdf"]] {
        let refused = dlrm_bench(bench.path(), args);
        assert!(matches!(refused.status.code(), Some(64 | 65)), "{args:?}");
    }
}
