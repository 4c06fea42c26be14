//! `run --steps` and `run --sweep` as a user runs them.

#[cfg(unix)]
#[path = "support/signal.rs"]
mod signal;

use dlrm_bench::{
    results::{
        metrics::MetricsWriter,
        record::{self, RunRecord},
    },
    train::events::{Listener, StepEvent},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", preset = "custom", tables = [50, 20, 10], dense = 4, train_samples = 2000, eval_samples = 1000 }
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

/// A run of a few milliseconds.
const SHORT: [&str; 4] = ["run", "w.toml", "--steps", "12"];

fn sweep(more: &[&'static str]) -> Vec<&'static str> {
    [&SHORT[..], more].concat()
}

/// The folder of the only sweep.
fn folder(bench: &Bench) -> PathBuf {
    let entries = fs::read_dir(bench.path("results/sweeps")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_sweep_trains_all_combinations_in_turns_and_sums_up() {
    let bench = Bench::new();
    let (said, err) = bench.done(&sweep(&[
        "--sweep",
        "train.batch_size=64,128",
        "--sweep",
        "engine.threads=1,2",
        "--runs",
        "3",
    ]));
    assert!(
        err.contains("a sweep of 4 points (train.batch_size: 2, engine.threads: 2), 3 runs each: 12 runs; in results/sweeps/"),
        "{err}"
    );
    // A line a run.
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("run ")).collect();
    assert_eq!(lines.len(), 12, "{said}");
    assert!(lines[0].starts_with("run 1 of 12: train.batch_size=") && lines[0].contains(", ETA "));
    assert!(!lines[11].contains("ETA"), "{said}");
    // Each round has every point once, and not all rounds in one order.
    let point =
        |line: &str| line.split(": ").nth(1).unwrap().split(", seed").next().unwrap().to_owned();
    let rounds: Vec<Vec<String>> =
        lines.chunks(4).map(|round| round.iter().map(|l| point(l)).collect()).collect();
    let sorted = |round: &[String]| {
        let mut round = round.to_vec();
        round.sort();
        round
    };
    assert!(rounds.iter().all(|r| sorted(r) == sorted(&rounds[0])), "{rounds:?}");
    assert!(rounds.windows(2).any(|w| w[0] != w[1]), "{rounds:?}");
    // The table: a line a point.
    let table: Vec<Vec<&str>> = said
        .lines()
        .filter(|l| l.starts_with("64 ") || l.starts_with("128 "))
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(table.len(), 4, "{said}");
    assert_eq!((&table[0][..3], &table[3][..3]), (&["64", "1", "3"][..], &["128", "2", "3"][..]));
    for head in ["train.batch_size", "engine.threads", "samples/s", "speed-up", "efficiency"] {
        assert!(said.contains(head), "{said}");
    }

    let folder = folder(&bench);
    let record = json(&folder.join("sweep.json"));
    assert_eq!((&record["complete"], &record["rounds"]), (&true.into(), &3.into()));
    let points = record["points"].as_array().unwrap();
    let runs = records(&folder);
    assert_eq!((points.len(), runs.len()), (4, 12));
    for point in points {
        let folders = point["folders"].as_array().unwrap();
        let of_point: Vec<&RunRecord> = folders
            .iter()
            .map(|f| {
                &runs.iter().find(|(at, _)| *at == folder.join(f.as_str().unwrap())).unwrap().1
            })
            .collect();
        let set = |key: &str| point["settings"][key].as_u64().unwrap() as usize;
        for (i, run) in of_point.iter().enumerate() {
            assert_eq!(run.workload.batch_size, set("train.batch_size"));
            assert_eq!(run.engine.threads, set("engine.threads"));
            assert_eq!(
                (run.workload.seed, run.series.as_ref().unwrap().run),
                (3 + i as u64, i + 1)
            );
        }
        let steady = record["rate_of"] == "steady";
        let rates = of_point.iter().map(|r| {
            let t = r.throughput.as_ref().unwrap();
            if steady { t.steady.as_ref().unwrap().mean } else { t.training }
        });
        let mean = rates.sum::<f64>() / 3.0;
        let rate = |key: &str| point["rate"][key].as_f64().unwrap();
        assert!(
            (rate("mean") / mean - 1.0).abs() < 1e-9 && rate("low") < mean && mean < rate("high")
        );
        let first = points[0]["rate"]["mean"].as_f64().unwrap();
        assert!((point["speed_up"].as_f64().unwrap() - mean / first).abs() < 1e-9);
    }
    let efficiency = |p: usize| points[p]["scaling_efficiency"].as_f64().unwrap();
    let rate = |p: usize| points[p]["rate"]["mean"].as_f64().unwrap();
    assert_eq!((efficiency(0), efficiency(2)), (1.0, 1.0));
    assert!((efficiency(3) - rate(3) / rate(2) / 2.0).abs() < 1e-9);
    let csv = fs::read_to_string(folder.join("sweep.csv")).unwrap();
    assert!(csv.starts_with("train.batch_size,engine.threads,runs,"), "{csv}");
    assert_eq!(csv.lines().count(), 5);
    assert!(fs::read_to_string(folder.join("sweep.md")).unwrap().contains("| 128 | 2 | 3 | "));
    // Nobody asked for pictures.
    assert!(!folder.join("sweep.png").exists());

    // The records are those of any runs.
    let found: Value =
        serde_json::from_str(&bench.done(&["compare", "results", "--format", "json"]).0).unwrap();
    let rows: Vec<&Value> = found["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| g["rows"].as_array().unwrap())
        .collect();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|r| r["runs"] == 3));

    // All is there: nothing is run again.
    let again = bench.out(&sweep(&[
        "--sweep",
        "train.batch_size=64,128",
        "--sweep",
        "engine.threads=1,2",
        "--runs",
        "3",
        "--resume",
    ]));
    assert!(
        text(&again.stderr).contains("12 runs; all of them are done"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(records(&folder).len(), 12);
    assert_eq!(json(&folder.join("sweep.json"))["points"], record["points"]);
}

#[test]
fn a_sweep_of_the_file_goes_on_with_the_runs_that_are_missing() {
    let bench = Bench::new();
    let file = format!(
        "{WORKLOAD}\n[sweep]\n\"model.top\" = [[16, 1], [32, 16, 1]]\nengine.precision = [\"fp32\", \"bf16\"]\n"
    );
    fs::write(bench.path("s.toml"), file).unwrap();
    let run = ["run", "s.toml", "--steps", "12", "--quiet"];
    let (said, _) = bench.done(&run);
    assert!(said.contains("[32, 16, 1]") && said.contains("bf16"), "{said}");
    let folder = folder(&bench);
    let before = records(&folder);
    assert_eq!(before.len(), 4);
    // One is lost, and one was never finished.
    fs::remove_dir_all(&before[2].0).unwrap();
    let broken = before[1].0.join("run.json");
    let unfinished = fs::read_to_string(&broken).unwrap().replace("\"budget\"", "\"interrupted\"");
    fs::write(&broken, unfinished).unwrap();
    bench.done(&[&run[..], &["--resume"]].concat());
    let after = records(&folder);
    assert_eq!(after.len(), 5);
    let kept = |i: usize| after.iter().any(|(at, r)| *at == before[i].0 && *r == before[i].1);
    assert!(kept(0) && kept(3), "what was finished is not run again");
    let record = json(&folder.join("sweep.json"));
    assert!(record["points"].as_array().unwrap().iter().all(|p| p["runs"] == 1), "{record:#}");
    // Another program's, or other points' sweep is not gone on with.
    let (_, err) = bench.done(&["run", "s.toml", "--steps", "13", "--resume"]);
    assert!(err.contains("a new one begins"), "{err}");
    assert_eq!(fs::read_dir(bench.path("results/sweeps")).unwrap().count(), 2);
    // What --set fixes is swept no more; without a swept key it is a run as any other.
    let set = ["--set", "model.top=[16, 1]", "--set", "engine.precision=bf16"];
    bench.done(&[&run[..], &set[..]].concat());
    assert_eq!(records(&bench.path("results/here")).len(), 1);
    let (said, err) = bench.done(&["run", "s.toml", "--explain", "--set", "model.top=[16, 1]"]);
    assert!(err.contains("a sweep of 2 points (engine.precision: 2); this is the first of them: engine.precision=fp32"), "{err}");
    assert!(said.contains("precision = \"fp32\""), "{said}");
    // Who takes one workload says so.
    let line = WORKLOAD.lines().count() + 2;
    for args in [
        &["gate", "s.toml", "--set-b", "engine.precision=bf16"][..],
        &["data", "profile", "s.toml"],
    ] {
        let out = bench.out(args);
        assert_eq!(out.status.code(), Some(64), "{args:?}: {}", text(&out.stderr));
        let error = format!("s.toml:{line}: sweep: several workloads in one");
        assert!(text(&out.stderr).contains(&error), "{}", text(&out.stderr));
    }
}

#[test]
fn what_is_wrong_with_a_sweep_is_said_before_anything_runs() {
    let bench = Bench::new();
    let wrong = |args: &[&'static str], error: &str| bench.refused(&sweep(args), error);
    wrong(
        &["--sweep", "train.batch_size=64,0", "--sweep", "engine.threads=1,2"],
        "error: --sweep train.batch_size: is 0; must be from 1 to 16777216; point 3 of 4 (train.batch_size=0, engine.threads=1)\n",
    );
    wrong(
        &["--sweep", "train.batchsize=64,128"],
        "error: --sweep train.batchsize: unknown key; did you mean batch_size?; point 1 of 2",
    );
    wrong(&["--sweep", "model.dim=8,16"], "point 2 of 2 (model.dim=16): w.toml:4: model.bottom: ");
    wrong(
        &["--sweep", "train.batch_size=1,2", "--sweep", "train.batch_size=4"],
        "error: --sweep train.batch_size: is swept twice; give all its values in one --sweep\n",
    );
    wrong(&["--sweep", "train.batch_size=64,128,64"], "64 twice; every value must be another");
    wrong(
        &["--sweep", "train.batch_size=64,6_4"],
        "points 1 and 2 are the same workload: train.batch_size=64 and 6_4; leave one of them out",
    );
    wrong(
        &["--sweep", "train.batch_size=1,2", "--set", "train.batch_size=3"],
        "train.batch_size: is set and swept; leave one of them out",
    );
    wrong(&["--sweep", "train.max_steps=1,2"], "so that train.max_steps has no effect");
    wrong(&["--sweep", "train.seed=1,2", "--runs", "2"], "leave out --runs and --seeds");
    wrong(&["--sweep", "model.dim=8", "--profile"], "--profile is for one workload");
    wrong(&["--sweep", "model.dim=8", "--loader-only"], "--loader-only is for one workload");
    wrong(
        &["--engine", "candle", "--sweep", "engine.threads=1,2"],
        "error: engine.threads: candle takes its number of threads once a process",
    );
    for (table, error) in [
        ("sweep.\"train.batch_size\" = 64", "sweep.train.batch_size: must be a list of values"),
        ("sweep.train.batchsize = [64]", "unknown key; did you mean batch_size?"),
        ("sweep = {}", "sweep: is empty; must hold lists of values"),
        ("sweep.train.batch_size = []", "an empty value"),
        ("sweep = [1]", "the key must name its section"),
    ] {
        fs::write(bench.path("w.toml"), format!("{WORKLOAD}{table}\n")).unwrap();
        bench.refused(&["run", "w.toml"], error);
    }
}

#[test]
fn events_tell_of_a_sweep_and_pictures_are_drawn() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(bench.dir.path());
    let args = sweep(&["--json", "--no-ceilings", "--sweep", "optimizer.learning_rate=0.05,0.1"]);
    let out = command.args(args).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let events: Vec<Value> =
        text(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|e| e["event"] == name).collect::<Vec<_>>();
    assert_eq!((of("sweep_start").len(), of("sweep_run").len(), of("run_stop").len()), (1, 2, 2));
    assert_eq!(of("sweep_start")[0]["points"], 2);
    let stop = events.last().unwrap();
    assert_eq!((&stop["event"], &stop["done"]), (&"sweep_stop".into(), &2.into()));
    let folder = folder(&bench);
    assert_eq!(stop["sweep"], json(&folder.join("sweep.json")));
    let svg = fs::read_to_string(folder.join("sweep.svg")).unwrap();
    assert!(svg.contains("Throughput: tiny by optimizer.learning_rate"));
    assert!(folder.join("sweep.png").is_file());
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_keeps_what_is_done_and_goes_on() {
    let bench = Bench::new();
    // The second point has no end.
    let args = [
        "run",
        "w.toml",
        "--set",
        "target.auc=0.999",
        "--set",
        "eval.patience=",
        "--set",
        "eval.every_steps=",
        "--set",
        "eval.every=never",
        "--set",
        "target.auc=",
        "--sweep",
        "train.epochs=1,1000000",
    ];
    let mut child = bench
        .command(&args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    let log = |at: &Path| fs::read_to_string(at.join("result_0.txt")).unwrap_or_default();
    loop {
        let started = fs::read_dir(bench.path("results/sweeps"))
            .ok()
            .and_then(|mut d| d.next())
            .and_then(|s| fs::read_dir(s.unwrap().path().join("here/tiny")).ok());
        let runs: Vec<PathBuf> = started.into_iter().flatten().map(|e| e.unwrap().path()).collect();
        let endless = runs.iter().any(|r| {
            fs::read_to_string(r.join("workload.toml"))
                .unwrap_or_default()
                .contains("epochs = 1000000")
                && log(r).contains("run_start")
        });
        if endless {
            break;
        }
        assert!(began.elapsed().as_secs() < 60 && child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    signal::send(&child, libc::SIGTERM);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    let err = text(&out.stderr);
    assert!(err.contains("of 2 runs done; the same command with --resume goes on"), "{err}");
    let record = json(&folder(&bench).join("sweep.json"));
    assert_eq!(record["complete"], false);
    assert_eq!(record["points"][1]["runs"], 0);
}

/// A run that became slow in its middle is called that, by whoever reads its metrics.
#[test]
fn a_run_of_two_speeds_is_told_of() {
    let bench = Bench::new();
    bench.done(&["run", "w.toml", "--quiet", "--steps", "60"]);
    let (folder, _) = records(&bench.path("results")).remove(0);
    let metrics = |slow: f64| {
        let mut writer = MetricsWriter::new(folder.join("metrics.parquet"));
        for step in 1..=400u64 {
            writer
                .step(&StepEvent {
                    step,
                    epoch: 0,
                    samples: 270,
                    loss: 0.5,
                    learning_rate: 0.1,
                    seconds: 1e-3 * if step > 250 { slow } else { 1.0 + 0.1 * (step % 3) as f64 },
                    data_wait: 0.0,
                })
                .unwrap();
        }
        assert!(writer.finish().1.is_none());
    };
    metrics(4.0);
    let (said, _) = bench.done(&["compare", "results"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("throughput fell from 245k to 67.5k samples/s at about step 2"),
        "{said}"
    );
    metrics(1.2);
    assert!(!bench.done(&["compare", "results"]).0.contains("throughput fell"));
}
