//! What a run writes for other programs while it goes on: TensorBoard's events and a trace. Both
//! are read back by readers of their own.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// A small planted run: 20 steps an epoch, tests after every 8 and at the end.
const SMALL: &[&str] = &[
    "run",
    "quickstart",
    "--no-ceilings",
    "--no-plots",
    "--set=data.train_samples=1280",
    "--set=data.eval_samples=500",
    "--set=data.max_rows=100",
    "--set=model.dim=4",
    "--set=model.bottom=[8,4]",
    "--set=model.top=[8,1]",
    "--set=train.batch_size=64",
    "--set=train.epochs=1",
    "--set=eval.every_steps=8",
    "--set=target.share_of_best=",
];

fn program(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlrm-bench"));
    command.current_dir(folder).args(SMALL).args(more).output().unwrap()
}

fn done(folder: &Path, more: &[&str]) -> String {
    let out = program(folder, more);
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{more:?}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

fn only(folder: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// CRC-32C bit by bit, then masked as TensorFlow does.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A field of a protocol buffer.
enum Field<'a> {
    Number(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |n: usize| {
            let (taken, rest) = bytes.split_at(n);
            bytes = rest;
            taken
        };
        let field = match key & 7 {
            1 => Field::Eight(take(8).try_into().unwrap()),
            5 => Field::Four(take(4).try_into().unwrap()),
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let n = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at(n);
                bytes = rest;
                Field::Bytes(taken)
            }
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, field));
    }
    all
}

/// `(tag, step, value)` of every scalar, and the times.
fn events(file: &Path) -> (Vec<(String, u64, f32)>, Vec<f64>) {
    let bytes = fs::read(file).unwrap();
    let (mut at, mut records) = (0, Vec::new());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(at + 8), masked(&bytes[at..at + 8]));
        let data = &bytes[at + 12..at + 12 + length];
        assert_eq!(word(at + 12 + length), masked(data));
        records.push(data);
        at += length + 16;
    }
    let (mut scalars, mut times) = (Vec::new(), Vec::new());
    for (i, record) in records.iter().enumerate() {
        let (mut step, mut version) = (0, None);
        for (number, field) in fields(record) {
            match (number, field) {
                (1, Field::Eight(time)) => times.push(f64::from_le_bytes(time)),
                (2, Field::Number(n)) => step = n,
                (3, Field::Bytes(text)) => version = Some(text.to_vec()),
                (5, Field::Bytes(summary)) => {
                    for (number, value) in fields(summary) {
                        let (1, Field::Bytes(value)) = (number, value) else { panic!("a value") };
                        let parts = fields(value);
                        let (tag, number) = (&parts[0].1, &parts[1].1);
                        let (Field::Bytes(tag), Field::Four(number)) = (tag, number) else {
                            panic!("tag and simple_value")
                        };
                        assert_eq!((parts[0].0, parts[1].0), (1, 2));
                        let tag = String::from_utf8(tag.to_vec()).unwrap();
                        scalars.push((tag, step, f32::from_le_bytes(*number)));
                    }
                }
                (n, _) => panic!("field {n}"),
            }
        }
        assert_eq!(version.as_deref(), (i == 0).then_some(&b"brain.Event:2"[..]));
    }
    (scalars, times)
}

#[test]
fn tensorboard_gets_the_scalars_of_facebooks_program() {
    let folder = TempDir::new().unwrap();
    done(folder.path(), &["--tensorboard", "board", "--quiet"]);
    let results = only(&only(&folder.path().join("results")));
    let run = only(&results);
    let board = only(&folder.path().join("board"));
    assert_eq!(board.file_name(), run.file_name());
    let file = only(&board);
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
    let (scalars, times) = events(&file);
    assert!(times.windows(2).all(|t| t[0] <= t[1]) && times[0] > 1.6e9);
    let record: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    let mut by_tag: BTreeMap<&str, Vec<(u64, f32)>> = BTreeMap::new();
    for (tag, step, value) in &scalars {
        by_tag.entry(tag).or_default().push((*step, *value));
    }
    let losses = &by_tag["Train/Loss"];
    assert!(losses.iter().map(|l| l.0).eq(1..=20) && losses.iter().all(|l| l.1 > 0.0));
    let evaluations = record["evaluations"].as_array().unwrap();
    assert_eq!(evaluations.len(), 3);
    for (tag, metric) in [
        ("Test/Acc", "accuracy"),
        ("mlperf-metrics-test/recall", "recall"),
        ("mlperf-metrics-test/precision", "precision"),
        ("mlperf-metrics-test/f1", "f1"),
        ("mlperf-metrics-test/ap", "average_precision"),
        ("mlperf-metrics-test/roc_auc", "auc"),
        ("mlperf-metrics-test/accuracy", "accuracy"),
    ] {
        let expected: Vec<(u64, f32)> = evaluations
            .iter()
            .map(|e| (e["step"].as_u64().unwrap(), e["quality"][metric].as_f64().unwrap() as f32))
            .collect();
        assert_eq!(by_tag[tag], expected, "{tag}");
    }
    assert_eq!(by_tag.len(), 8);
}

