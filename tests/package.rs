//! `dlrm-bench package`: what it writes passes MLPerf's package_checker and repo_checker, and what
//! is no submission is refused.

use dlrm_bench::{
    batch::{Column, Schema},
    metrics::Quality,
    mllog::MlLog,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StopReason},
    workload,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const TINY: &str = r#"
[workload]
name = "tiny"
[data]
source = "planted"
preset = "criteo_kaggle"
max_rows = 100
train_samples = 4000
eval_samples = 1000
[model]
kind = "dlrm"
dim = 8
bottom = [16, 8]
top = [16, 1]
[train]
batch_size = 100
[optimizer]
kind = "adagrad"
learning_rate = 0.05
[eval]
every_steps = 20
[target]
auc = 0.501
"#;

fn dlrm_bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Real runs with seeds 1 to `n`; returns their folders in that order.
fn real_runs(dir: &Path, n: usize) -> Vec<PathBuf> {
    let file = dir.join("tiny.toml");
    fs::write(&file, TINY).unwrap();
    let results = dir.join("results");
    for seed in 1..=n {
        let (file, results) = (file.display().to_string(), results.display().to_string());
        let out = dlrm_bench(&[
            "run",
            &file,
            "--quiet",
            "--no-plots",
            "--no-ceilings",
            "--results",
            &results,
            "--seed",
            &seed.to_string(),
        ]);
        assert!(out.status.success(), "{}", text(&out.stderr));
    }
    let below = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut runs: Vec<_> = below(results).flat_map(below).flat_map(below).collect();
    runs.sort_by_key(|r| r.to_string_lossy().rsplit("-s").next().map(ToOwned::to_owned));
    runs
}

fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut record: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

/// Ten runs of closed DLRM-DCNv2 that nobody made, beside a real one whose record they take; with
/// logs of our writer.
fn closed_runs(dir: &Path, real: &Path) {
    let mut w = workload::load(&real.join("workload.toml"), &[]).unwrap().workload;
    w = workload::load(
        &real.join("workload.toml"),
        &["optimizer.eps=1e-8", "optimizer.learning_rate=0.004", "train.batch_size=65536"]
            .map(Into::into),
    )
    .map_or(w, |r| r.workload);
    w.mlperf.benchmark = "dlrm_dcnv2".into();
    w.mlperf.division = "closed".into();
    w.mlperf.status = "onprem".into();
    for seed in 0..10u64 {
        let folder = dir.join(format!("big/closed/run-{seed}"));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(real.join("workload.toml"), folder.join("workload.toml")).unwrap();
        fs::copy(real.join("run.json"), folder.join("run.json")).unwrap();
        edit(&folder.join("run.json"), |r| {
            r["run"] = json!(format!("run-{seed}"));
            r["started"] = json!(format!("2026-11-21T00:00:0{seed}Z"));
            r["system"] = json!("big machine");
            r["workload"]["benchmark"] = json!("dlrm_dcnv2");
            r["workload"]["division"] = json!("closed");
            r["workload"]["seed"] = json!(seed);
            r["workload"]["batch_size"] = json!(65536);
            r["facts"]["train_samples"] = json!(4195197692u64);
            r["facts"]["target_auc"] = json!(0.80275);
            r["outcome"]["seconds"] = json!(60.0 * (seed + 1) as f64);
        });
        w.train.seed = seed;
        write_log(&folder.join("result_0.txt"), &w);
    }
}

