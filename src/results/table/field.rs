//! What rows are sorted, grouped and filtered by, and what a table may show: names of the table's
//! own, and keys of the workload.

use super::{Measure, Row};
use crate::{
    results::tree::{Ending, Run},
    workload::parse,
};
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt, str::FromStr};

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Field {
    /// Something measured, by which rows are ranked.
    Figure(Figure),
    /// What was run.
    Fact(Fact),
    /// A key of the workload, or a hyperparameter of a log.
    Key(String),
}

/// Something measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// [`Row::end_to_end`]
    Throughput,
    /// [`Row::steady`]; as an order, that without evaluations which all rows have.
    Steady,
    /// [`Row::training`]
    Training,
    /// [`Row::ratio`]
    Ratio,
    /// [`Row::seconds_to_target`]
    Time,
    /// [`Row::epochs_to_target`]
    Epochs,
    /// [`Row::auc`]
    Auc,
    /// [`Row::accuracy`]
    Accuracy,
    /// [`Row::floor_share`]
    Floor,
    /// [`Row::joules_to_target`]
    Energy,
    /// [`Row::joules_a_sample`]
    SampleEnergy,
    /// [`Row::cost`]
    Cost,
    /// [`Row::cost_an_epoch`]
    EpochCost,
    /// [`Row::runs`]
    Runs,
}

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The row's name.
    Name,
    /// The system, by all its names.
    System,
    /// `submission_platform`
    Platform,
    /// The submitter.
    Org,
    /// MLPerf's round.
    Round,
    /// The workload, or the benchmark.
    Workload,
    /// The engine, or framework.
    Engine,
    /// The program's version.
    Program,
    /// Numbers in matrix products.
    Precision,
    /// Samples a step.
    Batch,
    /// How a run ended.
    Ending,
    /// How quiet the machine was, from A to F; of a row the worst.
    Grade,
    /// A run's folder or log.
    Path,
}

/// Names of figures.
const FIGURES: [(&str, Figure); 14] = [
    ("throughput", Figure::Throughput),
    ("steady", Figure::Steady),
    ("training", Figure::Training),
    ("ratio", Figure::Ratio),
    ("time", Figure::Time),
    ("epochs", Figure::Epochs),
    ("auc", Figure::Auc),
    ("accuracy", Figure::Accuracy),
    ("floor", Figure::Floor),
    ("kj", Figure::Energy),
    ("joules-a-sample", Figure::SampleEnergy),
    ("cost", Figure::Cost),
    ("cost-an-epoch", Figure::EpochCost),
    ("runs", Figure::Runs),
];

/// Names of facts.
const FACTS: [(&str, Fact); 13] = [
    ("name", Fact::Name),
    ("system", Fact::System),
    ("workload", Fact::Workload),
    ("engine", Fact::Engine),
    ("precision", Fact::Precision),
    ("batch", Fact::Batch),
    ("org", Fact::Org),
    ("round", Fact::Round),
    ("platform", Fact::Platform),
    ("program", Fact::Program),
    ("ending", Fact::Ending),
    ("grade", Fact::Grade),
    ("path", Fact::Path),
];

/// Facts that a filter without a key looks at.
pub(super) const LOOKED_AT: [Fact; 9] = [
    Fact::System,
    Fact::Workload,
    Fact::Engine,
    Fact::Precision,
    Fact::Org,
    Fact::Batch,
    Fact::Round,
    Fact::Ending,
    Fact::Path,
];

impl Default for Field {
    fn default() -> Self {
        Field::Figure(Figure::Throughput)
    }
}

impl FromStr for Field {
    type Err = String;

