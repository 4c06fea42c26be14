//! Pictures of one run: loss, AUC, accuracy and throughput over the training samples seen.

use super::chart::{BLUE, Chart, GREEN, Level, PALE, Series, Style, VERMILION, amount};
use crate::{
    host::atomic_file,
    metrics::Quality,
    results::{ResultsError, RunRecord, metrics::Metrics},
};
use plotters::prelude::SeriesLabelPosition;
use std::path::Path;

/// Points a series keeps at most: more would be drawn over one another and make the SVG large.
const POINTS: usize = 2000;

/// Draws `loss`, `auc`, `accuracy` and `throughput`, each as SVG and PNG, into `folder`. A picture without a
/// point (no steps, no evaluations) is left out.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, record: &RunRecord, metrics: &Metrics) -> Result<(), ResultsError> {
    atomic_file::create_folders(folder)
        .map_err(|source| ResultsError::Write { path: folder.into(), source })?;
    let charts = [
        ("loss", loss(record, metrics)),
        ("auc", auc(record)),
        ("accuracy", accuracy(record)),
        ("throughput", throughput(record, metrics)),
    ];
    for (name, chart) in charts {
        if let Some(chart) = chart {
            chart.save(folder, name)?;
        }
    }
    Ok(())
}

fn title(what: &str, record: &RunRecord) -> String {
    format!("{what}: {}", record.workload.name)
}

fn subtitle(record: &RunRecord) -> String {
    let e = &record.engine;
    let threads = if e.threads == 1 { "1 thread".into() } else { format!("{} threads", e.threads) };
    let cores = record.machine.cpu.logical_cores;
    let day = record.started.get(..10).unwrap_or(&record.started);
    format!(
        "{} engine, {}, {threads}, batch {}, on {} ({cores} cores), {day}",
        e.kind, e.precision, record.workload.batch_size, record.machine.cpu.model
    )
}

fn loss(record: &RunRecord, metrics: &Metrics) -> Option<Chart> {
    let raw: Vec<_> = metrics
        .samples
        .iter()
        .zip(&metrics.loss)
        .map(|(&x, &y)| (x as f64, f64::from(y)))
        .collect();
    let values: Vec<f64> = metrics.loss.iter().map(|&y| f64::from(y)).collect();
    let span = span(raw.len());
    let smooth = raw.iter().map(|p| p.0).zip(moving_average(&values, span)).collect();
    Some(Chart {
        title: title("Training loss", record),
        subtitle: subtitle(record),
        x_label: "training samples".into(),
        y_label: "loss (mean over the batch)".into(),
        x: 0.0..raw.last()?.0 * 1.01,
        y: range(&middle(&values), 0.06),
        series: steps(raw, smooth, span),
        levels: Vec::new(),
        y_tick: |y| format!("{y:.3}"),
        x_names: Vec::new(),
        legend: SeriesLabelPosition::UpperRight,
    })
}

/// Each step as a dot, and the average over `span` steps as a line.
fn steps(raw: Vec<(f64, f64)>, smooth: Vec<(f64, f64)>, span: usize) -> Vec<Series> {
    let each =
        Series { label: "each step".into(), colour: PALE, style: Style::Dots, points: thin(raw) };
    let average =
        Series { label: averaged(span), colour: BLUE, style: Style::Line, points: thin(smooth) };
    vec![each, average]
}

fn auc(record: &RunRecord) -> Option<Chart> {
    let facts = record.facts.as_ref();
    let mut levels: Vec<Level> = facts.and_then(|f| f.target_auc).map(target).into_iter().collect();
    if let Some(best) = facts.and_then(|f| f.best_auc) {
        levels.push(Level { label: format!("best reachable {best:.4}"), colour: GREEN, y: best });
    }
    quality(record, "AUC", |q| q.auc, levels)
}

fn accuracy(record: &RunRecord) -> Option<Chart> {
    let wanted = record.facts.as_ref().and_then(|f| f.target_accuracy);
    quality(record, "Accuracy", |q| q.accuracy, wanted.map(target).into_iter().collect())
}

fn target(y: f64) -> Level {
    Level { label: format!("target {y:.4}"), colour: VERMILION, y }
}

