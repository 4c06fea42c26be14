//! What was measured from commit to commit, for people: text, Markdown, a picture.

use super::chart::{BLUE, Chart, Series as Drawn, Style, VERMILION, amount};
use crate::{
    host::{
        atomic_file::create_folders,
        escape::{markdown, visible},
    },
    results::{
        ResultsError,
        history::{History, Metric, Series, Step},
    },
};
use plotters::prelude::SeriesLabelPosition;
use std::{fmt::Write, path::Path};

/// Consecutive runs of one commit.
struct Stretch<'a> {
    commit: &'a str,
    started: &'a str,
    values: Vec<f64>,
    /// The change that begins with it, or within it.
    step: Option<&'a Step>,
}

const UNKNOWN: &str = "unknown";

fn stretches(series: &Series) -> Vec<Stretch<'_>> {
    let mut all: Vec<Stretch<'_>> = Vec::new();
    for (k, point) in series.points.iter().enumerate() {
        let commit = point.commit.as_deref().unwrap_or(UNKNOWN);
        let step = series.steps.iter().find(|s| s.at == k);
        match all.last_mut().filter(|last| last.commit == commit && step.is_none()) {
            Some(last) => last.values.push(point.value),
            None => {
                let started = point.started.get(..10).unwrap_or(&point.started);
                all.push(Stretch { commit, started, values: vec![point.value], step });
            }
        }
    }
    all
}

fn mean(values: &[f64]) -> f64 {
    (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// The value as people write it.
fn shown(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Throughput => super::table::rate(value),
        Metric::Floor => format!("{:.1}%", 100.0 * value),
        Metric::Time => format!("{value:.1} s"),
        Metric::Auc => format!("{value:.5}"),
    }
}

fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput => "samples/s while training",
        Metric::Floor => "share of the floor",
        Metric::Time => "time to target",
        Metric::Auc => "AUC",
    }
}

fn percent(share: f64) -> String {
    format!("{:+.1}%", 100.0 * share)
}

/// `-10.9% (95% interval -12.0% to -9.8%)`
fn change(step: &Step) -> String {
    let interval = step
        .interval
        .map(|[low, high]| format!(" (95% interval {} to {})", percent(low), percent(high)));
    percent(step.change) + &interval.unwrap_or_default()
}

/// What is said of a series in a line.
fn sentence(series: &Series) -> String {
    match series.steps.len() {
        0 => format!("no change in {} runs", series.points.len()),
        1 => format!("1 change in {} runs", series.points.len()),
        n => format!("{n} changes in {} runs", series.points.len()),
    }
}

fn title(series: &Series) -> String {
    let settings: Vec<String> = series.settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let settings =
        if settings.is_empty() { String::new() } else { format!(", {}", settings.join(", ")) };
    format!("{} on {}{settings}", series.workload, series.system)
}

/// For a terminal or a pipe.
pub fn text(history: &History) -> String {
    let mut out = String::new();
    for series in &history.series {
        let _ = writeln!(out, "{}: {}\n", visible(&title(series)), sentence(series));
        let _ = writeln!(
            out,
            "  {:<10}  {:<12}  {:>4}  {}",
            "from",
            "commit",
            "runs",
            unit(history.metric)
        );
        for s in stretches(series) {
            let value = shown(history.metric, mean(&s.values));
            let line = format!(
                "  {:<10}  {:<12}  {:>4}  {value}",
                visible(s.started),
                visible(&short(s.commit)),
                s.values.len()
            );
            let _ = writeln!(
                out,
                "{line}{}",
                s.step.map(|s| format!("  {}", change(s))).unwrap_or_default()
            );
        }
        out.push('\n');
    }
    out
}

/// For a pull request.
pub fn to_markdown(history: &History) -> String {
    let mut out = String::new();
    for series in &history.series {
        let _ = writeln!(out, "### {}\n\n{}\n", markdown(&title(series)), sentence(series));
        let _ = writeln!(out, "| from | commit | runs | {} | change |", unit(history.metric));
        out += "|---|---|---:|---:|---|\n";
        for s in stretches(series) {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                markdown(s.started),
                markdown(&short(s.commit)),
                s.values.len(),
                shown(history.metric, mean(&s.values)),
                s.step.map(|s| format!("**{}**", change(s))).unwrap_or_default()
            );
        }
        out.push('\n');
    }
    out
}

/// A commit's first letters.
fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// Draws each series as SVG and PNG into `folder`: `history`, then `history-2` and so on. Their names.
///
/// # Errors
/// If a file cannot be written.
pub fn draw(history: &History, folder: &Path) -> Result<Vec<String>, ResultsError> {
    create_folders(folder).map_err(|source| ResultsError::Write { path: folder.into(), source })?;
    let mut names = Vec::new();
    for (k, series) in history.series.iter().enumerate() {
        let name = if k == 0 { "history".to_owned() } else { format!("history-{}", k + 1) };
        chart(series, history.metric).save(folder, &name)?;
        names.push(name);
    }
    Ok(names)
}

fn chart(series: &Series, metric: Metric) -> Chart {
    let points: Vec<(f64, f64)> =
        series.points.iter().enumerate().map(|(k, p)| (k as f64 + 1.0, p.value)).collect();
    let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
    let least = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let ends: Vec<usize> = std::iter::once(0)
        .chain(series.steps.iter().map(|s| s.at))
        .chain(std::iter::once(points.len()))
        .collect();
    let level = |(k, ends): (usize, &[usize])| {
        let y = mean(&points[ends[0]..ends[1]].iter().map(|p| p.1).collect::<Vec<_>>());
        let label = if k == 0 { "level".to_owned() } else { String::new() };
        let points = vec![(ends[0] as f64 + 0.6, y), (ends[1] as f64 + 0.4, y)];
        Drawn { label, colour: VERMILION, style: Style::Line, points }
    };
    let levels: Vec<Drawn> = ends.windows(2).enumerate().map(level).collect();
    let day = |p: Option<&crate::results::history::Point>| {
        p.map_or(String::new(), |p| p.started.chars().take(10).collect())
    };
    let (first, last) = (series.points.first(), series.points.last());
    let n = points.len() as f64;
    let runs = Drawn { label: "a run".to_owned(), colour: BLUE, style: Style::Marked, points };
    let room = (most - least).max(0.02 * most);
    Chart {
        title: visible(&title(series)).into_owned(),
        subtitle: format!("{}, {} to {}", sentence(series), day(first), day(last)),
        x_label: "runs in order of time".to_owned(),
        x_names: Vec::new(),
        y_label: unit(metric).to_owned(),
        x: 0.5..n + 0.5,
        y: (least - 0.3 * room).max(0.0)..most + 0.3 * room,
        series: std::iter::once(runs).chain(levels).collect(),
        levels: Vec::new(),
        y_tick: match metric {
            Metric::Throughput => amount,
            Metric::Floor => |y| format!("{:.0}%", 100.0 * y),
            Metric::Time => |y| format!("{y:.0} s"),
            Metric::Auc => |y| format!("{y:.4}"),
        },
        legend: SeriesLabelPosition::UpperRight,
    }
}
