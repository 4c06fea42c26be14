//! What differs, and what only may.

use super::*;
use serde_json::{Value, json};

fn record() -> Value {
    json!({
        "versions": {
            "dlrm_bench": "0.1.0", "git_commit": "abc", "rustc": "1", "candle": "0.11",
            "profile": "release", "target": "x", "features": [], "rustflags": null,
            "opt_level": "3", "sources": "00",
        },
        "machine": {"cpu": {
            "model": "AMD EPYC", "architecture": "x86_64", "physical_cores": 2,
            "logical_cores": 2, "quota": null, "smt": false,
            "kinds": [{"vendor": "AuthenticAMD", "family": "25", "model": "1", "stepping": "1"}],
            "instruction_sets": ["avx2"],
            "caches": [{"name": "L3 Unified", "size": 33554432, "shared_by": "0-1"}],
            "frequency_mhz": 2596,
        }, "load_average": 0.1},
        "engine": {"kind": "fused", "device": "cpu", "threads": 2, "precision": "fp32",
            "instruction_set": "avx2"},
        "data_set": {
            "files": [{"split": "train", "bytes": 10, "sampled": "aa"}],
            "dense": 1, "tables": [3], "hotness": [1],
        },
        "model": {"optimizer": {"kind": "sgd"}, "max_batch": 64},
        "facts": {"train_samples": 10, "eval_samples": 5},
        "series": null,
    })
}

fn of(record: &Value) -> Identity {
    let settings = BTreeMap::from([("data.source".to_owned(), "\"csv\"".to_owned())]);
    Identity::of(record, &settings)
}

fn said(a: &Value, b: &Value) -> Vec<String> {
    differences(&of(a), &of(b)).iter().map(ToString::to_string).collect()
}

#[test]
fn every_fact_counts_and_what_changes_from_minute_to_minute_does_not() {
    let base = record();
    assert_eq!(said(&base, &base), Vec::<String>::new());
    for (pointer, value, expected) in [
        (
            "/machine/cpu/caches/0/size",
            json!(16777216),
            "machine: L3 Unified 16 MiB of 2 processors, not 32 MiB of 2 processors",
        ),
        (
            "/machine/cpu/kinds/0/stepping",
            json!("2"),
            "machine: kinds vendor AuthenticAMD, family 25, model 1, stepping 2, not vendor AuthenticAMD, family 25, model 1, stepping 1",
        ),
        (
            "/machine/cpu/instruction_sets",
            json!(["avx2", "avx512f"]),
            "machine: instruction_sets avx2 avx512f, not avx2",
        ),
        ("/machine/cpu/quota", json!(1.5), "machine: quota 1.5, not unstated"),
        ("/versions/features", json!(["hdf5"]), "build: features hdf5, not none"),
        ("/versions/sources", json!("01"), "program: sources 01, not 00"),
        ("/engine/instruction_set", json!("portable"), "build: instruction_set portable, not avx2"),
        ("/engine/threads", json!(1), "engine: threads 1, not 2"),
        ("/data_set/files/0/sampled", json!("ab"), "data: train files"),
        ("/facts/train_samples", json!(11), "data: train samples 11, not 10"),
        ("/data_set/tables", json!([4]), "data: rows 4, not 3"),
        ("/model/optimizer/kind", json!("adam"), "model: optimizer.kind adam, not sgd"),
    ] {
        let mut other = record();
        *other.pointer_mut(pointer).unwrap() = value;
        let found = said(&other, &base);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        assert_ne!(of(&other).key("r"), of(&base).key("r"), "{pointer}");
    }
    let mut later = record();
    later["machine"]["cpu"]["frequency_mhz"] = json!(3000);
    later["machine"]["load_average"] = json!(9.0);
    // Processors are numbered by chance, and GPUs of one kind stand side by side.
    later["machine"]["cpu"]["caches"][0]["shared_by"] = json!("0,4");
    assert_eq!(said(&later, &base), Vec::<String>::new());
    assert_eq!(of(&later).key("a"), of(&base).key("b"));
}

