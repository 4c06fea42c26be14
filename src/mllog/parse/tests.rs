//! `PROPTEST_CASES=1000000 cargo test --lib mllog::parse` fuzzes for some minutes.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::{fs, path::Path};

const REAL: &str = r#":::MLLOG {"namespace": "", "time_ms": 1695517317230, "event_type": "POINT_IN_TIME", "key": "eval_accuracy", "value": 0.7898508906364441, "metadata": {"file": "/workspace/dlrm/mlperf_logger/callbacks.py", "lineno": 97, "epoch_num": 0.049980888109768154}}"#;

fn all(log: impl AsRef<[u8]>) -> Vec<(usize, Result<Event, LineError>)> {
    lines(log.as_ref()).map(|l| (l.number, l.event)).collect()
}

fn one(log: impl AsRef<[u8]>) -> Result<Event, LineError> {
    let mut all = all(log);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).1
}

fn error(json: &str) -> String {
    one(format!("x :::MLLOG {json}")).unwrap_err().to_string()
}

#[test]
fn a_real_line_is_read_whatever_stands_around_it() {
    let expected = one(REAL).unwrap();
    assert_eq!((expected.time_ms, expected.number()), (1695517317230.0, Some(0.7898508906364441)));
    assert_eq!(
        (expected.namespace.as_deref(), expected.event_type.as_deref()),
        (Some(""), Some("POINT_IN_TIME"))
    );
    assert_eq!(expected.meta_number("epoch_num"), Some(0.049980888109768154));
    let json = REAL.strip_prefix(TOKEN).unwrap();
    let compact = serde_json::from_str::<Value>(json).unwrap().to_string();
    for log in [
        format!("[5] {REAL}\r\n"),
        format!("0: {REAL}"),
        format!("\u{feff}{REAL}\n"),
        format!("12%\r34%\r{REAL}\r\n"),
        format!("{TOKEN}{compact}"),
        format!("{TOKEN}   {compact}   "),
        format!("{TOKEN}garbage {REAL}"),
    ] {
        assert_eq!(one(&log).as_ref(), Ok(&expected), "{log}");
    }
    let mut dirty = b"\xff\xfe\x00 ".to_vec();
    dirty.extend(REAL.as_bytes());
    assert_eq!(one(dirty), Ok(expected));
}

#[test]
fn lines_are_numbered_as_an_editor_does() {
    let log = format!("a\r\n{REAL}\r\n\r\nb\n{REAL}\n:::MLLOG\n:::MLLO\n:::MLLOG{{}}\n{REAL}");
    let numbers: Vec<_> = all(&log).into_iter().map(|(n, e)| (n, e.is_ok())).collect();
    assert_eq!(numbers, [(2, true), (5, true), (6, false), (8, false), (9, true)]);
    assert_eq!(lines(log.as_bytes()).next().unwrap().text, REAL);
    assert_eq!(all(""), []);
}

#[test]
fn what_is_optional_may_be_missing_and_absence_differs_from_null() {
    let bare = one(r#":::MLLOG {"key":"k","time_ms":"17.5"}"#).unwrap();
    let expected = Event {
        namespace: None,
        time_ms: 17.5,
        event_type: None,
        key: "k".into(),
        value: None,
        metadata: None,
    };
    assert_eq!(bare, expected);
    let nulls =
        one(r#":::MLLOG {"metadata":null,"value":null,"time_ms":1e3,"key":"k","event_type":5}"#)
            .unwrap();
    assert_eq!(
        (nulls.value, nulls.metadata, nulls.time_ms),
        (Some(Value::Null), Some(Value::Null), 1000.0)
    );
    assert_eq!(bare.meta("epoch_num"), None);
}

#[test]
fn what_is_wrong_is_said_with_its_column() {
    assert_eq!(
        one(":::MLLOG").unwrap_err().to_string(),
        "no space after :::MLLOG; MLPerf's tools pass over such a line"
    );
    assert_eq!(error(r#"{"key": "a", oops}"#), "broken JSON in column 25: key must be a string");
    assert_eq!(error(r#"{"key": "a""#), "broken JSON in column 22: EOF while parsing an object");
    assert_eq!(
        error(r#"{"key": "a", "time_ms": 1} x"#),
        "broken JSON in column 39: trailing characters"
    );
    assert_eq!(error("[1]"), "after :::MLLOG stands an array; must be an object, {\"key\": ...}");
    assert_eq!(error(r#"{"time_ms": 1}"#), "no \"key\"; every line needs one");
    assert_eq!(error(r#"{"key": "a"}"#), "no \"time_ms\"; every line needs one");
    assert_eq!(error(r#"{"key": 7, "time_ms": 1}"#), "key is 7; must be a string");
    assert_eq!(
        error(r#"{"key": "a", "time_ms": "1.2.3"}"#),
        "time_ms is \"1.2.3\"; must be a number, milliseconds since 1970"
    );
    assert_eq!(
        error(r#"{"key": "a", "time_ms": null}"#),
        "time_ms is null; must be a number, milliseconds since 1970"
    );
    assert_eq!(
        error(r#"{"key": "a", "time_ms": "nan"}"#),
        "time_ms is \"nan\"; must be a number, milliseconds since 1970"
    );
    assert!(error(&"[".repeat(100_000)).contains("recursion limit"));
}

#[test]
fn every_published_line_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mlperf/published");
    if !root.is_dir() {
        eprintln!("skipped: {} is not here", root.display());
        return;
    }
    let (mut folders, mut logs) = (vec![root], 0);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let log = fs::read(&path).unwrap();
            let tokens = String::from_utf8_lossy(&log).matches(TOKEN).count();
            let read: Vec<_> = lines(&log).collect();
            assert!(
                read.len() == tokens && read.iter().all(|l| l.event.is_ok()),
                "{}",
                path.display()
            );
            logs += usize::from(tokens > 0);
        }
    }
    assert!(logs >= 20, "{logs} logs");
}

/// Any JSON of a few levels.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| json!(x)),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        all(&bytes);
        let behind_the_token = [b":::MLLOG ", bytes.as_slice()].concat();
        prop_assert!(!all(behind_the_token).is_empty());
    }

    #[test]
    fn no_mutation_of_a_real_line_breaks_it(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..6)) {
        let mut bytes = [REAL, "\n", REAL].concat().into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        for (number, event) in all(&bytes) {
            prop_assert!((1..=8).contains(&number));
            if let Err(e) = event {
                prop_assert!(e.to_string().lines().count() <= 1, "{}", e);
            }
        }
    }

    #[test]
    fn any_json_is_judged(value in any_json()) {
        all(format!(":::MLLOG {value}"));
    }

    #[test]
    fn what_was_written_is_read(value in any_json(), metadata in any_json(), key in ".{0,20}", time in -1e15f64..1e15) {
        let line = json!({"value": value, "metadata": metadata, "key": key, "time_ms": time}).to_string();
        // A token within a string cuts the line in MLPerf's parser as well.
        prop_assume!(!line.contains(TOKEN));
        let event = one(format!("[3] :::MLLOG {line}\r\n")).unwrap();
        prop_assert_eq!(event, Event { namespace: None, time_ms: time, event_type: None, key, value: Some(value), metadata: Some(metadata) });
    }
}
