//! Loss and AUC of runs, thinned to what a screen can show.

use crate::{
    results::{metrics::Metrics, table::Group, tree::Run},
    train::events::EvalEvent,
};
use serde::Serialize;

/// Points of all runs together: enough for a screen, and a page of less than a megabyte.
const ALL_POINTS: usize = 24_000;

/// Points of one run's loss, if `runs` are shown.
pub(super) fn points_for(runs: usize) -> usize {
    (ALL_POINTS / runs.max(1)).clamp(100, 800)
}

/// A curve over training samples, and over seconds since `run_start`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Curve {
    /// Training samples seen; empty if they are not known.
    samples: Vec<f64>,
    seconds: Vec<f64>,
    y: Vec<f64>,
}

/// The curves of a run.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Curves {
    pub auc: Curve,
    /// Of the same evaluations, where a record says.
    pub accuracy: Curve,
    pub loss: Curve,
    /// Steps that a point of the loss is the mean of.
    steps_a_point: usize,
}

/// The curves of a group.
#[derive(Debug, Serialize)]
pub(super) struct GroupCurves<'a> {
    /// The AUC to reach.
    target: Option<f64>,
    rows: Vec<RowCurves<'a>>,
}

#[derive(Debug, Serialize)]
struct RowCurves<'a> {
    label: &'a str,
    runs: Vec<RunCurves<'a>>,
}

#[derive(Debug, Serialize)]
struct RunCurves<'a> {
    name: String,
    #[serde(flatten)]
    curves: &'a Curves,
}

impl<'a> GroupCurves<'a> {
    /// The curves of `group`, whose runs' curves are found by path.
    pub fn of(group: &'a Group, curves: impl Fn(&'a str) -> &'a Curves) -> Self {
        let run = |run: &'a Run| RunCurves {
            name: run.seed.map_or_else(|| run.name.clone(), |s| format!("seed {s}")),
            curves: curves(&run.path),
        };
        let rows = group
            .rows
            .iter()
            .map(|r| RowCurves { label: &r.label, runs: r.each.iter().map(run).collect() });
        GroupCurves { target: group.task.target, rows: rows.collect() }
    }
}

impl Curve {
    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    fn push(&mut self, samples: Option<f64>, seconds: f64, y: f64) {
        self.samples.extend(samples);
        self.seconds.push((seconds * 1e3).round() / 1e3);
        self.y.push((y * 1e6).round() / 1e6);
    }
}

impl Curves {
    /// AUC from the run's evaluations, loss from its metrics.
    pub fn of(run: &Run, metrics: Option<(&Metrics, &[EvalEvent])>, points: usize) -> Self {
        let mut auc = Curve::default();
        let all_have_samples = run.evaluations.iter().all(|e| e.samples.is_some());
        for e in run.evaluations.iter().filter(|e| e.auc.is_finite() && e.seconds.is_finite()) {
            auc.push(e.samples.filter(|_| all_have_samples), e.seconds, e.auc);
        }
        let mut accuracy = Curve::default();
        for e in metrics.iter().flat_map(|(_, evaluations)| *evaluations) {
            if e.quality.accuracy.is_finite() && e.elapsed.is_finite() {
                accuracy.push(Some(e.samples as f64), e.elapsed, e.quality.accuracy);
            }
        }
        let (loss, steps_a_point) =
            metrics.map_or((Curve::default(), 1), |(m, evaluations)| loss(m, evaluations, points));
        Curves { auc, accuracy, loss, steps_a_point }
    }
}

/// The mean loss of every so many steps, each weighted with its samples, at the end of these steps.
fn loss(metrics: &Metrics, evaluations: &[EvalEvent], points: usize) -> (Curve, usize) {
    let steps = metrics.len().div_ceil(points.max(1)).max(1);
    let mut curve = Curve::default();
    let mut evaluations = evaluations.iter().peekable();
    let (mut clock, mut before) = (0.0, 0.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    for i in 0..metrics.len() {
        // Evaluations stop training, but not the clock that the target is timed by.
        while let Some(e) = evaluations.next_if(|e| (e.step as i64) < metrics.step[i]) {
            clock += e.seconds;
        }
        clock += metrics.seconds[i];
        let (samples, y) = (metrics.samples[i] as f64, f64::from(metrics.loss[i]));
        if y.is_finite() {
            sum += y * (samples - before);
            weight += samples - before;
        }
        before = samples;
        if ((i + 1).is_multiple_of(steps) || i + 1 == metrics.len()) && weight > 0.0 {
            curve.push(Some(samples), clock, sum / weight);
            (sum, weight) = (0.0, 0.0);
        }
    }
    (curve, steps)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Metrics of `n` steps of ten samples, a tenth of a second each, whose loss is the step.
    pub fn metrics(n: usize) -> Metrics {
        Metrics {
            step: (1..=n as i64).collect(),
            epoch: vec![0; n],
            samples: (1..=n as i64).map(|i| 10 * i).collect(),
            loss: (1..=n).map(|i| i as f32).collect(),
            learning_rate: vec![0.1; n],
            seconds: vec![0.1; n],
            data_wait: vec![0.0; n],
            throughput: vec![100.0; n],
            auc: vec![None; n],
            logloss: vec![None; n],
            host_memory: vec![None; n],
            gpu_memory: vec![None; n],
            auc_binned_1000: vec![None; n],
            tables: std::array::from_fn(|_| vec![None; n]),
            cache: std::array::from_fn(|_| vec![None; n]),
        }
    }

    #[test]
    fn loss_is_thinned_to_means_on_the_clock_of_the_run() {
        let record = super::super::tests::record();
        let (curve, steps) = loss(&metrics(5), &record.evaluations, 2);
        // Steps 1 to 3 and 4 to 5; the record's one evaluation, of half a second, comes after step
        // 2.
        assert_eq!(steps, 3);
        assert_eq!(
            curve,
            Curve { samples: vec![30.0, 50.0], seconds: vec![0.8, 1.0], y: vec![2.0, 4.5] }
        );
        let (curve, _) = loss(&metrics(300_000), &record.evaluations, 800);
        assert!((790..=800).contains(&curve.y.len()), "{}", curve.y.len());
        assert_eq!(loss(&metrics(0), &record.evaluations, 800).0, Curve::default());
    }

    #[test]
    fn a_loss_that_is_no_number_leaves_a_gap() {
        let mut m = metrics(4);
        m.loss[2] = f32::NAN;
        let (curve, _) = loss(&m, &super::super::tests::record().evaluations, 4);
        assert_eq!(curve.y, [1.0, 2.0, 4.0]);
    }
}
