//! On how much a run evaluates, when, and what it keeps of that in memory.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// 400 samples to learn from and 200 to evaluate on, in csv.
fn data(folder: &Path) {
    let rows = |n: usize, salt: usize| -> String {
        let row = |i: usize| {
            let (a, b) = ((i * 7 + salt) % 11, (i * 5 + salt) % 13);
            format!("{},{},{a},{b}\n", usize::from((a + b + i % 3).is_multiple_of(2)), i % 17)
        };
        std::iter::once("label,x,a,b\n".to_owned()).chain((0..n).map(row)).collect()
    };
    fs::write(folder.join("train.csv"), rows(400, 0)).unwrap();
    fs::write(folder.join("eval.csv"), rows(200, 4)).unwrap();
    fs::write(
        folder.join("w.toml"),
        "workload.name = \"small\"\n\
         data = { source = \"csv\", train = \"train.csv\", eval = \"eval.csv\", label = \"label\", dense = [\"x\"], categorical = [\"a\", \"b\"] }\n\
         model = { kind = \"dlrm\", dim = 2, bottom = [2], top = [4, 1] }\n\
         train = { batch_size = 40, max_steps = 25, epochs = 3 }\n\
         optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n\
         eval = { every_steps = 10, batch_size = 33 }\n",
    )
    .unwrap();
}

fn program(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(folder).args(["run", "w.toml", "--no-ceilings", "--no-plots", "--quiet"]);
    command.args(more).output().unwrap()
}

