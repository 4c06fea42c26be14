//! `dlrm-bench gate` as CI runs it: the exit code of every verdict, and what it leaves.

use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "criteo_kaggle"
max_rows = 50
train_samples = 40000
eval_samples = 500
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 32
[optimizer]
kind = "sgd"
learning_rate = 0.05
[eval]
every_steps = 10
[target]
auc = 0.99
"#;

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn gate(&self, args: &[&str]) -> Output {
        let mut c = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        // candle's threads, which `engine.threads` has no say in.
        c.env("RAYON_NUM_THREADS", "2");
        c.current_dir(self.dir.path())
            .args(["gate", "w.toml", "--quality-steps", "5", "--quiet"])
            .args(args)
            .output()
            .unwrap()
    }

    /// The exit code and verdict.json of a gate, which must agree with each other and with the
    /// summary.
    fn verdict(&self, args: &[&str]) -> (i32, Value) {
        let _ = fs::remove_dir_all(self.path("gate"));
        let output = self.gate(args);
        let code = output.status.code().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let json = fs::read_to_string(self.path("gate/verdict.json"))
            .unwrap_or_else(|e| panic!("code {code}, {e}: {said}"));
        let verdict: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(verdict["exit_code"], code, "{said}");
        let summary = fs::read_to_string(self.path("gate/summary.md")).unwrap();
        assert!(
            summary.starts_with("## Throughput gate: ")
                && String::from_utf8_lossy(&output.stdout) == summary,
            "{summary}"
        );
        assert_eq!(fs::read_dir(self.path("gate")).unwrap().count(), 2, "slices are removed");
        (code, verdict)
    }
}

fn reason(verdict: &Value) -> &str {
    verdict["reason"].as_str().unwrap()
}

/// Neither is the slowdown surely above the tolerance, nor surely below the default threshold.
fn undecided(finding: &Value, tolerance: f64) -> bool {
    let bound = |name: &str| finding[name].as_f64();
    bound("low").is_none_or(|low| low <= tolerance) && bound("high").is_none_or(|high| high >= 0.03)
}

