//! From runs to the comparison.

use super::{Comparison, Filter, Group, Measure, Row, SCHEMA_VERSION, name, rcp, row::row};
use crate::results::{
    identity::{self, Aspect, Difference},
    tree::{Run, entries},
};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
};

/// What is compared, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only runs that all of these keep.
    pub filters: Vec<Filter>,
    /// What makes a row.
    pub rows: Rows,
    /// What makes a group beside the task.
    pub group_by: Option<GroupBy>,
    /// Order of rows, and what ratios are of.
    pub sort: Sort,
    /// The row that ratios refer to: a label, or a name of its system, engine or workload, or a
    /// run's.
    pub baseline: Option<String>,
    /// Price of an hour, by a name of the system.
    pub price_per_hour: Vec<(String, f64)>,
}

/// What makes a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rows {
    /// A system and workload, and all that was set but the seed.
    #[default]
    System,
    /// The same, but of each path that was typed for itself.
    Path,
    /// A run.
    Run,
}

/// What makes a group beside the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The system's name.
    System,
    /// The workload's name.
    Workload,
    /// The engine, or framework.
    Engine,
    /// Numbers in matrix products.
    Precision,
    /// Samples a step.
    Batch,
    /// The submitter.
    Org,
    /// MLPerf's round.
    Round,
}

/// Order of rows, best first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// End-to-end throughput.
    #[default]
    Throughput,
    /// Throughput without evaluations, steady state if all rows have it.
    Steady,
    /// Time to target.
    Time,
    /// Epochs to target.
    Epochs,
    /// Final AUC.
    Auc,
    /// The row's name.
    Name,
}

/// Sets `runs` side by side.
///
/// # Errors
/// If no run is left by the filters, or the baseline names no row, or several of one group.
pub fn build(runs: Vec<Run>, options: &Options) -> Result<Comparison, String> {
    let all = runs.len();
    let runs: Vec<Run> =
        runs.into_iter().filter(|r| options.filters.iter().all(|f| f.keeps(r))).collect();
    if runs.is_empty() {
        return Err(match all {
            0 => "no results to compare".to_owned(),
            n => format!("none of the {n} runs passes the filters"),
        });
    }
    let mut rows: Vec<Row> = gather(runs, options.rows).into_iter().filter_map(row).collect();
    for row in &mut rows {
        row.notes.extend(rcp::verdict(row));
    }
    label(&mut rows, options.rows);
    let mut groups = group(rows, options.group_by);
    if let Some(name) = &options.baseline {
        known(&groups, name)?;
    }
    for g in &mut groups {
        rank(g, options)?;
    }
    groups.sort_by_key(|g| {
        let has_baseline =
            options.baseline.as_ref().is_some_and(|name| g.rows.iter().any(|r| is_called(r, name)));
        (!has_baseline, std::cmp::Reverse(g.rows.len()))
    });
    set_apart(&mut groups);
    Ok(Comparison {
        schema_version: SCHEMA_VERSION,
        sort: options.sort,
        baseline: options.baseline.clone(),
        groups,
    })
}

/// Runs of one row, in order of first appearance.
fn gather(runs: Vec<Run>, by: Rows) -> Vec<Vec<Run>> {
    let mut order: HashMap<String, usize> = HashMap::new();
    let mut rows: Vec<Vec<Run>> = Vec::new();
    for run in runs {
        let key = match by {
            Rows::System => run.key.clone(),
            Rows::Path => format!("{}\n{}", run.argument, run.key),
            Rows::Run => run.path.clone(),
        };
        let at = *order.entry(key).or_insert_with(|| {
            rows.push(Vec::new());
            rows.len() - 1
        });
        rows[at].push(run);
    }
    rows
}

