//! What a run was a run of: data, model, machine, build, program, engine.
//!
//! Runs share a row, a history, a baseline or a package only if their identities agree. All of it
//! is taken from `run.json` and the `workload.toml` beside it. A fact that a record does not hold
//! is unknown: it equals no known one, and no unknown one either unless both runs belong to one
//! series, which is one process on one machine. What the program looked for and the machine does
//! not state (`null`, an empty list) is known: "unstated".

mod content;
mod facts;
#[cfg(test)]
mod tests;

pub use content::{FileContent, files, start};

use crate::{
    batch::Schema,
    workload::{DataConfig, Workload},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What of a run may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Samples that were read, and how many.
    Data,
    /// Sizes as the data resolved them, optimizer, loss.
    Model,
    /// Processor, caches, quota, GPU.
    Machine,
    /// Features, profile, flags, target, the instruction set of the kernels.
    Build,
    /// Version, commit, sources, compiler.
    Program,
    /// `fused` or `candle`, device, threads, precision.
    Engine,
}

impl Aspect {
    /// All of them.
    pub const ALL: [Aspect; 6] = [
        Aspect::Data,
        Aspect::Model,
        Aspect::Machine,
        Aspect::Build,
        Aspect::Program,
        Aspect::Engine,
    ];
    /// All but the program: what a history over commits keeps.
    pub const BUT_PROGRAM: [Aspect; 5] =
        [Aspect::Data, Aspect::Model, Aspect::Machine, Aspect::Build, Aspect::Engine];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Data => "data",
            Aspect::Model => "model",
            Aspect::Machine => "machine",
            Aspect::Build => "build",
            Aspect::Program => "program",
            Aspect::Engine => "engine",
        }
    }
}

/// Facts by name; `None` is unknown.
pub type Facts = BTreeMap<String, Option<String>>;

/// What a run was a run of. A published log has none: its submission is its row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Facts of each aspect.
    pub facts: BTreeMap<Aspect, Facts>,
    /// The series of runs that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
}

/// How two runs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In what.
    pub aspect: Aspect,
    /// The fact.
    pub fact: String,
    /// Its value in the first; `None` is unknown.
    pub a: Option<String>,
    /// In the second.
    pub b: Option<String>,
}

const UNKNOWN: &str = "unknown";

/// Facts that records state only where they are not so.
const UNLESS_STATED: [(&str, &str); 13] = [
    ("resumed", "no"),
    ("mode", "synchronous"),
    ("micro_batch", "none"),
    ("fp32_interaction", "false"),
    ("last_part_only", "false"),
    ("ranks", "1"),
    ("sum_order", "rank"),
    ("split_rows", "false"),
    ("replicate_small", "false"),
    ("tables_by_ranks", "false"),
    ("hashed", "none"),
    ("cached", "none"),
    (STARTED_FROM, "initial values"),
];

/// The fact of a model that training began with another than the initial values.
pub(in crate::results) const STARTED_FROM: &str = "started from";

/// What it means that a fact is not there.
fn absent(fact: &str) -> &'static str {
    let is = |name: &str| {
        fact.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    UNLESS_STATED.iter().find(|(name, _)| is(name)).map_or(UNKNOWN, |(_, value)| value)
}

impl std::fmt::Display for Difference {
    /// `machine: L3 Unified 32 MiB, not 16 MiB`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { aspect, fact, a, b } = self;
        write!(f, "{}: {fact} ", aspect.name())?;
        match (a, b) {
            (None, None) => f.write_str("unknown in both"),
            (a, b) => {
                let or_unknown =
                    |x: &Option<String>| x.clone().unwrap_or_else(|| absent(fact).into());
                write!(f, "{}, not {}", or_unknown(a), or_unknown(b))
            }
        }
    }
}

