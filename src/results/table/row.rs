//! From the runs of a system and workload to a row.

use super::Row;
use crate::{
    results::tree::{Ending, Run},
    stats::{self, Score},
    system::Grade,
};
use serde::{Deserialize, Serialize};

/// Confidence of all intervals.
pub const CONFIDENCE: f64 = 0.95;

/// Runs from which on an interval over them says something: that of two is Student's t with one
/// degree of freedom, mostly wider than the value.
pub const ENOUGH_RUNS: usize = 3;

/// Settings that have a column of their own, so that a difference shows there.
const COLUMNS: [&str; 4] =
    ["train.batch_size", "global_batch_size", "engine.kind", "workload.name"];

/// A mean with its confidence interval, in samples per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean over runs.
    pub mean: f64,
    /// Lower end of the interval at [`CONFIDENCE`]: Student's t over [`ENOUGH_RUNS`] runs or more; for
    /// one run that of its block bootstrap, or missing.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Runs.
    pub runs: usize,
}

impl Estimate {
    /// Over runs; `None` without any.
    pub fn over(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let mean = stats::mean(&values)?;
        let enough = values.len() >= ENOUGH_RUNS;
        let interval = stats::mean_interval(&values, CONFIDENCE).filter(|_| enough);
        Some(Estimate {
            mean,
            low: interval.map(|i| i.low),
            high: interval.map(|i| i.high),
            runs: values.len(),
        })
    }

    /// Half the interval's width over the mean.
    pub fn relative(&self) -> Option<f64> {
        Some((self.high? - self.low?) / 2.0 / self.mean)
    }

    /// The same where it says something: an interval that is wider than the value itself does not.
    pub fn telling(&self) -> Option<f64> {
        self.relative().filter(|r| *r < 1.0)
    }
}

/// The row of `runs`, which repeat one another. `label`, `ratio`, `differences` and costs are left
/// for the table.
pub(super) fn row(runs: Vec<Run>) -> Option<Row> {
    let first = runs.first()?.clone();
    let counted: Vec<&Run> = runs.iter().filter(|r| r.ending != Ending::Unfinished).collect();
    let of =
        |f: &dyn Fn(&Run) -> Option<f64>| counted.iter().filter_map(|r| f(r)).collect::<Vec<f64>>();
    // A run that broke down trained, but not what was asked for.
    let rates = |f: &dyn Fn(&Run) -> Option<f64>| Estimate::over(of(f));
    let converged = counted.iter().filter(|r| r.ending == Ending::Converged).count();
    let mut notes = notes(&runs);
    let (seconds_to_target, epochs_to_target, joules_to_target) =
        match counted.iter().all(|r| r.ending == Ending::Finished) {
            true => (None, None, None),
            false => {
                let reached = |f: fn(&Run) -> Option<f64>| -> Vec<Option<f64>> {
                    counted
                        .iter()
                        .map(|r| if r.ending == Ending::Converged { f(r) } else { None })
                        .collect()
                };
                let score = |f: fn(&Run) -> Option<f64>| stats::score(&reached(f));
                let valid = |score: Score| if let Score::Valid(x) = score { Some(x) } else { None };
                let known =
                    counted.iter().all(|r| r.ending != Ending::Converged || r.joules.is_some());
                match score(|r| r.seconds) {
                    Score::Valid(seconds) => (
                        Some(seconds),
                        valid(score(|r| r.epochs)),
                        valid(score(|r| r.joules)).filter(|_| known),
                    ),
                    Score::Invalid { missed, runs } => {
                        notes.push(format!(
                            "{missed} of {runs} runs did not reach the target: no score"
                        ));
                        (None, None, None)
                    }
                }
            }
        };
    let mut steady = rates(&|r| Some(r.throughput.steady.as_ref()?.mean));
    if let (Some(s), [run]) = (&mut steady, counted.as_slice())
        && let Some(of_run) = run.throughput.steady.as_ref().filter(|s| s.confidence == CONFIDENCE)
    {
        (s.low, s.high) = (Some(of_run.low), Some(of_run.high));
    }
    let mut settings = first.settings.clone();
    settings.retain(|k, v| {
        !COLUMNS.contains(&k.as_str()) && runs.iter().all(|r| r.settings.get(k) == Some(v))
    });
    // Of all runs or of none: a mean of some is that of others.
    let of_all = |f: &dyn Fn(&Run) -> Option<f64>| -> Option<f64> {
        stats::mean(&counted.iter().map(|r| f(r)).collect::<Option<Vec<f64>>>()?)
    };
    Some(Row {
        label: String::new(),
        name: super::name::of(&first),
        identity: first.identity,
        ratio: None,
        differences: None,
        cost: None,
        cost_an_epoch: None,
        runs: counted.len(),
        converged,
        unfinished: runs.len() - counted.len(),
        end_to_end: rates(&|r| r.throughput.end_to_end),
        training: rates(&|r| r.throughput.training),
        steady,
        seconds_to_target,
        epochs_to_target,
        joules_to_target,
        auc: stats::mean(&of(&|r| r.auc)),
        accuracy: of_all(&|r| r.accuracy),
        joules_a_sample: of_all(&|r| Some(r.joules? / r.samples.filter(|n| *n > 0.0)?)),
        floor_share: stats::mean(&of(&|r| r.floor_share)),
        scaling_factor: first.scaling_factor,
        system: first.system,
        workload: first.workload,
        engine: first.engine,
        program: first.program,
        precision: first.precision,
        batch: first.batch,
        notes,
        settings,
        each: runs,
    })
}

fn notes(runs: &[Run]) -> Vec<String> {
    let mut notes = Vec::new();
    let unfinished = runs.iter().filter(|r| r.ending == Ending::Unfinished).count();
    if unfinished > 0 {
        notes.push(format!(
            "{unfinished} unfinished {} left out",
            if unfinished == 1 { "run" } else { "runs" }
        ));
    }
    if let Some(factor) = runs.iter().find_map(|r| r.scaling_factor) {
        notes.push(format!("the score is not multiplied by the scaling factor {factor:.4} that stands beside the logs"));
    }
    let counted = runs.iter().filter(|r| r.ending != Ending::Unfinished);
    if let Some(worst) = counted.filter_map(|r| r.grade).max().filter(|&g| g >= Grade::C) {
        notes.push(format!("the machine was not quiet, grade {worst} at worst"));
    }
    // One sentence for all runs that share it.
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for run in runs {
        for warning in &run.warnings {
            match said.iter_mut().find(|(w, _)| w == warning) {
                Some((_, names)) => names.push(&run.name),
                None => said.push((warning, vec![&run.name])),
            }
        }
    }
    for (warning, names) in said {
        notes.push(match names.as_slice() {
            names if names.len() == runs.len() => warning.to_owned(),
            [one] => format!("{one}: {warning}"),
            [one, more @ ..] => format!("{one} and {} more: {warning}", more.len()),
            [] => continue,
        });
    }
    notes
}
