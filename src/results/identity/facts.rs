//! Facts of an identity, from a record's JSON.

use super::{Aspect, Facts, FileContent, Identity, STARTED_FROM};
use serde_json::Value;
use std::collections::BTreeMap;

/// `versions` that say what was built, not how.
const PROGRAM: [&str; 5] = ["dlrm_bench", "git_commit", "rustc", "candle", "sources"];
/// `versions` that say how it was built.
const BUILD: [&str; 5] = ["profile", "target", "features", "rustflags", "opt_level"];
/// Facts of a processor that every record of this program has.
const CPU: [&str; 8] = [
    "model",
    "architecture",
    "kinds",
    "physical_cores",
    "logical_cores",
    "quota",
    "smt",
    "instruction_sets",
];
/// What changes from minute to minute on one machine.
const VOLATILE: [&str; 3] = ["frequency_mhz", "governor", "caches"];
/// Facts of an engine.
const ENGINE: [&str; 5] = ["kind", "device", "threads", "precision", "embedding_rows"];
/// A longer value is shown by its hash.
const LONGEST: usize = 80;

pub(super) fn of(record: &Value, settings: &BTreeMap<String, String>) -> Identity {
    let versions = &record["versions"];
    let mut build = listed(versions, &BUILD);
    // Whatever else a program says of itself.
    build.extend(others(versions, &[&PROGRAM[..], &BUILD[..]].concat()));
    build.insert("instruction_set".into(), said(&record["engine"], "instruction_set"));
    let mut engine = listed(&record["engine"], &ENGINE);
    // Programs that did not say so had no other.
    engine.entry("embedding_rows".into()).and_modify(|rows| {
        rows.get_or_insert_with(|| "fp32".into());
    });
    if let Some(Some(device)) = engine.get_mut("device")
        && device.starts_with("cuda:")
    {
        // Which of several GPUs of one kind does not matter.
        "cuda".clone_into(device);
    }
    // Its times have pauses in them, and its first steps after each are cold.
    if record["outcome"]["resumed_at"].as_array().is_some_and(|at| !at.is_empty()) {
        engine.insert("resumed".into(), Some("yes".into()));
    }
    if let Some(mode) = mode(settings) {
        engine.insert("mode".into(), Some(mode));
    }
    let mut model = model(record);
    if settings.contains_key("train.start_from") {
        let from = record.get("started_from").cloned().unwrap_or_default();
        let from: Option<FileContent> = serde_json::from_value(from).ok();
        model.insert(STARTED_FROM.into(), from.map(|from| content(&[&from])));
    }
    let facts = BTreeMap::from([
        (Aspect::Data, data(record, settings)),
        (Aspect::Model, model),
        (Aspect::Machine, machine(&record["machine"])),
        (Aspect::Build, build),
        (Aspect::Program, listed(versions, &PROGRAM)),
        (Aspect::Engine, engine),
    ]);
    let series = record["series"]["id"].as_str().map(str::to_owned);
    Identity { facts, series }
}

/// How ranks work together, where not all of them on one batch.
fn mode(settings: &BTreeMap<String, String>) -> Option<String> {
    let setting = |key: &str| settings.get(key).map(|s| s.trim_matches('"').to_owned());
    let mode = setting("comm.mode").filter(|mode| mode != "synchronous")?;
    let servers = setting("comm.servers").unwrap_or_else(|| "1".into());
    let bound = setting("comm.staleness").map_or("any".into(), |most| format!("at most {most}"));
    Some(format!("{mode}, servers {servers}, staleness {bound}"))
}

/// Data from files by their content; data that are computed by their parameters.
fn data(record: &Value, settings: &BTreeMap<String, String>) -> Facts {
    let set = &record["data_set"];
    let computed = match settings.get("data.source").map(|s| s.trim_matches('"')) {
        Some("planted") => true,
        Some("numpy_random") => !settings.contains_key("data.traces"),
        _ => false,
    };
    let mut facts = Facts::new();
    if !computed {
        let files: Option<Vec<FileContent>> =
            set.get("files").and_then(|f| serde_json::from_value(f.clone()).ok()).flatten();
        for split in ["train", "eval", "test", "traces"] {
            let of_split: Option<Vec<&FileContent>> =
                files.as_ref().map(|all| all.iter().filter(|f| f.split == split).collect());
            if of_split.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            facts.insert(format!("{split} files"), of_split.map(|f| content(&f)));
        }
        for (name, key) in [("dense columns", "dense"), ("rows", "tables"), ("hotness", "hotness")]
        {
            facts.insert(name.into(), set.get(key).filter(|v| !v.is_null()).map(shown));
        }
    }
    let of_run = &record["facts"];
    for (name, key) in [("train samples", "train_samples"), ("eval samples", "eval_samples")] {
        facts.insert(name.into(), of_run.get(key).map(shown));
    }
    facts
}

