//! How far a run was at each evaluation and at its end: epochs and samples.
//!
//! Writers count differently: `epoch_num` from 0 or from 1, as a fraction of the training set, as
//! the number of the epoch, or as that of the evaluation; `samples_count` instead; `train_samples`
//! of the training set, or, as HugeCTR writes it behind `run_stop`, of the run.

use super::{
    super::Evaluation,
    ODD,
    lines::{Lines, mark},
};
use crate::mllog::parse::{self, Event};

/// Evaluations of an epoch by the rules of the closed division.
const EVALUATIONS: f64 = 20.0;

/// What is counted.
#[derive(Debug)]
pub(super) struct Progress {
    /// In order, each once.
    pub evaluations: Vec<Evaluation>,
    /// Training samples at `run_stop`.
    pub samples: Option<f64>,
    /// Epochs at `run_stop`.
    pub epochs: Option<f64>,
    /// Samples of the training set.
    pub train_samples: Option<f64>,
}

/// `train_samples` as a log has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrainSamples {
    value: f64,
    /// It stands behind `run_stop`.
    behind: bool,
}

impl TrainSamples {
    /// Samples of the training set, if that is what it is.
    pub fn of_set(self) -> Option<f64> {
        (!self.behind).then_some(self.value)
    }
}

/// `train_samples`, if it is above 0.
pub(super) fn train_samples(lines: &Lines) -> Option<TrainSamples> {
    let value = |e: &Event| e.number().filter(|&n| n > 0.0);
    let of = |e: &&Event| e.key == "train_samples";
    let behind = lines.behind().iter().map(|(_, e)| e).filter(of).filter_map(value).count();
    let found: Vec<f64> = lines.own().filter(of).filter_map(value).collect();
    match found.first() {
        Some(&value) => Some(TrainSamples { value, behind: behind == found.len() }),
        None => lines
            .number("train_samples")
            .filter(|&n| n > 0.0)
            .map(|value| TrainSamples { value, behind: false }),
    }
}

/// The throughput that the log itself gives.
pub(super) fn tracked(lines: &Lines) -> Option<f64> {
    let of = |e: &Event| e.value.as_ref()?.get("throughput").and_then(parse::number);
    lines.own().filter(|e| e.key == "tracked_stats").filter_map(of).last()
}

impl Progress {
    /// That of a run of the closed division, whose training set has `all` samples, and whether the
    /// log agrees.
    pub fn closed(lines: &Lines, all: f64) -> Option<Self> {
        let progress = Self::of(lines, Some(all), true);
        let near = |a: f64, b: f64| (a / b - 1.0).abs() <= ODD;
        let Some(n) = train_samples(lines) else { return Some(progress) };
        if !n.behind {
            let agrees = near(n.value, all) || progress.samples.is_some_and(|s| near(n.value, s));
            return agrees.then_some(progress);
        }
        // Without a throughput that tells, the size of the training set is taken for just that.
        let is_set = is_set(lines, progress.samples, n.value).unwrap_or(near(n.value, all));
        let samples = if is_set { progress.samples } else { Some(n.value) };
        Some(Progress { samples, ..progress })
    }

    /// That of any other run.
    pub fn open(lines: &Lines) -> Self {
        let Some(n) = train_samples(lines) else { return Self::of(lines, None, false) };
        let progress = Self::of(lines, Some(n.value), false);
        if !n.behind || is_set(lines, progress.samples, n.value) == Some(true) {
            return progress;
        }
        let whole = progress.epochs.filter(|&e| e > 0.0).map(|e| n.value / e);
        Progress { samples: Some(n.value), ..Self::of(lines, whole, false) }
    }

    fn of(lines: &Lines, all: Option<f64>, closed: bool) -> Self {
        let marks = marks(lines);
        let epochs = epochs(lines, &marks, all, closed);
        let start = lines.start_ms();
        let evaluations: Vec<Evaluation> = marks
            .iter()
            .zip(&epochs)
            .map(|(m, &epochs)| Evaluation {
                epochs,
                samples: m.samples.or(all.map(|n| n * epochs)).filter(|n| n.is_finite()),
                seconds: (m.time_ms - start) / 1e3,
                auc: m.auc,
            })
            .collect();
        let known = |x: f64| x.is_finite().then_some(x);
        let last = evaluations.last();
        let at_stop = |key: &str| lines.stop()?.meta_number(key);
        let epochs = last.and_then(|e| known(e.epochs)).or_else(|| {
            let label = at_stop("epoch_num")?;
            Some(label - origin(lines, label, closed))
        });
        let behind = || train_samples(lines).filter(|n| n.behind).map(|n| n.value);
        let samples = last
            .and_then(|e| e.samples)
            .or_else(|| at_stop("samples_count"))
            .or_else(|| Some(epochs? * all?))
            .or_else(behind);
        Progress { evaluations, samples, epochs, train_samples: all }
    }
}

