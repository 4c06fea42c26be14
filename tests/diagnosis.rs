//! `run --diagnose`, as a user has it.

use serde_json::Value;
use std::{fmt::Write, fs, process::Command};

/// Three columns of four values, seven values and one.
fn data() -> String {
    let mut text = String::from("label,I1,C1,C2,C3\n");
    for i in 0..700 {
        let (a, b) = (i % 4, i % 7);
        let _ = writeln!(text, "{},{},{a},{b},0", (i * 7 + a * b) % 2, i % 13);
    }
    text
}

const WORKLOAD: &str = r#"
workload = { name = "tiny", quirks = ["dr.top-mlp-dead-layer"] }
data = { source = "csv", train = "d.csv", eval = "d.csv", label = "label", dense = ["I1"] }
model = { kind = "dlrm", dim = 4, bottom = [8, 4], top = [9, 8, 1], mlp_init = "glorot_uniform" }
train = { batch_size = 64, epochs = 2, seed = 5 }
optimizer = { kind = "adagrad", learning_rate = 0.05 }
eval = { every = "end", batch_size = 100 }
mlperf.platform = "here"
"#;

#[test]
fn what_never_moved_is_counted() {
    for set in [
        &[][..],
        &["engine.embedding_rows=bf16"],
        &["engine.embedding_rows=fp16", "engine.precision=fp16"],
        &["engine.embedding_rows=bf16-split"],
        &["engine.kind=candle"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("d.csv"), data()).unwrap();
        fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
        let mut args = vec!["run", "w.toml", "--diagnose", "--json", "--no-plots", "--no-ceilings"];
        set.iter().for_each(|set| args.extend(["--set", set]));
        let run = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
            let out = command.current_dir(dir.path()).args(args).output().unwrap();
            assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        let out = run(&args);
        let event = out
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap())
            .find(|e| e["event"] == "diagnosis");
        let found = event.unwrap()["diagnosis"].clone();
        let unmoved = |of: &str| -> Vec<(String, u64, u64)> {
            let of = found[of].as_array().unwrap().iter();
            of.map(|u| {
                let number = |key: &str| u[key].as_u64().unwrap();
                (u["name"].as_str().unwrap().to_owned(), number("unmoved"), number("rows"))
            })
            .collect()
        };
        let row = |name: &str, unmoved, rows| (name.to_owned(), unmoved, rows);
        // The row for values that training does not hold.
        assert_eq!(
            unmoved("tables"),
            [row("emb_l.0.weight", 1, 5), row("emb_l.1.weight", 1, 8), row("emb_l.2.weight", 1, 2)],
            "{set:?}"
        );
        // The layer that nobody reads, and no other.
        let layers = unmoved("layers");
        for (name, unmoved, rows) in &layers {
            let dead = name == "top_l.0.weight";
            assert!(if dead { unmoved == rows } else { unmoved < rows }, "{set:?} {layers:?}");
        }
        assert_eq!(found["samples"], 100);
        assert_eq!(found["units"].is_null(), set == ["engine.kind=candle"]);
        let runs = fs::read_dir(dir.path().join("results/here/tiny")).unwrap();
        let run_folder = runs.map(|r| r.unwrap().path()).next().unwrap();
        let record: Value =
            serde_json::from_slice(&fs::read(run_folder.join("run.json")).unwrap()).unwrap();
        assert_eq!(record["diagnosis"], found);
        // In words, too; and a run that was not asked says nothing.
        args.retain(|a| *a != "--json");
        let words = run(&args);
        let line = words.lines().find(|l| l.contains("rows that never moved")).unwrap();
        let end: Vec<&str> = line.split_whitespace().skip(4).collect();
        assert_eq!(end, ["3", "of", "15", "20.0%"], "{words}");
        assert!(words.lines().all(|l| l.chars().count() <= 80 || !l.starts_with("  ")), "{words}");
        args.retain(|a| *a != "--diagnose");
        assert!(!run(&args).contains("never moved"));
    }
}
