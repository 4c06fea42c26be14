//! A record from events to disk and back.

use super::*;
use crate::{
    metrics::Quality,
    system::Machine,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent, StopReason},
    workload::parse,
};
use std::fs;

const WORKLOAD: &str = r#"
workload = { name = "tiny", description = "for tests" }
data.source = "planted"
model = { kind = "dlrm", dim = 16, bottom = [32, 16], top = [64, 1] }
train = { batch_size = 100, seed = 7 }
optimizer = { kind = "sgd", learning_rate = 0.1 }
"#;

fn eval(step: u64, auc: f64) -> EvalEvent {
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
    let t = step as f64;
    EvalEvent {
        step,
        progress: t / 10.0,
        samples: 100 * step,
        elapsed: t,
        seconds: 0.5,
        quality,
        best_auc: auc,
        host_memory: None,
        gpu_memory: None,
        tables: Vec::new(),
    }
}

/// Ten steps of half a second each, an evaluation at every second one with AUC 0.6, 0.65, 0.7, ...;
/// target 0.7 of at most 0.9.
fn run(folder: &RunFolder) -> (Recorded, metrics::Metrics) {
    let mut recorder = Recorder::new(folder.metrics(), None, serde_json::Value::Null);
    let facts = RunFacts {
        train_samples: 1000,
        eval_samples: 10,
        steps_per_epoch: 10,
        max_steps: 10,
        target_auc: Some(0.7),
        target_accuracy: None,
        best_auc: Some(0.9),
    };
    recorder.run_start(&facts).unwrap();
    for step in 1..=10 {
        let event = StepEvent {
            step,
            epoch: 0,
            samples: 100,
            loss: 0.5,
            learning_rate: 0.1,
            seconds: 0.5,
            data_wait: 0.125,
        };
        recorder.step(&event).unwrap();
        if step % 2 == 0 {
            recorder.eval_stop(&eval(step, 0.55 + 0.05 * (step / 2) as f64)).unwrap();
        }
    }
    let outcome = Outcome {
        loss_scale: None,
        reason: StopReason::Budget,
        success: true,
        message: None,
        restored: None,
        steps: 10,
        samples: 1000,
        seconds: 10.0,
        train_seconds: 5.0,
        last_eval: Some(eval(10, 0.8)),
        test: None,
        resumed_at: Vec::new(),
        tables: Vec::new(),
        served: None,
        checkpoint_seconds: 0.0,
    };
    recorder.run_stop(&outcome).unwrap();
    let (recorded, metrics, failed) = recorder.finish();
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(metrics, metrics::read(&folder.metrics()).unwrap());
    (recorded, metrics)
}

#[test]
fn a_record_holds_what_the_events_said_and_reads_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let workload = parse::resolve("w.toml".as_ref(), WORKLOAD.into(), &[]).unwrap().workload;
    let folder = RunFolder::create(dir.path(), "epyc-2c", "tiny", &workload.sha256(), 7).unwrap();
    let (recorded, metrics) = run(&folder);
    let mut record =
        RunRecord::new(&folder, "epyc-2c", Machine::inspect(), &workload, recorded, &metrics);
    let throughput = record.throughput.as_ref().unwrap();
    assert_eq!((throughput.training, throughput.end_to_end), (200.0, 100.0));
    assert_eq!(record.data_wait_share, Some(0.25));
    let c = &record.convergence;
    assert_eq!(
        (c.seconds_to_target, c.samples_to_target, c.epochs_to_target),
        (Some(6.0), Some(600), Some(0.6))
    );
    assert_eq!(c.best_auc, Some(0.8));
    assert!((c.share_of_best.unwrap() - 0.75).abs() < 1e-12);
    record.phases = record::PhaseShare::of(&[("embedding", 1.0), ("mlp", 3.0), ("comm", 0.0)]);
    assert_eq!(
        record.phases.iter().map(|p| (p.phase.as_str(), p.share)).collect::<Vec<_>>(),
        [("embedding", 0.25), ("mlp", 0.75)]
    );
    let mlp = floor::PhaseFloor { phase: "mlp".into(), seconds: 0.1 };
    record.set_floor(Floor {
        popularity: Default::default(),
        batch: 100,
        seconds: 0.2,
        samples_per_second: 500.0,
        phases: vec![mlp],
    });
    assert_eq!(
        record.phases.iter().map(|p| p.floor_share).collect::<Vec<_>>(),
        [None, Some(1.0 / 3.0)]
    );
    assert_eq!(record.floor_share, Some(0.4));

    folder.write_record(&record).unwrap();
    folder.write_workload(&workload.to_toml()).unwrap();
    assert_eq!(record::read(&folder.path().join("run.json")).unwrap(), record);
    let names = |path: &std::path::Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        names
    };
    // While the run has its folder, nobody else may write there.
    let path = folder.path().to_owned();
    assert_eq!(names(&path)[0], ".tmp-run.json.lock");
    drop(folder);
    assert_eq!(names(&path), ["metrics.parquet", "run.json", "workload.toml"]);
}

/// Records of programs that knew no ceilings.
#[test]
fn records_without_ceilings_and_floors_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let workload = parse::resolve("w.toml".as_ref(), WORKLOAD.into(), &[]).unwrap().workload;
    let folder = RunFolder::create(dir.path(), "epyc-2c", "tiny", &workload.sha256(), 7).unwrap();
    let (recorded, metrics) = run(&folder);
    let mut record =
        RunRecord::new(&folder, "epyc-2c", Machine::inspect(), &workload, recorded, &metrics);
    record.phases = record::PhaseShare::of(&[("embedding", 1.0)]);
    let mut json = serde_json::to_value(&record).unwrap();
    for key in ["ceilings", "floor", "floor_share", "energy_joules"] {
        assert!(json.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    json["phases"][0].as_object_mut().unwrap().remove("floor_share").unwrap();
    let path = dir.path().join("run.json");
    fs::write(&path, json.to_string()).unwrap();
    assert_eq!(record::read(&path).unwrap(), record);
}

#[test]
fn records_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    let error = |text: &str| {
        fs::write(&path, text).unwrap();
        record::read(&path).unwrap_err().to_string().replace(&path.display().to_string(), "PATH")
    };
    assert_eq!(
        error("{\"schema_version\": 99}"),
        "PATH: schema_version is 99, but this program reads 1"
    );
    assert!(
        error("{\"schema_version\": 1}").starts_with("PATH: not a run record: missing field `run`")
    );
    assert!(error("{\"schema_ver").starts_with("PATH: not a run record: EOF while parsing"));
    assert!(error("").starts_with("PATH: not a run record: EOF"));
    fs::remove_file(&path).unwrap();
    assert!(record::read(&path).unwrap_err().to_string().starts_with("cannot read "));
}
