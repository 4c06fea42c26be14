//! Logs as rounds and submitters write them.

use super::*;
use crate::{
    report::table::{csv, markdown, text},
    results::table::{self, Options},
};
use proptest::prelude::*;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A v1 run as HugeCTR's submitters log it: compact, other key order, epochs from 1, tracked_stats
/// behind the end.
const V1: &str = r#"
noise before
0: :::MLLOG {"key":"submission_benchmark","value":"dlrm","metadata":{},"time_ms":0}
:::MLLOG {"key":"submission_division","value":"closed","metadata":{},"time_ms":0}
:::MLLOG {"key":"submission_org","value":"X","metadata":{},"time_ms":0}
:::MLLOG {"key":"submission_platform","value":"1xY","metadata":{},"time_ms":0}
:::MLLOG {"key":"global_batch_size","value":55296,"metadata":{},"time_ms":0}
:::MLLOG {"key":"train_samples","value":4195197692,"metadata":{},"time_ms":0}
:::MLLOG {"key":"run_start","value":null,"metadata":{},"time_ms":1000}
:::MLLOG {"key":"eval_start","value":null,"metadata":{"epoch_num":1.5},"time_ms":51000}
:::MLLOG {"key":"eval_accuracy","value":0.7999,"metadata":{"epoch_num":1.5},"time_ms":61000}
:::MLLOG {"key":"eval_stop","value":null,"metadata":{"epoch_num":1.5},"time_ms":61000}
:::MLLOG {"key":"eval_start","value":null,"metadata":{"epoch_num":1.75},"time_ms":91000}
:::MLLOG {"key":"eval_accuracy","value":0.8026,"metadata":{"epoch_num":1.75},"time_ms":101000}
:::MLLOG {"key":"eval_stop","value":null,"metadata":{"epoch_num":1.75},"time_ms":101000}
:::MLLOG {"key":"run_stop","value":null,"metadata":{"status":"success"},"time_ms":101000}
:::MLLOG {"key":"tracked_stats","value":{"throughput":31463982.69},"metadata":{"step":1.75},"time_ms":101000}
"#;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Reads `path` below the folder.
    fn read(&self, path: &str) -> Found {
        read(&[self.0.path().join(path).display().to_string()])
    }

    fn problems(&self, found: &Found) -> Vec<String> {
        let root = format!("{}/", self.0.path().display());
        found.problems.iter().map(|p| p.to_string().replace(&root, "")).collect()
    }
}

fn one(log: &str) -> Run {
    let place = Place::new();
    place.put("a.log", log);
    let mut found = place.read("a.log");
    assert_eq!((found.runs.len(), found.problems.len()), (1, 0), "{found:?}");
    found.runs.remove(0)
}

fn close(a: Option<f64>, b: f64) -> bool {
    a.is_some_and(|a| (a / b - 1.0).abs() < 1e-9)
}

#[test]
fn epochs_count_from_one_in_v1_and_evaluations_can_be_taken_out() {
    let run = one(V1);
    assert_eq!(
        (run.epochs, run.seconds, run.auc, run.ending),
        (Some(0.75), Some(100.0), Some(0.8026), Ending::Converged)
    );
    assert!(close(run.throughput.end_to_end, 0.75 * 4_195_197_692.0 / 100.0));
    assert!(close(run.throughput.training, 0.75 * 4_195_197_692.0 / 80.0));
    assert_eq!(
        (run.batch, run.system.name.as_str(), run.system.org.as_deref()),
        (Some(55296), "1xY", Some("X"))
    );
    assert_eq!((run.task.target, run.warnings.as_slice()), (Some(0.8025), [].as_slice()));
    // A submitter that counts from 0.
    let from_zero = one(&V1.replace("1.5}", "0.5}").replace("1.75}", "0.75}"));
    assert_eq!((from_zero.epochs, from_zero.throughput), (run.epochs, run.throughput));
}

