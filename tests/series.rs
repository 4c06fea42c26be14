//! `run --runs`, `record` and the judgement of convergence, as a user runs them.

#[cfg(unix)]
#[path = "support/signal.rs"]
mod signal;

use dlrm_bench::results::record;
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 500, train_samples = 4000, eval_samples = 2000 }
model = { kind = "dlrm", dim = 8, bottom = [16, 8], top = [16, 1] }
train = { batch_size = 128, seed = 3 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every_steps = 4, batch_size = 500 }
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

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(self.dir.path()).args(args);
        // Nobody looks at these here.
        if args[0] == "run" {
            command.args(["--no-plots", "--no-ceilings"]);
        }
        command
    }

    fn out(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Folders of all runs, in order of time, then seed.
    fn runs(&self) -> Vec<PathBuf> {
        let parent = self.dir.path().join("results/here/tiny");
        let mut runs: Vec<_> = fs::read_dir(parent)
            .map(|d| d.map(|e| e.unwrap().path()).collect())
            .unwrap_or_default();
        runs.sort();
        runs
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[test]
fn a_series_leaves_a_folder_a_seed_and_sums_up() {
    let bench = Bench::new();
    let out = bench.out(&["run", "w.toml", "--runs", "4", "--quiet"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let records: Vec<_> =
        bench.runs().iter().map(|r| record::read(&r.join("run.json")).unwrap()).collect();
    let mut seeds: Vec<u64> = records.iter().map(|r| r.workload.seed).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [3, 4, 5, 6]);
    let first = records.iter().find(|r| r.workload.seed == 3).unwrap();
    for r in &records {
        let series = r.series.as_ref().unwrap();
        assert_eq!(
            (series.id.as_ref(), series.runs, series.run as u64 + 2),
            (Some(&first.run), 4, r.workload.seed)
        );
    }
    assert!(
        bench
            .runs()
            .iter()
            .all(|r| r.join("result_0.txt").is_file() && r.join("metrics.parquet").is_file())
    );
    let summary = text(&out.stdout);
    assert_eq!(summary.lines().filter(|l| l.starts_with("seed ")).count(), 4, "{summary}");
    assert!(line(summary, "runs").ends_with("4, 4 reached the target"), "{summary}");
    // The score is the mean of the two in the middle, and compare says the same. What counts is a
    // run's whole time: the target is met a little earlier, before the last lines of the log are
    // written.
    assert!(
        records.iter().all(
            |r| r.convergence.seconds_to_target.unwrap() <= r.outcome.as_ref().unwrap().seconds
        )
    );
    let mut seconds: Vec<f64> =
        records.iter().map(|r| r.outcome.as_ref().unwrap().seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let score = (seconds[1] + seconds[2]) / 2.0;
    let json: Value =
        serde_json::from_slice(&bench.out(&["compare", "results", "--format", "json"]).stdout)
            .unwrap();
    let row = &json["groups"][0]["rows"][0];
    assert_eq!(row["runs"], 4);
    assert!(
        (row["seconds_to_target"].as_f64().unwrap() / score - 1.0).abs() < 1e-9,
        "{row} is not {score}"
    );
    assert!(
        line(summary, "score")
            .contains(&format!("{:.1} s", row["seconds_to_target"].as_f64().unwrap()))
    );

    // A record of these runs, and others held against it.
    let out = bench.out(&["record", "results/here/tiny", "-o", "tiny.json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let made: Value =
        serde_json::from_str(&fs::read_to_string(bench.dir.path().join("tiny.json")).unwrap())
            .unwrap();
    let curve = &made["points"][0]["runs"][0];
    assert!(
        curve["seed"] == 3
            && !curve["auc"].as_array().unwrap().is_empty()
            && !curve["loss"].as_array().unwrap().is_empty()
    );
    let out = bench.out(&["run", "w.toml", "--seed", "4", "--quiet", "--reference", "tiny.json"]);
    assert!(
        line(text(&out.stdout), "convergence").contains("converges like the reference: "),
        "{}",
        text(&out.stdout)
    );
    let slow = [
        "run",
        "w.toml",
        "--seeds",
        "5,9",
        "--json",
        "--reference",
        "tiny.json",
        "--set",
        "optimizer.learning_rate=0.0001",
    ];
    let out = bench.out(&slow);
    let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["interrupted"]), (&"series_stop".into(), &false.into()));
    let converges = last["convergence"]["converges"].as_str().unwrap();
    assert!(["slower", "not"].contains(&converges), "{last}");
    let out = bench.out(&[
        "run",
        "w.toml",
        "--quiet",
        "--reference",
        "tiny.json",
        "--set",
        "data.max_rows=400",
    ]);
    let sentence = line(text(&out.stdout), "convergence").to_owned();
    assert!(
        sentence.contains("not judged: the record is of other data: data.max_rows 400, not 500"),
        "{sentence}"
    );
}

#[test]
fn one_seed_of_a_list_is_that_of_the_run() {
    let bench = Bench::new();
    let out = bench.out(&["run", "w.toml", "--seeds", "11", "--quiet"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let runs = bench.runs();
    let seeds = runs.iter().map(|r| record::read(&r.join("run.json")).unwrap().workload.seed);
    assert_eq!(seeds.collect::<Vec<_>>(), [11]);
}

#[test]
fn a_target_that_is_missed_twice_leaves_no_score() {
    let bench = Bench::new();
    let missed = ["--set", "target.auc=0.99"];
    let out = bench.out(&[&["run", "w.toml", "--runs", "2", "--quiet"], &missed[..]].concat());
    assert_eq!(out.status.code(), Some(1));
    let summary = text(&out.stdout);
    assert!(
        line(summary, "score").ends_with("2 of 2 runs did not reach the target: no score"),
        "{summary}"
    );
    // A run that breaks down misses it too, and does not end the series.
    let out = bench.out(&[
        "run",
        "w.toml",
        "--seeds",
        "1,2",
        "--quiet",
        "--set",
        "optimizer.learning_rate=1e30",
        "--set",
        "optimizer.kind=sgd",
    ]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(
        text(&out.stderr).lines().filter(|l| l.starts_with("error: seed ")).count(),
        2,
        "{}",
        text(&out.stderr)
    );
    // Without a target all that counts is the end.
    let out = bench.out(&["run", "w.toml", "--runs", "2", "--quiet", "--set", "target.auc="]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    assert!(line(text(&out.stdout), "runs").ends_with(" 2"));
}

#[test]
fn wrong_asking_is_named_before_anything_runs() {
    let bench = Bench::new();
    let fails = |args: &[&str], code: i32, error: &str| {
        let out = bench.out(args);
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert!(text(&out.stderr).contains(error), "{}", text(&out.stderr));
    };
    fails(
        &["run", "w.toml", "--seeds", "3,3"],
        64,
        "error: seed 3 twice; runs of a series need different seeds\n",
    );
    fails(&["run", "w.toml", "--runs", "0"], 64, "invalid value '0' for '--runs <N>'");
    fails(
        &["run", "w.toml", "--reference", "none.json"],
        65,
        "error: cannot read none.json: No such file",
    );
    fails(
        &["run", "w.toml", "--reference", "w.toml"],
        65,
        "error: w.toml: not a convergence record: ",
    );
    fails(&["record", "results", "-o", "x.json"], 65, "error: cannot read results: No such file");
    assert!(bench.runs().is_empty());
}

#[cfg(unix)]
#[test]
fn an_interruption_ends_the_series() {
    let bench = Bench::new();
    let long = ["--set", "data.train_samples=100000000", "--set", "target.auc=0.99"];
    let child = bench
        .command(&[&["run", "w.toml", "--runs", "3", "--json"], &long[..]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Instant::now();
    while bench.runs().first().is_none_or(|r| {
        !fs::read_to_string(r.join("result_0.txt")).unwrap_or_default().contains("run_start")
    }) {
        assert!(patience.elapsed() < Duration::from_secs(60), "training begins");
        std::thread::sleep(Duration::from_millis(50));
    }
    signal::send(&child, libc::SIGTERM);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130));
    assert_eq!(bench.runs().len(), 1);
    let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["interrupted"], &last["row"]["unfinished"], &last["row"]["runs"]),
        (&true.into(), &1.into(), &0.into())
    );
}
