//! The few lines that end a run on the terminal.

use super::progress::{counted, thousands};
use crate::{
    comm::links::{Between, MeasuredLink},
    embedding::{cached::CacheCounts, hashed::TableCounts},
    engine::Served,
    host::escape::visible,
    metrics::Quality,
    results::RunRecord,
    system::Grade,
    train::{
        Dead, Diagnosis, ExpectedHits, Unmoved,
        events::{Outcome, RunFacts, StopReason},
        memory::shown,
    },
};
use std::{fmt::Write, path::Path};

/// Degrees of staleness that are listed.
const LISTED: usize = 8;

/// What a person wants to know when a run is over; `folder` is where the rest stands, `convergence`
/// how it compares with its reference.
pub(super) fn summary(record: &RunRecord, folder: &Path, convergence: Option<&str>) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    if let Some(o) = &record.outcome {
        let targets = record.facts.as_ref().and_then(RunFacts::targets);
        row("result", result(o, targets.as_deref()));
        if let Some(e) = o.kept_eval() {
            row("quality", quality(&e.quality));
        }
        if let (Some(kept), Some(last)) = (&o.restored, &o.last_eval) {
            row(
                "",
                format!(
                    "that of step {}, whose parameters are kept (eval.restore_best); at the end AUC {:.5}",
                    thousands(kept.step),
                    last.quality.auc
                ),
            );
        }
        if let Some(q) = &o.test {
            row("test split", quality(q));
        }
        if !o.resumed_at.is_empty() {
            let steps: Vec<String> = o.resumed_at.iter().map(|&s| thousands(s)).collect();
            row(
                "resumed",
                format!(
                    "after step {}; seconds are those since the run first began",
                    steps.join(", then after step ")
                ),
            );
        }
    }
    if let (Some(share), Some(best)) =
        (record.convergence.share_of_best, record.data.as_ref().and_then(|d| d.best_auc))
    {
        row(
            "of the best",
            format!(
                "{:.1}% of the way from chance to the best reachable AUC, {best:.5}",
                100.0 * share
            ),
        );
    }
    if let Some(t) = &record.throughput {
        row(
            "throughput",
            match &t.steady {
                Some(s) => format!(
                    "{} samples/s while training ({:.0}% interval {} to {})",
                    rounded(s.mean),
                    100.0 * s.confidence,
                    rounded(s.low),
                    rounded(s.high)
                ),
                None => format!("{} samples/s while training", rounded(t.training)),
            },
        );
        let judged = if record.evaluations.is_empty() { "" } else { ", evaluation included" };
        row("", format!("{} samples/s end to end{judged}", rounded(t.end_to_end)));
        if let Some(jump) = &t.jump {
            row("", jump.to_string());
        }
    }
    if let Some(sentence) = convergence {
        row("convergence", sentence.to_owned());
    }
    if !record.phases.is_empty() {
        let shown: Vec<String> = record
            .phases
            .iter()
            .filter(|p| p.share >= 0.005)
            .map(|p| format!("{} {:.0}%", p.phase.replace('_', " "), 100.0 * p.share))
            .collect();
        row("time", shown.join(", "));
    }
    if !record.links.is_empty() {
        row("links", record.links.iter().map(link).collect::<Vec<_>>().join("; "));
    }
    if let Some(share) = record.floor_share {
        let phases = record.phases.iter().filter(|p| p.share >= 0.005);
        let each = phases.filter_map(|p| {
            Some(format!("{} {:.0}%", p.phase.replace('_', " "), 100.0 * p.floor_share?))
        });
        let each: Vec<String> = each.collect();
        row(
            "floor share",
            format!(
                "{:.0}%: the least time this machine needs, over the time taken; {}",
                100.0 * share,
                each.join(", ")
            ),
        );
    }
    if let Some(noise) = record.noise.as_ref().filter(|noise| noise.grade >= Grade::C) {
        row("machine", format!("not quiet, grade {}", noise.sentence()));
    }
    if let Some(joules) = record.energy_joules {
        let of = if record.energy_of.is_empty() {
            "processors and memory".into()
        } else {
            record.energy_of.join(", ")
        };
        row("energy", format!("{:.2} kJ of {of}", joules / 1e3));
    }
    if let Some(s) = record.outcome.as_ref().and_then(|o| o.loss_scale) {
        row(
            "loss scale",
            format!(
                "{} at the end, {} steps skipped for overflow",
                s.scale,
                thousands(s.skipped_steps)
            ),
        );
    }
    if let Some(served) = record.outcome.as_ref().and_then(|o| o.served.as_ref()) {
        row("staleness", staleness(served));
        row("batches", format!("of each worker {}", counts(&served.batches)));
    }
    if let Some(tables) = record.outcome.as_ref().map(|o| &o.tables).filter(|t| !t.is_empty()) {
        if tables.iter().any(|t| t.grown().is_some()) {
            row("tables", grown(&tables.iter().sum()));
        }
        if tables.iter().any(|t| t.cached().is_some()) {
            row("cache", cached(&tables.iter().sum(), ExpectedHits::rate(&record.expected_hits)));
        }
    }
    if let Some(d) = record.data.as_ref().filter(|d| d.skipped_lines > 0) {
        row("skipped", counted(d.skipped_lines, "malformed line"));
    }
    row("log", folder.join("result_0.txt").display().to_string());
    if folder.join("plots").is_dir() {
        row("plots", folder.join("plots").display().to_string());
    }
    out
}