#[test]
fn what_is_optional_may_be_missing() {
    let without = |keys: &[&str]| -> String {
        V1.lines()
            .filter(|l| !keys.iter().any(|k| l.contains(&format!("\"{k}\""))))
            .collect::<Vec<_>>()
            .join("\r\n")
    };
    let run = one(&without(&[
        "train_samples",
        "global_batch_size",
        "tracked_stats",
        "eval_start",
        "eval_stop",
        "submission_org",
    ]));
    assert!(close(run.throughput.end_to_end, 0.75 * 4_195_197_692.0 / 100.0));
    assert_eq!((run.throughput.training, run.batch, run.throughput.logged), (None, None, None));
    assert_eq!(
        run.warnings,
        ["train_samples is not logged; 4195197692, as the closed division asks for, are assumed"]
    );
    // facebookresearch/dlrm logs no eval_accuracy at all.
    let run = one(&without(&["eval_accuracy"]));
    assert_eq!((run.ending, run.auc, run.throughput.end_to_end), (Ending::Converged, None, None));
    // An open run: nothing says what was learnt.
    let run = one(&V1.replace("closed", "open"));
    assert_eq!((run.task.target, run.ending), (None, Ending::Converged));
    assert!(close(run.throughput.end_to_end, 0.75 * 4_195_197_692.0 / 100.0));
}

#[test]
fn samples_may_be_counted_instead_of_epochs() {
    let run = one(&V1
        .replace("\"epoch_num\":1.5", "\"samples_count\":2000000000")
        .replace("\"epoch_num\":1.75", "\"samples_count\":\"3e9\""));
    assert_eq!(run.samples, Some(3e9));
    assert!(close(run.epochs, 3e9 / 4_195_197_692.0) && close(run.throughput.end_to_end, 3e7));
}

#[test]
fn ranks_that_all_write_change_nothing() {
    let run = one(V1);
    let doubled: String =
        V1.lines().flat_map(|l| [format!("[0] {l}\n"), format!("[1] {l}\n")]).collect();
    let again = one(&doubled);
    assert_eq!(
        (again.throughput, again.evaluations, again.seconds),
        (run.throughput, run.evaluations, run.seconds)
    );
}

#[test]
fn oddities_are_said() {
    let run = one(&V1.replace("31463982.69", "33000000"));
    assert_eq!(
        run.warnings,
        [
            "its own tracked_stats say 33000000 samples/s, +4.9% off what epoch_num, train_samples and run_start to run_stop give"
        ]
    );
    let run = one(&V1.replace("0.8026", "0.8024"));
    assert_eq!(run.ending, Ending::NotConverged);
    assert_eq!(run.warnings, ["run_stop says success, but no evaluation meets the target"]);
    let run = one(&V1.replace("\"success\"", "\"aborted\""));
    assert_eq!(run.ending, Ending::NotConverged);
    let cut = &V1[..V1.find("\"run_stop\"").unwrap()];
    let run = one(cut);
    assert_eq!((run.ending, run.throughput.end_to_end), (Ending::Unfinished, None));
    assert!(
        run.warnings[0].starts_with("line 16: broken JSON in column 16: EOF"),
        "{:?}",
        run.warnings
    );
}

#[test]
fn files_that_hold_no_run_are_named() {
    let place = Place::new();
    for (name, text, expected) in [
        ("empty.txt", "", "empty.txt: an empty file; must be an MLPerf log"),
        ("prose.txt", "hello\nworld", "prose.txt: no line with :::MLLOG; must be an MLPerf log"),
        (
            "torn.txt",
            ":::MLLOG {\"key\": 1",
            "torn.txt: line 1: broken JSON in column 18: EOF while parsing an object",
        ),
        (
            "init.txt",
            ":::MLLOG {\"key\": \"init_start\", \"time_ms\": 1}",
            "init.txt: no run_start: training never began",
        ),
        (
            "two.txt",
            &[V1, V1].concat(),
            "two.txt: line 26: a second run_start after run_stop; one file must hold one run",
        ),
        (
            "x.json",
            "{}",
            "x.json: no results: must be run.json, an MLPerf log, or a folder that holds some",
        ),
        ("run.json", "{}", "run.json: not a run record: missing field `schema_version`"),
    ] {
        let path = place.put(&format!("{name}.d/{name}"), text);
        let found = read(&[path.display().to_string()]);
        assert_eq!(place.problems(&found), [format!("{name}.d/{expected}")]);
        assert!(found.runs.is_empty());
    }
    assert_eq!(
        place.problems(&place.read("none/*.txt")),
        ["none/*.txt: nothing matches this pattern"]
    );
    assert!(place.problems(&place.read("none"))[0].starts_with("cannot read none: "));
    fs::create_dir(place.0.path().join("hollow")).unwrap();
    assert_eq!(
        place.problems(&place.read("hollow")),
        ["hollow: no results in this folder: neither run.json nor result_*.txt"]
    );
    place.put("binary", [0u8, 255, 254, 10, 13, 58, 58, 58]);
    assert_eq!(
        place.problems(&place.read("binary")),
        ["binary: no line with :::MLLOG; must be an MLPerf log"]
    );
}

