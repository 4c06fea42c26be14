//! The report: one HTML page that needs nothing but itself.
//!
//! Tables, phases, machines and workloads are there without scripts; curves are drawn by
//! `templates/report.js` from data that the page carries, so that they fit the screen they are on.
//! Every name in it comes from files and is escaped, the data too.

mod curves;
mod parts;
mod speed;
mod tables;

use super::table::{Columns, notes, title};
use crate::results::{
    identity::{self, Aspect, Identity},
    metrics,
    record::{self, RunRecord},
    table::{Comparison, Group, Row},
    tree::{self, Run},
};
use askama::Template;
use curves::{Curves, GroupCurves};
use parts::{Facts, PhaseBars, RunLine};
use serde::Serialize;
use speed::{Scaling, Speeds};
use std::{collections::BTreeMap, fmt::Write, path::Path};
use tables::TablesPart;

/// What a run left beside its log.
#[derive(Debug, Default)]
struct RunContent {
    record: Option<RunRecord>,
    workload: Option<String>,
    curves: Curves,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: &'a str,
    subtitle: String,
    groups: Vec<GroupPart<'a>>,
    legend: Vec<String>,
    machines: Vec<Facts>,
    workloads: Vec<WorkloadPart>,
    missing: &'a [String],
    version: &'static str,
    css: &'static str,
    js: &'static str,
    data: String,
}

/// A task: its table, curves and phases.
struct GroupPart<'a> {
    heading: String,
    apart: Option<&'a str>,
    heads: Vec<&'a str>,
    rows: Vec<RowPart<'a>>,
    notes: Vec<String>,
    speeds: Option<Speeds>,
    scaling: Vec<Scaling>,
    has_auc: bool,
    has_accuracy: bool,
    /// AUC of the true click probabilities, where they are known.
    best: Option<String>,
    has_loss: bool,
    phases: Vec<PhaseBars>,
    /// Whether a floor of any phase is known.
    floors: bool,
    runs: Vec<RunLine>,
    /// Of runs whose rows were not all in memory, or came and went.
    tables: Vec<TablesPart<'a>>,
}

struct RowPart<'a> {
    /// Classes of the row's curves.
    series: String,
    label: &'a str,
    cells: Vec<Cell<'a>>,
}

/// A number, which is never broken, or words.
struct Cell<'a> {
    text: &'a str,
    words: bool,
}

impl<'a> Cell<'a> {
    fn of(text: &'a str) -> Self {
        Cell {
            text,
            words: text.chars().count() > 14
                && text.starts_with(|c: char| {
                    !c.is_ascii_digit() || text.contains(char::is_alphabetic)
                }),
        }
    }
}

/// A resolved workload, and the rows that ran it.
struct WorkloadPart {
    rows: String,
    toml: String,
}

/// Colours there are; further rows have them again, their lines dashed.
const COLOURS: usize = 8;

/// Ways of drawing a line.
const DASHES: usize = 3;

/// Classes of row `i` of a group: those of report.js.
fn series(i: usize) -> String {
    format!("c{} d{}", i % COLOURS, i / COLOURS % DASHES)
}

/// The page of `comparison`. What could not be read is said at its end, in the words of `missing`.
///
/// # Errors
/// If the template cannot be filled in.
pub fn page(
    comparison: &Comparison,
    title: &str,
    missing: &[String],
) -> Result<String, askama::Error> {
    let runs: usize = rows(comparison).map(|r| r.each.len()).sum();
    let points = curves::points_for(runs);
    let mut missing = missing.to_vec();
    let contents: BTreeMap<&str, RunContent> = rows(comparison)
        .flat_map(|r| &r.each)
        .map(|run| (run.path.as_str(), read(run, points, &mut missing)))
        .collect();
    let columns: Vec<Columns> =
        comparison.groups.iter().map(|g| Columns::wide(g, comparison)).collect();
    let groups = comparison
        .groups
        .iter()
        .zip(&columns)
        .map(|(group, columns)| part(group, columns, &contents))
        .collect();
    let mut legend: Vec<String> = Vec::new();
    for sentence in columns.iter().flat_map(|c| &c.columns).filter_map(|c| c.legend.as_ref()) {
        if !legend.contains(sentence) {
            legend.push(sentence.clone());
        }
    }
    let data = Data {
        groups: comparison
            .groups
            .iter()
            .map(|g| GroupCurves::of(g, |path| &contents[path].curves))
            .collect(),
    };
    let page = Page {
        title,
        subtitle: subtitle(comparison, runs),
        groups,
        legend,
        machines: machines(comparison, &contents),
        workloads: workloads(comparison, &contents),
        missing: &missing,
        version: env!("CARGO_PKG_VERSION"),
        css: include_str!("../../../templates/report.css"),
        js: include_str!("../../../templates/report.js"),
        data: embedded(&data),
    };
    page.render()
}