#[test]
fn wrong_command_lines_are_64_in_one_line() {
    let bench = Bench::new();
    for (args, expected) in [
        (&[][..], "nothing to compare: give --a or --b BIN"),
        (&["--b", "none", "--threshold", "0"], "--threshold is 0; it must be above 0"),
        (
            &["--b", "none", "--tolerance", "4%"],
            "--tolerance is 0.04; it must be from 0 to the threshold",
        ),
        (
            &["--b", "none", "--confidence", "1"],
            "--confidence is 1; it must be above 0.5 and below 1",
        ),
        (&["--b", "./none"], "cannot run ./none"),
        (&["--set-b", "train.batch=3"], "train.batch"),
    ] {
        let output = bench.gate(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(
            said.starts_with("error: ") && said.contains(expected) && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn a_missing_or_broken_baseline_is_2() {
    let bench = Bench::new();
    let (code, verdict) = bench.verdict(&["--baseline", "base.json"]);
    assert!(code == 2 && reason(&verdict).contains("cannot read base.json"), "{verdict}");
    fs::write(bench.path("base.json"), "{}").unwrap();
    let (code, verdict) = bench.verdict(&["--baseline", "base.json"]);
    assert!(code == 2 && reason(&verdict).contains("base.json: not a baseline"), "{verdict}");
}

#[test]
fn other_work_is_3_broken_training_4_and_no_time_5() {
    let bench = Bench::new();
    let (code, verdict) = bench.verdict(&["--set-b", "data.max_rows=60"]);
    assert!(code == 3 && reason(&verdict).contains("data.max_rows"), "{verdict}");
    let (code, verdict) = bench.verdict(&["--set-b", "optimizer.learning_rate=1e30"]);
    assert!(code == 4 && reason(&verdict).contains("loss"), "{verdict}");
    // A side that hardly learns, while none is allowed to be worse than the other by anything.
    let steps = [
        "--set-b",
        "optimizer.learning_rate=1e-9",
        "--quality-steps",
        "300",
        "--max-auc-drop",
        "0",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(bench.dir.path())
        .args(["gate", "w.toml", "--set-a", "optimizer.learning_rate=0.5", "--quiet", "-o", "auc"])
        .args(steps)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.code() == Some(4) && said.contains("After 300 steps the AUC is"),
        "{said}"
    );
    let (code, verdict) =
        bench.verdict(&["--set-b", "train.seed=2", "--max-auc-drop", "1", "--budget", "1s"]);
    assert!(code == 5 && reason(&verdict).contains("give a longer --budget"), "{verdict}");
}

/// An engine that takes longer is a regression, and the other way round an improvement, which never
/// fails. On a machine so busy that it cannot tell, the gate must say so.
#[test]
fn a_slower_side_is_1_and_a_faster_one_0() {
    let bench = Bench::new();
    // Large enough that the engines differ by their arithmetic.
    let larger = WORKLOAD
        .replace("= 32", "= 1024")
        .replace("bottom = [8, 4]", "bottom = [256, 4]")
        .replace("top = [8, 1]", "top = [256, 128, 1]");
    // By that and not by how many cores they make use of: each has two threads.
    fs::write(bench.path("w.toml"), larger + "[engine]\nthreads = 2\n").unwrap();
    for (args, expected) in
        [(["--set-b", "engine.kind=candle"], 1), (["--set-a", "engine.kind=candle"], 0)]
    {
        let (code, verdict) =
            bench.verdict(&[&args[..], &["--max-auc-drop", "1", "--budget", "40s"]].concat());
        // Only a machine too busy to tell leaves bounds that hold both answers.
        if code == 5 {
            assert!(undecided(&verdict["finding"], 0.005), "{verdict}");
            println!("passed over: {}", reason(&verdict));
            continue;
        }
        assert_eq!(code, expected, "{}", reason(&verdict));
        let sides: Vec<&str> = verdict["slices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["side"].as_str().unwrap())
            .collect();
        for block in sides.chunks(4) {
            assert!(block == ["a", "b", "b", "a"] || block == ["b", "a", "a", "b"], "{block:?}");
        }
        assert!((verdict["finding"]["slowdown"].as_f64().unwrap() > 0.0) == (expected == 1));
    }
}

#[test]
fn a_recorded_baseline_tells_slower_from_faster_and_from_another_machine() {
    let bench = Bench::new();
    let output = bench.gate(&["--record", "base.json", "--budget", "25s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(5) && said.contains("fitted into the budget") {
        println!("passed over: this machine is too busy to record a baseline");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    let recorded: Value =
        serde_json::from_str(&fs::read_to_string(bench.path("base.json")).unwrap()).unwrap();
    let scaled = |factor: f64| {
        let mut base = recorded.clone();
        for share in base["sessions"][0]["efficiency"].as_array_mut().unwrap() {
            *share = (share.as_f64().unwrap() * factor).into();
        }
        fs::write(bench.path("scaled.json"), base.to_string()).unwrap();
    };
    for (factor, expected) in [(10.0, 1), (0.1, 0)] {
        scaled(factor);
        let (code, verdict) = bench.verdict(&["--baseline", "scaled.json", "--budget", "20s"]);
        // With a baseline the tolerance is the threshold.
        if code == 5 && undecided(&verdict["finding"], 0.03) {
            println!("passed over: {}", reason(&verdict));
            continue;
        }
        assert_eq!(code, expected, "{}", reason(&verdict));
    }
    let mut base = recorded.clone();
    base["conditions"]["cpu"] = "another".into();
    fs::write(bench.path("other.json"), base.to_string()).unwrap();
    let (code, verdict) = bench.verdict(&["--baseline", "other.json"]);
    assert!(code == 3 && reason(&verdict).contains("processor is another"), "{verdict}");
    let output = bench.gate(&["--record", "other.json", "--budget", "5s"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("remove it to start anew"));
}
