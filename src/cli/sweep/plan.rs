//! What a sweep is to run: its points, resolved and checked before anything runs, and their order.

use crate::{
    cli::{Failure, progress::counted, ready, run::MAX_RUNS},
    engine::EngineKind,
    random::philox::{Philox, Stream},
    results::sweep::shown,
    system::Versions,
    workload::{
        Resolved, Workload, WorkloadError,
        sweep::{Axis, overrides, points},
    },
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Seed of the order of runs.
const ORDER: u64 = 1;

/// What a sweep is to run.
pub(in crate::cli) struct Plan {
    /// Swept keys.
    pub keys: Vec<String>,
    /// All combinations, the last key's values changing fastest.
    pub points: Vec<PlannedPoint>,
    /// Runs of each.
    pub rounds: usize,
}

/// One combination.
pub(in crate::cli) struct PlannedPoint {
    /// Its workload.
    pub resolved: Resolved,
    /// Its values by key, as the resolved workload has them.
    pub settings: BTreeMap<String, Value>,
    /// The same for people, in order of the keys.
    told: String,
    /// Seeds of its runs.
    pub seeds: Vec<u64>,
}

impl PlannedPoint {
    /// `train.batch_size=512, engine.threads=2`
    pub fn shown(&self) -> &str {
        &self.told
    }
}

impl Plan {
    /// All points of `axes`, each made by `resolve` of its overrides, with seeds made by `seeds`.
    /// What is to be said of several points is said once.
    pub fn new(
        axes: Vec<Axis>,
        resolve: impl Fn(&[String]) -> Result<(Resolved, Vec<String>), Failure>,
        seeds: impl Fn(&Workload) -> Result<Vec<u64>, Failure>,
    ) -> Result<Self, Failure> {
        let all = points(&axes).map_err(Failure::Usage)?;
        let mut planned: Vec<PlannedPoint> = Vec::new();
        let mut said: Vec<String> = Vec::new();
        for (i, point) in all.iter().enumerate() {
            let set = overrides(&axes, point);
            let about = |e| of_point(e, &axes, i, all.len(), &set);
            let (resolved, told) = resolve(&set).map_err(about)?;
            said.extend(told.into_iter().filter(|line| !said.contains(line)).collect::<Vec<_>>());
            let settings = settings(&resolved.workload, &set);
            let value = |axis: &Axis| format!("{}={}", axis.key, shown(&settings[&axis.key]));
            let told = axes.iter().map(value).collect::<Vec<_>>().join(", ");
            let seeds = seeds(&resolved.workload)?;
            planned.push(PlannedPoint { resolved, settings, told, seeds });
        }
        different(&planned, &all, &axes)?;
        let rounds = planned.first().map_or(0, |p| p.seeds.len());
        let runs = planned.len() * rounds;
        if runs as u64 > MAX_RUNS {
            return Err(Failure::Usage(format!(
                "a sweep of {} points with {rounds} runs each is {runs} runs; must be at most {MAX_RUNS}",
                planned.len()
            )));
        }
        ready::say(&said);
        Ok(Plan { keys: axes.into_iter().map(|a| a.key).collect(), points: planned, rounds })
    }

    /// The first point's workload.
    pub fn first(&self) -> &Resolved {
        &self.points[0].resolved
    }

    /// `6 points (train.batch_size: 3, engine.threads: 2), 3 runs each: 18 runs`
    pub fn size(&self) -> String {
        let values = |key: &String| {
            let mut of_key: Vec<&Value> = Vec::new();
            for point in &self.points {
                if !of_key.contains(&&point.settings[key]) {
                    of_key.push(&point.settings[key]);
                }
            }
            format!("{key}: {}", of_key.len())
        };
        let keys: Vec<String> = self.keys.iter().map(values).collect();
        let (points, rounds) = (self.points.len() as u64, self.rounds as u64);
        let runs = match rounds {
            1 => String::new(),
            n => format!(", {n} runs each: {}", counted(points * n, "run")),
        };
        format!("a sweep of {} ({}){runs}", counted(points, "point"), keys.join(", "))
    }

    /// Points and rounds (from 0) of all runs: round after round, each in an order of its own that
    /// is always the same, so that a machine that gets slower or faster favours no point.
    pub fn order(&self) -> Vec<(usize, usize)> {
        let order = |round| shuffled(self.points.len(), round).into_iter().map(move |p| (p, round));
        (0..self.rounds).flat_map(order).collect()
    }

    /// What tells this sweep from others: workloads and seeds of all points, and the program.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        let this = Versions::this();
        hash.update(format!("{:?} {:?}\n", this.git_commit, this.sources));
        for point in &self.points {
            hash.update(format!("{} {:?}\n", point.resolved.workload.sha256(), point.seeds));
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Threads of candle's library, if candle computes a point.
    ///
    /// # Errors
    /// If points want different numbers: they are fixed for a process.
    pub fn library_threads(&self) -> Result<Option<usize>, Failure> {
        let engines = self.points.iter().map(|p| &p.resolved.workload.engine);
        let mut threads: Vec<usize> =
            engines.filter(|e| e.kind == EngineKind::Candle).map(|e| e.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        match threads[..] {
            [] => Ok(None),
            [n] => Ok(Some(n)),
            _ => Err(Failure::Usage(
                "engine.threads: candle takes its number of threads once a process, so that a sweep can have one of them only; sweep engine.threads with engine.kind=fused, or run candle once for each"
                    .to_owned(),
            )),
        }
    }
}

/// The numbers below `n` in the order of `round`: Fisher and Yates from the end.
fn shuffled(n: usize, round: usize) -> Vec<usize> {
    let draws = Philox::new(ORDER, Stream::Order, 1 + round as u64);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        let [draw, _] = draws.block_u64(last as u64);
        // The bias of so few numbers is beyond notice.
        order.swap(last, (draw % (last as u64 + 1)) as usize);
    }
    order
}

/// Values of the keys that `set` names: as the workload has them, or as they were given where it has
/// none.
fn settings(workload: &Workload, set: &[String]) -> BTreeMap<String, Value> {
    let pairs = set.iter().filter_map(|s| s.split_once('='));
    pairs
        .map(|(key, given)| {
            let own = workload.value(&key.replacen(".otherwise.", ".", 1));
            (key.to_owned(), own.unwrap_or_else(|| given.into()))
        })
        .collect()
}

/// The error `e` of the point number `i`, with its name.
fn of_point(e: Failure, axes: &[Axis], i: usize, all: usize, set: &[String]) -> Failure {
    let point = format!("point {} of {all} ({})", i + 1, set.join(", "));
    match e {
        Failure::Workload(WorkloadError::InOverride { key, what })
            if axes.iter().any(|a| a.key == key) =>
        {
            Failure::Usage(format!("--sweep {key}: {what}; {point}"))
        }
        Failure::Workload(e) => Failure::Usage(format!("{point}: {e}")),
        Failure::Usage(what) => Failure::Usage(format!("{point}: {what}")),
        Failure::Memory(what) => Failure::Memory(format!("{point}: {what}")),
        e => e,
    }
}

/// Refuses two points that are the same run.
fn different(planned: &[PlannedPoint], all: &[Vec<usize>], axes: &[Axis]) -> Result<(), Failure> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (i, point) in planned.iter().enumerate() {
        let Some(first) = seen.insert(point.resolved.workload.sha256(), i) else { continue };
        let differs = axes.iter().enumerate().filter(|(a, _)| all[first][*a] != all[i][*a]);
        let both: Vec<String> = differs
            .map(|(a, axis)| {
                let [x, y] = [first, i].map(|point| &axis.values[all[point][a]]);
                format!("{}={x} and {y}", axis.key)
            })
            .collect();
        return Err(Failure::Usage(format!(
            "points {} and {} are the same workload: {}; leave one of them out",
            first + 1,
            i + 1,
            both.join(", ")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_point_once_in_an_order_of_its_own() {
        let orders: Vec<Vec<usize>> = (0..20).map(|round| shuffled(6, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        }
        assert_eq!(orders[3], shuffled(6, 3));
        // Over many rounds every point is as often early as late.
        let places: Vec<f64> = (0..6)
            .map(|point| {
                let sum: usize = (0..600)
                    .map(|round| shuffled(6, round).iter().position(|p| *p == point).unwrap())
                    .sum();
                sum as f64 / 600.0
            })
            .collect();
        assert!(places.iter().all(|p| (p - 2.5).abs() < 0.35), "{places:?}");
        assert!(shuffled(0, 0).is_empty() && shuffled(1, 5) == [0]);
    }
}