/// What the scripts read.
#[derive(Serialize)]
struct Data<'a> {
    groups: Vec<GroupCurves<'a>>,
}

/// JSON that no name in it can break out of: `<` never stands in it.
fn embedded(data: &Data) -> String {
    // Numbers, strings and arrays always can be written.
    serde_json::to_string(data)
        .unwrap_or_default()
        .replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn rows(comparison: &Comparison) -> impl Iterator<Item = &Row> {
    comparison.groups.iter().flat_map(|g| &g.rows)
}

/// Reads what lies beside a run of ours; for others there is only the log, which has been read.
fn read(run: &Run, points: usize, missing: &mut Vec<String>) -> RunContent {
    let folder = Path::new(&run.path);
    let path = folder.join("run.json");
    if !path.is_file() {
        // A log alone; that of a run which was killed has its metrics beside it.
        let beside = folder.with_file_name("metrics.parquet");
        let metrics = metrics::recover(&beside).ok();
        let curves = Curves::of(run, metrics.as_ref().map(|m| (m, &[][..])), points);
        return RunContent { curves, ..RunContent::default() };
    }
    let mut or_said = |said: String| missing.push(said);
    let record = record::read(&path).map_err(|e| or_said(e.to_string())).ok();
    // A run that broke down before its first step has none; one whose disk was full, its rows.
    let metrics = tree::metrics(folder).map_err(|e| or_said(e.to_string())).ok().flatten();
    let metrics = metrics.or_else(|| metrics::recover(&folder.join("metrics.parquet")).ok());
    let known = metrics.as_ref().zip(record.as_ref().map(|r| &r.evaluations[..]));
    let curves = Curves::of(run, known, points);
    RunContent {
        record,
        workload: std::fs::read_to_string(folder.join("workload.toml")).ok(),
        curves,
    }
}

fn part<'a>(
    group: &'a Group,
    columns: &'a Columns,
    contents: &BTreeMap<&str, RunContent>,
) -> GroupPart<'a> {
    let of = |run: &Run| &contents[run.path.as_str()];
    let any = |has: fn(&Curves) -> bool| {
        group.rows.iter().flat_map(|r| &r.each).any(|run| has(&of(run).curves))
    };
    let row = |(i, row): (usize, &'a Row)| RowPart {
        series: series(i),
        label: &row.label,
        cells: columns
            .columns
            .iter()
            .filter_map(|c| c.cells.get(i))
            .map(|text| Cell::of(text))
            .collect(),
    };
    let records_of =
        |row: &Row| row.each.iter().filter_map(|r| of(r).record.as_ref()).collect::<Vec<_>>();
    let phases = parts::phases(group.rows.iter().map(|r| (r.label.as_str(), records_of(r))));
    GroupPart {
        heading: title(group, &columns.shared),
        apart: group.apart.as_deref(),
        heads: columns.columns.iter().map(|c| c.head.as_str()).collect(),
        rows: group.rows.iter().enumerate().map(row).collect(),
        notes: notes(group),
        speeds: Speeds::of(group),
        scaling: speed::scaling(group),
        has_auc: any(|c| !c.auc.is_empty()),
        has_accuracy: any(|c| !c.accuracy.is_empty()),
        best: best_reachable(group.rows.iter().flat_map(records_of)),
        has_loss: any(|c| !c.loss.is_empty()),
        floors: phases.iter().any(|p| p.floors),
        phases,
        runs: group
            .rows
            .iter()
            .enumerate()
            .flat_map(|(i, row)| row.each.iter().map(move |r| RunLine::of(series(i), row, r)))
            .collect(),
        tables: group
            .rows
            .iter()
            .enumerate()
            .flat_map(|(i, row)| row.each.iter().map(move |r| (i, r)))
            .filter_map(|(i, r)| Some(TablesPart::of(&series(i), r, of(r).record.as_ref()?)))
            .flatten()
            .collect(),
    }
}