/// Whether `train_samples` behind `run_stop` are those of the training set, of which a run that
/// counts epochs has seen `seen`, rather than those of the run: as the log's own throughput tells.
fn is_set(lines: &Lines, seen: Option<f64>, value: f64) -> Option<bool> {
    let (tracked, seconds) = (tracked(lines)?, lines.seconds()?);
    let off = |samples: f64| (tracked / (samples / seconds) - 1.0).abs();
    Some(off(seen?) < off(value))
}

/// An evaluation as it is logged.
struct Mark {
    epoch: Option<f64>,
    samples: Option<f64>,
    time_ms: f64,
    auc: f64,
}

/// Evaluations up to `run_stop`, without those of other ranks.
fn marks(lines: &Lines) -> Vec<Mark> {
    let mut found: Vec<Mark> = Vec::new();
    for (_, event) in lines.during().iter().filter(|(_, e)| e.key == "eval_accuracy") {
        let Some(auc) = event.number() else { continue };
        let (epoch, samples) = (event.meta_number("epoch_num"), event.meta_number("samples_count"));
        let same = |m: &Mark| m.auc == auc && m.epoch == epoch && m.samples == samples;
        let again = match mark(event) {
            Some(_) => found.iter().any(same),
            None => found.last().is_some_and(same),
        };
        if !again {
            found.push(Mark { epoch, samples, time_ms: event.time_ms, auc });
        }
    }
    found
}

/// Epochs done before each of `marks`; NaN where nothing tells.
fn epochs(lines: &Lines, marks: &[Mark], all: Option<f64>, closed: bool) -> Vec<f64> {
    let by_samples = |m: &Mark| m.samples.zip(all).map_or(f64::NAN, |(n, all)| n / all);
    let labels: Option<Vec<f64>> = marks.iter().map(|m| m.epoch).collect();
    let Some(labels) = labels.filter(|l| !l.is_empty()) else {
        return marks
            .iter()
            .map(|m| m.epoch.map_or(by_samples(m), |e| e - origin(lines, e, closed)))
            .collect();
    };
    let (first, last, n) = (labels[0], labels[labels.len() - 1], labels.len() as f64);
    let start = origin(lines, first, closed);
    let whole = labels.iter().all(|l| l.fract() == 0.0);
    let tracked = || Some(tracked(lines)? * lines.seconds()? / all?);
    // The closed division ends with the first epoch, so that whole numbers are no epochs there;
    // elsewhere a throughput that is far off tells.
    let far = || tracked().is_some_and(|t| !(0.5..2.0).contains(&(t / (last - start))));
    if whole && labels.len() > 1 && (closed || far()) {
        if marks.iter().all(|m| m.samples.is_some()) && all.is_some() {
            return marks.iter().map(by_samples).collect();
        }
        let total =
            run_samples(lines, all).or_else(tracked).unwrap_or_else(|| n * interval(lines, all));
        return (1..=marks.len()).map(|i| total * i as f64 / n).collect();
    }
    // Numbers of epochs, each written when its epoch is done.
    let index = whole && labels.len() > 1 && first == start;
    labels.iter().map(|l| l - start + if index { 1.0 } else { 0.0 }).collect()
}

/// Epochs of a run whose samples stand behind `run_stop`.
fn run_samples(lines: &Lines, all: Option<f64>) -> Option<f64> {
    let n = train_samples(lines).filter(|n| n.behind)?;
    Some(n.value / all?).filter(|e| *e <= 1.0 + ODD)
}

/// Epochs between two evaluations by the rules of the closed division: so many whole steps as fit
/// into a twentieth of an epoch.
fn interval(lines: &Lines, all: Option<f64>) -> f64 {
    let steps = |batch: f64| Some((all? / (batch * EVALUATIONS)).floor() * batch / all?);
    let batch = lines.number("global_batch_size").filter(|&b| b >= 1.0);
    batch.and_then(steps).filter(|&e| e > 0.0).unwrap_or(1.0 / EVALUATIONS)
}

/// `epoch_num` where training starts: DLRM v1 counts from 1, but not every submitter's
/// (mlcommons/logging issue #79). The first `epoch_start` tells; where it does not, the rules ask
/// for an evaluation each twentieth of an epoch, so that a first one (`first`) past 1 does.
fn origin(lines: &Lines, first: f64, closed: bool) -> f64 {
    let number = |key: &'static str, name: &'static str| {
        lines.during().iter().find(|(_, e)| e.key == key).and_then(|(_, e)| e.meta_number(name))
    };
    let said = number("epoch_start", "epoch_num").or(number("block_start", "first_epoch_num"));
    let is_v1 = || lines.text("submission_benchmark").is_some_and(|b| b == "dlrm");
    match said {
        Some(o) if o == 1.0 && first >= 1.0 => 1.0,
        // An epoch that begins with 0 and is evaluated past its end is none of one epoch.
        Some(o) if o == 0.0 && !(closed && first > 1.0) => 0.0,
        _ if first > 1.0 && (closed || is_v1()) => 1.0,
        _ => 0.0,
    }
}
