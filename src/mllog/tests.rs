//! Golden lines, and MLPerf's own checker where there is one.

use super::*;
use crate::{
    batch::{Column, Schema},
    metrics::Quality,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StopReason},
    workload::{Workload, parse, rounds},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const DLRM: &str = r#"
workload.name = "tiny"
data.source = "planted"
model = { kind = "dlrm", dim = 128, bottom = [512, 256, 128], top = [1024, 1024, 512, 256, 1] }
train = { batch_size = 32768, seed = 7 }
optimizer = { kind = "sgd", learning_rate = 18.0 }
schedule = { kind = "facebook_policy", warmup_steps = 8000, decay_start_step = 70000, decay_steps = 30000 }
mlperf = { benchmark = "dlrm", org = "X", platform = "1xcpu", status = "onprem" }
"#;

const DEEPFM: &str = r#"
workload.name = "tiny"
data.source = "planted"
model = { kind = "deepfm", dim = 16, hidden = [64, 32], embedding_l2 = 0.1 }
train = { batch_size = 128, seed = 7 }
optimizer = { kind = "adam", learning_rate = 1e-3 }
"#;

fn workload(text: &str, set: &[&str]) -> Workload {
    let owned: Vec<_> = set.iter().map(|s| s.to_string()).collect();
    let mut w = parse::resolve(Path::new("w.toml"), text.to_owned(), &owned).unwrap().workload;
    // Files refuse this without Criteo 1TB, but what the log says of it is to be tested.
    if text == DLRM && !set.contains(&"mlperf.division=open") {
        w.mlperf.division = "closed".into();
    }
    w
}

fn dcnv2() -> Workload {
    let mut w = workload(
        DLRM,
        &[
            "optimizer.kind=adagrad",
            "optimizer.learning_rate=0.005",
            "optimizer.eps=1e-8",
            "train.batch_size=65536",
            "train.micro_batches=8",
        ],
    );
    w.schedule = crate::optim::ScheduleSpec::Constant;
    w.mlperf.benchmark = "dlrm_dcnv2".into();
    w
}

fn eval(auc: f64) -> EvalEvent {
    let quality = Quality {
        samples: 10,
        auc,
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
    EvalEvent {
        step: 5,
        progress: 0.05,
        samples: 500,
        elapsed: 2.0,
        seconds: 0.5,
        quality,
        best_auc: auc,
        host_memory: None,
        gpu_memory: None,
        tables: Vec::new(),
    }
}

fn outcome(success: bool) -> Outcome {
    Outcome {
        loss_scale: None,
        reason: if success { StopReason::Target } else { StopReason::Interrupted },
        success,
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
    }
}

fn begin(log: &mut MlLog, w: &Workload) {
    let column = Column { name: "C1".into(), rows: 10, max_hotness: 1 };
    let schema = Schema { dense: 13, tables: vec![column; 26] };
    log.init_start().unwrap();
    log.params_ready(&w.model.resolve(&schema).unwrap().params()).unwrap();
    let facts = RunFacts {
        train_samples: 4195197692,
        eval_samples: 89137319,
        steps_per_epoch: 100,
        max_steps: 100,
        target_auc: Some(0.8025),
        target_accuracy: None,
        best_auc: None,
    };
    log.run_start(&facts).unwrap();
    log.epoch_start(0).unwrap();
    log.eval_start(0.05).unwrap();
}

fn play(dir: &Path, w: &Workload, auc: f64) -> PathBuf {
    let path = dir.join(format!("{}_0.txt", w.mlperf.benchmark));
    let mut log = MlLog::create(&path, w, "epyc-2c").unwrap();
    begin(&mut log, w);
    log.eval_stop(&eval(auc)).unwrap();
    log.epoch_stop(0).unwrap();
    log.run_stop(&outcome(true)).unwrap();
    path
}

/// The log without what changes from run to run: the times and our line numbers.
fn stable(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (head, rest) = line.split_once("\"time_ms\": ").unwrap();
            let (time, rest) = rest.split_once(", ").unwrap();
            assert!(time.parse::<u64>().unwrap() > 1_600_000_000_000);
            let (middle, rest) =
                rest.split_once("\"file\": \"src/mllog/writer.rs\", \"lineno\": ").unwrap();
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
            assert!(digits > 0);
            format!("{head}{middle}{}", rest[digits..].trim_start_matches(", "))
        })
        .collect()
}

