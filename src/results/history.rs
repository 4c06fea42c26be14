//! Runs of one task on one machine in order of time: what they came to from commit to commit, and
//! where that changed.

use super::{
    identity::Aspect,
    tree::{Ending, Run},
};
use crate::stats::{self, StatsError};
use serde::Serialize;
use std::collections::BTreeMap;

/// Layout of the JSON.
pub const SCHEMA_VERSION: u32 = 1;

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Training samples a second, evaluations excluded, of the steady state where it is known.
    Throughput,
    /// Share of the floor.
    Floor,
    /// Seconds to the target.
    Time,
    /// AUC of the last evaluation.
    Auc,
}

impl Metric {
    /// Its value in a run, if it has one.
    fn of(self, run: &Run) -> Option<f64> {
        let rates = &run.throughput;
        match self {
            Metric::Throughput => rates.steady.as_ref().map(|s| s.mean).or(rates.training),
            Metric::Floor => run.floor_share,
            Metric::Time => run.seconds.filter(|_| run.ending == Ending::Converged),
            Metric::Auc => run.auc,
        }
        .filter(|v| v.is_finite() && *v > 0.0)
    }
}

/// A run of a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The run's folder.
    pub path: String,
    /// When it began, UTC.
    pub started: String,
    /// Of the program; `None` if the record does not say.
    pub commit: Option<String>,
    /// What is followed.
    pub value: f64,
}

/// A place where the level is another one from there on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The first point of the new level, from 0.
    pub at: usize,
    /// When that run began.
    pub started: String,
    /// The program before and from there on.
    pub commits: [Option<String>; 2],
    /// Geometric means of both levels.
    pub levels: [f64; 2],
    /// The new one as a share of the old one, less 1.
    pub change: f64,
    /// 95% interval of it, for levels of two points or more each.
    pub interval: Option<[f64; 2]>,
}

/// Runs that differ in nothing but program, seed and time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// What was run.
    pub workload: String,
    /// On what.
    pub system: String,
    /// Settings that tell it from other series of the same workload and system.
    pub settings: BTreeMap<String, String>,
    /// In order of time.
    pub points: Vec<Point>,
    /// In order of time.
    pub steps: Vec<Step>,
}

/// All series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What is followed.
    pub metric: Metric,
    /// Chance that a series without a change shows one.
    pub alpha: f64,
    /// Most points first.
    pub series: Vec<Series>,
    /// Runs without a time, that did not come to their end, or without what is followed.
    pub passed_over: usize,
}

/// Puts runs in order.
///
/// # Errors
/// If a value cannot be.
pub fn history(runs: Vec<Run>, metric: Metric, alpha: f64) -> Result<History, StatsError> {
    let all = runs.len();
    let mut by_key: BTreeMap<String, (Vec<Point>, Run)> = BTreeMap::new();
    for run in runs {
        let value = metric.of(&run).filter(|_| run.ending != Ending::Unfinished);
        // A log does not say by which commit it was made.
        let started = run.started.clone().filter(|_| run.program.is_some());
        let (Some(started), Some(value)) = (started, value) else { continue };
        let program = |fact| run.identity.get(Aspect::Program, fact).map(|v| v.trim_matches('"'));
        let commit = program("git_commit").or_else(|| program("dlrm_bench")).map(str::to_owned);
        let point = Point { path: run.path.clone(), started, commit, value };
        by_key.entry(key(&run)).or_insert_with(|| (Vec::new(), run)).0.push(point);
    }
    let passed_over = all - by_key.values().map(|(points, _)| points.len()).sum::<usize>();
    let mut series = Vec::new();
    for (mut points, run) in by_key.into_values() {
        points.sort_by(|a, b| (&a.started, &a.path).cmp(&(&b.started, &b.path)));
        let steps = steps(&points, alpha)?;
        let Run { workload, settings, system, .. } = run;
        series.push(Series { workload, system: system.name, settings, points, steps });
    }
    series.sort_by(|a, b| b.points.len().cmp(&a.points.len()).then(a.workload.cmp(&b.workload)));
    tell_apart(&mut series);
    Ok(History { schema_version: SCHEMA_VERSION, metric, alpha, series, passed_over })
}

/// Equal for runs that differ in nothing but program, seed and time.
fn key(run: &Run) -> String {
    const ALL_BUT_PROGRAM: [Aspect; 5] =
        [Aspect::Data, Aspect::Model, Aspect::Machine, Aspect::Build, Aspect::Engine];
    let identity = run.identity.clone().only(&ALL_BUT_PROGRAM).key(&run.path);
    let Run { system, workload, task, settings, .. } = run;
    format!("{}\n{workload}\n{task:?}\n{settings:?}\n{identity}", system.name)
}

fn steps(points: &[Point], alpha: f64) -> Result<Vec<Step>, StatsError> {
    let values: Vec<f64> = points.iter().map(|p| p.value).collect();
    let starts = stats::changes(&values, alpha)?;
    let level = |from: usize, to: usize| -> f64 {
        let logs: f64 = values[from..to].iter().map(|v| v.ln()).sum();
        (logs / (to - from) as f64).exp()
    };
    let step = |(k, &at): (usize, &usize)| {
        let first = k.checked_sub(1).map_or(0, |k| starts[k]);
        let end = starts.get(k + 1).copied().unwrap_or(values.len());
        let levels = [level(first, at), level(at, end)];
        let ratio = stats::welch_ratio(&values[first..at], &values[at..end], 0.95);
        Step {
            at,
            started: points[at].started.clone(),
            commits: [points[at - 1].commit.clone(), points[at].commit.clone()],
            levels,
            change: levels[1] / levels[0] - 1.0,
            interval: ratio.ok().map(|r| [r.low - 1.0, r.high - 1.0]),
        }
    };
    Ok(starts.iter().enumerate().map(step).collect())
}

/// Leaves of the settings what differs among series of one workload and system.
fn tell_apart(series: &mut [Series]) {
    let all: Vec<_> =
        series.iter().map(|s| (s.workload.clone(), s.system.clone(), s.settings.clone())).collect();
    for s in series {
        let others = all.iter().filter(|(w, of, _)| *w == s.workload && *of == s.system);
        let others: Vec<_> = others.map(|(_, _, settings)| settings).collect();
        s.settings.retain(|key, value| others.iter().any(|o| o.get(key) != Some(value)));
    }
}