/// `2 files, 4096 bytes, 1a2b3c4d5e6f`
fn content(files: &[&FileContent]) -> String {
    let bytes: u64 = files.iter().map(|f| f.bytes).sum();
    let mut hash = blake3::Hasher::new();
    for file in files {
        hash.update(file.sampled.as_bytes());
    }
    let hash = hash.finalize().to_hex();
    let n = files.len();
    format!("{n} file{}, {bytes} bytes, {}", if n == 1 { "" } else { "s" }, &hash[..12])
}

fn model(record: &Value) -> Facts {
    // A record that does not know its model is of a run that never began, or of an older program.
    match record.get("model").and_then(Value::as_object) {
        Some(model) => {
            let mut facts = Facts::new();
            model.iter().for_each(|(key, value)| flatten(key, value, &mut facts));
            facts
        }
        None => Facts::from([("sizes".into(), None)]),
    }
}

/// `optimizer.rule.kind`
fn flatten(key: &str, value: &Value, into: &mut Facts) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| flatten(&format!("{key}.{k}"), v, into)),
        value => drop(into.insert(key.to_owned(), Some(shown(value)))),
    }
}

fn machine(machine: &Value) -> Facts {
    let cpu = &machine["cpu"];
    let mut facts = listed(cpu, &CPU);
    facts.extend(others(cpu, &[&CPU[..], &VOLATILE[..]].concat()));
    match cpu.get("caches").and_then(Value::as_array) {
        Some(caches) => {
            for cache in caches {
                let name = cache["name"].as_str().unwrap_or("cache").to_owned();
                let size = cache["size"].as_u64().map_or("unknown".into(), size);
                let shared = cache["shared_by"].as_str().unwrap_or_default();
                facts.insert(name, Some(format!("{size} of {}", sharers(shared))));
            }
            if caches.is_empty() {
                facts.insert("caches".into(), Some(NOT_STATED.into()));
            }
        }
        None => drop(facts.insert("caches".into(), None)),
    }
    // Without one the CPU computes, and says so.
    facts.insert("GPU name".into(), Some("none".into()));
    if let Some(gpu) = machine.get("gpu").and_then(Value::as_object) {
        let facts_of_gpu = gpu.iter().filter(|(k, _)| *k != "ordinal" && *k != "uuid");
        facts.extend(facts_of_gpu.map(|(k, v)| (format!("GPU {k}"), Some(shown(v)))));
    }
    // Which rank is on which host with which processor; without any there is one.
    if let Some(ranks) = machine.get("ranks").filter(|ranks| ranks.is_array()) {
        facts.insert("ranks".into(), Some(shown(ranks)));
    }
    facts
}

/// `2 processors` of Linux' list `0-1` or `0,4`: numbers of processors differ between machines of
/// one kind.
fn sharers(list: &str) -> String {
    let count = |part: &str| -> Option<u64> {
        match part.split_once('-') {
            Some((a, b)) => b.parse::<u64>().ok()?.checked_sub(a.parse().ok()?)?.checked_add(1),
            None => part.parse::<u64>().ok().map(|_| 1),
        }
    };
    match list.trim().split(',').map(count).try_fold(0u64, |n, c| n.checked_add(c?)) {
        Some(1) => "1 processor".into(),
        Some(n) => format!("{n} processors"),
        None => format!("processors {list:?}"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

const NOT_STATED: &str = "unstated";

/// These keys of an object; those that it lacks are unknown.
fn listed(object: &Value, keys: &[&str]) -> Facts {
    keys.iter().map(|&key| (key.to_owned(), said(object, key))).collect()
}

/// All keys of an object but these.
fn others(object: &Value, but: &[&str]) -> Facts {
    let object = object.as_object().into_iter().flatten();
    let others = object.filter(|(key, _)| !but.contains(&key.as_str()));
    others.map(|(key, value)| (key.clone(), Some(shown(value)))).collect()
}

fn said(object: &Value, key: &str) -> Option<String> {
    object.get(key).map(shown)
}

/// A value in one short line.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => NOT_STATED.into(),
        Value::String(text) if text.is_empty() => NOT_STATED.into(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".into(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Object(map) => {
            let pair = |(k, v): (&String, &Value)| format!("{k} {}", shown(v));
            map.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    match text.chars().count() > LONGEST {
        true => {
            let head: String = text.chars().take(LONGEST / 2).collect();
            format!("{head}... ({})", &blake3::hash(text.as_bytes()).to_hex()[..12])
        }
        false => text,
    }
}