fn golden(lines: &[(&str, &str, &str, &str)]) -> Vec<String> {
    lines
        .iter()
        .map(|(event, key, value, metadata)| {
            let event = [("S", "INTERVAL_START"), ("E", "INTERVAL_END"), ("P", "POINT_IN_TIME")]
                .iter()
                .find_map(|(short, long)| (short == event).then_some(long))
                .unwrap();
            format!(
                r#":::MLLOG {{"namespace": "", "event_type": "{event}", "key": "{key}", "value": {value}, "metadata": {{{metadata}}}}}"#
            )
        })
        .collect()
}

const END: [(&str, &str, &str, &str); 5] = [
    ("P", "eval_accuracy", "0.80275", r#""epoch_num": 0.05"#),
    ("E", "eval_stop", "null", r#""epoch_num": 0.05"#),
    ("E", "epoch_stop", "null", r#""epoch_num": 0"#),
    ("P", "tracked_stats", r#"{"throughput": 250.0}"#, r#""step": 5"#),
    ("E", "run_stop", "null", r#""status": "success""#),
];

#[test]
fn dlrm_v1_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = play(dir.path(), &workload(DLRM, &[]), 0.8025);
    let expected = golden(&[
        ("P", "submission_benchmark", r#""dlrm""#, ""),
        ("P", "submission_org", r#""X""#, ""),
        ("P", "submission_division", r#""closed""#, ""),
        ("P", "submission_status", r#""onprem""#, ""),
        ("P", "submission_platform", r#""1xcpu""#, ""),
        ("P", "cache_clear", "false", ""),
        ("S", "init_start", "null", ""),
        ("P", "seed", "7", ""),
        ("P", "weights_initialization", "null", r#""tensor": "embeddings""#),
        ("P", "weights_initialization", "null", r#""tensor": "bottom_mlp_dense1""#),
        ("P", "weights_initialization", "null", r#""tensor": "bottom_mlp_dense2""#),
        ("P", "weights_initialization", "null", r#""tensor": "bottom_mlp_dense3""#),
        ("P", "weights_initialization", "null", r#""tensor": "top_mlp_dense1""#),
        ("P", "weights_initialization", "null", r#""tensor": "top_mlp_dense2""#),
        ("P", "weights_initialization", "null", r#""tensor": "top_mlp_dense3""#),
        ("P", "weights_initialization", "null", r#""tensor": "top_mlp_dense4""#),
        ("P", "weights_initialization", "null", r#""tensor": "top_mlp_dense5""#),
        ("P", "lowest_numerical_precision_in_linear", r#""fp32""#, ""),
        ("P", "global_batch_size", "32768", ""),
        ("P", "gradient_accumulation_steps", "1", ""),
        ("P", "opt_name", r#""sgd""#, ""),
        ("P", "opt_base_learning_rate", "18.0", ""),
        ("P", "opt_learning_rate_decay_schedule", r#""facebook_policy""#, ""),
        ("P", "opt_learning_rate_warmup_steps", "8000", ""),
        ("P", "sgd_opt_base_learning_rate", "18.0", ""),
        ("P", "lr_decay_start_steps", "70000", ""),
        ("P", "sgd_opt_learning_rate_decay_steps", "30000", ""),
        ("P", "sgd_opt_learning_rate_decay_poly_power", "2.0", ""),
        ("E", "init_stop", "null", ""),
        ("S", "run_start", "null", ""),
        ("P", "train_samples", "4195197692", r#""data": "planted""#),
        ("P", "eval_samples", "89137319", r#""data": "planted""#),
        ("S", "epoch_start", "null", r#""epoch_num": 1"#),
        ("S", "eval_start", "null", r#""epoch_num": 1.05"#),
        ("P", "eval_accuracy", "0.8025", r#""epoch_num": 1.05"#),
        ("E", "eval_stop", "null", r#""epoch_num": 1.05"#),
        ("E", "epoch_stop", "null", r#""epoch_num": 1"#),
        ("P", "tracked_stats", r#"{"throughput": 250.0}"#, r#""step": 5"#),
        ("E", "run_stop", "null", r#""status": "success""#),
    ]);
    assert_eq!(stable(&path), expected);
}

#[test]
fn dcnv2_s_optimizer_and_epochs_from_zero() {
    let dir = tempfile::tempdir().unwrap();
    let lines = stable(&play(dir.path(), &dcnv2(), 0.80275));
    let status = golden(&[("P", "submission_status", r#""onprem""#, "")]);
    assert!(lines.contains(&status[0]), "{}", lines.join("\n"));
    let keys = golden(&[
        ("P", "lowest_numerical_precision_in_linear", r#""fp32""#, ""),
        ("P", "global_batch_size", "65536", ""),
        ("P", "gradient_accumulation_steps", "8", ""),
        ("P", "opt_name", r#""adagrad""#, ""),
        ("P", "opt_base_learning_rate", "0.005", ""),
        ("P", "opt_learning_rate_decay_schedule", r#""constant""#, ""),
        ("P", "opt_learning_rate_warmup_steps", "0", ""),
        ("P", "opt_adagrad_epsilon", "1e-08", ""),
        ("P", "opt_adagrad_initial_accumulator_value", "0.0", ""),
        ("P", "opt_adagrad_learning_rate_decay", "0.0", ""),
        ("P", "opt_learning_rate_decay_start_step", "0", ""),
        ("P", "opt_learning_rate_decay_steps", "0", ""),
        ("P", "opt_weight_decay", "0", ""),
        ("E", "init_stop", "null", ""),
    ]);
    let from = lines.iter().position(|l| *l == keys[0]).unwrap();
    assert_eq!(lines[from..from + keys.len()], keys);
    assert_eq!(lines[lines.len() - 5..], golden(&END));
}

#[test]
fn deepfm_logs_adam_its_layers_and_the_l2_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let lines = stable(&play(dir.path(), &workload(DEEPFM, &[]), 0.80275));
    for line in golden(&[
        ("P", "submission_platform", r#""epyc-2c""#, ""),
        ("P", "weights_initialization", "null", r#""tensor": "linear""#),
        ("P", "weights_initialization", "null", r#""tensor": "dense_fields""#),
        ("P", "weights_initialization", "null", r#""tensor": "dnn_dense3""#),
        ("P", "opt_adam_beta_2", "0.999", ""),
        ("P", "opt_adam_epsilon", "1e-08", ""),
        ("P", "embedding_l2", "0.1", ""),
    ]) {
        assert!(lines.contains(&line), "{line} is not in\n{}", lines.join("\n"));
    }
}

#[test]
fn lines_appear_as_events_happen_and_a_dropped_log_is_closed_as_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let (path, w) = (dir.path().join("result_0.txt"), workload(DLRM, &[]));
    std::fs::write(&path, "an older run\n").unwrap();
    let mut log = MlLog::create(&path, &w, "epyc-2c").unwrap();
    log.init_start().unwrap();
    assert!(stable(&path).last().unwrap().contains("\"seed\""));
    drop(log);
    assert_eq!(
        stable(&path).last(),
        golden(&[("E", "run_stop", "null", r#""status": "aborted""#)]).last()
    );

    let mut log = MlLog::create(&path, &w, "epyc-2c").unwrap();
    begin(&mut log, &w);
    log.run_stop(&outcome(false)).unwrap();
    drop(log);
    let lines = stable(&path);
    assert_eq!(lines.iter().filter(|l| l.contains("run_stop")).count(), 1);
    assert!(lines[lines.len() - 2].contains("epoch_stop"), "an open epoch is closed");
    assert!(lines[lines.len() - 1].contains("aborted"));
}

#[test]
fn an_auc_that_is_no_number_is_an_error_and_not_a_null() {
    let dir = tempfile::tempdir().unwrap();
    let w = workload(DLRM, &[]);
    let mut log = MlLog::create(&dir.path().join("l"), &w, "p").unwrap();
    begin(&mut log, &w);
    let error = log.eval_stop(&eval(f64::NAN)).unwrap_err();
    assert_eq!(error.to_string(), "AUC is NaN after step 5");
    assert!(!std::fs::read_to_string(dir.path().join("l")).unwrap().contains("eval_accuracy"));
}

#[test]
fn unknown_benchmarks_and_unwritable_files_are_named() {
    let mut w = workload(DLRM, &[]);
    let dir = tempfile::tempdir().unwrap();
    let error = MlLog::create(&dir.path().join("no/such/folder"), &w, "p").unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
    w.mlperf.benchmark = "bert".into();
    let error = MlLog::create(&dir.path().join("l"), &w, "p").unwrap_err().to_string();
    assert_eq!(error, "mlperf.benchmark is \"bert\"; must be one of dlrm, dlrm_dcnv2, deepfm");
}

/// Runs MLPerf's checker; `None` = passed.
fn check(python: &str, log: &Path, benchmark: &Benchmark) -> Option<String> {
    check_by(python, log, benchmark.ruleset, benchmark.rule_file)
}

fn check_by(python: &str, log: &Path, ruleset: &str, rule_file: Option<&str>) -> Option<String> {
    let mut command = Command::new(python);
    command.args([
        "-m",
        "mlperf_logging.compliance_checker",
        "--usage",
        "training",
        "--werror",
        "--ruleset",
        ruleset,
    ]);
    if let Some(file) = rule_file {
        command.arg("--config").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    }
    let output =
        command.arg("--log_output").arg(log.with_extension("checker")).arg(log).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (!output.status.success() || !text.contains("SUCCESS")).then_some(text)
}

#[test]
fn mlperf_s_own_checker_agrees() {
    let Ok(python) = std::env::var("DLRM_BENCH_MLPERF_PYTHON") else {
        eprintln!("skipped: DLRM_BENCH_MLPERF_PYTHON names no python with mlperf-logging 4.1.68");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut capped = workload(
        DLRM,
        &[
            "model.bottom=[128]",
            "model.top=[1]",
            "mlperf.division=open",
            "schedule.kind=constant",
            "schedule.warmup_steps=",
            "schedule.decay_start_step=",
            "schedule.decay_steps=",
        ],
    );
    let cases = [(workload(DLRM, &[]), 0.8025), (dcnv2(), 0.80275), (workload(DEEPFM, &[]), 0.7)];
    for (w, auc) in &cases {
        let log = play(dir.path(), w, *auc);
        assert_eq!(check(&python, &log, Benchmark::named(&w.mlperf.benchmark).unwrap()), None);
        // Every line is byte for byte what Python's json would have written.
        let script = "import json,sys\nfor l in open(sys.argv[1]):\n p,j=l.rstrip('\\n').split(' ',1)\n assert json.dumps(json.loads(j))==j,l";
        assert!(Command::new(&python).args(["-c", script]).arg(&log).status().unwrap().success());
    }
    for benchmark in ["dlrm", "dlrm_dcnv2"] {
        capped.mlperf.benchmark = benchmark.into();
        let log = play(dir.path(), &capped, 0.6);
        assert_eq!(
            check(&python, &log, Benchmark::named(benchmark).unwrap()),
            None,
            "open, other shapes"
        );
    }
    // The checker does look: a target that was missed, a DeepFM log that lacks its end.
    let log = play(dir.path(), &cases[0].0, 0.8);
    assert!(check(&python, &log, Benchmark::named("dlrm").unwrap()).is_some());
    let log = play(dir.path(), &cases[2].0, 0.8);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(
        &log,
        text.lines().filter(|l| !l.contains("run_stop")).collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    assert!(check(&python, &log, Benchmark::named("deepfm").unwrap()).is_some());
}

/// The rounds that a workload may ask for are those that logs are judged by.
#[test]
fn rounds_of_workloads_are_those_of_the_rules() {
    let rules: Vec<(&str, String)> =
        rules::ROUNDS.iter().map(|r| (r.benchmark, r.ruleset.to_owned())).collect();
    let keys: Vec<(&str, String)> = rounds::ROUNDS
        .iter()
        .flat_map(|(name, all)| all.iter().map(|round| (*name, rounds::ruleset(round))))
        .collect();
    assert_eq!(rules, keys);
}

/// A log that was written for a round states it, is judged by it, and passes, in both divisions;
/// one without is as it always was.
#[test]
fn a_log_passes_the_rules_of_the_round_it_was_written_for() {
    let dir = tempfile::tempdir().unwrap();
    for (benchmark, all) in rounds::ROUNDS {
        for round in all {
            for division in ["open", "closed"] {
                let mut w = if benchmark == "dlrm" { workload(DLRM, &[]) } else { dcnv2() };
                w.mlperf.division = division.into();
                w.mlperf.round = Some((*round).to_owned());
                let path = play(dir.path(), &w, 0.80275);
                let text = std::fs::read(&path).unwrap();
                let verdict = check::check(&text, None);
                assert_eq!(verdict.ruleset, rounds::ruleset(round));
                assert!(verdict.passes(true), "{benchmark} {round} {division}: {verdict:?}");
                assert_eq!(verdict.benchmark.as_deref(), Some(benchmark));
            }
        }
    }
    let plain = std::fs::read(play(dir.path(), &dcnv2(), 0.80275)).unwrap();
    assert_eq!((rules::stated(&plain), check::check(&plain, None).ruleset), (None, "6.0.0"));
}

/// MLPerf's own checker on logs of its rounds.
#[test]
fn mlperfs_checker_passes_logs_of_every_round_of_dcnv2() {
    let Ok(python) = std::env::var("DLRM_BENCH_MLPERF_PYTHON") else {
        eprintln!("skipped: DLRM_BENCH_MLPERF_PYTHON names no python with mlperf-logging 4.1.68");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for round in rounds::ROUNDS[1].1 {
        let mut w = dcnv2();
        w.mlperf.round = Some((*round).to_owned());
        let log = play(dir.path(), &w, 0.80275);
        assert_eq!(check_by(&python, &log, &rounds::ruleset(round), None), None, "{round}");
    }
}