fn write_log(path: &Path, w: &workload::Workload) {
    let mut log = MlLog::create(path, w, "big machine").unwrap();
    let column = Column { name: "C1".into(), rows: 10, max_hotness: 1 };
    let schema = Schema { dense: 13, tables: vec![column; 26] };
    let quality = Quality {
        samples: 10,
        auc: 0.80275,
        logloss: 0.4,
        accuracy: 0.8,
        normalized_entropy: 0.9,
        base_rate: 0.25,
        precision: 0.5,
        recall: 0.5,
        f1: 0.5,
        average_precision: 0.5,
        auc_binned_1000: None,
    };
    let eval = EvalEvent {
        step: 5,
        progress: 0.8,
        samples: 500,
        elapsed: 2.0,
        seconds: 0.5,
        quality,
        best_auc: 0.80275,
        host_memory: None,
        gpu_memory: None,
        tables: Vec::new(),
    };
    let facts = RunFacts {
        train_samples: 4195197692,
        eval_samples: 89137319,
        steps_per_epoch: 100,
        max_steps: 100,
        target_auc: Some(0.80275),
        target_accuracy: None,
        best_auc: None,
    };
    let outcome = Outcome {
        loss_scale: None,
        reason: StopReason::Target,
        success: true,
        message: None,
        restored: None,
        steps: 5,
        samples: 500,
        seconds: 2.0,
        train_seconds: 1.5,
        last_eval: None,
        test: None,
        resumed_at: Vec::new(),
        tables: Vec::new(),
        served: None,
        checkpoint_seconds: 0.0,
    };
    log.init_start().unwrap();
    log.params_ready(&w.model.resolve(&schema).unwrap().params()).unwrap();
    log.run_start(&facts).unwrap();
    log.epoch_start(0).unwrap();
    log.eval_start(0.8).unwrap();
    log.eval_stop(&eval).unwrap();
    log.epoch_stop(0).unwrap();
    // No run ends in the millisecond in which it began.
    std::thread::sleep(std::time::Duration::from_millis(2));
    log.run_stop(&outcome).unwrap();
}

/// What MLPerf's two checkers say of a submission; `None` where there are none. One process for
/// both.
fn checkers(folder: &Path, ruleset: &str) -> Option<String> {
    const SCRIPT: &str = r#"
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from mlperf_logging.package_checker import package_checker
from mlperf_logging.repo_checker import repo_checker
package_checker.check_training_package(sys.argv[1], 'training', sys.argv[2], False, True, False, False, False, 'nowhere')
repo_checker.run_checks(sys.argv[1])
"#;
    let Ok(python) = std::env::var("DLRM_BENCH_MLPERF_PYTHON") else {
        eprintln!("skipped: DLRM_BENCH_MLPERF_PYTHON names no python with mlperf-logging 4.1.68");
        return None;
    };
    let out = Command::new(python).args(["-c", SCRIPT]).arg(folder).arg(ruleset).output().unwrap();
    Some(format!("{}{}", text(&out.stdout), text(&out.stderr)))
}

/// Both checkers find nothing, in words: their exit codes say nothing.
fn passes(folder: &Path, ruleset: &str) {
    let Some(said) = checkers(folder, ruleset) else { return };
    assert!(
        said.contains("PACKAGE CHECKER FOUND NO ERRORS") && said.contains("ALL CHECKS PASSED"),
        "{said}"
    );
    assert!(!said.contains("ERROR:") && !said.contains("Skipping"), "{said}");
}

fn package(runs: &[&Path], output: &Path, more: &[&str]) -> Output {
    let runs: Vec<_> = runs.iter().map(|r| r.display().to_string()).collect();
    let output = output.display().to_string();
    let mut args = vec!["package"];
    args.extend(runs.iter().map(String::as_str));
    args.extend(["--org", "dlrm-bench", "-o", &output]);
    args.extend(more);
    dlrm_bench(&args)
}

fn refused(out: &Output) -> &str {
    assert_eq!(out.status.code(), Some(65), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.stdout.is_empty());
    text(&out.stderr)
}