/// The record of a run, and its folder.
fn run(folder: &Path, results: &str, more: &[&str]) -> (Value, PathBuf) {
    let out = program(folder, &[&["--results", results][..], more].concat());
    assert_eq!(out.status.code(), Some(0), "{more:?}: {}", String::from_utf8_lossy(&out.stderr));
    let mut path = folder.join(results);
    for _ in 0..3 {
        path = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    (serde_json::from_slice(&fs::read(path.join("run.json")).unwrap()).unwrap(), path)
}

fn qualities(record: &Value) -> Vec<(u64, Value)> {
    let evaluations = record["evaluations"].as_array().unwrap().iter();
    evaluations.map(|e| (e["step"].as_u64().unwrap(), e["quality"].clone())).collect()
}

#[test]
fn a_limited_evaluation_is_that_of_a_file_with_the_first_samples() {
    let folder = TempDir::new().unwrap();
    data(folder.path());
    let (limited, path) = run(folder.path(), "a", &["--set", "eval.samples=120"]);
    assert_eq!(limited["facts"]["eval_samples"], 120);
    let kept = fs::read_to_string(path.join("workload.toml")).unwrap();
    assert!(kept.contains("\nsamples = 120\n"), "{kept}");
    let log = fs::read_to_string(path.join("result_0.txt")).unwrap();
    assert!(log.contains("\"key\": \"eval_samples\", \"value\": 120,"));
    let whole = fs::read_to_string(folder.path().join("eval.csv")).unwrap();
    let first: Vec<&str> = whole.lines().take(121).collect();
    fs::write(folder.path().join("first.csv"), first.join("\n") + "\n").unwrap();
    let (cut, _) = run(folder.path(), "b", &["--set", "data.eval=first.csv"]);
    assert_eq!(qualities(&limited), qualities(&cut));
    assert_eq!(qualities(&limited)[0].1["samples"], 120);
    let (all, _) = run(folder.path(), "c", &[]);
    assert_ne!(qualities(&limited), qualities(&all));
}

#[test]
fn what_is_kept_in_memory_changes_no_number() {
    let folder = TempDir::new().unwrap();
    data(folder.path());
    let cached = |how: &str| {
        let (record, path) = run(folder.path(), how, &["--set", &format!("eval.cache={how}")]);
        let kept = fs::read_to_string(path.join("workload.toml")).unwrap();
        assert!(kept.contains(&format!("cache = \"{how}\"")), "{kept}");
        qualities(&record)
    };
    let [auto, always, never] = ["auto", "always", "never"].map(cached);
    assert!(auto.len() == 3 && auto == always && auto == never);
    // Left out, it is no word of the workload, whose hash stays what it was.
    let (_, path) = run(folder.path(), "none", &[]);
    let kept = fs::read_to_string(path.join("workload.toml")).unwrap();
    assert!(
        !kept.contains("cache") && !kept.contains("final") && !kept.contains("round"),
        "{kept}"
    );
}

#[test]
fn without_a_final_evaluation_there_are_the_periodic_ones() {
    let folder = TempDir::new().unwrap();
    data(folder.path());
    let steps = |name: &str, more: &[&str]| -> Vec<u64> {
        qualities(&run(folder.path(), name, more).0).into_iter().map(|q| q.0).collect()
    };
    assert_eq!(steps("with", &[]), [10, 20, 25]);
    assert_eq!(steps("without", &["--set", "eval.final=false"]), [10, 20]);
}

#[test]
fn each_evaluation_says_what_memory_was_held() {
    let folder = TempDir::new().unwrap();
    data(folder.path());
    let (record, path) = run(folder.path(), "a", &[]);
    for evaluation in record["evaluations"].as_array().unwrap() {
        let host = evaluation["host_memory"].as_u64();
        if cfg!(target_os = "linux") {
            let peak = record["peak_memory"].as_u64().unwrap();
            assert!(host.is_some_and(|h| h > 1 << 20 && h <= peak + (64 << 20)), "{evaluation}");
        }
        // No GPU computes here: unknown, which is said.
        assert_eq!(evaluation.get("gpu_memory"), Some(&Value::Null));
    }
    let metrics = dlrm_bench::results::metrics::read(&path.join("metrics.parquet")).unwrap();
    let told: Vec<usize> =
        (0..metrics.len()).filter(|&i| metrics.host_memory[i].is_some()).collect();
    assert_eq!(told, if cfg!(target_os = "linux") { vec![9, 19, 24] } else { vec![] });
    assert!(metrics.gpu_memory.iter().all(Option::is_none));
}

#[test]
fn what_makes_no_sense_is_one_line() {
    let folder = TempDir::new().unwrap();
    data(folder.path());
    for (set, said) in [
        (&["eval.samples=500"][..], "eval.samples: is 500, but the evaluation split holds 200"),
        (&["eval.samples=0"], "at least 1"),
        (&["eval.cache=sometimes"], "\"auto\", \"always\" or \"never\""),
        (
            &["eval.every_steps=", "eval.every=end", "eval.final=false"],
            "nothing would be evaluated",
        ),
        (&["eval.every_steps=", "eval.every=never", "eval.final=true"], "has no effect"),
        (&["eval.every_steps=", "eval.every=never", "eval.samples=5"], "has no effect"),
    ] {
        let set: Vec<String> = set.iter().map(|s| format!("--set={s}")).collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let out = program(folder.path(), &set);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(64), "{set:?}: {error}");
        assert!(error.contains(said) && error.trim_end().lines().count() == 1, "{set:?}: {error}");
    }
    let out = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(folder.path())
        .args(["run", "quickstart", "--set", "eval.samples=10"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("use data.eval_samples"));
}

/// Known by its name, and not built.
#[test]
fn an_npu_is_refused_as_a_device_that_is_not_there() {
    let folder = TempDir::new().unwrap();
    data(folder.path());
    for args in [["--device", "npu"], ["--device", "npu:1"], ["--set", "engine.device=\"npu:0\""]] {
        for engine in ["fused", "candle"] {
            let out = program(folder.path(), &[&args[..], &["--engine", engine]].concat());
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!(out.status.code(), Some(69), "{args:?}: {error}");
            assert!(error.starts_with("error: npu:") && error.contains("not built"), "{error}");
            assert!(error.contains("how a device is added"), "{error}");
        }
    }
    assert!(!folder.path().join("results").exists());
}
