//! Tables larger than memory, through the binary.

use dlrm_bench::{
    embedding::cached::CacheCounts,
    results::{metrics, record},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

#[cfg(target_os = "linux")]
#[path = "support/no_io_uring.rs"]
mod no_io_uring;

const WORKLOAD: &str = r#"
[workload]
name = "large"
[data]
source = "planted"
preset = "custom"
tables = [3000, 400, 3]
dense = 2
train_samples = 6000
eval_samples = 700
[model]
kind = "dlrm"
dim = 4
bottom = [8, 4]
top = [8, 1]
[train]
batch_size = 50
[optimizer]
kind = "adagrad"
learning_rate = 0.1
[eval]
every_steps = 40
batch_size = 50
[checkpoint]
every_steps = 60
"#;

/// A row of 4 numbers with 4 of state, and 9 bytes about its slot: 150 rows of two tables and the 3
/// of the last. Two batches of 50 have up to 100 rows of a table.
const CACHED: [&str; 3] =
    ["embedding.store=cached", "embedding.cache=12423", "embedding.path=rows"];

fn bench() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.toml"), WORKLOAD).unwrap();
    dir
}

fn run(dir: &TempDir, results: &str, set: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(dir.path()).args(["run", "w.toml", "--results", results, "--quiet"]);
    command.args(["--no-ceilings", "--no-plots"]).args(more);
    command.args(set.iter().flat_map(|set| ["--set", set]));
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// The one run below a folder of results.
fn folder(dir: &TempDir, results: &str) -> PathBuf {
    let only = |at: &Path| {
        let mut folders = fs::read_dir(at).unwrap().map(|e| e.unwrap().path());
        folders.find(|p| p.is_dir()).unwrap()
    };
    only(&only(&only(&dir.path().join(results))))
}

/// Bits of each step's loss, of each evaluation, and of the model and its state at the end.
fn trace(dir: &TempDir, results: &str) -> (Vec<u32>, Vec<String>, Vec<Vec<u8>>) {
    let run = folder(dir, results);
    let loss = metrics::read(&run.join("metrics.parquet")).unwrap().loss;
    let record = record::read(&run.join("run.json")).unwrap();
    let quality = |e: &dlrm_bench::train::events::EvalEvent| serde_json::to_string(&e.quality);
    let evaluations = record.evaluations.iter().map(|e| quality(e).unwrap()).collect();
    let mut newest: Vec<PathBuf> =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    newest.sort();
    let mut files: Vec<PathBuf> =
        fs::read_dir(newest.last().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert!(!files.is_empty());
    let files = files.iter().map(|f| fs::read(f).unwrap()).collect();
    (loss.iter().map(|l| l.to_bits()).collect(), evaluations, files)
}

/// On the CPU every loss, every metric and every number of a checkpoint has the bits of a resident
/// table's run, also where rounding and clipping go by the row. Nothing is left of the file.
#[test]
fn a_run_has_the_bits_of_resident_tables() {
    let deepfm = WORKLOAD
        .replace(
            "\"dlrm\"\ndim = 4\nbottom = [8, 4]\ntop = [8, 1]",
            "\"deepfm\"\ndim = 3\nhidden = [8]",
        )
        .replace("\"adagrad\"", "\"adam\"\nrows = \"lazy\"");
    for (workload, more) in [
        (WORKLOAD, &[][..]),
        (WORKLOAD, &["engine.embedding_rows=bf16", "optimizer.clip_norm=0.1"]),
        (&deepfm, &["engine.embedding_rows=fp16", "train.micro_batches=3"]),
        (WORKLOAD, &["engine.kind=candle", "data.train_samples=3000"]),
    ] {
        let dir = bench();
        fs::write(dir.path().join("w.toml"), workload).unwrap();
        let whole = run(&dir, "resident", more, &[]);
        assert!(whole.status.success(), "{}", text(&whole));
        let cached = [more, &CACHED].concat();
        let small = run(&dir, "cached", &cached, &["--threads", "3"]);
        assert!(small.status.success(), "{more:?} {}", text(&small));
        let (want, got) = (trace(&dir, "resident"), trace(&dir, "cached"));
        assert!(want.0.len() >= 60 && !want.1.is_empty());
        assert_eq!(got.0, want.0, "{more:?}");
        assert_eq!(got.1, want.1, "{more:?}");
        assert!(got.2 == want.2, "{more:?}");
        assert_eq!(fs::read_dir(dir.path().join("rows")).unwrap().count(), 0);
    }
}

/// A table that is to be resident has all its rows in memory before others share the rest.
#[test]
fn some_tables_may_be_resident() {
    let dir = bench();
    assert!(run(&dir, "resident", &[], &[]).status.success());
    // 3000 rows of 41 bytes, and 103 rows of the next one with the 3 of the last.
    let set = ["embedding.cache=127346", r#"embedding.resident=["C1"]"#];
    let set = [&CACHED[..1], &set, &CACHED[2..]].concat();
    let mixed = run(&dir, "mixed", &set, &[]);
    assert!(mixed.status.success(), "{}", text(&mixed));
    assert_eq!(trace(&dir, "mixed").0, trace(&dir, "resident").0);
    let record = record::read(&folder(&dir, "mixed").join("run.json")).unwrap();
    let tables = record.outcome.unwrap().tables;
    let seen: Vec<_> = tables.iter().map(|t| (&*t.column, t.cached().unwrap().slots)).collect();
    assert_eq!(seen, [("C2", 103)]);
    let few = run(&dir, "few", &[&set[..1], &["embedding.cache=127000"], &set[2..]].concat(), &[]);
    let said = text(&few);
    assert!(said.contains("must be at least ") && said.trim_end().lines().count() == 1, "{said}");
}

/// What is expected is told before the run, by column, and comes near what it then measures.
#[test]
fn hits_are_expected() {
    let dir = bench();
    let set = ["data.tables=[4000, 900, 3]", "data.train_samples=20000", "embedding.cache=40000"];
    let set = [&CACHED[..1], &CACHED[2..], &set].concat();
    let output = run(&dir, "results", &set, &["--explain"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("all others are in memory whole"), "{said}");
    assert!(said.contains("which rows are in memory, and where the others are"), "{said}");
    assert!(said.contains("a file in rows takes at most "), "{said}");
    let rate = |of: &str| -> f64 {
        let line = said.lines().find(|l| l.contains(of)).unwrap_or_else(|| panic!("{said}"));
        let (_, rest) = line.split_once("rows, ").unwrap();
        rest.split('%').next().unwrap().parse().unwrap()
    };
    let expected = [rate("C1: 486 of 4,000 rows"), rate("C2: 486 of 900 rows")];
    let output = run(&dir, "results", &set, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let record = record::read(&folder(&dir, "results").join("run.json")).unwrap();
    let said_too = record.expected_hits.iter();
    let tables = record.outcome.unwrap().tables;
    for ((table, expected), said_too) in tables.iter().zip(expected).zip(said_too) {
        let measured = 100.0 * table.cached().unwrap().hit_rate().unwrap();
        assert!((measured - expected).abs() < 3.0, "{measured} {expected}");
        assert_eq!((&said_too.column, said_too.ids), (&table.column, Some(20_000.0)));
        let rate = 100.0 * (1.0 - said_too.misses.unwrap() / 20_000.0);
        assert!((rate - expected).abs() < 0.006, "{rate} {expected}");
    }
    assert_eq!((tables.len(), record.expected_hits.len()), (2, 2));
    // With room for all there is no file.
    let output =
        run(&dir, "results", &[&set[..], &["embedding.cache=1MiB"]].concat(), &["--explain"]);
    assert!(text(&output).contains("all rows fit into embedding.cache"), "{}", text(&output));
}

/// Where the system refuses io_uring, as containers do, threads read the file, the run says so, and
/// its bits are the same.
#[cfg(target_os = "linux")]
#[test]
fn without_io_uring_threads_read() {
    let dir = bench();
    let output = run(&dir, "any", &CACHED, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let arguments =
        ["run", "w.toml", "--results", "none", "--quiet", "--no-ceilings", "--no-plots"];
    for (more, told) in [(&["--explain"][..], "#   it is read by "), (&[], "")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(arguments).args(more);
        command.args(CACHED.iter().flat_map(|set| ["--set", set])).stdin(Stdio::null());
        no_io_uring::refuse(&mut command);
        let output = command.output().unwrap();
        let said = text(&output);
        assert!(output.status.success() && said.contains(told), "{said}");
        assert!(told.is_empty() || said.contains(no_io_uring::TOLD), "{said}");
    }
    let record = record::read(&folder(&dir, "none").join("run.json")).unwrap();
    let notes = record.data.unwrap().notes.join("\n");
    let told = format!("rows of the file are read by {}", no_io_uring::TOLD);
    assert!(notes.contains(&told), "{notes}");
    assert!(trace(&dir, "none") == trace(&dir, "any"));
}

/// Record, metrics and summary say what the caches have seen, the same in each run: of one id a
/// sample of two columns, which was in memory and which was not.
#[test]
fn a_run_tells_what_its_caches_have_seen() {
    let dir = bench();
    let mut all = Vec::new();
    for threads in ["1", "3"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(["run", "w.toml", "--results", threads]);
        command.args(["--no-ceilings", "--no-plots", "--threads", threads]);
        command.args(CACHED.iter().flat_map(|set| ["--set", set]));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let run = folder(&dir, threads);
        let record = record::read(&run.join("run.json")).unwrap();
        let tables = record.outcome.unwrap().tables;
        let names: Vec<&str> = tables.iter().map(|t| &*t.column).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        let sum: CacheCounts = tables.iter().sum();
        assert_eq!((sum.slots, sum.hits + sum.misses), (300, 12_000));
        assert!(sum.hits > sum.misses && sum.misses > sum.reads && sum.reads > 100, "{sum:?}");
        assert!(sum.bytes_read >= 44 * sum.reads && sum.bytes_written > 44 * 100, "{sum:?}");
        let metrics = metrics::read(&run.join("metrics.parquet")).unwrap();
        let last = metrics.cache.each_ref().map(|column| column.last().unwrap().unwrap());
        let counts = [sum.hits, sum.misses, sum.reads, sum.bytes_read, sum.bytes_written];
        assert_eq!(last, counts.map(|n| n as f64));
        assert_eq!((metrics.cache[0][0], metrics.tables[0].last().unwrap()), (None, &None));
        assert!(said.contains("% expected), ") && said.contains(" read from the file ("), "{said}");
        let mut report = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        let report = report.arg("report").arg(&run).args(["-o", "report.html"]);
        assert!(report.current_dir(dir.path()).output().unwrap().status.success());
        let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
        let hits = format!("{:.2}%", 100.0 * tables[0].cached().unwrap().hit_rate().unwrap());
        assert!(page.contains("Tables of ") && page.contains(&format!("<td>{hits}</td>")));
        all.push(tables);
    }
    assert_eq!(all[0], all[1]);
}

/// A saved model is judged as its run was, and starts other runs, whatever its rows are kept in.
#[test]
fn a_saved_model_is_a_model_like_others() {
    let dir = bench();
    let output = run(&dir, "cached", &CACHED, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let folder = folder(&dir, "cached");
    let model = folder.join("checkpoints/step-000000000120");
    let model = model.to_str().unwrap();
    let binary = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(args).stdin(Stdio::null()).output().unwrap()
    };
    let judged = binary(&["eval", model, "--json"]);
    assert!(judged.status.success(), "{}", text(&judged));
    let judged: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
    let record = record::read(&folder.join("run.json")).unwrap();
    let last = record.evaluations.last().unwrap();
    assert_eq!((last.step, judged["quality"]["auc"].as_f64()), (120, Some(last.quality.auc)));
    for args in
        [&["eval", model, "--rows", "int8"][..], &["export", model, "-o", "model.safetensors"]]
    {
        let output = binary(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
    }
    let from = format!("train.start_from={model}");
    let output = run(&dir, "resident", &[&from], &[]);
    assert!(output.status.success(), "{}", text(&output));
    let output = run(&dir, "again", &[&CACHED[..], &[&from]].concat(), &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(trace(&dir, "again").0, trace(&dir, "resident").0);
}

/// With checkpoints that link the file's segments a run has the same bits, they are judged, exported
/// and trained on like others, and nothing is left of the file once they are gone.
#[test]
fn linked_checkpoints_are_models_like_others() {
    let dir = bench();
    let linked = [&CACHED[..], &["checkpoint.linked=true", "checkpoint.keep=1"]].concat();
    let explained = text(&run(&dir, "none", &linked, &["--explain"]));
    assert!(explained.contains("checkpoints share its segments"), "{explained}");
    assert!(explained.contains("where rows are in the file, for a checkpoint"), "{explained}");
    for (results, set) in [("linked", &linked[..]), ("whole", &CACHED)] {
        let output = run(&dir, results, set, &[]);
        assert!(output.status.success(), "{}", text(&output));
    }
    let at = |results: &str| folder(&dir, results).join("checkpoints/step-000000000120");
    let files = |path: &Path| -> Vec<String> {
        let names = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    };
    let segments = files(&at("linked")).iter().filter(|f| f.starts_with("segment-")).count();
    assert!(segments > 0 && !files(&at("whole")).iter().any(|f| f.starts_with("segment-")));
    assert_eq!(fs::read_dir(dir.path().join("rows")).unwrap().count(), 0);
    let (linked_trace, whole) = (trace(&dir, "linked"), trace(&dir, "whole"));
    assert_eq!((linked_trace.0, linked_trace.1), (whole.0, whole.1));
    let binary = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
        command.current_dir(dir.path()).args(args).stdin(Stdio::null()).output().unwrap()
    };
    let both = ["linked", "whole"].map(|results| {
        let model = at(results);
        let model = model.to_str().unwrap();
        let judged = binary(&["eval", model, "--json"]);
        assert!(judged.status.success(), "{}", text(&judged));
        let judged: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
        let file = format!("{results}.safetensors");
        let exported = binary(&["export", model, "-o", &file]);
        assert!(exported.status.success(), "{}", text(&exported));
        let from = format!("train.start_from={model}");
        let again = format!("from-{results}");
        let output = run(&dir, &again, &[&from], &[]);
        assert!(output.status.success(), "{}", text(&output));
        let file = fs::read(dir.path().join(file)).unwrap();
        (judged["quality"].to_string(), file, trace(&dir, &again).0)
    });
    assert!(both[0] == both[1]);
}

/// Too small a file ends the run with one line, and so does a folder that cannot be had; training
/// goes on from its checkpoint with a larger one.
#[test]
fn a_full_file_ends_the_run_and_it_can_go_on() {
    let dir = bench();
    // 600 of some 800 records of 44 bytes.
    let small = [&CACHED[..], &["embedding.disk=26400", "checkpoint.every_steps=10"]].concat();
    let output = run(&dir, "results", &small, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("the row file in rows is full") && said.contains("embedding.disk"));
    fs::write(dir.path().join("file"), "").unwrap();
    let nowhere = [&CACHED[..2], &["embedding.path=file"]].concat();
    let output = run(&dir, "nowhere", &nowhere, &[]);
    assert_eq!(output.status.code(), Some(74), "{}", text(&output));
    assert!(text(&output).contains("the row file in file cannot be made"), "{}", text(&output));
}

/// Of a GPU that is not here it is told what its memory, the host's and the file would have, and what
/// is too small.
#[test]
fn a_gpus_cache_is_planned() {
    let dir = bench();
    let gpu = ["engine.device=cuda:0", "embedding.device_cache=9696", "embedding.cache=20000"];
    let explain = |more: &[&str]| {
        let set = [&CACHED[..1], &CACHED[2..], &gpu, more].concat();
        let output = run(&dir, "results", &set, &["--explain"]);
        (output.status.code(), text(&output))
    };
    let (code, said) = explain(&[]);
    assert_eq!(code, Some(0), "{said}");
    // 150 rows of 32 bytes, which slots do not add to, of two tables, and 3 of the last.
    assert!(said.contains("C1: 150 of 3,000 rows"), "{said}");
    assert!(said.contains("the host's memory has up to 20.0 kB of the others"), "{said}");
    assert!(said.contains("20.0 kB  rows behind the GPU's"), "{said}");
    assert!(said.contains("a file in rows takes at most "), "{said}");
    assert!(said.contains("rows of embedding tables that are cached"), "{said}");
    let (_, said) = explain(&["embedding.cache=1MiB"]);
    assert!(said.contains("all others fit into it; there is no file"), "{said}");
    let (_, said) = explain(&["embedding.device_cache=1MiB"]);
    assert!(said.contains("all rows fit into embedding.device_cache"), "{said}");
    for (set, told) in [
        ("embedding.device_cache=6495", "embedding.device_cache: is 6495, in which"),
        ("embedding.cache=2815", "embedding.cache: is 2815; must be at least 2816"),
    ] {
        let (code, said) = explain(&[set]);
        assert!(code == Some(64) && said.contains(told), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

/// What does not go together is refused before anything is read, with the key.
#[test]
fn what_cannot_be_cached_is_refused() {
    let dir = bench();
    for (set, told) in [
        (&["optimizer.kind=adam", "optimizer.rows=dense"][..], "embedding.store: is \"cached\""),
        (&["model.trick=qr"], "model.trick"),
        (&["model.init_rng=numpy"], "model.init_rng"),
        (&["engine.kind=candle", "optimizer.clip_norm=1"], "optimizer.clip_norm: is summed"),
        (
            &["engine.device=cuda:0"],
            "embedding.device_cache: missing: how much of the memory of cuda:0",
        ),
        (&["embedding.device_cache=1GiB"], "embedding.device_cache: is 1GiB, of a GPU's memory"),
        (
            &[
                "checkpoint.linked=true",
                "checkpoint.every_steps=9",
                "engine.device=cuda:0",
                "embedding.device_cache=1MiB",
            ],
            "checkpoint.linked: is for rows in a file, and behind",
        ),
        (&["checkpoint.linked=true", "checkpoint.incremental=true"], "checkpoint.linked: writes"),
        (&["checkpoint.linked=true", "eval.restore_best=true"], "checkpoint.linked: does not go"),
        (&["embedding.cache=8322"], "must be at least 8323"),
        (&["embedding.cache=much"], "a size, as 2GiB"),
        (&["embedding.disk=2815"], "embedding.disk: is 2815; must be at least 2816"),
        (&["embedding.capacity=[9]"], "embedding.capacity"),
    ] {
        let set = [&CACHED[..], set].concat();
        let output = run(&dir, "results", &set, &["--explain"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{set:?}: {said}");
        assert!(said.contains(told) && said.trim_end().lines().count() == 1, "{set:?}: {said}");
    }
    let output = run(&dir, "results", &["checkpoint.linked=true"], &["--explain"]);
    assert!(
        text(&output).contains("checkpoint.linked: is for rows in a file"),
        "{}",
        text(&output)
    );
    let output = run(&dir, "results", &CACHED[..1], &["--explain"]);
    assert!(text(&output).contains("embedding.cache: missing"), "{}", text(&output));
}