/// The best AUC that any of the records says can be reached; data of one task have one.
fn best_reachable<'a>(mut records: impl Iterator<Item = &'a RunRecord>) -> Option<String> {
    records.find_map(|r| r.facts.as_ref()?.best_auc).map(|best| format!("{best:.5}"))
}

/// `12 runs, 2 systems; 2026-11-20 to 2026-11-21`
fn subtitle(comparison: &Comparison, runs: usize) -> String {
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut systems: Vec<_> =
        rows(comparison).map(|r| (&r.system.org, &r.system.name, &r.system.round)).collect();
    systems.sort();
    systems.dedup();
    let mut out = format!("{} on {}", counted(runs, "run"), counted(systems.len(), "system"));
    let days =
        || rows(comparison).flat_map(|r| &r.each).filter_map(|r| r.started.as_ref()?.get(..10));
    match (days().min(), days().max()) {
        (Some(first), Some(last)) if first == last => out += &format!(", {first}"),
        // Writing to a string cannot fail.
        (Some(first), Some(last)) => drop(write!(out, ", {first} to {last}")),
        _ => {}
    }
    out
}

/// Every machine and program once, with the rows that they made where one name has several; the
/// first record tells. Of a submission, what its system description says.
fn machines(comparison: &Comparison, contents: &BTreeMap<&str, RunContent>) -> Vec<Facts> {
    type Found = (Facts, BTreeMap<Aspect, identity::Facts>, String);
    let mut found: Vec<Found> = Vec::new();
    for row in rows(comparison) {
        for run in &row.each {
            let Some(record) = contents[run.path.as_str()].record.as_ref() else {
                let facts = Facts::published(&run.system);
                let known = |(other, ..): &Found| *other == facts;
                if !facts.lines.is_empty() && !found.iter().any(known) {
                    found.push((facts, BTreeMap::new(), row.label.clone()));
                }
                continue;
            };
            let aspects = [Aspect::Machine, Aspect::Build, Aspect::Program];
            let identity: Identity = run.identity.clone().only(&aspects);
            let known =
                |(facts, other, _): &Found| facts.name == record.system && *other == identity.facts;
            if !found.iter().any(known) {
                found.push((Facts::of(record), identity.facts, row.label.clone()));
            }
        }
    }
    let names: Vec<String> = found.iter().map(|(facts, ..)| facts.name.clone()).collect();
    let named = |(mut facts, _, label): Found| {
        if names.iter().filter(|n| **n == facts.name).count() > 1 && label != facts.name {
            facts.name = format!("{} ({label})", facts.name);
        }
        facts
    };
    found.into_iter().map(named).collect()
}

/// One a workload, with the rows that ran it; seeds differ and are shown with the runs.
fn workloads(comparison: &Comparison, contents: &BTreeMap<&str, RunContent>) -> Vec<WorkloadPart> {
    let mut parts: Vec<WorkloadPart> = Vec::new();
    for row in rows(comparison) {
        let Some(toml) =
            row.each.iter().find_map(|run| contents[run.path.as_str()].workload.clone())
        else {
            continue;
        };
        match parts.iter_mut().find(|p| p.toml == toml) {
            Some(part) => part.rows += &format!(", {}", row.label),
            None => parts.push(WorkloadPart { rows: row.label.clone(), toml }),
        }
    }
    parts
}

#[cfg(test)]
mod tests;
