//! Builds a record from runs.

use super::{Curve, Point, ReferenceRecord, SCHEMA_VERSION};
use crate::results::tree::{self, Ending, Run, entries};
use std::{collections::BTreeMap, path::Path};

/// Runs at a batch size: the fastest and the slowest do not count.
pub(super) const FEWEST_RUNS: usize = 3;

/// Entries of a loss curve.
const LOSSES: usize = 50;

/// How the work was done, not what was learnt by it: differences there are no reason to refuse a
/// point.
fn is_how(key: &str) -> bool {
    key.starts_with("engine.")
        || key == "eval.batch_size"
        || key == "workload.name"
        || key == "train.batch_size"
}

impl ReferenceRecord {
    /// The record of `runs`: of one task, one batch size a point, each run with a seed of its own.
    /// Runs that did not reach the target are refused: a reference that fails is none.
    ///
    /// # Errors
    /// If there are none, they differ in task, a seed comes twice, or one missed the target.
    pub fn from_runs(runs: &[Run]) -> Result<Self, String> {
        let first = runs.first().ok_or("no runs to make a record of")?;
        let mut by_batch: BTreeMap<u64, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            if let Some(why) = run.task.differs(&first.task) {
                return Err(format!(
                    "{} and {} are of different tasks: {why}",
                    first.path, run.path
                ));
            }
            if run.ending != Ending::Converged {
                return Err(format!(
                    "{} did not reach its target; a reference is made of runs that did",
                    run.path
                ));
            }
            let batch =
                run.batch.ok_or_else(|| format!("{} does not say its batch size", run.path))?;
            by_batch.entry(batch).or_default().push(run);
        }
        let points = by_batch
            .into_iter()
            .map(|(batch, runs)| point(batch, &runs))
            .collect::<Result<_, _>>()?;
        let (workload, task) = (first.workload.clone(), first.task.clone());
        Ok(ReferenceRecord { schema_version: SCHEMA_VERSION, workload, task, points })
    }
}

fn point(batch_size: u64, runs: &[&Run]) -> Result<Point, String> {
    let first = runs[0];
    if runs.len() < FEWEST_RUNS {
        return Err(format!(
            "{} runs at batch size {batch_size}; a reference needs at least {FEWEST_RUNS}, with different seeds",
            runs.len()
        ));
    }
    let settings = |run: &Run| -> BTreeMap<String, String> {
        run.settings
            .iter()
            .filter(|(k, _)| !is_how(k))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    for (i, run) in runs.iter().enumerate() {
        if let Some(why) = entries(&settings(run), &settings(first)) {
            return Err(format!(
                "{} and {} have one batch size but differ in {why}",
                first.path, run.path
            ));
        }
        if let Some(other) =
            runs[..i].iter().find(|other| run.seed.is_some() && other.seed == run.seed)
        {
            return Err(format!(
                "{} and {} have one seed; runs of a reference are to be independent",
                other.path, run.path
            ));
        }
    }
    let mut curves = runs.iter().map(|run| curve(run)).collect::<Result<Vec<_>, _>>()?;
    curves.sort_by_key(|c| c.seed);
    Ok(Point {
        batch_size,
        engine: first.engine.clone(),
        precision: first.precision.clone(),
        system: first.system.name.clone(),
        program: first.program.clone(),
        settings: settings(first),
        runs: curves,
    })
}

fn curve(run: &Run) -> Result<Curve, String> {
    let epochs = run
        .epochs
        .filter(|e| *e > 0.0)
        .ok_or_else(|| format!("{} does not say its epochs to target", run.path))?;
    let per_epoch = run.samples.map(|s| s / epochs);
    Ok(Curve {
        seed: run.seed,
        epochs,
        samples: run.samples,
        auc: run.evaluations.iter().map(|e| (rounded(e.epochs), rounded(e.auc))).collect(),
        loss: per_epoch.map(|n| losses(Path::new(&run.path), n)).unwrap_or_default(),
    })
}

/// Means of the training loss over equal parts of the run; none where `metrics.parquet` is missing.
fn losses(folder: &Path, samples_per_epoch: f64) -> Vec<(f64, f64)> {
    let Ok(Some(metrics)) = tree::metrics(folder) else { return Vec::new() };
    let part = metrics.len().div_ceil(LOSSES).max(1);
    let parts = metrics.loss.chunks(part).zip(metrics.samples.chunks(part));
    parts
        .filter_map(|(loss, samples)| {
            let mean = loss.iter().map(|&l| f64::from(l)).sum::<f64>() / loss.len() as f64;
            Some((rounded(*samples.last()? as f64 / samples_per_epoch), rounded(mean)))
        })
        .collect()
}

/// Six decimals are more than seeds agree in.
fn rounded(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}
