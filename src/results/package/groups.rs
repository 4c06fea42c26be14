//! Runs that could be submitted together, and which of them are to be.

use super::{Packaged, choose::in_time, folder_name};
use std::collections::BTreeMap;

/// Runs of one system, benchmark and workload, in which only seeds differ.
#[derive(Debug)]
pub(super) struct Group {
    /// `SYSTEM/WORKLOAD`, and the first run's name where there are several of that name.
    pub name: String,
    system: String,
    benchmark: String,
    runs: Vec<Packaged>,
}

/// All groups, in order of names.
pub(super) fn of(runs: Vec<Packaged>) -> Vec<Group> {
    let mut by_key: BTreeMap<(String, String, String), Vec<Packaged>> = BTreeMap::new();
    for packaged in runs {
        let workload = &packaged.record.workload;
        let system = folder_name(&packaged.record.system);
        let key = (system, workload.benchmark.clone(), packaged.run.key.clone());
        by_key.entry(key).or_default().push(packaged);
    }
    let mut groups: Vec<Group> = by_key
        .into_iter()
        .map(|((system, benchmark, _), mut runs)| {
            runs.sort_by(in_time);
            let name = format!("{system}/{}", folder_name(&runs[0].record.workload.name));
            Group { name, system, benchmark, runs }
        })
        .collect();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for group in &groups {
        *names.entry(group.name.clone()).or_default() += 1;
    }
    for group in groups.iter_mut().filter(|g| names.get(&g.name).is_some_and(|&n| n > 1)) {
        group.name = format!("{}/{}", group.name, group.runs[0].record.run);
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}

/// A line a group, to choose from.
pub(super) fn list(groups: &[Group]) -> Vec<String> {
    let line = |group: &Group| {
        let seeds: Vec<String> =
            group.runs.iter().map(|p| p.record.workload.seed.to_string()).collect();
        let shown = match seeds.as_slice() {
            [a, b, c, .., last] if seeds.len() > 5 => format!("{a}, {b}, {c}, ..., {last}"),
            all => all.join(", "),
        };
        let (runs, of) = match seeds.len() {
            1 => ("1 run".to_owned(), "seed"),
            n => (format!("{n} runs"), "seeds"),
        };
        let program = group.runs[0].run.program.as_deref().unwrap_or("unknown");
        format!(
            "  --only {}  ({}, {runs}, {of} {shown}, from {}, program {program})",
            group.name, group.benchmark, group.runs[0].record.started
        )
    };
    groups.iter().map(line).collect()
}

/// The groups that one of `only` means; all if it is empty.
///
/// # Errors
/// If one of them means none.
pub(super) fn choose(groups: Vec<Group>, only: &[String]) -> Result<Vec<Group>, String> {
    let means = |name: &str, group: &Group| {
        let name = name.trim_matches('/');
        group.name == name
            || group.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
            || group.name.split('/').any(|part| part == name)
            || group.benchmark == name
    };
    if let Some(none) = only.iter().find(|name| !groups.iter().any(|g| means(name, g))) {
        return Err(format!("--only {none} is none of the groups of runs"));
    }
    let wanted = |group: &Group| only.is_empty() || only.iter().any(|name| means(name, group));
    Ok(groups.into_iter().filter(wanted).collect())
}

/// Runs by the folder of a submission that they would come into: system and benchmark.
pub(super) fn by_folder(groups: Vec<Group>) -> Vec<(String, String, Vec<Packaged>)> {
    let mut folders: BTreeMap<(String, String), Vec<Packaged>> = BTreeMap::new();
    for group in groups {
        folders.entry((group.system, group.benchmark)).or_default().extend(group.runs);
    }
    // In order of time, whatever the groups are called.
    for runs in folders.values_mut() {
        runs.sort_by(in_time);
    }
    folders.into_iter().map(|((system, benchmark), runs)| (system, benchmark, runs)).collect()
}