#[test]
fn unknown_equals_nothing_but_within_a_series() {
    let base = record();
    let mut old = record();
    old["machine"]["cpu"].as_object_mut().unwrap().remove("kinds");
    assert_eq!(said(&old, &base).len(), 1);
    assert_eq!(said(&old, &old), ["machine: kinds unknown in both"]);
    assert_ne!(of(&old).key("run 1"), of(&old).key("run 2"));
    old["series"] = json!({"id": "s"});
    assert_eq!(said(&old, &old), Vec::<String>::new());
    assert_eq!(of(&old).key("run 1"), of(&old).key("run 2"));
    // What was looked for and is not stated is known.
    let mut silent = record();
    silent["machine"]["cpu"]["kinds"] = json!([]);
    assert_eq!(said(&silent, &silent), Vec::<String>::new());
    // Two records that lack everything.
    let nothing = json!({});
    assert!(differences(&of(&nothing), &of(&nothing)).len() > 10);
    assert_eq!(differences(&Identity::default(), &Identity::default()), []);
}

#[test]
fn asynchronous_runs_are_never_pooled_with_others() {
    let of = |settings: &[(&str, &str)]| {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Identity::of(&record(), &settings.iter().map(owned).collect())
    };
    const SERVED: (&str, &str) = ("comm.mode", "\"parameter_server\"");
    let all = [
        of(&[]),
        of(&[SERVED]),
        of(&[SERVED, ("comm.servers", "2")]),
        of(&[SERVED, ("comm.staleness", "0")]),
        of(&[SERVED, ("comm.staleness", "4")]),
    ];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            let modes = differences(a, b).into_iter().filter(|d| d.fact == "mode").count();
            assert_eq!((modes == 0, a.key("x") == b.key("x")), (i == j, i == j));
        }
    }
    let said = differences(&all[1], &all[0]).into_iter().find(|d| d.fact == "mode").unwrap();
    assert_eq!(
        said.to_string(),
        "engine: mode parameter_server, servers 1, staleness any, not synchronous"
    );
    let servers = of(&[SERVED, ("comm.servers", "1")]);
    assert!(differences(&all[1], &servers).iter().all(|d| d.fact != "mode"), "the default");
}

/// What an engine's configuration leaves out is known all the same.
#[test]
fn what_a_configuration_leaves_out_is_no_unknown_fact() {
    let workload = crate::workload::load(std::path::Path::new("quickstart"), &[]).unwrap().workload;
    let schema = workload.data_schema().unwrap().unwrap();
    let plain = workload.engine_config(&schema).unwrap();
    let grows = ["embedding.store=hashed".to_owned()];
    let grows = crate::workload::load(std::path::Path::new("quickstart"), &grows).unwrap();
    let hashed = grows.workload.engine_config(&schema).unwrap().hashed.unwrap();
    let caches = ["embedding.store=cached".to_owned(), "embedding.cache=1GiB".to_owned()];
    let caches = crate::workload::load(std::path::Path::new("quickstart"), &caches).unwrap();
    let cached = caches.workload.engine_config(&schema).unwrap().cached.unwrap();
    // A key that is new here is set here to what is written.
    let crate::engine::EngineConfig {
        model,
        loss,
        optimizer,
        max_batch,
        micro_batch: _,
        last_part_only: _,
        ranks: _,
        sum_order: _,
        split_rows: _,
        replicate_small: _,
        tables_by_ranks: _,
        max_hotness,
        threads,
        pin_threads,
        precision,
        fp32_interaction: _,
        hashed: _,
        cached: _,
        stand_for,
        loss_scale,
        embedding_rows,
        seed,
    } = plain.clone();
    let stated = crate::engine::EngineConfig {
        model,
        loss,
        optimizer,
        max_batch,
        micro_batch: Some(1),
        last_part_only: true,
        ranks: 2,
        sum_order: crate::engine::SumOrder::Tree,
        split_rows: true,
        replicate_small: true,
        tables_by_ranks: true,
        max_hotness,
        threads,
        pin_threads,
        precision,
        fp32_interaction: true,
        hashed: Some(hashed),
        cached: Some(cached),
        stand_for,
        loss_scale,
        embedding_rows,
        seed,
    };
    let facts = |config| {
        let mut record = record();
        record["model"] = serde_json::to_value(config).unwrap();
        Identity::of(&record, &BTreeMap::new()).facts[&Aspect::Model].clone()
    };
    let plain = facts(plain);
    let stated = facts(stated);
    assert!(stated.len() > plain.len() + 3);
    for fact in stated.keys().filter(|fact| !plain.contains_key(*fact)) {
        assert_ne!(absent(fact), UNKNOWN, "{fact}");
    }
}
