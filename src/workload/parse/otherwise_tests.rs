//! `[data.otherwise]`: which of both is taken, what stands in for what, and what is refused.

use super::*;
use crate::workload::{DataConfig, EvalEvery, PlantedConfig};

/// Line numbers count in messages: `[data]` is line 4.
const TEXT: &str = r#"[workload]
name = "mine"
description = "on my own logs"
[data]
source = "csv"
train = "${UNSET}/train.csv"
eval = "${UNSET}/eval.csv"
label = "clicked"
[data.otherwise]
source = "planted"
max_rows = 500
[model]
kind = "dlrm"
dim = 16
bottom = [32, 16]
top = [64, 1]
[train]
batch_size = 128
[train.otherwise]
epochs = 3
[optimizer]
kind = "sgd"
learning_rate = 0.1
[eval]
every_steps = 10
[eval.otherwise]
every_epochs = 0.5
[target]
auc = 0.79
[target.otherwise]
share_of_best = 0.7
"#;

/// A variable that nobody sets, and one that is always set.
const NO: &str = "DLRM_BENCH_NO_SUCH_VARIABLE";
const YES: &str = "PATH";

fn read(text: &str, set: &[&str], missing: Missing) -> Result<Resolved, String> {
    let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
    resolve_with(Path::new("w.toml"), text.to_owned(), &set, missing).map_err(|e| e.to_string())
}

fn with(variable: &str, set: &[&str]) -> Result<Resolved, String> {
    read(&TEXT.replace("UNSET", variable), set, Missing::TakeOtherwise)
}