/// What evaluations came to.
fn quality(
    record: &RunRecord,
    what: &str,
    of: fn(&Quality) -> f64,
    levels: Vec<Level>,
) -> Option<Chart> {
    let points: Vec<_> =
        record.evaluations.iter().map(|e| (e.samples as f64, of(&e.quality))).collect();
    let shown: Vec<f64> = points.iter().map(|p| p.1).chain(levels.iter().map(|l| l.y)).collect();
    Some(Chart {
        title: title(&format!("{what} on the evaluation set"), record),
        subtitle: subtitle(record),
        x_label: "training samples".into(),
        y_label: what.into(),
        x: 0.0..points.last()?.0.max(1.0) * 1.01,
        y: range(&shown, 0.08),
        series: vec![Series { label: what.into(), colour: BLUE, style: Style::Marked, points }],
        levels,
        y_tick: |y| format!("{y:.3}"),
        x_names: Vec::new(),
        legend: SeriesLabelPosition::LowerRight,
    })
}

fn throughput(record: &RunRecord, metrics: &Metrics) -> Option<Chart> {
    let raw: Vec<_> =
        metrics.samples.iter().zip(&metrics.throughput).map(|(&x, &y)| (x as f64, y)).collect();
    let span = span(raw.len());
    let smooth = raw.iter().map(|p| p.0).zip(moving_rate(metrics, span)).collect();
    let speed = record.throughput.as_ref()?;
    let top = middle(&metrics.throughput).into_iter().fold(speed.training, f64::max);
    Some(Chart {
        title: title("Throughput", record),
        subtitle: subtitle(record),
        x_label: "training samples".into(),
        y_label: "training samples per second".into(),
        x: 0.0..raw.last()?.0 * 1.01,
        y: 0.0..top * 1.12,
        series: steps(raw, smooth, span),
        levels: vec![
            Level {
                label: format!("all steps {}/s", rounded(speed.training)),
                colour: GREEN,
                y: speed.training,
            },
            Level {
                label: format!("with evaluation {}/s", rounded(speed.end_to_end)),
                colour: VERMILION,
                y: speed.end_to_end,
            },
        ],
        y_tick: amount,
        x_names: Vec::new(),
        legend: SeriesLabelPosition::LowerRight,
    })
}

/// Steps that a smoothed line averages over: a fiftieth of the run.
fn span(steps: usize) -> usize {
    (steps / 50).max(1)
}

fn averaged(span: usize) -> String {
    if span == 1 { "line through the steps".into() } else { format!("mean of {span} steps") }
}

/// Three significant digits are what a picture can show.
fn rounded(x: f64) -> String {
    let unit = 10f64.powf((x.abs().max(1.0).log10().floor() - 2.0).max(0.0));
    amount((x / unit).round() * unit)
}

/// Mean of each value and up to `span - 1` before it.
fn moving_average(values: &[f64], span: usize) -> Vec<f64> {
    let mut sum = 0.0;
    (0..values.len())
        .map(|i| {
            sum += values[i];
            if i >= span {
                sum -= values[i - span];
            }
            sum / (i + 1).min(span) as f64
        })
        .collect()
}

/// Samples over seconds of each step and up to `span - 1` before it.
fn moving_rate(metrics: &Metrics, span: usize) -> Vec<f64> {
    let mut seconds = 0.0;
    (0..metrics.len())
        .map(|i| {
            seconds += metrics.seconds[i];
            let mut before = 0;
            if i >= span {
                seconds -= metrics.seconds[i - span];
                before = metrics.samples[i - span];
            }
            (metrics.samples[i] - before) as f64 / seconds
        })
        .collect()
}

/// Every k-th point, the last one included.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let keep = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(i, _)| (last - i).is_multiple_of(keep))
        .map(|(_, p)| p)
        .collect()
}

/// The values without the lowest and highest half percent: one slow step or the first loss must not
/// squeeze the rest.
fn middle(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 200;
    sorted[cut..sorted.len() - cut].to_vec()
}

/// From the least to the greatest value and a part of their distance more on both sides.
fn range(values: &[f64], margin: f64) -> std::ops::Range<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let pad = if high > low { (high - low) * margin } else { high.abs().max(1e-3) * margin };
    low - pad..high + pad
}
