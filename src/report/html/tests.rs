//! The page from run folders. That it works in a browser is tested by scripts/check-report.py.

use super::*;
use crate::{
    metrics::Quality,
    results::{
        Recorder, RunFolder,
        record::PhaseShare,
        table::{self, Options},
        tree,
    },
    system::Machine,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent, StopReason},
    workload::{Workload, parse},
};
use serde_json::Value;

const WORKLOAD: &str = r#"
workload = { name = "tiny", description = "</script><b>&" }
data.source = "planted"
model = { kind = "dlrm", dim = 16, bottom = [32, 16], top = [64, 1] }
train = { batch_size = 10, seed = 7 }
optimizer = { kind = "sgd", learning_rate = 0.1 }
"#;

/// A name that would do harm if it were not escaped.
const EVIL: &str = "</script><script>alert(1)<!--";

fn workload() -> Workload {
    parse::resolve("w.toml".as_ref(), WORKLOAD.into(), &[]).unwrap().workload
}

/// A run of `steps` steps of ten samples, 0.1 s each, with an evaluation of 0.5 s after step 2.
fn folder(root: &Path, system: &str, steps: u64) -> RunFolder {
    let workload = workload();
    let folder = RunFolder::create(root, "s", "tiny", &workload.sha256(), 7).unwrap();
    let quality = Quality {
        samples: 10,
        auc: 0.7,
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
        step: 2,
        progress: 0.2,
        samples: 20,
        elapsed: 0.7,
        seconds: 0.5,
        quality,
        best_auc: 0.7,
        host_memory: None,
        gpu_memory: None,
        tables: Vec::new(),
    };
    let mut recorder = Recorder::new(folder.metrics(), None, serde_json::Value::Null);
    let facts = RunFacts {
        train_samples: 100,
        eval_samples: 10,
        steps_per_epoch: 10,
        max_steps: steps,
        target_auc: Some(0.65),
        target_accuracy: None,
        best_auc: Some(0.875),
    };
    recorder.run_start(&facts).unwrap();
    for step in 1..=steps {
        let (loss, seconds) = (1.0 / step as f32, 0.1);
        recorder
            .step(&StepEvent {
                step,
                epoch: 0,
                samples: 10,
                loss,
                learning_rate: 0.1,
                seconds,
                data_wait: 0.0,
            })
            .unwrap();
        if step == 2 {
            recorder.eval_stop(&eval).unwrap();
        }
    }
    let outcome = Outcome {
        loss_scale: None,
        reason: StopReason::Target,
        success: true,
        message: None,
        restored: None,
        steps,
        samples: 10 * steps,
        seconds: 0.1 * steps as f64 + 0.5,
        train_seconds: 0.1 * steps as f64,
        last_eval: Some(eval),
        test: None,
        resumed_at: Vec::new(),
        tables: Vec::new(),
        served: None,
        checkpoint_seconds: 0.0,
    };
    recorder.run_stop(&outcome).unwrap();
    let (recorded, metrics, failed) = recorder.finish();
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(metrics, crate::results::metrics::read(&folder.metrics()).unwrap());
    let mut record =
        RunRecord::new(&folder, system, Machine::inspect(), &workload, recorded, &metrics);
    record.phases = PhaseShare::of(&[("data_wait", 0.1), ("mlp", 0.3)]);
    folder.write_record(&record).unwrap();
    folder.write_workload(&workload.to_toml()).unwrap();
    folder
}

/// The record of such a run.
pub(super) fn record() -> RunRecord {
    let dir = tempfile::tempdir().unwrap();
    record::read(&folder(dir.path(), "s", 5).path().join("run.json")).unwrap()
}

/// One run of one machine.
pub(super) fn comparison() -> Comparison {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), "s", 5);
    let found = tree::read(&[dir.path().display().to_string()]);
    table::build(found.runs, &Options::default()).unwrap()
}

fn page_of(root: &Path) -> String {
    let found = tree::read(&[root.display().to_string()]);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    page(&table::build(found.runs, &Options::default()).unwrap(), EVIL, &[]).unwrap()
}

fn data_of(page: &str) -> Value {
    let (_, from) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(from.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_page_holds_what_was_run_and_measured() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), "one", 5);
    folder(dir.path(), "two", 10);
    let page = page_of(dir.path());
    // 50 samples in 1 s, 100 in 1.5 s.
    for shown in [
        "target AUC 0.65",
        "best reachable 0.87500",
        "50.00",
        "66.67",
        "data wait",
        "75%",
        "Operating system",
        "[optimizer]",
        "target reached",
        "end-to-end throughput",
        "data-kind=\"accuracy\"",
        "<td>0.80000</td>",
    ] {
        assert!(page.contains(shown), "{shown} is not on the page");
    }
    let data = data_of(&page);
    let rows = data["groups"][0]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &data["groups"][0]["target"]), (2, &0.65.into()));
    let run = &rows[0]["runs"][0];
    assert_eq!(run["auc"], serde_json::json!({"samples": [20.0], "seconds": [0.7], "y": [0.7]}));
    assert_eq!(
        (run["loss"]["y"].as_array().map(Vec::len), &run["loss"]["seconds"][2]),
        (Some(10), &0.8.into())
    );
}

#[test]
fn names_are_text_whatever_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), EVIL, 5);
    let page = page_of(dir.path());
    // The page's own two scripts, and nothing else.
    assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (2, 2));
    assert!(!page.contains("<b>&") && !page.contains("<!--"));
    assert!(data_of(&page).to_string().contains("alert(1)"));
}

#[test]
fn what_is_missing_is_said_and_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let kept = folder(dir.path(), "one", 5);
    let found = tree::read(&[dir.path().display().to_string()]);
    // Found damaged, the run would have been left out; this happens meanwhile.
    std::fs::write(kept.metrics(), "no table").unwrap();
    let page = page(&table::build(found.runs, &Options::default()).unwrap(), EVIL, &[]).unwrap();
    assert!(page.contains("What could not be read") && page.contains("metrics.parquet"));
    assert!(page.contains("data-kind=\"auc\"") && !page.contains("data-kind=\"loss\""));
}

#[test]
fn nothing_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), "one", 5);
    let page = page_of(dir.path());
    for word in ["src=", "<link", "@import", "url(http", "fetch(", "http://"] {
        let found = page.matches(word).count();
        // The namespace of SVG is a name, not an address.
        let names =
            if word == "http://" { page.matches("http://www.w3.org/2000/svg").count() } else { 0 };
        assert_eq!(found, names, "{word}");
    }
}

#[test]
fn gradients_that_came_late_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let kept = folder(dir.path(), "one", 5);
    assert!(!page_of(dir.path()).contains("Staleness in"));
    let mut record = record::read(&kept.path().join("run.json")).unwrap();
    let served = crate::engine::Served {
        servers: 1,
        workers: 2,
        bound: None,
        staleness: vec![1, 3, 1],
        batches: vec![3, 2],
    };
    assert_eq!(served.mean_staleness(), Some(1.0));
    record.outcome.as_mut().unwrap().served = Some(served);
    std::fs::write(kept.path().join("run.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let page = page_of(dir.path());
    assert!(page.contains("<summary>Staleness in"));
    assert!(page.contains("<th scope=\"row\">1</th><td>3</td><td>60.0%</td>"), "{page}");
}