/// How late gradients were: shares of steps by the number of updates that lay between.
fn staleness(served: &Served) -> String {
    let Served { staleness, bound, .. } = served;
    let all: u64 = staleness.iter().sum();
    let shares = staleness.iter().enumerate().filter(|(_, n)| **n > 0);
    let shares: Vec<String> = shares
        .take(LISTED)
        .map(|(late, &n)| format!("{late}: {:.1}%", 100.0 * n as f64 / all.max(1) as f64))
        .collect();
    let most = staleness.len().saturating_sub(1);
    format!(
        "{:.2} updates on average, {most} at most{} ({})",
        served.mean_staleness().unwrap_or(0.0),
        bound.map_or(String::new(), |bound| format!(" of {bound} allowed")),
        shares.join(", ")
    )
}

fn counts(all: &[u64]) -> String {
    all.iter().map(|&n| thousands(n)).collect::<Vec<_>>().join(", ")
}

/// What tables that grow have come to.
fn grown(all: &TableCounts) -> String {
    let mut out = format!("{} rows have an id", thousands(all.rows));
    for (n, what) in [
        (all.evicted, "were dropped"),
        (all.waiting, "ids seen too seldom"),
        (all.filtered, "ids read without a row"),
    ] {
        if n > 0 {
            let _ = write!(out, ", {} {what}", thousands(n));
        }
    }
    out
}

/// What a cache has come to.
fn cached(all: &CacheCounts, expected: Option<f64>) -> String {
    let percent = |rate: f64| format!("{:.2}%", 100.0 * rate);
    let expected = expected.map_or(String::new(), |e| format!(" ({} expected)", percent(e)));
    let rate = all.hit_rate().map(percent);
    let rate = rate.map_or(String::new(), |rate| format!("{rate} hits{expected}, "));
    let host = match all.host_reads {
        0 => String::new(),
        n => format!("{} of them read from the host's memory, ", thousands(n)),
    };
    format!(
        "{rate}{} misses, {host}{} of them read from the file ({}), {} written",
        thousands(all.misses),
        thousands(all.reads),
        shown(all.bytes_read),
        shown(all.bytes_written)
    )
}