#[test]
fn five_real_runs_are_a_submission_of_dlrm() {
    let dir = tempfile::tempdir().unwrap();
    let runs = real_runs(dir.path(), 5);
    let output = dir.path().join("out");
    let out = package(&[&dir.path().join("results")], &output, &["--set", "cooling=Air"]);
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    assert!(said.contains("5 runs, open division, ruleset 2.1.0; score 0.0"), "{said}");
    assert!(
        said.contains("left empty, as nobody knows: host_processor_interconnect,")
            && !said.contains("cooling"),
        "{said}"
    );
    let org = output.join("dlrm-bench");
    let record: Value =
        serde_json::from_str(&fs::read_to_string(runs[0].join("run.json")).unwrap()).unwrap();
    let system = record["system"].as_str().unwrap();
    // In the order in which they were made, those of one second by their seeds.
    for (i, run) in runs.iter().enumerate() {
        let copied = fs::read(org.join(format!("results/{system}/dlrm/result_{i}.txt"))).unwrap();
        assert!(
            copied == fs::read(run.join("result_0.txt")).unwrap(),
            "log {i} is as it was written"
        );
    }
    let description: Value = serde_json::from_str(
        &fs::read_to_string(org.join(format!("systems/{system}.json"))).unwrap(),
    )
    .unwrap();
    let fields = description.as_object().unwrap();
    assert_eq!((fields.len(), fields.values().all(Value::is_string)), (33, true));
    assert_eq!(
        (&fields["cooling"], &fields["division"], &fields["system_name"]),
        (&json!("Air"), &json!("open"), &json!(system))
    );
    assert_eq!(fields["host_processor_model_name"], record["machine"]["cpu"]["model"]);
    let how = org.join("benchmarks/dlrm/implementations/dlrm-bench");
    assert!(
        fs::read_to_string(how.join(format!("{system}.md"))).unwrap().contains("1, 2, 3, 4, 5.")
    );
    assert!(workload::load(&how.join(format!("{system}.toml")), &[]).is_ok());
    passes(&org, "2.1.0");

    // Once written it is nobody's to write again.
    let again = package(&[&dir.path().join("results")], &output, &[]);
    assert_eq!(again.status.code(), Some(74));
    assert!(text(&again.stderr).contains("it is there already"), "{}", text(&again.stderr));

    // Fewer runs, the same seed twice, a broken log.
    let four: Vec<&Path> = runs[..4].iter().map(PathBuf::as_path).collect();
    let output = dir.path().join("four");
    let out = package(&four, &output, &[]);
    assert!(
        refused(&out).contains(
            "dlrm: 4 runs, but a submission has 5; make 1 more, or say --allow-incomplete"
        )
    );
    assert!(!output.exists());
    let out = package(&four, &output, &["--allow-incomplete"]);
    assert!(
        out.status.success() && text(&out.stdout).contains("note: 4 runs"),
        "{}",
        text(&out.stdout)
    );
    if let Some(said) = checkers(&output.join("dlrm-bench"), "2.1.0") {
        assert!(said.contains("FOUND ERRORS") && said.contains("found 4, expected 5"), "{said}");
    }
    for run in &runs[..2] {
        let log = run.join("result_0.txt");
        let broken = fs::read_to_string(&log).unwrap().replace("train_samples", "training_samples");
        fs::write(&log, broken).unwrap();
    }
    let out = package(&[&dir.path().join("results")], &dir.path().join("broken"), &[]);
    let error = refused(&out);
    assert_eq!(error.matches("train_samples is missing").count(), 2, "{error}");
    assert!(error.lines().all(|l| l.starts_with("error: ")), "{error}");
}

#[test]
fn ten_closed_runs_are_a_submission_of_dlrm_dcnv2() {
    let dir = tempfile::tempdir().unwrap();
    let real = real_runs(dir.path(), 1).remove(0);
    closed_runs(dir.path(), &real);
    let big = dir.path().join("big");
    let output = dir.path().join("out");
    let out = package(&[&big], &output, &[]);
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    // Minutes 1 to 10 without the first and the last.
    assert!(
        said.contains(
            "big_machine/dlrm_dcnv2: 10 runs, closed division, ruleset 6.0.0; score 5.500 min"
        ),
        "{said}"
    );
    passes(&output.join("dlrm-bench"), "6.0.0");
    // Statuses are in the logs of every benchmark.
    let description = output.join("dlrm-bench/systems/big_machine.json");
    assert!(
        fs::read_to_string(description).unwrap().contains("\"status\": \"Available on-premise\"")
    );

    // All runs took 0.8 epochs. Between the two points 0.8 is like the reference; with another one
    // it is too fast.
    let rcp = |slow: f64| {
        let point = |batch_size: u32, epochs: f64| {
            let epochs: Vec<f64> = (0..20).map(|i| epochs + 0.001 * f64::from(i)).collect();
            json!({"Benchmark": "dlrm_dcnv2", "BS": batch_size, "Hyperparams": {}, "Epochs to converge": epochs})
        };
        let path = dir.path().join("rcps.json");
        fs::write(&path, json!({"a": point(32768, 0.7), "b": point(98304, slow)}).to_string())
            .unwrap();
        path.display().to_string()
    };
    let out = package(&[&big], &dir.path().join("like"), &["--rcp", &rcp(0.88)]);
    let said = text(&out.stdout);
    assert!(
        said.contains("note: converges like the reference: mean 0.80000 epochs, reference 0.79950 at batch size 65536"),
        "{said}"
    );
    let out = package(&[&big], &dir.path().join("fast"), &["--rcp", &rcp(1.2)]);
    assert!(
        refused(&out)
            .contains("dlrm_dcnv2: converges too fast to be accepted: mean 0.80000 epochs"),
        "{}",
        text(&out.stderr)
    );
    let out = package(&[&big], &dir.path().join("slow"), &["--rcp", &rcp(0.71)]);
    assert!(
        text(&out.stdout).contains("converges more slowly than the reference"),
        "{}",
        text(&out.stdout)
    );
    let run_json = big.join("closed/run-9/run.json").display().to_string();
    let out = package(&[&big], &dir.path().join("wrong"), &["--rcp", &run_json]);
    assert!(
        refused(&out).contains("run.json: no reference convergence points"),
        "{}",
        text(&out.stderr)
    );

    // The closed division wants different seeds and one workload; everybody wants runs of ours.
    let last = big.join("closed/run-9/run.json");
    edit(&last, |r| r["workload"]["seed"] = json!(3));
    let out = package(&[&big], &dir.path().join("seeds"), &[]);
    assert!(refused(&out).contains("have the same seed, 3"), "{}", text(&out.stderr));
    edit(&last, |r| r["workload"]["name"] = json!("another"));
    let out = package(&[&big], &dir.path().join("workloads"), &[]);
    assert!(refused(&out).contains("have workload another and tiny"), "{}", text(&out.stderr));
    let log = big.join("closed/run-0/result_0.txt");
    let alone = dir.path().join("result_0.txt");
    fs::copy(log, &alone).unwrap();
    let out = package(&[&alone], &dir.path().join("alone"), &[]);
    assert!(refused(&out).contains("no run of this program's"), "{}", text(&out.stderr));
}