/// Gives each row a name that no other row has: the system's, and as much behind it as it takes.
fn label(rows: &mut [Row], by: Rows) {
    for row in rows.iter_mut() {
        let first = &row.each[0];
        row.label = match by {
            Rows::System => row.system.name.clone(),
            Rows::Path => first.argument.trim_end_matches('/').to_owned(),
            Rows::Run => format!("{} {}", row.system.name, first.name),
        };
        match by {
            Rows::System => {}
            Rows::Path => row.name += &format!(" {}", row.label),
            Rows::Run => row.name += &format!(" {}", first.name),
        }
    }
    type Detail = fn(&Row) -> Option<String>;
    let details: [Detail; 7] = [
        |r| r.system.org.clone(),
        |r| Some(r.workload.clone()),
        |r| r.engine.clone(),
        |r| r.precision.clone(),
        |r| Some(format!("batch {}", r.batch?)),
        |r| {
            r.system
                .round
                .clone()
                .or_else(|| Some(r.program.as_ref()?.split_once(' ')?.1.chars().take(7).collect()))
        },
        |r| {
            r.settings
                .get("engine.threads")
                .map(|n| format!("{n} thread{}", if n == "1" { "" } else { "s" }))
        },
    ];
    for detail in details {
        tell_apart(rows, |same| same.iter().map(|row| detail(row)).collect());
    }
    // Then what else their identities differ in; a few facts are enough.
    for _ in 0..3 {
        tell_apart(rows, |same| {
            let facts: Vec<_> = same[1..]
                .iter()
                .flat_map(|row| identity::differences(&row.identity, &same[0].identity))
                .filter(|d| d.a.is_some() || d.b.is_some())
                .collect();
            let shown = |row: &Row, d: &Difference| {
                let value = row.identity.said(d.aspect, &d.fact);
                format!("{} {}", d.fact, value.chars().take(40).collect::<String>())
            };
            let fresh = facts.iter().find(|d| {
                same.iter().all(|row| !row.label.contains(&format!(" {}", shown(row, d))))
            });
            same.iter().map(|row| fresh.map(|d| shown(row, d))).collect()
        });
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for row in &mut *rows {
        let n = seen.entry(row.label.clone()).or_default();
        *n += 1;
        if *n > 1 {
            row.label += &format!(" #{n}");
        }
    }
    tell_names_apart(rows);
}

/// Gives rows whose names are equal (their programs alone differ, or they are copies of one result)
/// what is each row's own, whatever its place among the others.
fn tell_names_apart(rows: &mut [Row]) {
    let of = |row: &Row| (row.workload.clone(), row.name.clone());
    for own in [name::of_program as fn(&Row) -> String, name::of_place] {
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        rows.iter().for_each(|row| *seen.entry(of(row)).or_default() += 1);
        for row in rows.iter_mut().filter(|row| seen[&of(row)] > 1) {
            row.name += &format!(" {}", own(row));
        }
    }
}

/// Appends details to labels that several rows share, where they differ.
fn tell_apart(rows: &mut [Row], details: impl Fn(&[&Row]) -> Vec<Option<String>>) {
    let mut same: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        same.entry(row.label.clone()).or_default().push(i);
    }
    for indices in same.into_values().filter(|i| i.len() > 1) {
        let of_rows: Vec<&Row> = indices.iter().map(|&i| &rows[i]).collect();
        let values = details(&of_rows);
        if values.iter().any(|v| *v != values[0]) {
            for (&i, value) in indices.iter().zip(values) {
                rows[i].label += &value.map_or(String::new(), |v| format!(" {v}"));
            }
        }
    }
}

/// Rows of one task, and of one value of `by`.
fn group(rows: Vec<Row>, by: Option<GroupBy>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let task = row.each[0].task.clone();
        let value = by.map(|by| value(&row, by));
        match groups.iter_mut().find(|g| g.by == value && g.task.differs(&task).is_none()) {
            Some(g) => g.rows.push(row),
            None => groups.push(Group {
                title: String::new(),
                task,
                by: value,
                apart: None,
                ratio_of: Measure::EndToEnd,
                rows: vec![row],
            }),
        }
    }
    for g in &mut groups {
        let first = &g.rows[0].workload;
        g.title = if g.rows.iter().all(|r| r.workload == *first) {
            first.clone()
        } else {
            g.task.benchmark.clone()
        };
    }
    groups
}

fn value(row: &Row, by: GroupBy) -> String {
    let unknown = || "unknown".to_owned();
    match by {
        GroupBy::System => row.system.name.clone(),
        GroupBy::Workload => row.workload.clone(),
        GroupBy::Engine => row.engine.clone().unwrap_or_else(unknown),
        GroupBy::Precision => row.precision.clone().unwrap_or_else(unknown),
        GroupBy::Batch => row.batch.map_or_else(unknown, |b| format!("batch {b}")),
        GroupBy::Org => row.system.org.clone().unwrap_or_else(unknown),
        GroupBy::Round => row.system.round.clone().unwrap_or_else(unknown),
    }
}

fn measure(group: &Group, sort: Sort) -> Measure {
    match sort {
        Sort::Time => Measure::SecondsToTarget,
        Sort::Steady => group.without_eval(),
        _ => Measure::EndToEnd,
    }
}

