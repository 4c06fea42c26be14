//! The JSON schema beside the reader, by Python's jsonschema where that is there: it takes every
//! workload that the reader takes, and refuses what a schema can know to be wrong.

use super::{schema::json, schema_text, tests::workloads};
use crate::data::format::testing::python;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::Value as Json;
use std::path::Path;
use toml_edit::{DocumentMut, Value};

/// Takes the schema, and a list of [name, workload, whether it is right].
const CHECK: &str = r#"
import json, sys, jsonschema
schema, cases = (json.load(open(path)) for path in sys.argv[1:])
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
wrong = []
for name, workload, right in cases:
    errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(workload)]
    if right != (not errors):
        wrong.append(f"{name}\n    {errors or 'is taken'}")
sys.exit("\n".join(wrong) or 0)
"#;

/// The messages of what no schema can know: relations between values, and what is not in the file.
const BEYOND: &[&str] = &[
    "make them equal",
    "must be 1, the logit",
    "must be a multiple of model.dim",
    "must be 32, twice model.dim",
    "but model.trick is",
    "needs model.trick",
    "or model.dim a power of two",
    "before the warm-up's end",
    "must be rising step numbers",
    "must have one for each table",
    "must name each column once",
    "which is not set",
    "at least 2, since the last one is for evaluation",
    "make one of them above 0",
    "acts on evaluations",
    "stands beside",
    "needs evaluations",
    "goes on from the generator of the data",
    "but model.kind is",
    "computed by GPUs only",
    "this program has no CUDA side",
    "which is missing; must say there what to train on",
    "is never taken",
    "needs model.kind = \"dlrm\" with",
];

fn to_json(text: &str) -> Option<Json> {
    let table = text.parse::<DocumentMut>().ok()?.into_table();
    Some(json(&Value::InlineTable(table.into_inline_table())))
}

/// Has Python judge the cases: name, workload, whether the schema must take it.
fn judge(cases: &[(String, Json, bool)]) {
    let dir = tempfile::tempdir().unwrap();
    let (schema, list) = (dir.path().join("schema.json"), dir.path().join("cases.json"));
    std::fs::write(&schema, schema_text()).unwrap();
    std::fs::write(&list, serde_json::to_string(cases).unwrap()).unwrap();
    python(&["jsonschema"], CHECK, &[&schema, &list]);
}

#[test]
fn shipped_workloads_pass_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases = Vec::new();
    for dir in ["workloads", "src/selftest/facebook", "tests/workloads/facebook"] {
        for file in std::fs::read_dir(root.join(dir)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            if dir == "workloads" {
                let line = text.lines().next().unwrap();
                let schema = line.strip_prefix("#:schema ").unwrap_or_else(|| panic!("{path:?}"));
                assert!(root.join(dir).join(schema).is_file(), "{path:?}: {schema}");
            }
            cases.push((path.display().to_string(), to_json(&text).unwrap(), true));
        }
    }
    assert!(cases.len() >= 12);
    judge(&cases);
}

/// Random workloads as they are written.
#[test]
fn what_is_written_passes_the_schema() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<_> = (0..300)
        .map(|_| {
            let text = workloads().new_tree(&mut runner).unwrap().current().to_toml();
            let json = to_json(&text).unwrap();
            (text, json, true)
        })
        .collect();
    judge(&cases);
}

/// The cases of tests/bad_workloads.rs, read from its text: what is replaced by what, the message.
fn broken() -> (String, Vec<[String; 3]>) {
    let source = include_str!("../../../tests/bad_workloads.rs");
    let good = source.split("r#\"").nth(1).and_then(|s| s.split("\"#").next()).unwrap();
    let table = source.split("const BROKEN").nth(1).and_then(|s| s.split("\n];").next()).unwrap();
    let lines = table.lines().skip(1).map(str::trim_start);
    let plain: Vec<&str> = lines.filter(|l| !l.starts_with("//") && !l.starts_with('#')).collect();
    // TOML escapes its strings as Rust does.
    let (mut literals, mut rest) = (Vec::new(), plain.join("\n"));
    while let Some(start) = rest.find('"') {
        let mut end = start + 1;
        while !rest[end..].starts_with('"') {
            end += if rest[end..].starts_with('\\') { 2 } else { 1 };
        }
        let literal: Value = rest[start..=end].parse().unwrap();
        literals.push(literal.as_str().unwrap().to_owned());
        rest.drain(..=end);
    }
    let cases = literals.chunks_exact(3).map(|c| [c[0].clone(), c[1].clone(), c[2].clone()]);
    (good.to_owned(), cases.collect())
}

#[test]
fn broken_workloads_fail_the_schema() {
    let (good, broken) = broken();
    assert!(broken.len() >= 55, "{}", broken.len());
    let mut cases = vec![("the one that is broken".to_owned(), to_json(&good).unwrap(), true)];
    for [what, by, message] in broken {
        assert!(good.contains(&what), "{what}");
        // Texts that are no TOML never come to a schema.
        if let Some(json) = to_json(&good.replacen(&what, &by, 1)) {
            let beyond = BEYOND.iter().any(|b| message.contains(b));
            cases.push((message, json, beyond));
        }
    }
    assert!(cases.iter().filter(|c| !c.2).count() >= 35);
    judge(&cases);
}