#[test]
fn a_published_tree_is_read_with_its_system_and_one_broken_file_costs_that_file() {
    let place = Place::new();
    let tree = "training_results_v2.1/Org";
    for i in [0, 2, 10] {
        place.put(&format!("{tree}/results/sys/dlrm/result_{i}.txt"), V1);
    }
    place.put(&format!("{tree}/results/sys/dlrm/result_1.txt"), "");
    place.put(&format!("{tree}/results/sys/dlrm/README.md"), "words");
    place.put(&format!("{tree}/results/sys/dlrm/scaling.json"), "{\"scaling_factor\": 1.5}");
    place.put(&format!("{tree}/results/sys/bert/result_0.txt"), V1.replace("\"dlrm\"", "\"bert\""));
    place.put(&format!("{tree}/results/.hidden/dlrm/result_0.txt"), "");
    place.put(
        &format!("{tree}/systems/sys.json"),
        r#"{"system_name": "Nice name", "submitter": "The Org", "framework": "HugeCTR"}"#,
    );
    let found = place.read("training_results_v2.1");
    assert_eq!(
        place.problems(&found),
        [format!("{tree}/results/sys/dlrm/result_1.txt: an empty file; must be an MLPerf log")]
    );
    assert_eq!(
        found.runs.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["result_0", "result_2", "result_10"]
    );
    assert_eq!(found.passed_over, BTreeMap::from([("bert".to_owned(), 1)]));
    let run = &found.runs[0];
    assert_eq!(
        (run.system.name.as_str(), run.system.folder.as_deref()),
        ("Nice name", Some("sys"))
    );
    assert_eq!(
        (run.system.org.as_deref(), run.system.round.as_deref()),
        (Some("The Org"), Some("v2.1"))
    );
    assert_eq!((run.engine.as_deref(), run.scaling_factor), (Some("HugeCTR"), Some(1.5)));
    assert!(found.runs.iter().all(|r| r.key == run.key));

    // Patterns and overlapping paths lead to the same runs once.
    let path = |p: &str| place.0.path().join(p).display().to_string();
    let again = read(&[path("training_results_v*/Org/results/*/dlrm/result_*.txt"), path(tree)]);
    assert_eq!((again.runs.len(), again.problems.len()), (3, 1), "{:?}", again.problems);

    place.put(&format!("{tree}/systems/sys.json"), "{oops");
    let found = place.read(tree);
    assert_eq!((found.runs.len(), found.runs[0].system.name.as_str()), (3, "sys"));
    assert!(
        place.problems(&found)[1]
            .starts_with(&format!("{tree}/systems/sys.json: broken JSON: key must be a string"))
    );
}

/// Where `at` points in `n` things.
fn pick(at: &prop::sample::Index, n: usize) -> usize {
    at.index(n.max(1))
}

proptest! {
    /// Lines go missing, come twice, change places, lose their end or get other numbers: there is a
    /// run or a sentence, and the tables stand.
    #[test]
    fn no_spoilt_log_breaks_reading_or_tables(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6, "[-0-9e.]{1,4}|null|\\{\\}|\"\""), 0..8)
    ) {
        let mut lines: Vec<String> = V1.lines().map(str::to_owned).collect();
        for (at, other, edit, value) in &edits {
            let i = pick(at, lines.len());
            match edit {
                0 => drop(lines.remove(i)),
                1 => lines.insert(pick(other, lines.len()), lines[i].clone()),
                2 => { let j = pick(other, lines.len()); lines.swap(i, j); }
                3 => { let cut = pick(other, lines[i].len() + 1); lines[i].truncate(cut); }
                4 => lines[i] = lines[i].replace("\"time_ms\":", &format!("\"time_ms\":{value}")),
                _ => lines[i] = lines[i].replace("\"value\":", &format!("\"value\":{value},\"x\":")),
            }
            if lines.len() < 2 { break; }
        }
        let place = Place::new();
        place.put("results/a/dlrm/result_0.txt", lines.join("\n"));
        place.put("results/a/dlrm/result_1.txt", V1);
        let found = place.read("results");
        prop_assert_eq!(found.runs.len() + found.problems.len() + found.passed_over.len(), 2);
        prop_assert!(found.problems.iter().all(|p| p.to_string().lines().count() == 1));
        let c = table::build(found.runs, &Options::default()).unwrap();
        prop_assert!(text(&c, 80).lines().all(|l| l.chars().count() <= 80));
        prop_assert!(!markdown(&c).is_empty() && csv(&c).is_ok() && serde_json::to_string(&c).is_ok());
    }
}