/// Sorts a group, and fills in ratios, differences and prices.
fn rank(group: &mut Group, options: &Options) -> Result<(), String> {
    let measure = measure(group, options.sort);
    group.ratio_of = measure;
    let score = |row: &Row| -> Option<f64> {
        match options.sort {
            Sort::Throughput | Sort::Steady => measure.of(row),
            Sort::Time => row.seconds_to_target.map(|t| -t),
            Sort::Epochs => row.epochs_to_target.map(|e| -e),
            Sort::Auc => row.auc,
            Sort::Name => None,
        }
    };
    group.rows.sort_by(|a, b| match (score(a), score(b)) {
        (Some(x), Some(y)) => y.total_cmp(&x).then_with(|| a.label.cmp(&b.label)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.label.cmp(&b.label),
    });
    for row in &mut group.rows {
        let price = options.price_per_hour.iter().find(|(name, _)| is_called(row, name));
        row.cost =
            price.zip(row.seconds_to_target).map(|((_, price), seconds)| price * seconds / 3600.0);
    }
    let Some(reference) = reference(group, measure, options.baseline.as_deref())? else {
        return Ok(());
    };
    let base = group.rows[reference].clone();
    let value = measure.of(&base);
    let alone = group.rows.len() == 1;
    for (i, row) in group.rows.iter_mut().enumerate() {
        row.ratio =
            measure.of(row).zip(value).filter(|_| !alone).map(|(x, base)| measure.ratio(x, base));
        row.differences = (i != reference).then(|| differences(row, &base)).flatten();
    }
    Ok(())
}

/// In what a row differs from `base` beside what columns show. Systems of other names are other
/// machines, which needs no telling.
fn differences(row: &Row, base: &Row) -> Option<String> {
    const MOST: usize = 3;
    let mut said: Vec<String> = entries(&row.settings, &base.settings).into_iter().collect();
    let one_system = row.system.name == base.system.name;
    let others: Vec<String> = identity::differences(&row.identity, &base.identity)
        .into_iter()
        .filter(|d| match d.aspect {
            // Settings and columns have shown these.
            Aspect::Engine | Aspect::Model => false,
            Aspect::Machine => one_system,
            Aspect::Data | Aspect::Build | Aspect::Program => true,
        })
        .map(|d| d.to_string())
        .collect();
    said.extend(others.iter().take(MOST).cloned());
    if others.len() > MOST {
        said.push(format!("and {} more", others.len() - MOST));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// The row that ratios refer to: the baseline, or the best. `None` if the baseline is in another
/// group, or nothing is known.
fn reference(
    group: &Group,
    measure: Measure,
    baseline: Option<&str>,
) -> Result<Option<usize>, String> {
    let Some(name) = baseline else {
        let better = |a: &f64, b: &f64| measure.ratio(*a, *b).total_cmp(&1.0);
        let known = group.rows.iter().enumerate().filter_map(|(i, r)| Some((i, measure.of(r)?)));
        return Ok(known.max_by(|a, b| better(&a.1, &b.1)).map(|(i, _)| i));
    };
    let rows = || group.rows.iter().enumerate();
    // A label is meant before anything that several rows share.
    let exact = rows().find(|(_, r)| r.label == name).map(|(i, _)| i);
    let called: Vec<usize> = rows().filter(|(_, r)| is_called(r, name)).map(|(i, _)| i).collect();
    match (exact, called.as_slice()) {
        (Some(i), _) => Ok(Some(i)),
        (None, [i]) => Ok(Some(*i)),
        (None, []) => Ok(None),
        (None, several) => {
            let labels: Vec<String> =
                several.iter().map(|&i| format!("{:?}", group.rows[i].label)).collect();
            Err(format!(
                "--baseline {name} may be several rows; must be one of {}",
                labels.join(", ")
            ))
        }
    }
}

/// Whether a person may call the row `name`.
pub fn is_called(row: &Row, name: &str) -> bool {
    let of_run =
        |r: &Run| r.name == name || r.path.trim_end_matches('/') == name.trim_end_matches('/');
    row.label == name
        || row.workload == name
        || row.engine.as_deref() == Some(name)
        || row.system.names().any(|n| n == name)
        || row.each.iter().any(of_run)
}

fn known(groups: &[Group], name: &str) -> Result<(), String> {
    let rows = || groups.iter().flat_map(|g| &g.rows);
    if rows().any(|r| is_called(r, name)) {
        return Ok(());
    }
    let labels: Vec<String> = rows().map(|r| format!("{:?}", r.label)).collect();
    Err(format!("--baseline {name} is none of the rows; must be one of {}", labels.join(", ")))
}

/// Says why each group but the first is one of its own.
fn set_apart(groups: &mut [Group]) {
    let Some((first, others)) = groups.split_first_mut() else { return };
    for g in others {
        g.apart = g
            .task
            .differs(&first.task)
            .or_else(|| Some(format!("grouped by itself: {}", g.by.as_ref()?)));
    }
}