#[test]
fn one_of_several_groups_is_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let runs = real_runs(dir.path(), 6);
    let results = dir.path().join("results");
    // Kept beside them: a run of other settings, and one of another system.
    let kept = results.join("kept/other/tiny/run");
    fs::create_dir_all(&kept).unwrap();
    for file in ["run.json", "workload.toml", "result_0.txt"] {
        fs::copy(runs[5].join(file), kept.join(file)).unwrap();
    }
    edit(&kept.join("run.json"), |r| r["system"] = json!("other"));
    let toml = fs::read_to_string(runs[5].join("workload.toml")).unwrap();
    fs::write(
        runs[5].join("workload.toml"),
        toml.replace("dim = 8", "dim = 4").replace("16, 8]", "16, 4]"),
    )
    .unwrap();
    let record: Value =
        serde_json::from_str(&fs::read_to_string(runs[0].join("run.json")).unwrap()).unwrap();
    let system = record["system"].as_str().unwrap();
    let names: Vec<String> = [&runs[0], &runs[5]]
        .iter()
        .map(|r| format!("{system}/tiny/{}", r.file_name().unwrap().to_string_lossy()))
        .collect();
    let out = package(&[&results], &dir.path().join("all"), &[]);
    let said = refused(&out);
    assert!(said.contains("runs must be of one workload"), "{said}");
    assert!(
        said.contains(&format!("--only {}  (dlrm, 5 runs, seeds 1, 2, 3, 4, 5, ", names[0])),
        "{said}"
    );
    assert!(said.contains(&format!("--only {}  (dlrm, 1 run, seed 6, ", names[1])), "{said}");
    assert!(said.contains("--only other/tiny  (dlrm, 1 run"), "{said}");
    assert!(said.lines().all(|l| l.starts_with("error: ")), "{said}");
    let out = package(&[&results], &dir.path().join("one"), &["--only", &names[0]]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let folder = dir.path().join(format!("one/dlrm-bench/results/{system}/dlrm"));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 5, "{}", text(&out.stdout));
    let filter = |name: &str, filters: &[&str]| {
        let more: Vec<&str> = filters.iter().flat_map(|f| ["--filter", f]).collect();
        package(&[&results], &dir.path().join(name), &more)
    };
    let out = filter("filtered", &["model.dim=8", "system!=other"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let folder = dir.path().join(format!("filtered/dlrm-bench/results/{system}/dlrm"));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 5, "{}", text(&out.stdout));
    let out = filter("nothing", &["model.dim=16"]);
    assert!(refused(&out).contains("none of the 7 runs passes the filters"));
    let out = filter("nosuch", &["model.dmi=8"]);
    assert!(refused(&out).contains("--filter: no column \"model.dmi\"; did you mean model.dim?"));
    let out = package(&[&results], &dir.path().join("none"), &["--only", "nosuch"]);
    assert!(refused(&out).contains("--only nosuch is none of the groups of runs"));
    let out = package(&[&results], &dir.path().join("two"), &["--only", "tiny"]);
    assert!(refused(&out).contains("runs must be of one workload"), "{}", text(&out.stderr));
}

