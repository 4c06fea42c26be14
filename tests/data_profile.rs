//! `dlrm-bench data profile` as a user runs it.

use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn profile(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir)
        .args(["data", "profile"])
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const PLANTED: &str = r#"
[workload]
name = "planted"
[data]
source = "planted"
preset = "custom"
tables = [300, 300, 40000]
exponents = [0.5, 1.5, 1.2]
hotness = [1, 2, 1]
train_samples = 20000
[model]
kind = "dlrm"
dim = 4
bottom = [4]
top = [4, 1]
[train]
batch_size = 128
[optimizer]
kind = "sgd"
learning_rate = 0.1
"#;

/// What is found in a log is what made it, and what is drawn from its patterns comes again as soon.
#[test]
fn patterns_of_planted_data_make_data_of_the_same_locality() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("planted.toml"), PLANTED).unwrap();
    let read = |args: &[&str]| -> Vec<Value> {
        let out = profile(dir.path(), args);
        assert!(out.status.success(), "{}", text(&out.stderr));
        serde_json::from_str::<Value>(text(&out.stdout)).unwrap()["tables"]
            .as_array()
            .unwrap()
            .clone()
    };
    let before = read(&["planted.toml", "--samples", "20000", "--json", "--patterns", "p"]);
    for (table, (exponent, accesses)) in
        before.iter().zip([(0.5, 20_000), (1.5, 40_000), (1.2, 20_000)])
    {
        assert!((table["zipf_exponent"].as_f64().unwrap() - exponent).abs() < 0.05, "{table}");
        assert_eq!(table["accesses"], accesses);
    }
    let random = r#"
        [workload]
        name = "trace"
        [data]
        source = "numpy_random"
        tables = [300, 300, 40000]
        dense = 4
        samples = 400000
        indices_per_lookup = 1
        distribution = "trace"
        traces = ["p/dist_emb_0.log", "p/dist_emb_1.log", "p/dist_emb_2.log"]
        trace_restart = "epoch"
        trace_padding = true
        [model]
        kind = "dlrm"
        dim = 4
        bottom = [4]
        top = [4, 1]
        [train]
        batch_size = 128
        loss = "mse"
        [optimizer]
        kind = "sgd"
        learning_rate = 0.1
    "#;
    fs::write(dir.path().join("trace.toml"), random).unwrap();
    let after = read(&["trace.toml", "--samples", "400000", "--json"]);
    for (a, b) in before.iter().zip(&after).take(2) {
        let [a_shares, b_shares] = [a, b].map(|t| t["stack_distances"].as_array().unwrap());
        assert_eq!(a_shares.len(), b_shares.len());
        for (x, y) in a_shares.iter().zip(b_shares).skip(1) {
            assert!((x.as_f64().unwrap() - y.as_f64().unwrap()).abs() < 0.03, "{a}\n{b}");
        }
    }
    // Training on it works like on any other data.
    let run = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir.path())
        .args([
            "run",
            "trace.toml",
            "--quiet",
            "--no-plots",
            "--no-ceilings",
            "--set",
            "train.max_steps=20",
        ])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
}

/// A file has the profile of the samples that are in it, in whatever format.
#[test]
fn files_are_profiled_as_their_source() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("planted.toml"), PLANTED).unwrap();
    let read = |args: &[&str]| -> Vec<Value> {
        let out = profile(dir.path(), &[args, &["--samples", "3000", "--json"]].concat());
        assert!(out.status.success(), "{}", text(&out.stderr));
        let tables = serde_json::from_str::<Value>(text(&out.stdout)).unwrap()["tables"]
            .as_array()
            .unwrap()
            .clone();
        // A file does not say how many rows its tables have.
        let of_ids = |key: &str| {
            matches!(key, "table" | "accesses" | "distinct" | "lru_hit_rate" | "stack_distances")
        };
        let ids = |t: &Value| {
            t.as_object()
                .unwrap()
                .iter()
                .filter(|(k, _)| of_ids(k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        tables.iter().map(ids).collect()
    };
    let source = read(&["planted.toml"]);
    for file in ["a.parquet", "a_dense.npy"] {
        let made = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
            .current_dir(dir.path())
            .args([
                "data",
                "generate",
                "custom",
                "--tables",
                "300,300,40000",
                "--exponents",
                "0.5,1.5,1.2",
                "--hotness",
                "1,2,1",
            ])
            .args(["--dense", "2", "--samples", "4000", "-q", "-o", file])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        assert_eq!(read(&[file]), source);
    }
    assert_eq!(read(&["a.parquet", "--table", "C2"]), source[1..2]);
}

#[test]
fn a_table_and_a_trace_are_shown_in_80_columns() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("planted.toml"), PLANTED).unwrap();
    let out = profile(dir.path(), &["planted.toml", "--samples", "3000", "--table", "C3"]);
    let said = text(&out.stdout);
    assert!(
        out.status.success() && said.contains("LRU 100k") && said.contains("2 to 3 "),
        "{said}"
    );
    assert!(said.lines().all(|l| l.chars().count() <= 80 && l.trim_end() == l), "{said}");

    fs::write(dir.path().join("ids.txt"), "1, 2, 3, 4, 5, 3\n4 1\t1\n\n6 3\n").unwrap();
    let out = profile(dir.path(), &["--trace", "ids.txt", "--patterns", "q"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let pattern = fs::read_to_string(dir.path().join("q/dist_emb_0.log")).unwrap();
    assert!(
        pattern.starts_with(
            "1, 2, 3, 4, 5, 6\n0, 1, 3, 4, 5\n0.5454545454545454, 0.6363636363636364, "
        ),
        "{pattern}"
    );
}

#[test]
fn what_cannot_be_profiled_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("planted.toml"), PLANTED).unwrap();
    fs::write(dir.path().join("bad.txt"), "1, 2\n3, x\n").unwrap();
    fs::write(dir.path().join("empty.txt"), "\n").unwrap();
    for (args, code, expected) in [
        (
            &["planted.toml", "--table", "C9"][..],
            64,
            "--table C9: there is no such table; there are C1, C2, C3",
        ),
        (&["none.toml"], 64, "none.toml"),
        (&["--trace", "none.txt"], 65, "none.txt"),
        (
            &["--trace", "bad.txt"],
            65,
            "bad.txt:2: \"x\" is no id; a number from 0 to 4294967295 is right",
        ),
        (&["--trace", "empty.txt"], 65, "empty.txt: holds no ids"),
        (&["bad.txt"], 64, "bad.txt: "),
        (&["bad.txt", "--from", "bin40"], 65, "bad.txt"),
        (&["planted.toml", "--dense", "I1"], 64, "choose columns of a data file"),
        (
            &["bad.csv", "--set", "data.seed=2"],
            64,
            "--set data.seed=2: replaces values of a workload file (.toml)",
        ),
        (&["planted.toml", "--samples", "100", "--patterns", "bad.txt"], 74, "bad.txt"),
    ] {
        let out = profile(dir.path(), args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(
            said.starts_with("error: ") && said.contains(expected) && said.lines().count() == 1,
            "{said}"
        );
    }
}
