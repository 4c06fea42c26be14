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

/// A run says beside its hits which were expected by the counts of a profile of its data, of as many
/// samples as it read, and refuses profiles of something else.
#[test]
fn a_run_is_told_of_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("planted.toml"), PLANTED).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(["run", "planted.toml", "--no-ceilings"]);
        command.args(["--set", "eval.batch_size=128", "--set", "data.eval_samples=500"]).args(args);
        command.output().unwrap()
    };
    let cached = ["embedding.store=cached", "embedding.cache=64KiB", "embedding.path=."];
    let cached = cached.map(|set| ["--set", set]).concat();
    // Of twice as many samples as the run reads.
    let args = ["planted.toml", "--samples", "20000", "--json"];
    let profiled = profile(dir.path(), &args);
    assert!(profiled.status.success(), "{}", text(&profiled.stderr));
    fs::write(dir.path().join("ids.json"), &profiled.stdout).unwrap();
    let half =
        ["--ids-profile", "ids.json", "--no-plots", "--quiet", "--set", "train.max_steps=78"];
    let explained = run(&[&cached[..], &half[..2], &half[4..], &["--explain"]].concat());
    let explained = text(&explained.stdout).to_owned();
    let out = run(&[&cached[..], &half].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    let record = text(&out.stdout).lines().find_map(|l| l.strip_prefix("log")).unwrap().trim();
    let record = dir.path().join(record).parent().unwrap().join("run.json");
    let record: Value = serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap();
    let (seen, expected) = (&record["outcome"]["tables"][0], &record["expected_hits"][0]);
    let (hits, misses) = (seen["hits"].as_f64().unwrap(), seen["misses"].as_f64().unwrap());
    assert_eq!(
        (expected["ids"].as_f64(), &expected["column"]),
        (Some(78.0 * 128.0), &seen["column"])
    );
    let rate = 1.0 - expected["misses"].as_f64().unwrap() / (78.0 * 128.0);
    assert!((rate - hits / (hits + misses)).abs() < 0.02, "{rate} {hits} {misses}");
    assert!(text(&out.stdout).contains(&format!("({:.2}% expected)", 100.0 * rate)));
    assert!(
        explained.contains(&format!("{:.2}% of ids expected to hit", 100.0 * rate)),
        "{explained}"
    );
    // Rows that are all in memory have no misses to be expected.
    let out = run(&half);
    assert!(out.status.success() && text(&out.stderr).contains("all rows are in memory"));
    for (file, told) in [
        ("{}", "missing field"),
        (
            r#"{"samples":1,"tables":[{"table":"C3","accesses":3,"counts":[[1,2]]}]}"#,
            "do not come to",
        ),
        (
            r#"{"samples":1,"tables":[{"table":"C9","accesses":2,"counts":[[1,2]]}]}"#,
            "has no table C3",
        ),
    ] {
        fs::write(dir.path().join("ids.json"), file).unwrap();
        let out = run(&[&cached[..], &half].concat());
        let said = text(&out.stderr);
        assert!(!out.status.success() && said.contains(told), "{file}: {said}");
        assert!(said.contains("ids.json") && said.trim_end().lines().count() == 1, "{said}");
    }
}

/// What is foretold of a cache is what a run then sees of it, and what an LRU cache would.
#[test]
fn a_cache_is_foretold() {
    let dir = tempfile::tempdir().unwrap();
    let few = PLANTED.replace("train_samples = 20000", "train_samples = 20000\neval_samples = 500");
    fs::write(dir.path().join("planted.toml"), few).unwrap();
    let out = profile(
        dir.path(),
        &[
            "planted.toml",
            "--samples",
            "20000",
            "--cache",
            "64KiB",
            "--json",
            "--set",
            "eval.batch_size=128",
        ],
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    let foretold: Value = serde_json::from_str(text(&out.stdout)).unwrap();
    let large = &foretold["tables"][2]["cache"];
    let (slots, rate) = (large["slots"].as_u64().unwrap(), large["hit_rate"].as_f64().unwrap());
    // 64 KiB hold 25 bytes a row; the two small tables have 300 rows each.
    assert_eq!(slots, (65_536 / 25) - 600);
    let run = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"))
        .current_dir(dir.path())
        .args(["run", "planted.toml", "--quiet", "--no-plots", "--no-ceilings"])
        .args(["--set", "embedding.store=cached", "--set", "embedding.cache=64KiB"])
        .args(["--set", "embedding.path=."])
        .args(["--set", "eval.batch_size=128"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
    let record = text(&run.stdout).lines().find_map(|l| l.strip_prefix("log")).unwrap().trim();
    let record = dir.path().join(record).parent().unwrap().join("run.json");
    let record: Value = serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap();
    let seen = &record["outcome"]["tables"][0];
    assert_eq!(seen["slots"].as_u64(), Some(slots));
    let (hits, misses) = (seen["hits"].as_f64().unwrap(), seen["misses"].as_f64().unwrap());
    assert_eq!(hits + misses, 20_000.0);
    let measured = hits / (hits + misses);
    assert!((measured - rate).abs() < 0.02, "{rate} foretold, {measured} measured");
    let said = profile(
        dir.path(),
        &["planted.toml", "--samples", "2000", "--cache", "64KiB", "--set", "eval.batch_size=128"],
    );
    assert!(
        text(&said.stdout).contains("of ids are expected to find their row in a cache of 64KiB")
    );
    fs::write(dir.path().join("ids.txt"), "1 2 1 2 1 2 3 4 5 6").unwrap();
    // Six rows of 4 + 9 bytes, of which there is room for all.
    let all =
        profile(dir.path(), &["--trace", "ids.txt", "--cache", "1KiB", "--dim", "1", "--json"]);
    let all: Value = serde_json::from_str(text(&all.stdout)).unwrap();
    assert_eq!(
        (&all["cache"]["slots"], &all["cache"]["hit_rate"]),
        (&Value::from(6), &Value::from(0.4))
    );
    for (args, told) in [
        (&["--trace", "ids.txt", "--cache", "1KiB"][..], "give --dim N"),
        (&["--trace", "ids.txt", "--cache", "12", "--dim", "1"], "no room for a row"),
        (&["planted.toml", "--cache", "64KiB", "--dim", "4"], "model.dim"),
        (&["planted.toml", "--cache", "1KiB"], "the rows of two batches do not fit"),
        (
            &[
                "planted.toml",
                "--cache",
                "1MiB",
                "--set",
                "model.trick=qr",
                "--set",
                "model.qr_collisions=4",
            ],
            "keeps all rows in memory",
        ),
    ] {
        let out = profile(dir.path(), args);
        let said = text(&out.stderr);
        assert!(!out.status.success() && said.contains(told), "{args:?}: {said}");
    }
}