/// In what `a` differs from `b`, or may differ.
pub fn differences(a: &Identity, b: &Identity) -> Vec<Difference> {
    let one_series = a.series.is_some() && a.series == b.series;
    let none = Facts::new();
    let mut found = Vec::new();
    for aspect in Aspect::ALL {
        let (a, b) = (a.facts.get(&aspect), b.facts.get(&aspect));
        let (a, b) = (a.unwrap_or(&none), b.unwrap_or(&none));
        for fact in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let (x, y) = (a.get(fact).cloned().flatten(), b.get(fact).cloned().flatten());
            let same = match (&x, &y) {
                (None, None) => one_series,
                (x, y) => x == y,
            };
            if !same {
                found.push(Difference { aspect, fact: fact.clone(), a: x, b: y });
            }
        }
    }
    found
}

impl Identity {
    /// Of a record, `run.json` as JSON, and the settings of the workload beside it.
    pub fn of(record: &serde_json::Value, settings: &BTreeMap<String, String>) -> Self {
        facts::of(record, settings)
    }

    /// The same from texts.
    ///
    /// # Errors
    /// If the record is no JSON.
    pub fn read(record: &str, workload: &str) -> Result<Self, serde_json::Error> {
        let settings = crate::results::tree::own::parse(workload).unwrap_or_default();
        Ok(Identity::of(&serde_json::from_str(record)?, &settings))
    }

    /// Only these aspects.
    pub fn only(mut self, aspects: &[Aspect]) -> Self {
        self.facts.retain(|aspect, _| aspects.contains(aspect));
        self
    }

    /// Two runs of equal keys have no [`differences`]. What is unknown gets `run`'s own name, or
    /// that of its series.
    pub fn key(&self, run: &str) -> String {
        let own = self.series.as_deref().unwrap_or(run);
        let fact = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{name}={value}"),
            None => format!("{name} unknown of {own}"),
        };
        let lines = |(aspect, facts): (&Aspect, &Facts)| {
            format!("{} {:?}", aspect.name(), facts.iter().map(fact).collect::<Vec<_>>())
        };
        self.facts.iter().map(lines).collect::<Vec<_>>().join("\n")
    }

    /// A fact, if it is known.
    pub fn get(&self, aspect: Aspect, fact: &str) -> Option<&str> {
        self.facts.get(&aspect)?.get(fact)?.as_deref()
    }

    /// The same in words: `unknown` if it is not known.
    pub fn said(&self, aspect: Aspect, fact: &str) -> &str {
        let of_aspect = self.facts.get(&aspect);
        self.get(aspect, fact).unwrap_or(of_aspect.map_or(UNKNOWN, |_| absent(fact)))
    }
}

/// The data as a run found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// The files in their order; `None` if one could not be read, or they changed during the run.
    pub files: Option<Vec<FileContent>>,
    /// Dense columns; `None` if the data could not be opened.
    pub dense: Option<usize>,
    /// Rows of each categorical column.
    pub tables: Option<Vec<usize>>,
    /// Name of each; `None` in records of programs that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// The most ids of a sample in each categorical column.
    pub hotness: Option<Vec<usize>>,
}

impl DataSet {
    /// The columns as they were opened, if all of that is known.
    pub fn schema(&self) -> Option<Schema> {
        let (rows, hotness) = (self.tables.as_ref()?, self.hotness.as_ref()?);
        let names = self.columns.as_ref()?.iter().cloned();
        let tables = names
            .zip(rows)
            .zip(hotness)
            .map(|((name, &rows), &max_hotness)| crate::batch::Column { name, rows, max_hotness });
        Some(Schema { dense: self.dense?, tables: tables.collect() })
    }

    /// Of files `before` and after the run, and columns as they were opened.
    pub fn new(
        workload: &Workload,
        before: Option<Vec<FileContent>>,
        schema: Option<&Schema>,
    ) -> Self {
        let now = files(workload);
        let made = matches!(workload.data, DataConfig::Prepared(_)) && before.is_none();
        // Data that the run itself prepared were not there before.
        let files = if made { now } else { before.filter(|before| now.as_ref() == Some(before)) };
        let of = |f: fn(&crate::batch::Column) -> usize| {
            schema.map(|s| s.tables.iter().map(f).collect::<Vec<_>>())
        };
        DataSet {
            files,
            dense: schema.map(|s| s.dense),
            tables: of(|t| t.rows),
            columns: schema.map(|s| s.tables.iter().map(|t| t.name.clone()).collect()),
            hotness: of(|t| t.max_hotness),
        }
    }
}
