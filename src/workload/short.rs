//! A short run of a workload: so many steps and nothing else, to see how fast they are. `run --steps`
//! makes one, and every slice of `gate` is one.

use std::collections::BTreeMap;
use toml_edit::{Document, Item, TableLike, Value};

/// The table within a section that stands in for its keys where data are missing.
const OTHERWISE: &str = "otherwise";

/// What makes a run a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// Steps of training.
    pub steps: u64,
    /// Whether the end is evaluated.
    pub evaluates: bool,
    /// Whether what `[mlperf]` says stays, but for the division: no short run is of the closed one.
    pub labelled: bool,
}

/// The keys that a workload file and its overrides give, `section.key`, with their values. Nothing
/// is judged here: the program that runs the workload may know other keys.
#[derive(Debug, Clone, Default)]
pub struct Given(BTreeMap<String, Value>);

impl Given {
    /// Those of the file `text` and of overrides `KEY=VALUE`, in order.
    pub fn new(text: &str, set: &[String]) -> Self {
        let mut given = BTreeMap::new();
        if let Ok(document) = Document::parse(text) {
            let sections = document.as_table().iter();
            for (section, table) in sections.filter_map(|(s, t)| Some((s, t.as_table_like()?))) {
                let values = |table: &dyn TableLike| -> Vec<_> {
                    let value = |(key, item): (&str, &Item)| {
                        Some((format!("{section}.{key}"), item.as_value()?.clone()))
                    };
                    table.iter().filter(|(key, _)| *key != OTHERWISE).filter_map(value).collect()
                };
                // What stands in for a section's keys is given, too, whichever of both is taken; but
                // data are either these or those.
                let otherwise = table.get(OTHERWISE).and_then(Item::as_table_like);
                if let Some(otherwise) = otherwise.filter(|_| section != "data") {
                    given.extend(values(otherwise));
                }
                given.extend(values(table));
            }
        }
        for (key, value) in set.iter().filter_map(|s| s.split_once('=')) {
            let (key, value) = (key.trim().to_owned(), value.trim());
            match value {
                "" => given.remove(&key),
                _ => given.insert(key, value.parse().unwrap_or_else(|_| Value::from(value))),
            };
        }
        Given(given)
    }

    /// Whether `key` was given.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn word(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// Whether the workload is one that can be evaluated: labels of drawn numbers are no classes.
    pub fn evaluates(&self) -> bool {
        let classes = self.0.get("data.round_targets").and_then(Value::as_bool) == Some(true);
        self.word("eval.every") != Some("never")
            && (classes || self.word("data.source") != Some("numpy_random"))
    }

    /// What makes the workload the short run `short`: overrides `KEY=VALUE`, to stand behind all
    /// others. Evaluations, and what lives on them (target, patience, a schedule that waits for a
    /// plateau), are taken out; a queue that is shared with other processes too. Only keys that were
    /// given are taken out, since an older program may not know them all.
    pub fn overrides(&self, short: Short) -> Vec<String> {
        let Short { steps, evaluates, labelled } = short;
        let plateau = self.word("schedule.kind") == Some("reduce_on_plateau");
        let out = |key: &str| {
            let (section, name) = key.split_once('.').unwrap_or((key, ""));
            match section {
                "eval" => name != "batch_size" && name != "every",
                "target" => true,
                "mlperf" => !labelled || name == "division",
                "schedule" => plateau,
                "loader" => matches!(name, "queue" | "slice"),
                _ => false,
            }
        };
        let taken_out = self.0.keys().filter(|key| out(key)).map(|key| format!("{key}="));
        let set = [
            format!("eval.every={}", if evaluates { "end" } else { "never" }),
            format!("train.max_steps={steps}"),
            // However few samples there are.
            format!("train.epochs={steps}"),
        ];
        taken_out.chain(set).collect()
    }
}