    /// Any name may be that of a log's hyperparameter: whether there is such a column is known once
    /// there are runs.
    fn from_str(name: &str) -> Result<Self, String> {
        let name = name.trim();
        let own = name.to_lowercase();
        let figure = FIGURES.iter().find(|(n, _)| *n == own).map(|(_, f)| Field::Figure(*f));
        let fact = || FACTS.iter().find(|(n, _)| *n == own).map(|(_, f)| Field::Fact(*f));
        match figure.or_else(fact) {
            Some(field) => Ok(field),
            None if name.is_empty() => Err("an empty name".to_owned()),
            None => Ok(Field::Key(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Field {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Field> for String {
    fn from(field: Field) -> String {
        field.to_string()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Figure(figure) => {
                FIGURES.iter().find(|(_, g)| g == figure).map_or("", |(name, _)| name)
            }
            Field::Fact(fact) => FACTS.iter().find(|(_, g)| g == fact).map_or("", |(name, _)| name),
            Field::Key(key) => key,
        })
    }
}

impl Field {
    /// Refuses a key that neither workloads have nor any of `runs`, with the name that was likely
    /// meant.
    pub(super) fn check(&self, runs: &[Run]) -> Result<(), String> {
        let Field::Key(key) = self else { return Ok(()) };
        let known = parse::key_names();
        if known.contains(&key.as_str()) || runs.iter().any(|run| of_key(run, key).is_some()) {
            return Ok(());
        }
        let own = FIGURES.iter().map(|(n, _)| *n).chain(FACTS.iter().map(|(n, _)| *n));
        let of_runs = runs.iter().flat_map(|run| run.settings.keys().map(String::as_str));
        let candidates = own.clone().chain(known.iter().copied()).chain(of_runs);
        // `threads` for `engine.threads`.
        let short = || known.iter().filter_map(|k| k.split_once('.'));
        let full = |name: &str| short().find(|(_, n)| *n == name).map(|(s, n)| format!("{s}.{n}"));
        let near = full(key)
            .or_else(|| parse::nearest(key, candidates).map(str::to_owned))
            .or_else(|| full(parse::nearest(key, short().map(|(_, name)| name))?));
        Err(match near {
            Some(near) => format!("no column {key:?}; did you mean {near}?"),
            None => format!(
                "no column {key:?}; must be one of {}, or a key of the workload, as train.batch_size",
                own.collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// What it is of a run; several names of one system, nothing of figures, which rows have.
    pub(super) fn values(&self, run: &Run) -> Vec<String> {
        let one = |value: &Option<String>| value.iter().cloned().collect();
        match self {
            Field::Figure(_) | Field::Fact(Fact::Name) => Vec::new(),
            Field::Key(key) => of_key(run, key).into_iter().collect(),
            Field::Fact(Fact::System) => run.system.names().map(str::to_owned).collect(),
            Field::Fact(Fact::Workload) => vec![run.workload.clone(), run.task.benchmark.clone()],
            Field::Fact(Fact::Engine) => one(&run.engine),
            Field::Fact(Fact::Precision) => one(&run.precision),
            Field::Fact(Fact::Org) => one(&run.system.org),
            Field::Fact(Fact::Platform) => one(&run.system.platform),
            Field::Fact(Fact::Batch) => one(&run.batch.map(|b| b.to_string())),
            Field::Fact(Fact::Round) => one(&run.system.round),
            Field::Fact(Fact::Program) => one(&run.program),
            Field::Fact(Fact::Ending) => vec![ending(run.ending).to_owned()],
            Field::Fact(Fact::Grade) => one(&run.grade.map(|grade| grade.to_string())),
            Field::Fact(Fact::Path) => vec![run.path.clone()],
        }
    }

    /// What it is of a row: `None` where nothing is known, or the row's runs differ.
    pub fn text(&self, row: &Row) -> Option<String> {
        if let Field::Fact(Fact::Name) = self {
            return Some(row.label.clone());
        }
        if let Field::Fact(Fact::Grade) = self {
            let grades: Option<Vec<_>> = row.each.iter().map(|run| run.grade).collect();
            return grades?.into_iter().max().map(|worst| worst.to_string());
        }
        let mut values = row.each.iter().map(|run| self.values(run).into_iter().next());
        let first = values.next().flatten()?;
        values.all(|v| v.as_ref() == Some(&first)).then_some(first)
    }

    /// A figure's number of a row.
    pub fn number(&self, row: &Row) -> Option<f64> {
        let Field::Figure(figure) = self else { return None };
        match figure {
            Figure::Throughput => Measure::EndToEnd.of(row),
            Figure::Steady => Measure::Steady.of(row),
            Figure::Training => Measure::Training.of(row),
            Figure::Ratio => row.ratio,
            Figure::Time => row.seconds_to_target,
            Figure::Epochs => row.epochs_to_target,
            Figure::Auc => row.auc,
            Figure::Accuracy => row.accuracy,
            Figure::Floor => row.floor_share,
            Figure::Energy => row.joules_to_target,
            Figure::SampleEnergy => row.joules_a_sample,
            Figure::Cost => row.cost,
            Figure::EpochCost => row.cost_an_epoch,
            Figure::Runs => Some(row.runs as f64),
        }
    }

    /// Whether the least comes first: of figures the best does, of all else the smallest.
    pub(super) fn ascends(&self) -> bool {
        match self {
            Field::Figure(figure) => matches!(
                figure,
                Figure::Time
                    | Figure::Epochs
                    | Figure::Energy
                    | Figure::SampleEnergy
                    | Figure::Cost
                    | Figure::EpochCost
            ),
            Field::Fact(_) | Field::Key(_) => true,
        }
    }
}

/// The value of a workload's key, or of a log's hyperparameter. What tables have a name of their own
/// for is known of logs, too.
fn of_key(run: &Run, key: &str) -> Option<String> {
    let task = &run.task;
    let given =
        run.settings.get(key).or_else(|| task.data.get(key)).or_else(|| task.model.get(key));
    if let Some(value) = given {
        // Words without their quotes.
        let word =
            value.parse::<toml_edit::Value>().ok().and_then(|v| Some(v.as_str()?.to_owned()));
        return Some(word.unwrap_or_else(|| value.clone()));
    }
    match key {
        "train.batch_size" => run.batch.map(|b| b.to_string()),
        "train.seed" => run.seed.map(|s| s.to_string()),
        "engine.kind" => run.engine.clone(),
        "workload.name" => Some(run.workload.clone()),
        "target.auc" => task.target.map(|t| t.to_string()),
        "target.accuracy" => task.accuracy.map(|t| t.to_string()),
        _ => None,
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Converged => "converged",
        Ending::NotConverged => "not_converged",
        Ending::Finished => "finished",
        Ending::Unfinished => "unfinished",
    }
}

/// Orders values: numbers by size before words, what is not known last.
pub(super) fn order(a: Option<&str>, b: Option<&str>) -> Ordering {
    let number = |x: &str| x.replace('_', "").parse::<f64>().ok();
    match (a, b) {
        (Some(a), Some(b)) => match (number(a), number(b)) {
            (Some(x), Some(y)) => x.total_cmp(&y),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.cmp(b),
        },
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let names = FIGURES.iter().map(|(n, _)| *n).chain(FACTS.iter().map(|(n, _)| *n));
        for name in names.chain(["engine.threads", "global_batch_size"]) {
            assert_eq!(name.parse::<Field>().unwrap().to_string(), name);
        }
        assert_eq!("AUC".parse::<Field>(), Ok(Field::Figure(Figure::Auc)));
        assert!("".parse::<Field>().is_err());
    }

    #[test]
    fn numbers_are_in_order_of_size_and_the_unknown_is_last() {
        let mut values =
            [Some("word"), Some("1024"), None, Some("64"), Some("a"), Some("1e-3"), Some("512")];
        values.sort_by(|a, b| order(*a, *b));
        assert_eq!(
            values,
            [Some("1e-3"), Some("64"), Some("512"), Some("1024"), Some("a"), Some("word"), None]
        );
    }
}