/// What training has left as it was; nothing if the run did not look.
pub(super) fn diagnosis(record: &RunRecord) -> String {
    let Some(Diagnosis { tables, layers, samples, units }) = &record.diagnosis else {
        return String::new();
    };
    let mut out = String::new();
    let mut row = |name: &str, part: u64, all: u64| {
        let share = if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 };
        let (part, all) = (thousands(part), thousands(all));
        let _ = writeln!(out, "  {:<28} {part:>14} of {all:>14} {share:>6.1}%", visible(name));
    };
    let mut unmoved = |title: &str, of: &[Unmoved]| {
        row(title, of.iter().map(|u| u.unmoved).sum(), of.iter().map(|u| u.rows).sum());
        for u in of.iter().filter(|u| u.unmoved > 0) {
            row(&format!("  {}", u.name), u.unmoved, u.rows);
        }
    };
    unmoved("rows that never moved", tables);
    unmoved("outputs that never moved", layers);
    match units {
        None => out += "  units that never fire: this engine does not keep what layers give\n",
        Some(units) => {
            let sum = |f: fn(&Dead) -> usize| units.iter().map(f).sum::<usize>() as u64;
            row("units that never fire", sum(|d| d.dead), sum(|d| d.units));
            for d in units.iter().filter(|d| d.dead > 0) {
                row(&format!("  {}", d.name), d.dead as u64, d.units as u64);
            }
            let _ = writeln!(
                out,
                "  (for {} samples of the evaluation split)",
                thousands(*samples as u64)
            );
        }
    }
    format!("diagnosis\n{out}")
}

/// A line for each phase: its seconds, its share, its part of a step, and what share of its floor it
/// reached. An engine without a clock of phases has the wait for data and the rest.
pub(super) fn profile(record: &RunRecord) -> String {
    let Some(outcome) = record.outcome.as_ref().filter(|o| o.steps > 0) else {
        return String::new();
    };
    let whole = outcome.train_seconds;
    let mut rows: Vec<(String, f64, Option<f64>)> =
        record.phases.iter().map(|p| (p.phase.clone(), p.seconds, p.floor_share)).collect();
    if rows.is_empty() {
        let waited = whole * record.data_wait_share.unwrap_or(0.0);
        rows =
            vec![("data_wait".to_owned(), waited, None), ("step".to_owned(), whole - waited, None)];
    }
    let counted: f64 = rows.iter().map(|r| r.1).sum();
    if !record.phases.is_empty() && whole > counted {
        rows.push(("between phases".to_owned(), whole - counted, None));
    }
    let mut out = format!(
        "{:<15} {:>10} {:>7} {:>10} {:>9}\n",
        "phase", "seconds", "share", "ms/step", "of floor"
    );
    let mut line = |name: &str, seconds: f64, floor: Option<f64>| {
        let floor = floor.map_or_else(|| "-".to_owned(), |f| format!("{:.0}%", 100.0 * f));
        let (share, step) = (100.0 * seconds / whole, 1e3 * seconds / outcome.steps as f64);
        let name = name.replace('_', " ");
        let _ = writeln!(out, "{name:<15} {seconds:>10.3} {share:>6.1}% {step:>10.4} {floor:>9}");
    };
    rows.iter().for_each(|(name, seconds, floor)| line(name, *seconds, *floor));
    line("all steps", whole, record.floor_share);
    out + "\n"
}

pub(super) fn quality(q: &Quality) -> String {
    format!("AUC {:.5}, log loss {:.5}, accuracy {:.4}", q.auc, q.logloss, q.accuracy)
}

/// How it ended, and when; `target` is what was to be reached ([`RunFacts::targets`]).
pub(super) fn result(o: &Outcome, target: Option<&str>) -> String {
    let when = format!("{:.1} s and {} samples", o.seconds, thousands(o.samples));
    match (o.reason, target) {
        (StopReason::Target, Some(t)) => format!("target {t} reached after {when}"),
        (StopReason::Interrupted, _) => format!("interrupted after {when}"),
        (StopReason::Patience, Some(t)) => {
            format!("target {t} NOT reached: no improvement any more after {when}")
        }
        (StopReason::Patience, None) => format!("no improvement any more after {when}"),
        (_, Some(t)) => format!("target {t} NOT reached within {when}"),
        _ => format!("trained to the end: {when}"),
    }
}

/// A link between ranks: what a message takes at least, and bytes a second.
fn link(link: &MeasuredLink) -> String {
    let place = match link.between {
        Between::InsideHost => "in the host",
        Between::Hosts => "between hosts",
    };
    format!("{place} {:.1} us, {:.2} GB/s", link.latency * 1e6, link.bandwidth / 1e9)
}

fn rounded(rate: f64) -> String {
    thousands(rate.round() as u64)
}
