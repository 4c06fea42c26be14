//! `dlrm-bench run` as a user runs it: what it leaves, how it ends, and what happens when something
//! goes wrong.

#[cfg(unix)]
#[path = "support/signal.rs"]
mod signal;

use dlrm_bench::{
    results::{
        RunRecord,
        metrics::{self, Metrics},
        record, tree,
    },
    train::{
        self, Job,
        events::{Listener, StopReason},
    },
    workload,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const DLRM: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "criteo_kaggle"
max_rows = 500
train_samples = 4000
eval_samples = 2000
[model]
kind = "dlrm"
dim = 8
bottom = [16, 8]
top = [16, 1]
[train]
batch_size = 128
seed = 3
[optimizer]
kind = "adagrad"
learning_rate = 0.05
[eval]
every_steps = 10
batch_size = 500
"#;

const DEEPFM: &str = r#"
[workload]
name = "tiny-deepfm"
[data]
source = "planted"
preset = "criteo_kaggle"
max_rows = 500
train_samples = 4000
eval_samples = 2000
[model]
kind = "deepfm"
dim = 4
hidden = [24, 16]
batch_norm = true
dropout = 0.2
[train]
batch_size = 128
[optimizer]
kind = "adam"
learning_rate = 0.002
clip_norm = 10.0
[eval]
every_epochs = 0.5
batch_size = 700
"#;

/// A workload file and a place for results.
struct Bench {
    dir: TempDir,
    file: PathBuf,
}

impl Bench {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("workload.toml");
        fs::write(&file, text).unwrap();
        Bench { dir, file }
    }

    fn results(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        c.arg("run").arg(&self.file).arg("--results").arg(self.results()).args(args);
        c
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The folders of all runs so far, in order of their names.
    fn runs(&self) -> Vec<PathBuf> {
        let mut runs = Vec::new();
        for system in list(&self.results()) {
            for workload in list(&system) {
                runs.extend(list(&workload));
            }
        }
        runs
    }

    fn only_run(&self) -> PathBuf {
        let mut runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(dir).map(|d| d.map(|e| e.unwrap().path()).collect()).unwrap_or_default();
    all.sort();
    all
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn log(run: &Path) -> Vec<serde_json::Value> {
    let log = fs::read_to_string(run.join("result_0.txt")).unwrap();
    assert!(log.ends_with('\n'), "the last line is whole");
    log.lines()
        .map(|l| serde_json::from_str(l.strip_prefix(":::MLLOG ").unwrap()).unwrap())
        .collect()
}

fn keys(log: &[serde_json::Value]) -> Vec<&str> {
    log.iter().map(|l| l["key"].as_str().unwrap()).collect()
}

fn read_metrics(run: &Path) -> Metrics {
    metrics::read(&run.join("metrics.parquet")).unwrap()
}

fn read_record(run: &Path) -> RunRecord {
    record::read(&run.join("run.json")).unwrap()
}

fn no_leftovers(run: &Path) {
    for f in list(run).into_iter().chain(list(&run.join("plots"))) {
        let name = f.file_name().unwrap().to_string_lossy();
        assert!(!name.contains("tmp") && !name.starts_with('.'), "left behind: {}", f.display());
    }
}

#[test]
fn a_run_leaves_log_metrics_record_plots_and_a_workload_that_runs_again() {
    for (text_of, steps, evals) in [(DLRM, 32, 4), (DEEPFM, 32, 2)] {
        let bench = Bench::new(text_of);
        let out = bench.run(&["--threads", "2"]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        let run = bench.only_run();

        let log = log(&run);
        let keys = keys(&log);
        let at = |key: &str| {
            keys.iter().position(|k| *k == key).unwrap_or_else(|| panic!("{key} is logged"))
        };
        assert!(
            at("init_start") < at("init_stop")
                && at("init_stop") <= at("run_start")
                && at("run_start") < at("epoch_start")
        );
        assert_eq!(keys.iter().filter(|k| **k == "eval_accuracy").count(), evals);
        let stop = &log[at("run_stop")];
        assert_eq!(stop["metadata"]["status"], "success");
        assert!(log.windows(2).all(|w| w[0]["time_ms"].as_i64() <= w[1]["time_ms"].as_i64()));

        let m = read_metrics(&run);
        assert_eq!(m.step, (1..=steps).collect::<Vec<i64>>());
        assert_eq!(m.samples.last(), Some(&4000));
        assert_eq!(m.auc.iter().flatten().count(), evals);

        let r = read_record(&run);
        let outcome = r.outcome.unwrap();
        assert_eq!(
            (outcome.reason, outcome.steps, outcome.samples),
            (StopReason::Budget, steps as u64, 4000)
        );
        assert_eq!(r.evaluations.len(), evals);
        assert_eq!(
            r.evaluations.last().map(|e| e.quality.auc),
            m.auc.iter().flatten().last().copied()
        );
        assert!(r.throughput.is_some_and(|t| t.training > t.end_to_end && t.end_to_end > 0.0));
        assert!(
            r.ceilings.is_some_and(|c| c.threads == 2 && c.flops_f32 > 1e9 && c.rows.len() == 2)
        );
        assert!(
            !r.memory_plan.is_empty()
                && !r.phases.is_empty()
                && r.data.is_some_and(|d| d.best_auc.is_some())
        );

        for name in ["loss", "auc", "accuracy", "throughput"] {
            let png = fs::read(run.join(format!("plots/{name}.png"))).unwrap();
            assert!(png.starts_with(b"\x89PNG\r\n") && png.len() > 5000, "{name}.png");
            let svg = fs::read_to_string(run.join(format!("plots/{name}.svg"))).unwrap();
            assert!(svg.contains("samples") && svg.trim_end().ends_with("</svg>"), "{name}.svg");
        }
        no_leftovers(&run);
        let summary = text(&out.stdout);
        assert!(summary.contains("samples/s") && summary.contains("result_0.txt"), "{summary}");

        let again = Bench::new(&fs::read_to_string(run.join("workload.toml")).unwrap());
        assert!(again.run(&["--quiet"]).status.success());
        assert_eq!(read_metrics(&again.only_run()).loss, m.loss);
        assert_eq!(read_record(&again.only_run()).workload.sha256, r.workload.sha256);
    }
}

#[test]
fn the_machine_and_its_ceilings_are_shown() {
    let system = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).arg("system").args(args).output().unwrap()
    };
    let out = system(&[]);
    assert!(
        out.status.success()
            && text(&out.stdout).starts_with("Processor")
            && !text(&out.stdout).contains("FLOP")
    );
    let out = system(&["--ceilings", "--threads", "1"]);
    assert!(
        text(&out.stdout).contains("GFLOP/s")
            && text(&out.stdout).contains("Rows of 512 B in memory"),
        "{out:?}"
    );
    let json: serde_json::Value = serde_json::from_slice(&system(&["--json"]).stdout).unwrap();
    assert!(
        json["machine"]["cpu"]["logical_cores"].as_u64() > Some(0) && json["ceilings"].is_null()
    );
    assert_eq!(
        system(&["--threads", "1"]).status.code(),
        Some(64),
        "threads measure only ceilings"
    );
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    struct Deaf;
    impl Listener for Deaf {}
    for (text, precision) in [(DLRM, "bf16"), (DEEPFM, "fp16"), (DLRM, "fp32"), (DEEPFM, "bf16")] {
        let precision = format!("engine.precision={precision}");
        let mut first: Option<(Metrics, Vec<Vec<u32>>)> = None;
        for threads in [1, 2, 3] {
            let bench = Bench::new(text);
            assert!(
                bench
                    .run(&[
                        "--quiet",
                        "--no-plots",
                        "--no-ceilings",
                        "--set",
                        &precision,
                        "--threads",
                        &threads.to_string()
                    ])
                    .status
                    .success()
            );
            let m = read_metrics(&bench.only_run());
            let resolved = workload::load(
                &bench.file,
                &[format!("engine.threads={threads}"), precision.clone()],
            )
            .unwrap();
            let stop = AtomicBool::new(false);
            let done = train::run(&Job::new(&resolved.workload, &stop), &mut [&mut Deaf]).unwrap();
            let params: Vec<Vec<u32>> = done
                .engine
                .params()
                .iter()
                .enumerate()
                .map(|(i, p)| {
                    let mut v = vec![0.0; p.len()];
                    done.engine.read(i, &mut v).unwrap();
                    v.iter().map(|x: &f32| x.to_bits()).collect()
                })
                .collect();
            match &first {
                None => first = Some((m, params)),
                Some((m1, p1)) => {
                    assert!(
                        m.loss.iter().zip(&m1.loss).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "loss, {threads} threads"
                    );
                    assert_eq!(m.learning_rate, m1.learning_rate);
                    assert_eq!((&m.auc, &m.logloss), (&m1.auc, &m1.logloss));
                    assert!(params == *p1, "parameters, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn a_loader_can_be_timed_alone() {
    let bench = Bench::new(DLRM);
    let out = bench.run(&["--loader-only", "--json", "--set", "train.epochs=3"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let speed: serde_json::Value = serde_json::from_str(text(&out.stdout)).unwrap();
    assert_eq!((&speed["batches"], &speed["samples"]), (&(3 * 32).into(), &12_000.into()));
    // 13 dense features, 26 ids and a label of 4 bytes.
    let bytes =
        speed["bytes_per_second"].as_f64().unwrap() / speed["samples_per_second"].as_f64().unwrap();
    assert!((bytes - 160.0).abs() < 1e-6, "{speed}");
    let out = bench.run(&["--loader-only", "--set", "train.max_steps=1"]);
    assert!(text(&out.stdout).contains("one batch is too little"), "{}", text(&out.stdout));
    assert!(!bench.results().exists(), "nothing was run");
    // The other process's part.
    let out = bench.run(&[
        "--loader-only",
        "--json",
        "--set",
        "loader.shards=3",
        "--set",
        "loader.shard=1",
    ]);
    let speed: serde_json::Value = serde_json::from_str(text(&out.stdout)).unwrap();
    let (all, batch) = (4000, 128);
    let left = all % (3 * batch);
    assert_eq!(
        speed["samples"],
        (all / (3 * batch) * batch + left / 3 + usize::from(left % 3 > 1)),
        "{speed}"
    );
    let queue = format!("loader.queue={}", bench.results().with_extension("queue").display());
    let part = ["--loader-only", "--json", "--set", &queue, "--set", "loader.slice=1280"];
    let first = bench.run(&[&part[..], &["--set", "train.max_steps=10"]].concat());
    let second = bench.run(&part);
    for (out, batches) in [(first, 10), (second, 22)] {
        let speed: serde_json::Value = serde_json::from_str(text(&out.stdout)).unwrap();
        assert_eq!(speed["batches"], batches, "{speed}");
    }
    // Nothing is left for a third.
    let train = [&["--quiet"][..], &part[2..]].concat();
    assert!(!bench.results().exists(), "nothing was run");
    for out in [bench.run(&part), bench.run(&train)] {
        assert_eq!(out.status.code(), Some(65), "{}", text(&out.stdout));
        let error = text(&out.stderr);
        assert!(
            error.contains("all slices of this queue have been taken; delete the file")
                && error.lines().count() == 1,
            "{error}"
        );
    }
    let out = bench.run(&["--loader-only", "--no-plots"]);
    assert!(text(&out.stderr).contains("cannot be used with"), "{}", text(&out.stderr));
}

#[test]
fn a_run_in_fp16_tells_of_its_loss_scale() {
    let bench = Bench::new(DLRM);
    let out = bench.run(&["--set", "engine.precision=fp16", "--set", "engine.loss_scale=1e12"]);
    assert!(
        out.status.success() && text(&out.stdout).contains("steps skipped for overflow"),
        "{}",
        text(&out.stdout)
    );
    let run = bench.only_run();
    let record = read_record(&run);
    let scale = record.outcome.and_then(|o| o.loss_scale).unwrap();
    assert!(
        record.engine.precision == "fp16" && scale.skipped_steps > 0 && scale.scale < 1e12,
        "{scale:?}"
    );
    let log = log(&run);
    let line = log.iter().find(|l| l["key"] == "loss_scale").unwrap();
    assert_eq!(line["metadata"]["skipped_steps"], scale.skipped_steps);
}

#[test]
fn a_log_names_the_numbers_of_products_and_of_rows() {
    for (workload, precision, rows, logged, shown) in [
        (DLRM, "bf16", "fp32", "bfloat16", "bf16"),
        (DEEPFM, "fp16", "fp32", "fp16", "fp16"),
        (DEEPFM, "bf16", "bf16-split", "bfloat16", "bf16/bf16-split"),
    ] {
        let bench = Bench::new(workload);
        let set =
            [format!("engine.precision={precision}"), format!("engine.embedding_rows={rows}")];
        assert!(bench.run(&["--quiet", "--set", &set[0], "--set", &set[1]]).status.success());
        let run = bench.only_run();
        let log = log(&run);
        let value = |key: &str| log.iter().find(|l| l["key"] == key).map(|l| l["value"].clone());
        assert_eq!(value("lowest_numerical_precision_in_linear").unwrap(), logged);
        assert_eq!(value("embedding_rows"), Some(rows).filter(|&r| r != "fp32").map(Into::into));
        // A run and its log alone are read alike.
        for path in [&run, &run.join("result_0.txt")] {
            let found = tree::read(&[path.to_str().unwrap()]);
            assert_eq!(found.runs[0].precision.as_deref(), Some(shown), "{}", path.display());
        }
        let checked =
            Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).arg("check").arg(&run).output().unwrap();
        assert!(checked.status.success(), "{}", text(&checked.stdout));
    }
}

/// Both engines train every interaction and trick; keys, record and memory plan know them.
#[test]
fn parts_of_models_are_trained_as_they_were_asked_for() {
    let cross = ["interaction=cross", "cross_layers=2", "cross_rank=12"];
    let full = ["interaction=cross", "cross_layers=1"];
    let projection = ["interaction=projection", "branch1=[20, 16]", "branch2=[24]"];
    let product = ["trick=qr", "qr_operation=mult", "qr_threshold=55", "qr_collisions=3"];
    let behind = ["trick=qr", "qr_operation=concat", "qr_threshold=2", "bottom=[16]"];
    let narrow = ["trick=md", "md_temperature=0.4", "md_threshold=40", "md_round_dims=true"];
    for (words, recorded) in [
        (&cross[..], "\"op\":\"cross\""),
        (&full, "\"op\":\"cross\""),
        (&projection, "\"op\":\"projection\""),
        (
            &product,
            "\"trick\":{\"kind\":\"qr\",\"operation\":\"mult\",\"threshold\":55,\"collisions\":3}",
        ),
        (
            &narrow,
            "\"trick\":{\"kind\":\"md\",\"temperature\":0.4,\"threshold\":40,\"round_dims\":true}",
        ),
        (
            &behind,
            "\"trick\":{\"kind\":\"qr\",\"operation\":\"concat\",\"threshold\":2,\"collisions\":4}",
        ),
    ] {
        let set: Vec<String> = words.iter().map(|w| format!("--set=model.{w}")).collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let trained = |more: &[&str]| {
            let bench = Bench::new(DLRM);
            let out = bench.run(&[&set, more].concat());
            assert!(out.status.success(), "{}", text(&out.stderr));
            let run = bench.only_run();
            let file = fs::read_to_string(run.join("workload.toml")).unwrap();
            for word in words {
                let (key, value) = word.split_once('=').unwrap();
                let word = value != "true" && value.chars().all(char::is_alphabetic);
                let value = if word { format!("{value:?}") } else { value.into() };
                assert!(file.contains(&format!("{key} = {value}\n")), "{key} of {file}");
            }
            let record = fs::read_to_string(run.join("run.json")).unwrap();
            let record: String = record.split_whitespace().collect();
            assert!(record.contains(recorded), "{record}");
            (read_metrics(&run), bench)
        };
        let (ours, bench) = trained(&["--quiet"]);
        assert!(ours.auc.iter().flatten().last().is_some_and(|auc| *auc > 0.55), "{words:?}");
        let again =
            Bench::new(&fs::read_to_string(bench.only_run().join("workload.toml")).unwrap());
        assert!(again.run(&["--quiet", "--threads", "3"]).status.success());
        assert_eq!(read_metrics(&again.only_run()).loss, ours.loss, "{words:?}");
        let (candle, _) = trained(&["--quiet", "--engine", "candle"]);
        for (a, b) in ours.loss.iter().zip(&candle.loss) {
            assert!((a - b).abs() < 1e-3, "{words:?}: {a} and {b}");
        }
    }
}

/// Parts take memory for one of them only, and nothing else of a run tells the difference.
#[test]
fn a_batch_in_parts_trains_the_same_model_and_is_told_of() {
    let bench = Bench::new(DLRM);
    let quick = ["--no-plots", "--no-ceilings", "--quiet"];
    let parts = ["--set", "train.micro_batches=4"];
    for set in [&parts[..0], &parts[..]] {
        let out = bench.run(&[&quick[..], set].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    }
    let mut runs = bench.runs();
    let accumulated = |run: &Path| {
        let log = log(run);
        let line = log.iter().find(|l| l["key"] == "gradient_accumulation_steps").unwrap();
        line["value"].as_u64().unwrap()
    };
    // Names of runs of one second are ordered by their workloads' hashes.
    runs.sort_by_key(|run| accumulated(run));
    assert_eq!([accumulated(&runs[0]), accumulated(&runs[1])], [1, 4]);
    let records = [read_record(&runs[0]), read_record(&runs[1])];
    assert_eq!(records.each_ref().map(|r| r.workload.micro_batches), [1, 4]);
    let model = |r: &RunRecord| r.model.clone().unwrap()["micro_batch"].as_u64();
    assert_eq!(records.each_ref().map(model), [None, Some(32)]);
    let activations = |r: &RunRecord| {
        let item = r.memory_plan.iter().find(|i| i.what == "activations and their gradients");
        item.unwrap().bytes
    };
    assert!(activations(&records[1]) < activations(&records[0]), "{records:?}");
    let resolved = fs::read_to_string(runs[1].join("workload.toml")).unwrap();
    assert!(resolved.contains("micro_batches = 4"), "{resolved}");
    let [whole, parts] = [&runs[0], &runs[1]].map(|run| read_metrics(run).loss);
    assert!(whole.len() == parts.len() && whole.len() > 30);
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-3), "{whole:?} {parts:?}");
    // The log is as good as any, and no row has both.
    let program = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout).to_owned()
    };
    program(&["check", runs[1].join("result_0.txt").to_str().unwrap()]);
    let results = bench.results().display().to_string();
    let compared: serde_json::Value =
        serde_json::from_str(&program(&["compare", &results, "--format", "json"])).unwrap();
    let groups = compared["groups"].as_array().unwrap();
    let rows: usize = groups.iter().map(|g| g["rows"].as_array().unwrap().len()).sum();
    assert_eq!(rows, 2, "{compared}");
    let explained = program(&[
        "run",
        bench.file.to_str().unwrap(),
        "--explain",
        "--set",
        "train.micro_batches=4",
    ]);
    assert!(
        explained.contains("micro_batches = 4")
            && explained.contains("sums of micro-batches' gradients"),
        "{explained}"
    );
}

#[test]
fn the_candle_engine_runs_the_same_way() {
    let bench = Bench::new(DLRM);
    assert!(bench.run(&["--quiet"]).status.success());
    let ours = read_metrics(&bench.only_run());
    let bench = Bench::new(DLRM);
    assert!(bench.run(&["--quiet", "--engine", "candle"]).status.success());
    let run = bench.only_run();
    assert_eq!(read_record(&run).engine.kind, "candle");
    let candle = read_metrics(&run);
    for (a, b) in ours.loss.iter().zip(&candle.loss) {
        assert!((a - b).abs() < 1e-3, "{a} and {b}");
    }
}

#[test]
fn a_target_ends_the_run_and_a_missed_one_is_an_exit_code_of_its_own() {
    let bench = Bench::new(DLRM);
    let out = bench.run(&["--set", "target.auc=0.501", "--set", "eval.every_steps=5"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let r = read_record(&bench.only_run());
    assert_eq!(r.outcome.as_ref().map(|o| o.reason), Some(StopReason::Target));
    assert_eq!(r.convergence.samples_to_target, r.outcome.map(|o| o.samples));

    let bench = Bench::new(DLRM);
    let out = bench.run(&["--set", "target.auc=0.99"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains("NOT reached"), "{}", text(&out.stdout));
    let log = log(&bench.only_run());
    assert_eq!(
        log.iter().find(|l| l["key"] == "run_stop").unwrap()["metadata"]["status"],
        "aborted"
    );
}

/// Either of two targets ends a run, and all that tell of it name both.
#[test]
fn an_accuracy_that_is_reached_ends_the_run() {
    for (target, reached) in [
        ("target.accuracy=0.3", Some("target accuracy 0.30000 reached")),
        ("target.accuracy=0.999", None),
    ] {
        let bench = Bench::new(DLRM);
        let out = bench.run(&["--quiet", "--set", target]);
        let run = bench.only_run();
        let record = read_record(&run);
        let outcome = record.outcome.clone().unwrap();
        let (steps, shown) = (outcome.steps, text(&out.stdout));
        match reached {
            Some(words) => {
                assert!(out.status.success() && shown.contains(words), "{shown}");
                assert_eq!((outcome.reason, steps), (StopReason::Target, 10));
                assert_eq!(record.convergence.samples_to_target, Some(1280));
            }
            None => {
                assert_eq!(out.status.code(), Some(1), "{shown}");
                assert!(shown.contains("target accuracy 0.99900 NOT reached within"), "{shown}");
                assert_eq!((outcome.reason, outcome.success), (StopReason::Budget, false));
            }
        }
        let task = &tree::read(&[run.to_str().unwrap()]).runs[0].task;
        assert_eq!((task.target, task.accuracy), (None, record.facts.unwrap().target_accuracy));
    }
    let bench = Bench::new(DLRM);
    let set = ["--set", "target.accuracy=0.3", "--set", "target.auc=0.99"];
    let out = bench.run(&[&["--quiet"], &set[..]].concat());
    let said = "target AUC 0.99000 or accuracy 0.30000 reached";
    assert!(out.status.success() && text(&out.stdout).contains(said), "{}", text(&out.stdout));
    let mut compare = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    let table = compare.arg("compare").arg(bench.results()).output().unwrap();
    let said = "target AUC 0.99000 or accuracy 0.30000";
    assert!(text(&table.stdout).contains(said), "{}", text(&table.stdout));
}

#[test]
fn a_loss_that_is_no_number_aborts_and_names_the_step() {
    let bench = Bench::new(DLRM);
    let out = bench.run(&[
        "--quiet",
        "--set",
        "optimizer.kind=sgd",
        "--set",
        "optimizer.learning_rate=1e30",
    ]);
    assert_eq!(out.status.code(), Some(4), "{}", text(&out.stderr));
    let told = text(&out.stderr);
    let (left, error) = told.split_once('\n').unwrap();
    assert!(left.ends_with("/failure; dlrm-bench replay does that step again"), "{told}");
    assert!(
        error.starts_with("error: ") && error.contains("step ") && error.lines().count() == 1,
        "{error}"
    );
    let run = bench.only_run();
    assert_eq!(
        log(&run).iter().find(|l| l["key"] == "run_stop").unwrap()["metadata"]["status"],
        "aborted"
    );
    let outcome = read_record(&run).outcome.unwrap();
    assert_eq!(outcome.reason, StopReason::Failed);
    assert!(outcome.message.is_some_and(|m| error.contains(&m)));
    no_leftovers(&run);
}

#[test]
fn results_that_cannot_be_written_are_one_clear_line() {
    let bench = Bench::new(DLRM);
    fs::write(bench.results(), "a file where the folder should be").unwrap();
    let out = bench.run(&["--quiet"]);
    assert_eq!(out.status.code(), Some(74));
    let error = text(&out.stderr);
    assert!(error.lines().count() == 1 && error.contains("results"), "{error}");
}

/// Starts a run that would take minutes and waits until it trains.
#[cfg(unix)]
fn start_long(bench: &Bench) -> (std::process::Child, PathBuf) {
    let long =
        ["--quiet", "--set", "data.train_samples=2000000000", "--set", "eval.every_steps=100000"];
    let mut child =
        bench.command(&long).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
        if let Some(run) = bench.runs().first() {
            let log = fs::read_to_string(run.join("result_0.txt")).unwrap_or_default();
            if log.contains("epoch_start") {
                return (child, run.clone());
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("training has not begun");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_closes_its_log_and_leaves_a_record() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let bench = Bench::new(DLRM);
        let (child, run) = start_long(&bench);
        std::thread::sleep(Duration::from_millis(200));
        signal::send(&child, signal);
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
        let log = log(&run);
        let stops: Vec<_> = log.iter().filter(|l| l["key"] == "run_stop").collect();
        assert_eq!(stops.len(), 1);
        assert_eq!(stops[0]["metadata"]["status"], "aborted");
        assert!(keys(&log).contains(&"epoch_stop"));
        let outcome = read_record(&run).outcome.unwrap();
        assert_eq!(outcome.reason, StopReason::Interrupted);
        assert_eq!(read_metrics(&run).len() as u64, outcome.steps);
        no_leftovers(&run);
    }
}

#[cfg(unix)]
#[test]
fn a_killed_run_leaves_its_log_so_far_and_no_half_file() {
    let bench = Bench::new(DLRM);
    let (mut child, run) = start_long(&bench);
    signal::send(&child, libc::SIGKILL);
    child.wait().unwrap();
    assert!(keys(&log(&run)).contains(&"epoch_start"));
    assert!(
        !run.join("run.json").exists()
            && !run.join("metrics.parquet").exists()
            && !run.join("plots").exists()
    );
    assert!(run.join("workload.toml").exists());
}

/// One line that says `what`, this exit code, and nothing left behind.
fn refused(bench: &Bench, args: &[&str], code: i32, what: &str) {
    let out = bench.run(args);
    let error = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {error}");
    assert!(error.contains(what), "{args:?}: {error}");
    assert!(bench.runs().is_empty(), "{args:?} left {:?}", bench.runs());
}

#[test]
fn the_model_that_is_kept_is_the_one_that_is_told_of() {
    for steps in 8..30 {
        let bench = Bench::new(DLRM);
        let steps = format!("train.max_steps={steps}");
        let out = bench.run(&[
            "--quiet",
            "--no-ceilings",
            "--no-plots",
            "--set",
            "eval.restore_best=true",
            "--set",
            "eval.every_steps=2",
            "--set",
            "optimizer.learning_rate=1.0",
            "--set",
            &steps,
        ]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        let run = bench.only_run();
        let record = read_record(&run);
        let best = record
            .evaluations
            .iter()
            .reduce(|a, b| if b.quality.auc > a.quality.auc { b } else { a })
            .unwrap();
        let last = record.evaluations.last().unwrap();
        let outcome = record.outcome.as_ref().unwrap();
        assert_eq!(outcome.last_eval.as_ref(), Some(last));
        let shown = format!("{:.5}", best.quality.auc);
        let stdout = text(&out.stdout);
        assert!(stdout.contains(&format!("quality     AUC {shown},")), "{stdout}");
        let found = tree::read(&[run.to_str().unwrap()]);
        assert_eq!(found.runs[0].auc, Some(best.quality.auc));
        if best.step == last.step {
            assert_eq!(outcome.restored, None);
            assert!(!stdout.contains("parameters are kept"), "{stdout}");
            continue;
        }
        assert_eq!(outcome.restored.as_ref(), Some(best));
        let said = format!("step {}, whose parameters are kept", best.step);
        assert!(stdout.contains(&said), "{stdout}");
        return;
    }
    panic!("the last evaluation was always the best");
}

#[test]
fn counts_that_come_to_zero_are_refused_before_training() {
    let bench = Bench::new(DLRM);
    for set in ["eval.every_steps=10", "eval.every=\"never\""] {
        let args = ["--set", "eval.every_steps=", "--set", set, "--set", "train.drop_last=true"];
        let small = [&args[..], &["--set", "train.batch_size=4001"]].concat();
        refused(&bench, &small, 65, "train.drop_last leaves them out");
        let more = [&small[..], &["--loader-only"]].concat();
        refused(&bench, &more, 65, "no batch");
    }
    for (set, what) in [
        ("train.epochs=0", "train.epochs"),
        ("train.max_steps=0", "train.max_steps"),
        ("train.batch_size=0", "train.batch_size"),
        ("eval.batch_size=0", "eval.batch_size"),
        ("eval.every_steps=0", "eval.every_steps"),
        ("data.train_samples=0", "data.train_samples"),
        ("data.eval_samples=0", "data.eval_samples"),
    ] {
        refused(&bench, &["--set", set], 64, what);
    }
}

#[test]
fn splits_that_cannot_be_judged_are_refused_before_training() {
    let csv = |labels: [u8; 2]| format!("y,a,b\n{},0.5,x\n{},1.5,y\n", labels[0], labels[1]);
    let bench = Bench::new(DLRM);
    let at = |name: &str| bench.dir.path().join(name);
    let data = |eval: &str, test: &str, every: &str| {
        let path = |name: &str| at(name).display().to_string();
        let test =
            if test.is_empty() { String::new() } else { format!("test = {:?}\n", path(test)) };
        let model = DLRM.split("[model]").last().unwrap().replace("every_steps = 10", every);
        fs::write(
            &bench.file,
            format!(
                "[workload]\nname = \"csv\"\n[data]\nsource = \"csv\"\nlabel = \"y\"\ndense = [\"a\"]\ncategorical = [\"b\"]\ntrain = {:?}\neval = {:?}\n{test}[model]{model}",
                path("both.csv"),
                path(eval)
            ),
        )
        .unwrap();
    };
    for (name, labels) in [("both", [0, 1]), ("zeros", [0, 0]), ("ones", [1, 1])] {
        fs::write(at(&format!("{name}.csv")), csv(labels)).unwrap();
    }
    for (name, class) in [("zeros.csv", 0), ("ones.csv", 1)] {
        // Some sources say it themselves.
        for (eval, test) in [(name, ""), ("both.csv", name)] {
            data(eval, test, "every = \"end\"");
            let out = bench.run(&[]);
            let error = text(&out.stderr);
            assert_eq!(out.status.code(), Some(65), "{error}");
            let said = format!("all 2 labels are {class}");
            assert!(error.contains(&said) || error.contains(&format!("every label is {class}")));
            assert!(bench.runs().is_empty());
        }
    }
    fs::write(&bench.file, DLRM).unwrap();
    refused(&bench, &["--set", "data.eval_samples=1"], 65, "all 1 labels are 0");
}

#[test]
fn options_that_lead_nowhere_are_refused_early() {
    let bench = Bench::new(DLRM);
    refused(&bench, &["--runs", "4294967295"], 64, "from 1 to 10000");
    refused(&bench, &["--seed", "9223372036854775808"], 64, "from 0 to 9223372036854775807");
    refused(&bench, &["--seeds", "1,9223372036854775808"], 64, "9223372036854775807");
    refused(&bench, &["--set", "train.seed=9223372036854775808"], 64, "train.seed");
    let last = ["--seed", "9223372036854775807", "--runs", "2"];
    refused(&bench, &last, 64, "the largest; begin with a smaller one");
    let out = bench.run(&["--quiet", "--no-plots", "--no-ceilings", "--seed", last[1]]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(read_record(&bench.only_run()).workload.seed, i64::MAX as u64);
}

#[cfg(target_os = "linux")]
#[test]
fn a_results_folder_that_is_no_text_is_refused_before_training() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new(DLRM);
    let folder = bench.dir.path().join(std::ffi::OsStr::from_bytes(b"res\xff"));
    let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .arg("run")
        .arg(&bench.file)
        .arg("--results")
        .arg(&folder)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(64), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("must be a path in UTF-8"), "{}", text(&out.stderr));
    assert!(!folder.exists());
}

#[test]
fn all_runs_of_a_series_are_of_the_file_as_it_was_at_the_start() {
    use std::io::{BufRead, BufReader};
    let bench = Bench::new(DLRM);
    let args = ["--runs", "3", "--no-ceilings", "--no-plots", "--device", "auto"];
    let mut child =
        bench.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines.by_ref() {
        if line.unwrap().contains("run 1 of 3") {
            fs::write(&bench.file, DLRM.replace("batch_size = 128", "batch_size = 64")).unwrap();
            break;
        }
    }
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let runs = bench.runs();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| read_record(run).workload.batch_size == 128));
}
