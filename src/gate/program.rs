//! What a side runs: a program, and the workload as it was read at the start.

use super::{SliceError, slice::Task};
use crate::workload::shipped;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};
use toml_edit::{Document, Item, TableLike, Value};

/// The table within a section that stands in for its keys where data are missing.
const OTHERWISE: &str = "otherwise";

/// What a side runs.
#[derive(Debug, Clone)]
pub struct Program {
    binary: PathBuf,
    /// The binary's size and time of change; `None` where it is looked up in PATH.
    stamp: Option<(u64, SystemTime)>,
    workload: PathBuf,
    text: Vec<u8>,
    set: Vec<String>,
    given: GivenKeys,
}

impl Program {
    /// The program `binary`, a `dlrm-bench`, on the workload file `workload` with overrides
    /// `KEY=VALUE`, or on the one of this program that has this name. It is read here and not again, so that all slices run the same.
    ///
    /// # Errors
    /// If the workload file cannot be read.
    pub fn open(binary: &Path, workload: &Path, set: &[String]) -> Result<Self, SliceError> {
        let text = shipped::read(workload)
            .map_err(|e| SliceError::Cause { code: 64, what: e.to_string() })?;
        Ok(Self::new(binary, workload, text, set))
    }

    /// Another program on the same workload.
    pub fn beside(&self, binary: &Path, set: &[String]) -> Self {
        Self::new(binary, &self.workload, self.text.clone(), set)
    }

    fn new(binary: &Path, workload: &Path, text: Vec<u8>, set: &[String]) -> Self {
        Program {
            binary: binary.to_owned(),
            stamp: stamp(binary),
            workload: workload.to_owned(),
            given: GivenKeys::new(&String::from_utf8_lossy(&text), set),
            text,
            set: set.to_vec(),
        }
    }

    /// The program's file.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Keys that were given.
    pub(super) fn given(&self) -> &GivenKeys {
        &self.given
    }

    /// Whether another file is at the binary's place by now.
    pub(super) fn replaced(&self) -> bool {
        self.stamp != stamp(&self.binary)
    }

    /// Writes the workload's text into `folder`, under the file's own name.
    pub(super) fn write_workload(&self, folder: &Path) -> io::Result<PathBuf> {
        let name = self.workload.file_name().unwrap_or("workload.toml".as_ref());
        let path = folder.join(name);
        fs::write(&path, &self.text)?;
        Ok(path)
    }

    /// What a message says of the copy at `copy`, said of the file.
    pub(super) fn about_file(&self, message: &str, copy: &Path) -> String {
        message.replace(&copy.display().to_string(), &self.workload.display().to_string())
    }

    /// All overrides of a slice for `task`: the user's, then the gate's.
    pub(super) fn overrides(&self, task: Task) -> Vec<String> {
        [&self.set[..], &self.given.overrides(task)].concat()
    }

    /// The command line, for people.
    pub(super) fn shown(&self) -> String {
        let set: String = self.set.iter().map(|s| format!(" --set {s}")).collect();
        format!("{} {}{set}", self.binary.display(), self.workload.display())
    }
}

fn stamp(binary: &Path) -> Option<(u64, SystemTime)> {
    let data = fs::metadata(binary).ok()?;
    Some((data.len(), data.modified().ok()?))
}

/// The keys that a workload file and its overrides give, `section.key`, with their values. Nothing
/// is judged here: the program that runs the workload may know other keys.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenKeys(BTreeMap<String, Value>);

impl GivenKeys {
    fn new(text: &str, set: &[String]) -> Self {
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
        GivenKeys(given)
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

    /// What makes a slice of a workload: so many steps and nothing else. Evaluations, and what
    /// lives on them (target, patience, a schedule that waits for a plateau), are taken out; labels
    /// for MLPerf and a queue that is shared with other processes too. Only keys that were given are
    /// taken out, since an older program may not know them all.
    fn overrides(&self, task: Task) -> Vec<String> {
        let (steps, every) = match task {
            Task::Time { steps, .. } => (steps, "never"),
            Task::Evaluate { steps } => (steps, "end"),
        };
        let plateau = self.word("schedule.kind") == Some("reduce_on_plateau");
        let out = |key: &str| {
            let (section, name) = key.split_once('.').unwrap_or((key, ""));
            match section {
                "eval" => name != "batch_size" && name != "every",
                "target" | "mlperf" => true,
                "schedule" => plateau,
                "loader" => matches!(name, "queue" | "slice"),
                _ => false,
            }
        };
        let taken_out = self.0.keys().filter(|key| out(key)).map(|key| format!("{key}="));
        let set = [
            format!("eval.every={every}"),
            format!("train.max_steps={steps}"),
            // However few samples there are.
            format!("train.epochs={steps}"),
        ];
        taken_out.chain(set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        optim::ScheduleSpec,
        workload::{EvalEvery, WorkloadError, parse},
    };

    const TIME: Task = Task::Time { steps: 20, ceilings: false };
    const EVALUATE: Task = Task::Evaluate { steps: 100 };

    /// Resolves the workload as a slice of it does.
    fn slice(text: &str, set: &[String], task: Task) -> Result<parse::Resolved, WorkloadError> {
        let set = [set, &GivenKeys::new(text, set).overrides(task)].concat();
        parse::resolve(Path::new("w.toml"), text.to_owned(), &set)
    }

    #[test]
    fn every_shipped_workload_can_be_gated() {
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
            let given = GivenKeys::new(&text, &[]);
            for task in [TIME, EVALUATE] {
                if matches!(task, Task::Evaluate { .. }) && !given.evaluates() {
                    continue;
                }
                let w = slice(&text, &[], task).unwrap_or_else(|e| panic!("{name}: {e}")).workload;
                let (Task::Time { steps, .. } | Task::Evaluate { steps }) = task;
                assert_eq!((w.train.max_steps, w.train.epochs), (Some(steps), steps));
                let never = matches!(task, Task::Time { .. });
                let every = if never { EvalEvery::Never } else { EvalEvery::AtEnd };
                assert_eq!(w.eval.every, every, "{name}");
                assert!(w.target.auc.is_none() && w.target.share_of_best.is_none());
                assert!(w.eval.patience.is_none() && !w.eval.restore_best);
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
            let w = slice(&text, &plateau, task).unwrap().workload;
            assert_eq!(w.schedule, ScheduleSpec::Constant);
            // A schedule that goes by steps is part of the work.
            let warmup = set(&["schedule.kind=facebook_policy", "schedule.warmup_steps=5"]);
            let w = slice(&text, &warmup, task).unwrap().workload;
            assert!(matches!(w.schedule, ScheduleSpec::FacebookPolicy { warmup_steps: 5, .. }));
            let queue = set(&["loader.queue=/tmp/q", "loader.slice=2048"]);
            assert!(slice(&text, &queue, task).unwrap().workload.loader.queue.is_none());
            slice(&text, &set(&["eval.every=never", "target.share_of_best="]), task).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_known() {
        let evaluates = |text: &str, set: &[&str]| {
            GivenKeys::new(text, &set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
                .evaluates()
        };
        assert!(evaluates("", &[]));
        assert!(!evaluates("eval.every = 'never'", &[]));
        assert!(evaluates("eval.every = 'never'", &["eval.every=end"]));
        assert!(evaluates("eval.every = 'never'", &["eval.every="]));
        assert!(!evaluates("[data]\nsource = 'numpy_random'", &[]));
        assert!(evaluates("[data]\nsource = 'numpy_random'\nround_targets = true", &[]));
    }
}