fn trace(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["name"] == name).collect()
}

#[test]
fn a_trace_has_the_phases_of_the_steps_that_were_asked_for_within_them() {
    let folder = TempDir::new().unwrap();
    done(folder.path(), &["--trace", "t.json", "--trace-steps", "3..12", "--quiet"]);
    let events = trace(&folder.path().join("t.json"));
    let steps = named(&events, "step");
    let numbers: Vec<u64> = steps.iter().map(|e| e["args"]["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (3..=12).collect::<Vec<_>>());
    assert_eq!(named(&events, "evaluate").len(), 3);
    assert_eq!(named(&events, "initialise").len(), 1);
    assert_eq!(named(&events, "data_wait").len(), steps.len());
    let span = |e: &Value| {
        let (from, long) = (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap());
        assert!(from >= 0.0 && long >= 0.0, "{e}");
        (from, from + long)
    };
    for name in ["embedding", "mlp", "interaction", "loss", "update"] {
        assert!(named(&events, name).len() >= steps.len(), "{name}");
    }
    // Every phase lies within one step, and no two of them overlap: a viewer nests by time.
    let phases: Vec<(f64, f64)> = events.iter().filter(|e| e["cat"] == "phase").map(span).collect();
    for phase in &phases {
        let inside = |s: &&&Value| {
            let (from, to) = span(s);
            from <= phase.0 + 1e-3 && phase.1 <= to + 1e-3
        };
        assert_eq!(steps.iter().filter(inside).count(), 1, "{phase:?}");
    }
    assert!(phases.windows(2).all(|p| p[0].1 <= p[1].0 + 1e-3));
    let others = ["step", "evaluation", "run"].map(Value::from);
    let spans: Vec<_> = events.iter().filter(|e| others.contains(&e["cat"])).map(span).collect();
    assert!(spans.windows(2).all(|p| p[0].1 <= p[1].0 + 1e-3));
}

#[test]
fn candle_is_traced_step_by_step_and_the_run_stays_what_it_is() {
    let folder = TempDir::new().unwrap();
    let args = ["--trace", "t.json", "--engine", "candle", "--json"];
    let traced = done(folder.path(), &args);
    let events = trace(&folder.path().join("t.json"));
    assert_eq!((named(&events, "step").len(), named(&events, "data_wait").len()), (20, 20));
    assert!(events.iter().all(|e| e["cat"] != "phase" || e["name"] == "data_wait"));
    let plain = done(folder.path(), &args[2..]);
    let aucs = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        let evals = lines.filter(|l| l["event"] == "eval");
        evals.map(|e| e["eval"]["quality"]["auc"].clone()).collect()
    };
    assert_eq!((aucs(&traced).len(), aucs(&traced)), (3, aucs(&plain)));
}

#[test]
fn the_profile_is_a_table_of_phases() {
    let folder = TempDir::new().unwrap();
    let rows = |text: &str| -> Vec<(String, f64)> {
        let table = text.split("\n\n").next().unwrap();
        let lines = table.lines().skip(1);
        lines
            .map(|l| {
                let words: Vec<&str> = l[15..].split_whitespace().collect();
                (l[..15].trim().to_owned(), words[1].trim_end_matches('%').parse().unwrap())
            })
            .collect()
    };
    let fused = rows(&done(folder.path(), &["--profile", "--quiet"]));
    let names: Vec<&str> = fused.iter().map(|r| r.0.as_str()).collect();
    for name in ["embedding", "mlp", "interaction", "loss", "update", "all steps"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let all: f64 = fused.iter().filter(|r| r.0 != "all steps").map(|r| r.1).sum();
    assert!((all - 100.0).abs() < 1.0, "{fused:?}");
    let candle = rows(&done(folder.path(), &["--profile", "--quiet", "--engine", "candle"]));
    let names: Vec<&str> = candle.iter().map(|r| r.0.as_str()).collect();
    assert_eq!(names, ["data wait", "step", "all steps"]);
}

#[test]
fn files_that_cannot_be_written_are_refused_before_training() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (args, code, said) in [
        (["--trace", "nowhere/t.json"], 74, "nowhere/t.json: "),
        (["--trace", "."], 74, ".: "),
        (["--tensorboard", "file/board"], 74, "file/board/"),
        (["--trace-steps", "5..9"], 64, "--trace"),
    ] {
        let out = program(folder.path(), &args);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(said) && !error.contains("training: at most"), "{error}");
    }
    for steps in ["0..5", "9..5", "7", "1..200000"] {
        let out = program(folder.path(), &["--trace", "t", "--trace-steps", steps]);
        assert_eq!(out.status.code(), Some(64), "{steps}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("as in 101..200"), "{steps}");
    }
    let results = folder.path().join("results");
    let left = !results.exists() || fs::read_dir(&results).unwrap().count() == 0;
    assert!(left, "a refused run leaves no folder");
}
