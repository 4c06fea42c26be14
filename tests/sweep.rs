//! `run --steps` and `run --sweep` as a user runs them.

use dlrm_bench::results::record::{self, RunRecord};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 500, train_samples = 2000, eval_samples = 1000 }
model = { kind = "dlrm", dim = 8, bottom = [16, 8], top = [16, 1] }
train = { batch_size = 128, seed = 3 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every_steps = 4, batch_size = 500, patience = 3 }
target.auc = 0.52
mlperf.platform = "here"
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

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(args);
        // Nobody looks at these here.
        if args[0] == "run" && !args.contains(&"--loader-only") {
            command.args(["--no-plots", "--no-ceilings"]);
        }
        command
    }

    fn out(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that succeeds says on standard output and on standard error.
    fn done(&self, args: &[&str]) -> (String, String) {
        let out = self.out(args);
        let (said, err) = (text(&out.stdout).to_owned(), text(&out.stderr).to_owned());
        assert_eq!(out.status.code(), Some(0), "{args:?}\n{said}{err}");
        (said, err)
    }

    /// That the command is refused before anything runs, in one line.
    fn refused(&self, args: &[&str], error: &str) {
        let out = self.out(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.contains(error), "{args:?}: {said}");
        assert!(!self.path("results").exists(), "{args:?}");
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// All records below a folder.
fn records(folder: &Path) -> Vec<(PathBuf, RunRecord)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            found.extend(records(&entry));
        } else if entry.ends_with("run.json") {
            found.push((folder.to_owned(), record::read(&entry).unwrap()));
        }
    }
    found
}

#[test]
fn so_many_steps_are_trained_and_nothing_is_judged() {
    let bench = Bench::new();
    let (_, err) = bench.done(&["run", "w.toml", "--quiet", "--steps", "40"]);
    assert_eq!(
        err,
        "40 steps for their speed alone: no evaluation, no target, no quality is judged\n"
    );
    let runs = records(&bench.path("results"));
    let outcome = runs[0].1.outcome.as_ref().unwrap();
    assert_eq!((runs.len(), outcome.steps, outcome.success), (1, 40, true));
    assert!(runs[0].1.evaluations.is_empty() && outcome.last_eval.is_none());
    assert_eq!(runs[0].1.facts.as_ref().unwrap().target_auc, None);
    // Such runs are one row with what is set by hand, and never with full ones.
    let by_hand = ["max_steps=40", "epochs=40"].map(|s| format!("train.{s}"));
    let mut args = vec!["run", "w.toml", "--quiet", "--seed", "4"];
    for set in by_hand.iter().map(String::as_str).chain([
        "eval.every=never",
        "eval.every_steps=",
        "eval.patience=",
        "target.auc=",
    ]) {
        args.extend(["--set", set]);
    }
    bench.done(&args);
    bench.done(&["run", "w.toml", "--quiet"]);
    let json: Value =
        serde_json::from_str(&bench.done(&["compare", "results", "--format", "json"]).0).unwrap();
    let runs_of = |group: &Value| group["rows"][0]["runs"].as_u64().unwrap();
    let groups = json["groups"].as_array().unwrap();
    let mut runs: Vec<u64> = groups.iter().map(runs_of).collect();
    runs.sort_unstable();
    assert_eq!(runs, [1, 2], "{json:#}");
    // A series of them has throughput and no score.
    let (said, _) = bench.done(&["run", "w.toml", "--quiet", "--steps", "40", "--runs", "2"]);
    assert!(said.contains("throughput") && !said.contains("score"), "{said}");
}

#[test]
fn steps_that_contradict_are_refused() {
    let bench = Bench::new();
    let steps = |more: &[&'static str]| [&["run", "w.toml", "--steps", "40"], more].concat();
    bench.refused(&["run", "w.toml", "--steps", "0"], "invalid value '0' for '--steps <N>'");
    bench.refused(
        &steps(&["--set", "train.max_steps=50"]),
        "error: --steps 40 trains so many steps without evaluation and target, so that train.max_steps has no effect; leave one of them out\n",
    );
    bench.refused(&steps(&["--set", "target.auc=0.6"]), "so that target.auc has no effect");
    bench.refused(&steps(&["--reference", "r.json"]), "cannot be used with");
    bench.refused(
        &["run", "--resume", "w.toml", "--steps", "4"],
        "leave out --set, --engine, --device, --threads, --seed and --steps",
    );
}
