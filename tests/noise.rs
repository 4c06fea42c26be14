//! How quiet the machine is, as a user is told.
#![cfg(target_os = "linux")]

use serde_json::Value;
use std::{
    fs,
    process::{Child, Command, Output, Stdio},
};

/// Processes that keep all processors busy until they are dropped.
struct Others(Vec<Child>);

impl Others {
    fn at_work() -> Self {
        let n = std::thread::available_parallelism().unwrap().get();
        let spin = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Others((0..n).map(spin).collect())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn dlrm_bench(dir: &std::path::Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(dir).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

const WORKLOAD: &str = r#"
workload.name = "noisy"
data = { source = "planted", preset = "custom", tables = [2000, 20], dense = 2, train_samples = 10000000, eval_samples = 300 }
model = { kind = "dlrm", dim = 16, bottom = [64, 16], top = [64, 1] }
train = { batch_size = 2048, max_steps = 250 }
optimizer = { kind = "sgd", learning_rate = 0.05 }
eval.every = "end"
mlperf.platform = "here"
"#;

#[test]
fn others_at_work_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
    let _others = Others::at_work();
    let doctor = dlrm_bench(dir.path(), &["doctor", "--seconds", "1", "--min-grade", "b"]);
    let shown = text(&doctor);
    assert_eq!(doctor.status.code(), Some(1), "{shown}");
    assert!(shown.starts_with("The machine is graded F\n\n  F  others used "), "{shown}");
    assert!(shown.contains("\n     end other programs, or wait for them\n"), "{shown}");
    assert!(shown.lines().all(|l| l.chars().count() <= 80), "{shown}");
    let json = dlrm_bench(dir.path(), &["doctor", "--seconds", "1", "--json"]);
    assert_eq!(json.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["grade"] == "F" && json["usage"]["others"].as_f64().unwrap() > 0.25, "{json}");
    // A run of a second or more, on one of the processors.
    let args = ["run", "w.toml", "--threads", "1", "--no-plots", "--no-ceilings"];
    let run = dlrm_bench(dir.path(), &args);
    let shown = text(&run);
    assert_eq!(run.status.code(), Some(0), "{shown}");
    let record = find(&dir.path().join("results"));
    let noise = &record["noise"];
    if noise["usage"].is_null() {
        // A machine on which that takes no half second.
        assert!(record["outcome"]["seconds"].as_f64().unwrap() < 0.75, "{record}");
        assert_eq!(noise["findings"][0]["grade"], Value::Null, "{noise}");
    } else {
        assert_eq!(noise["grade"], "F", "{noise}");
        assert!(shown.contains("machine     not quiet, grade F: others used "), "{shown}");
    }
}

/// The only record below a folder.
fn find(folder: &std::path::Path) -> Value {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return find(&path);
        }
        if path.ends_with("run.json") {
            return serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        }
    }
    panic!("no record in {}", folder.display());
}

#[test]
fn grades_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (args, told) in [
        (&["doctor", "--min-grade", "E"][..], "must be A, B, C, D or F"),
        (&["doctor", "--seconds", "0"], "must be a whole number from 1 to 3600"),
        (&["gate", "w.toml", "--record", "b.json", "--min-grade", "B"], "cannot be used with"),
    ] {
        let output = dlrm_bench(dir.path(), args);
        assert!(output.status.code() == Some(64) && text(&output).contains(told), "{args:?}");
    }
}