#[test]
fn a_division_that_is_not_what_it_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runs = real_runs(dir.path(), 2);
    let package = |paths: &[&Path], name: &str| {
        let out = package(paths, &dir.path().join(name), &["--allow-incomplete"]);
        (out.status.code(), text(&out.stderr).to_owned())
    };
    let paths: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    assert_eq!(package(&paths, "open").0, Some(0));
    let replace = |path: &Path, from: &str, to: &str| {
        let old = fs::read_to_string(path).unwrap();
        assert!(old.contains(from), "{old}");
        fs::write(path, old.replace(from, to)).unwrap();
    };
    // The log alone says closed.
    let logs = runs.iter().map(|run| run.join("result_0.txt"));
    let (says_open, says_closed) = (
        "\"key\": \"submission_division\", \"value\": \"open\"",
        "\"key\": \"submission_division\", \"value\": \"closed\"",
    );
    logs.for_each(|log| replace(&log, says_open, says_closed));
    let (code, error) = package(&paths, "log");
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("of the closed division, but run.json of the open one"), "{error}");
    // All of them say so: planted data are not Criteo's, whatever is said.
    for run in &runs {
        edit(&run.join("run.json"), |r| r["workload"]["division"] = json!("closed"));
        replace(&run.join("workload.toml"), "division = \"open\"", "division = \"closed\"");
    }
    let (code, error) = package(&paths, "all");
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("mlperf.division: is \"closed\""), "{error}");
    assert!(!dir.path().join("log").exists() && !dir.path().join("all").exists());
}

#[test]
fn leftovers_of_a_killed_package_are_not_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let runs = real_runs(dir.path(), 1);
    let output = dir.path().join("out");
    for hidden in [".tmp-dlrm-bench", ".tmp-dlrm-bench-abc"] {
        let left = output.join(hidden).join("results/secret/dlrm");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("result_0.txt"), "of another day").unwrap();
    }
    let out = package(&[&runs[0]], &output, &["--allow-incomplete"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let systems: Vec<_> = fs::read_dir(output.join("dlrm-bench/results")).unwrap().collect();
    assert_eq!(systems.len(), 1);
    let hidden = fs::read_dir(&output)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 2, "its own is gone");
    // A link that leads nowhere is there already.
    let linked = dir.path().join("linked");
    fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink("nowhere", linked.join("dlrm-bench")).unwrap();
    let out = package(&[&runs[0]], &linked, &["--allow-incomplete"]);
    assert_eq!(out.status.code(), Some(74));
    assert!(text(&out.stderr).contains("it is there already"), "{}", text(&out.stderr));
    // What is not the workload's is refused.
    let toml = runs[0].join("workload.toml");
    let lie = fs::read_to_string(&toml)
        .unwrap()
        .replace("benchmark = \"dlrm\"", "benchmark = \"deepfm\"");
    fs::write(&toml, lie).unwrap();
    let out = package(&[&runs[0]], &dir.path().join("lie"), &["--allow-incomplete"]);
    assert!(
        refused(&out).contains("is \"deepfm\", but model.kind is \"dlrm\""),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn a_record_of_ours_is_no_file_of_reference_points() {
    let dir = tempfile::tempdir().unwrap();
    let runs = real_runs(dir.path(), 1);
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/reference_logs/quickstart.json");
    let out = package(&[&runs[0]], &dir.path().join("out"), &["--allow-incomplete", "--rcp", ours]);
    let said = refused(&out);
    assert!(
        said.contains("a convergence record of quickstart (dlrm-bench record), for run --reference; --rcp takes"),
        "{said}"
    );
}

#[test]
fn a_wrong_command_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    let out = package(&[&missing], &dir.path().join("out"), &[]);
    assert!(refused(&out).contains("none"));
    let out = package(&[&missing], &dir.path().join("out"), &["--set", "colling=Air"]);
    assert_eq!(out.status.code(), Some(64));
    assert!(
        text(&out.stderr).contains("no field is called \"colling\"; must be one of status"),
        "{}",
        text(&out.stderr)
    );
    let out = dlrm_bench(&["package", &missing.display().to_string(), "--org", "A B", "-o", "out"]);
    assert!(
        refused(&out)
            .contains("the organisation's name is \"A B\", which holds a space; write _ for it")
    );
}
