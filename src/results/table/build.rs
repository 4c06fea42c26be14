//! From runs to the comparison.

use super::{
    Comparison, Fact, Field, Figure, Filter, Group, Measure, Row, SCHEMA_VERSION, field::order,
    name, rcp, row::row,
};
use crate::{
    results::{
        identity::{self, Aspect, Difference},
        reference::ReferenceRecord,
        tree::{Ending, Run, entries},
    },
    stats,
};
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
    pub group_by: Option<Field>,
    /// Order of rows, and what ratios are of.
    pub sort: Field,
    /// What tables show; empty = what there is to tell.
    pub columns: Vec<Field>,
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

/// Sets `runs` side by side.
///
/// # Errors
/// If a column is none, no run is left by the filters, or the baseline names no row, or several of
/// one group.
pub fn build(runs: Vec<Run>, options: &Options) -> Result<Comparison, String> {
    let all = runs.len();
    check(&runs, options)?;
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
        row.notes.extend(rcp::verdict(row).or_else(|| by_record(row)));
    }
    label(&mut rows, options.rows);
    let mut groups = group(rows, options.group_by.as_ref());
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
        sort: options.sort.clone(),
        columns: options.columns.clone(),
        baseline: options.baseline.clone(),
        groups,
    })
}

/// Refuses columns that there are none of.
fn check(runs: &[Run], options: &Options) -> Result<(), String> {
    let named = |option: &str, done: Result<(), String>| done.map_err(|e| format!("{option}: {e}"));
    options.filters.iter().try_for_each(|f| named("--filter", f.check(runs)))?;
    options.columns.iter().try_for_each(|f| named("--columns", f.check(runs)))?;
    named("--sort", options.sort.check(runs))?;
    match &options.group_by {
        Some(Field::Figure(_)) => {
            Err("--group-by: takes what was run, and this is measured".to_owned())
        }
        Some(field) => named("--group-by", field.check(runs)),
        None => Ok(()),
    }
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
    let mut of: HashMap<String, usize> = HashMap::new();
    rows.iter().for_each(|row| *of.entry(row.label.clone()).or_default() += 1);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for row in &mut *rows {
        let (n, of) = (seen.entry(row.label.clone()).or_default(), of[&row.label]);
        *n += 1;
        if of > 1 {
            row.label += &format!(" ({n} of {of})");
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
fn group(mut rows: Vec<Row>, by: Option<&Field>) -> Vec<Group> {
    if let Some(key @ Field::Key(_)) = by {
        rows.sort_by(|a, b| order(key.text(a).as_deref(), key.text(b).as_deref()));
    }
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

fn value(row: &Row, by: &Field) -> String {
    let value = by.text(row).unwrap_or_else(|| "unknown".to_owned());
    match by {
        Field::Fact(Fact::Batch) if row.batch.is_some() => format!("batch {value}"),
        Field::Key(key) => format!("{key} {value}"),
        _ => value,
    }
}

fn measure(group: &Group, sort: &Field) -> Measure {
    match sort {
        Field::Figure(Figure::Time) => Measure::SecondsToTarget,
        Field::Figure(Figure::Steady) => group.without_eval(),
        Field::Figure(Figure::Training) => Measure::Training,
        _ => Measure::EndToEnd,
    }
}

/// The order of two rows by `sort`, best first; those of which nothing is known last.
fn before(sort: &Field, measure: Measure, a: &Row, b: &Row) -> Ordering {
    let by_text = |row: &Row| sort.text(row);
    let score = |row: &Row| match sort {
        Field::Figure(Figure::Steady) => measure.of(row),
        _ => sort.number(row).map(|x| if sort.ascends() { -x } else { x }),
    };
    let by_value = match sort {
        Field::Fact(Fact::Name) => Ordering::Equal,
        Field::Figure(_) => match (score(a), score(b)) {
            (Some(x), Some(y)) => y.total_cmp(&x),
            (x, y) => y.is_some().cmp(&x.is_some()),
        },
        _ => order(by_text(a).as_deref(), by_text(b).as_deref()),
    };
    by_value.then_with(|| a.label.cmp(&b.label))
}

/// Sorts a group, and fills in ratios, differences and prices.
fn rank(group: &mut Group, options: &Options) -> Result<(), String> {
    let measure = measure(group, &options.sort);
    group.ratio_of = measure;
    for row in &mut group.rows {
        let price = options.price_per_hour.iter().find(|(name, _)| is_called(row, name));
        let cost = |seconds: f64| price.map(|(_, price)| price * seconds / 3600.0);
        row.cost = row.seconds_to_target.and_then(cost);
        row.cost_an_epoch = seconds_an_epoch(row).and_then(cost);
    }
    let sort = |rows: &mut Vec<Row>| rows.sort_by(|a, b| before(&options.sort, measure, a, b));
    sort(&mut group.rows);
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
    // Ratios are known by now.
    sort(&mut group.rows);
    Ok(())
}

/// How a row converges beside the record of its workload that the program carries, if its task is
/// that of the record.
fn by_record(row: &Row) -> Option<String> {
    let record = ReferenceRecord::shipped(&row.workload)?;
    Some(record.judge(&row.each).ok()?.sentence())
}

/// Mean seconds of an epoch, evaluations included, of the runs that count.
fn seconds_an_epoch(row: &Row) -> Option<f64> {
    let counted = row.each.iter().filter(|r| r.ending != Ending::Unfinished);
    let of = |r: &Run| Some(r.seconds? / r.epochs.filter(|e| *e > 0.0)?);
    stats::mean(&counted.map(of).collect::<Option<Vec<f64>>>()?)
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
