//! `dlrm-bench gate` as CI runs it: the exit code of every verdict, and what it leaves.

#[cfg(unix)]
mod fake;
#[path = "../support/signal.rs"]
#[cfg(unix)]
mod signal;
#[cfg(unix)]
mod slices;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
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

/// A schedule that waits for evaluations, which a slice has none of.
const CUSTOM: &str = r#"
[workload]
name = "custom"
[data]
source = "planted"
preset = "custom"
tables = [100, 200, 50]
train_samples = 200000
eval_samples = 500
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 512
[optimizer]
kind = "sgd"
learning_rate = 0.1
[eval]
every_epochs = 1.0
monitor = "auc"
min_delta = 1e-6
patience = 2
restore_best = true
[schedule]
kind = "reduce_on_plateau"
factor = 0.1
patience = 1
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
        c.current_dir(self.dir.path()).args(["gate", "w.toml", "--quiet"]).args(args);
        if !args.contains(&"--quality-steps") {
            c.args(["--quality-steps", "5"]);
        }
        c.output().unwrap()
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
    let shards = ["--set-b", "loader.shards=2", "--set-b", "loader.shard=0"];
    for (args, key) in [
        // Keys that only one side has, on either side.
        (&["--set-b", "data.exponents=[0.1,0.2,0.3]"][..], "data.exponents"),
        (&["--set-a", "data.exponents=[0.1,0.2,0.3]"], "data.exponents"),
        (&["--set-b", "data.hotness=[2,1,1]"], "data.hotness"),
        (&["--set-a", "model.pad_to=8"], "model.pad_to"),
        (&shards, "loader.shard"),
    ] {
        fs::write(bench.path("w.toml"), CUSTOM).unwrap();
        let (code, verdict) = bench.verdict(args);
        assert!(code == 3 && reason(&verdict).contains(key), "{key}: {verdict}");
    }
    fs::write(bench.path("w.toml"), WORKLOAD).unwrap();
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
}

/// What nothing can meet is refused before anything runs.
#[test]
fn limits_that_cannot_be_met_are_refused() {
    let bench = Bench::new();
    for (args, told) in [
        (["--budget", "1s"], "--budget is 1s, but a confidence of 0.99 takes slices of "),
        (["--confidence", "0.999999999999"], "give a longer --budget, or less --confidence"),
        (["--max-auc-drop", "0.5"], "--max-auc-drop is 0.5; it must be from 0 to below 0.5"),
    ] {
        let more: &[&str] = if args[0] == "--confidence" { &["--budget", "5s"] } else { &[] };
        let output = bench.gate(&[&["--set-b", "train.seed=2"], &args[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && said.contains(told), "{args:?}: {said}");
        assert!(said.lines().count() == 1 && !bench.path("gate").exists(), "{said}");
    }
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
        // The gate ends as soon as it can tell; a slow machine takes longer for its fewest blocks.
        let (code, verdict) =
            bench.verdict(&[&args[..], &["--max-auc-drop", "0.49", "--budget", "90s"]].concat());
        // Only a machine too busy to tell leaves bounds that hold both answers, or no time for the
        // AUC, without which nothing is called fast enough.
        if code == 5 {
            let no_time = expected == 0 && verdict["unchecked"].is_string();
            assert!(no_time || undecided(&verdict["finding"], 0.005), "{verdict}");
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
    if output.status.code() == Some(5) && said.contains("give a longer --budget") {
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

/// Through the programs themselves; that all shipped workloads resolve is a unit test.
#[test]
fn workloads_whose_keys_need_evaluations_are_gated() {
    let bench = Bench::new();
    let code = |args: &[&str], workload: &str| {
        fs::write(bench.path("w.toml"), workload).unwrap();
        let loose = ["--threshold", "90%", "--tolerance", "80%", "--budget", "5s"];
        bench.verdict(&[args, &loose].concat()).0
    };
    let this = env!("CARGO_BIN_EXE_dlrm-bench");
    // 5 where the machine is too busy for as many blocks.
    assert!([0, 5].contains(&code(&["--b", this], CUSTOM)));
    // A real one, on a few samples of its form: a step is an epoch.
    let row = |i: u32| format!("{},{},{},{}\n", i % 2, i % 7, i % 11, i % 5);
    let rows: String = (0..60).map(row).collect();
    for name in ["train", "valid", "test"] {
        fs::write(bench.path(&format!("{name}.csv")), format!("label,user,item,day\n{rows}"))
            .unwrap();
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/frappe-deepfm.toml");
    let frappe = fs::read_to_string(shipped).unwrap().replace("${FRAPPE}/", "");
    assert!([0, 5].contains(&code(&["--b", this, "--set", "model.hidden=[8]"], &frappe)));
}

#[test]
fn a_missing_data_file_is_65_as_for_run() {
    let bench = Bench::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/frappe-deepfm.toml");
    let frappe = fs::read_to_string(shipped).unwrap().replace("${FRAPPE}/", "none/");
    fs::write(bench.path("w.toml"), frappe).unwrap();
    for args in [["--set-b", "engine.threads=1"], ["--record", "base.json"]] {
        let output = bench.gate(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(65), "{said}");
        assert!(said.contains("none/") && said.lines().count() == 1, "{said}");
    }
}

/// A pull request's own program must not be its judge, and what CI runs must not move.
#[test]
fn the_example_for_ci_is_judged_by_the_base_and_pinned() {
    let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    let Ok(entries) = fs::read_dir(workflows) else {
        println!("passed over: workflows are no part of the package");
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let line = line.trim();
            if let Some((_, action)) = line.split_once("uses: ") {
                let (_, version) = action.split_once('@').unwrap();
                let (hash, comment) = version.split_once(' ').unwrap_or((version, ""));
                let hex = hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(hex && comment.starts_with("# v"), "{}: {line}", path.display());
            }
            assert!(!line.contains("cargo build") || line.contains("--locked"), "{line}");
            if line.contains("dlrm-bench gate") {
                assert!(line.starts_with("base/target/release/dlrm-bench gate base/"), "{line}");
            }
        }
    }
}