/// The first key of `set` that has no effect since `overrides` behind it say otherwise.
pub fn in_vain<'a>(set: &'a [String], overrides: &[String]) -> Option<&'a str> {
    let parts = |s: &'a str| s.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    let overridden = |key: &str, value: &str| {
        overrides.iter().filter_map(|o| o.split_once('=')).any(|(k, v)| k == key && v != value)
    };
    let set = set.iter().filter_map(|s| parts(s));
    set.filter(|(key, value)| overridden(key, value)).map(|(key, _)| key).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        optim::ScheduleSpec,
        workload::{EvalEvery, WorkloadError, parse, shipped},
    };
    use std::{fs, path::Path};

    const TIME: Short = Short { steps: 20, evaluates: false, labelled: false };
    const EVALUATE: Short = Short { steps: 100, evaluates: true, labelled: false };
    const RUN: Short = Short { labelled: true, ..TIME };

    /// Resolves the workload as a short run of it does.
    fn short(text: &str, set: &[String], short: Short) -> Result<parse::Resolved, WorkloadError> {
        let set = [set, &Given::new(text, set).overrides(short)].concat();
        parse::resolve(Path::new("w.toml"), text.to_owned(), &set)
    }

    #[test]
    fn every_shipped_workload_can_be_run_short() {
        let mut texts = Vec::new();
        for shipped::Shipped { name, text } in shipped::SHIPPED {
            // Where the data lie is the user's: they are there, or others are taken.
            let mut parts = text.split("${");
            let first = parts.next().unwrap_or_default().to_owned();
            let there = |out: String, part: &str| out + "${PATH" + &part[part.find('}').unwrap()..];
            texts.push((name, parts.fold(first, there)));
            if text.contains("[data.otherwise]") {
                texts.push((name, text.to_string()));
            }
        }
        let mut seen = 0;
        for (name, text) in texts {
            let given = Given::new(&text, &[]);
            for task in [TIME, EVALUATE, RUN] {
                if task.evaluates && !given.evaluates() {
                    continue;
                }
                let w = short(&text, &[], task).unwrap_or_else(|e| panic!("{name}: {e}")).workload;
                let steps = task.steps;
                assert_eq!((w.train.max_steps, w.train.epochs), (Some(steps), steps));
                let every = if task.evaluates { EvalEvery::AtEnd } else { EvalEvery::Never };
                assert_eq!(w.eval.every, every, "{name}");
                assert!(w.target.auc.is_none() && w.target.share_of_best.is_none());
                assert!(w.eval.patience.is_none() && !w.eval.restore_best);
                assert_eq!(w.mlperf.division, "open");
            }
            seen += 1;
        }
        assert!(seen >= 9, "{seen}");
    }

    #[test]
    fn overrides_hold_for_what_users_set_themselves() {
        let text = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/quickstart.toml"),
        )
        .unwrap();
        let set = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let plateau = set(&[
            "schedule.kind=reduce_on_plateau",
            "schedule.patience=3",
            "eval.monitor=logloss",
            "eval.patience=2",
            "target.auc=0.7",
            "target.share_of_best=",
        ]);
        for task in [TIME, EVALUATE] {
            let w = short(&text, &plateau, task).unwrap().workload;
            assert_eq!(w.schedule, ScheduleSpec::Constant);
            // A schedule that goes by steps is part of the work.
            let warmup = set(&["schedule.kind=facebook_policy", "schedule.warmup_steps=5"]);
            let w = short(&text, &warmup, task).unwrap().workload;
            assert!(matches!(w.schedule, ScheduleSpec::FacebookPolicy { warmup_steps: 5, .. }));
            let queue = set(&["loader.queue=/tmp/q", "loader.slice=2048"]);
            assert!(short(&text, &queue, task).unwrap().workload.loader.queue.is_none());
            short(&text, &set(&["eval.every=never", "target.share_of_best="]), task).unwrap();
        }
    }

    #[test]
    fn what_a_short_run_decides_itself_is_in_vain() {
        let vain = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            let overrides = Given::new("target.auc = 0.8", &set).overrides(RUN);
            in_vain(&set, &overrides).map(str::to_owned)
        };
        assert_eq!(vain(&["train.batch_size=4", "eval.batch_size=8", "mlperf.org=x"]), None);
        assert_eq!(vain(&["train.max_steps=20", "eval.every = never", "target.auc="]), None);
        for key in ["train.max_steps", "train.epochs", "eval.every_steps", "target.accuracy"] {
            assert_eq!(vain(&["model.dim=4", &format!("{key}=7")]).as_deref(), Some(key));
        }
        assert_eq!(vain(&["schedule.kind=reduce_on_plateau"]).as_deref(), Some("schedule.kind"));
        assert_eq!(vain(&["schedule.kind=constant"]), None);
    }

    #[test]
    fn what_cannot_be_evaluated_is_known() {
        let evaluates = |text: &str, set: &[&str]| {
            Given::new(text, &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).evaluates()
        };
        assert!(evaluates("", &[]));
        assert!(!evaluates("eval.every = 'never'", &[]));
        assert!(evaluates("eval.every = 'never'", &["eval.every=end"]));
        assert!(evaluates("eval.every = 'never'", &["eval.every="]));
        assert!(!evaluates("[data]\nsource = 'numpy_random'", &[]));
        assert!(evaluates("[data]\nsource = 'numpy_random'\nround_targets = true", &[]));
    }
}