fn planted(r: &Resolved) -> &PlantedConfig {
    match &r.workload.data {
        DataConfig::Planted(data) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_its_variable_a_workload_is_another_one() {
    let r = with(NO, &[]).unwrap();
    let w = &r.workload;
    assert_eq!(planted(&r).max_rows, Some(500));
    assert_eq!((w.train.epochs, w.eval.every), (3, EvalEvery::Epochs(0.5)));
    assert_eq!((w.target.auc, w.target.share_of_best), (None, Some(0.7)));
    assert_eq!(w.workload.name, "mine-planted");
    assert_eq!(w.workload.description, format!("mine on planted data, since {NO} is not set"));
    assert_eq!(w.workload.without.as_deref(), Some(&[NO.to_owned()][..]));
    let instead = r.instead.as_ref().unwrap();
    assert_eq!((instead.of.as_str(), instead.why()), ("mine", format!("{NO} is not set")));
    let line = |line| Origin::File { path: "w.toml".into(), line };
    assert_eq!(r.origin["data.max_rows"], line(11));
    assert_eq!(r.origin["train.batch_size"], line(18));
    assert_eq!(r.origin["train.epochs"], line(20));
    assert_eq!(r.origin["workload.name"], Origin::Otherwise);
    // What is kept reads back as the same, variable or not.
    let kept = read(&w.to_toml(), &[], Missing::Refuse).unwrap();
    assert_eq!((&kept.workload, kept.instead), (w, None));
}

#[test]
fn with_its_variable_it_is_its_own() {
    let r = with(YES, &[]).unwrap();
    let w = &r.workload;
    assert!(matches!(w.data, DataConfig::Csv(_)));
    assert_eq!((w.train.epochs, w.eval.every), (1, EvalEvery::Steps(10)));
    assert_eq!((w.target.auc, w.target.share_of_best), (Some(0.79), None));
    assert_eq!((w.workload.name.as_str(), &w.workload.without), ("mine", &None));
    assert_eq!(r.instead, None);
    // And so it is if its paths name no variable any more.
    let set = ["data.train=/a.csv", "data.eval=/b.csv"];
    assert_eq!(with(NO, &set).unwrap().instead, None);
    // One variable of two is not enough.
    let half = TEXT.replacen("UNSET", YES, 1).replace("UNSET", NO);
    assert!(read(&half, &[], Missing::TakeOtherwise).unwrap().instead.is_some());
}

#[test]
fn strictly_a_missing_variable_is_an_error() {
    let error = read(&TEXT.replace("UNSET", NO), &[], Missing::Refuse).unwrap_err();
    assert_eq!(
        error,
        format!(
            "w.toml:6: data.train: needs the environment variable {NO}, which is not set; set it, or write the path out"
        )
    );
    assert!(read(&TEXT.replace("UNSET", YES), &[], Missing::Refuse).is_ok());
}

#[test]
fn overrides_come_last_and_those_without_effect_are_refused() {
    let r = with(NO, &["data.otherwise.max_rows=77", "train.epochs=9", "workload.name=other"]);
    let r = r.unwrap();
    assert_eq!((planted(&r).max_rows, r.workload.train.epochs), (Some(77), 9));
    assert_eq!(r.workload.workload.name, "other");
    assert_eq!(r.origin["data.max_rows"], Origin::Set);
    let r = with(NO, &["target.share_of_best=", "eval.every_epochs=", "eval.every=end"]).unwrap();
    assert_eq!(r.workload.target.share_of_best, None);
    assert_eq!(r.workload.eval.every, EvalEvery::AtEnd);
    let r = with(NO, &["data.otherwise.max_rows=", "target.otherwise.auc=0.6"]);
    // Both say what the target is.
    assert!(r.is_err_and(|e| e.contains("stands beside target.auc")));
    let data = with(NO, &["data.label=y"]).unwrap_err();
    assert_eq!(
        data,
        format!(
            "--set data.label: has no effect, since {NO} is not set, so that [data.otherwise] is taken; use --set data.otherwise.label"
        )
    );
    let other = with(YES, &["data.otherwise.max_rows=5"]).unwrap_err();
    assert_eq!(
        other,
        format!(
            "--set data.otherwise.max_rows: has no effect, since {YES} is set, so that [data] is taken"
        )
    );
    let twice = with(NO, &["train.otherwise.epochs=4", "train.epochs=9"]).unwrap_err();
    assert!(
        twice.starts_with("--set train.otherwise.epochs: has no effect beside --set train.epochs")
    );
}

/// What is replaced by what, and the message, whichever is taken.
#[test]
fn both_are_checked_whichever_is_taken() {
    for (what, by, message) in [
        (
            "max_rows = 500",
            "max_rows = 0",
            "w.toml:11: data.otherwise.max_rows: is 0; must be from 1 to 4294967295",
        ),
        (
            "max_rows = 500",
            "max_row = 500",
            "w.toml:11: data.otherwise.max_row: unknown key; did you mean max_rows?",
        ),
        (
            "max_rows = 500",
            "tables = [5]",
            "w.toml:11: data.otherwise.tables: has no effect here, it belongs to",
        ),
        (
            "max_rows = 500",
            "preset = \"custom\"",
            "w.toml:9: data.otherwise.tables: missing; must be a list",
        ),
        ("source = \"planted\"\n", "", "w.toml:9: data.otherwise.source: missing; must be "),
        ("label = \"clicked\"", "label = 5", "w.toml:8: data.label: is 5; must be a string"),
        ("}/train.csv", "/train.csv", "w.toml:6: data.train: is \"${"),
        ("epochs = 3", "epochs = 0", "w.toml:20: train.otherwise.epochs: is 0; must be at least 1"),
        ("auc = 0.79", "auc = 1.79", "w.toml:29: target.auc: is 1.79; must be above 0.5"),
        (
            "share_of_best = 0.7",
            "share_of_best = 7",
            "w.toml:31: target.otherwise.share_of_best: is 7; must be above 0",
        ),
        (
            "share_of_best = 0.7",
            "share_of_best = 0.7\nauc = 0.6",
            "target.otherwise.share_of_best: stands beside target.auc",
        ),
        (
            "[train.otherwise]\nepochs",
            "[loader.otherwise]\nshards",
            "w.toml:19: loader.otherwise: [loader] has no table otherwise; there are [data.otherwise] ",
        ),
        (
            "[train.otherwise]\nepochs = 3",
            "[optimizer.otherwise]\nkind = \"adam\"",
            "w.toml:19: optimizer.otherwise.learning_rate: missing; must be a number",
        ),
        (
            "[data.otherwise]\nsource = \"planted\"\nmax_rows = 500\n",
            "",
            "train.otherwise: is taken together with [data.otherwise], which is missing",
        ),
        (
            "[data.otherwise]\nsource",
            "otherwise = 5\nx",
            "w.toml:9: data.otherwise: must be a table: write [data.otherwise]",
        ),
    ] {
        assert!(TEXT.contains(what), "{what}");
        for variable in [NO, YES] {
            let text = TEXT.replacen(what, by, 1).replace("UNSET", variable);
            let error = read(&text, &[], Missing::TakeOtherwise).unwrap_err();
            assert!(error.contains(message), "{variable}: {error}\n{message}");
        }
    }
    let never = TEXT.replace("${UNSET}", "/data");
    let error = read(&never, &[], Missing::TakeOtherwise).unwrap_err();
    assert!(error.starts_with("w.toml:9: data.otherwise: is never taken"), "{error}");
    let deeper = with(NO, &["data.otherwise=5"]).unwrap_err();
    assert!(
        deeper.contains("must be set key by key, as in --set data.otherwise.KEY=VALUE"),
        "{deeper}"
    );
}

/// A kind brings its own keys, so that a table with one is a whole section.
#[test]
fn a_table_with_a_kind_is_a_whole_section() {
    let text = TEXT
        .replace("UNSET", NO)
        .replace("learning_rate = 0.1", "learning_rate = 0.1\nclip_norm = 3.0\n[optimizer.otherwise]\nkind = \"adam\"\nlearning_rate = 0.001");
    let w = read(&text, &[], Missing::TakeOtherwise).unwrap().workload;
    assert_eq!((w.optimizer.rule.kind(), w.optimizer.clip_norm), ("adam", None));
    assert_eq!(w.optimizer.learning_rate, 0.001);
}
