//! What a run leaves whose loss or prediction is not a number, and `replay`, as a user has them.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// Its second step has no finite loss.
const WORKLOAD: &str = r#"
workload.name = "tiny"
data = { source = "planted", max_rows = 100, train_samples = 4000, eval_samples = 500 }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [8, 1] }
train = { batch_size = 64, max_steps = 20 }
optimizer = { kind = "sgd", learning_rate = 1e30 }
eval = { every_steps = 10, batch_size = 100 }
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

    fn out(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(self.dir.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs the workload with some values replaced, which fails; its folder.
    fn fails(&self, set: &[&str]) -> (PathBuf, Output) {
        let mut args = vec!["run", "w.toml", "--no-plots", "--no-ceilings", "--quiet"];
        set.iter().for_each(|set| args.extend(["--set", set]));
        let out = self.out(&args);
        assert_eq!(out.status.code(), Some(4), "{}", text(&out.stderr));
        let runs = fs::read_dir(self.dir.path().join("results/here/tiny")).unwrap();
        let mut runs: Vec<PathBuf> = runs.map(|r| r.unwrap().path()).collect();
        runs.sort_by_key(|r| fs::metadata(r).unwrap().modified().unwrap());
        (runs.pop().unwrap(), out)
    }

    fn replay(&self, run: &Path) -> (Option<i32>, Value) {
        let out = self.out(&["replay", run.to_str().unwrap(), "--json"]);
        let value = serde_json::from_slice(&out.stdout);
        (out.status.code(), value.unwrap_or_else(|_| panic!("{}", text(&out.stderr))))
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("failure/failure.json")).unwrap()).unwrap()
}

#[test]
fn a_step_without_a_loss_is_left_and_done_again() {
    for set in [
        &[][..],
        &["engine.kind=candle", "optimizer.learning_rate=1e38"],
        &["engine.embedding_rows=bf16", "engine.precision=bf16", "train.micro_batches=4"],
        &["optimizer.kind=adagrad", "optimizer.eps=1e-8"],
    ] {
        let bench = Bench::new();
        let (run, out) = bench.fails(set);
        let told = text(&out.stderr);
        assert!(told.contains("/failure; dlrm-bench replay does that step again"), "{told}");
        assert!(told.contains("error: the loss is "), "{told}");
        let found = record(&run);
        let step = found["step"]["step"].as_u64().unwrap();
        assert_eq!(found["steps"], step - 1, "{found}");
        assert_eq!(found["at"]["split"], "train");
        assert_eq!(
            (&found["at"]["first"], &found["at"]["samples"]),
            (&(64 * (step - 1)).into(), &64.into())
        );
        assert_eq!(found["last_steps"].as_array().unwrap().len() as u64, step - 1);
        // What was trained on is there, as it was read.
        let shown =
            bench.out(&["data", "inspect", run.join("failure/batch.parquet").to_str().unwrap()]);
        assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
        assert!(text(&shown.stdout).contains("64"), "{}", text(&shown.stdout));
        let (code, again) = bench.replay(&run);
        assert_eq!(code, Some(0), "{set:?}: {again}");
        assert_eq!((&again["again"], &again["now"]), (&true.into(), &found["step"]["loss"]));
        // The model is the one of then, number by number.
        assert_eq!(again["found"], found["found"], "{set:?}");
        let layers = &found["found"]["layers"];
        assert_eq!(layers.is_null(), set.contains(&"engine.kind=candle"), "{layers}");
        let plain = bench.out(&["replay", run.to_str().unwrap()]);
        assert!(text(&plain.stdout).contains(": as then\n"), "{}", text(&plain.stdout));
        assert!(
            text(&plain.stdout).lines().all(|l| l.chars().count() <= 80 || l.starts_with("then"))
        );
    }
}

#[test]
fn an_evaluation_without_predictions_is_left_and_done_again() {
    let bench = Bench::new();
    let (run, _) = bench.fails(&["eval.every_steps=1", "optimizer.learning_rate=1e38"]);
    let found = record(&run);
    assert_eq!((&found["at"]["split"], &found["steps"]), (&"eval".into(), &1.into()), "{found}");
    assert!(found["step"].is_null() && found["found"]["bad_samples"].as_u64() > Some(0), "{found}");
    let (code, again) = bench.replay(&run);
    assert_eq!((code, &again["again"]), (Some(0), &true.into()), "{again}");
    assert_eq!(again["found"], found["found"]);
}

#[test]
fn a_failed_run_has_no_other_traces() {
    let bench = Bench::new();
    let (run, _) = bench.fails(&[]);
    let mut names: Vec<String> = fs::read_dir(run.join("failure"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["batch.parquet", "failure.json", "step-000000000001"]);
    // It is over: there is nothing to go on with.
    let out = bench.out(&["run", "--resume", run.to_str().unwrap()]);
    assert!(text(&out.stderr).contains("it has failed"), "{}", text(&out.stderr));
    // Its last good model can be judged.
    let model = run.join("failure/step-000000000001");
    let workload = run.join("workload.toml");
    let out =
        bench.out(&["eval", model.to_str().unwrap(), "--workload", workload.to_str().unwrap()]);
    assert!(out.status.code() == Some(0) || out.status.code() == Some(4), "{}", text(&out.stderr));
}

#[test]
fn what_cannot_be_done_again_is_named() {
    let bench = Bench::new();
    let (run, _) = bench.fails(&[]);
    let path = run.to_str().unwrap();
    let told = |code: i32, part: &str| {
        let out = bench.out(&["replay", path]);
        let told = text(&out.stderr).to_owned();
        assert!(out.status.code() == Some(code) && told.contains(part), "{code} {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    };
    let record = run.join("failure/failure.json");
    let whole = fs::read_to_string(&record).unwrap();
    // Of another batch than the data give.
    let blake3 = serde_json::from_str::<Value>(&whole).unwrap()["at"]["blake3"].clone();
    fs::write(&record, whole.replace(blake3.as_str().unwrap(), &"0".repeat(64))).unwrap();
    told(65, "the data are not those of the run");
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    told(65, "failure.json");
    fs::write(&record, whole.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    told(65, "is of format 2; this program reads 1");
    fs::write(&record, &whole).unwrap();
    let workload = fs::read_to_string(run.join("workload.toml")).unwrap();
    fs::write(run.join("workload.toml"), workload.replace("max_steps = 20", "max_steps = 21"))
        .unwrap();
    told(65, "is of another workload");
    fs::write(run.join("workload.toml"), workload).unwrap();
    fs::remove_file(&record).unwrap();
    told(64, "this run has left no failure/");
    let out = bench.out(&["replay", "nowhere"]);
    assert_eq!(out.status.code(), Some(64));
}
