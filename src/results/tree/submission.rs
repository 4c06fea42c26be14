//! What stands around a log in MLPerf's result tree: `ORG/systems/<system>.json` and
//! `ORG/results/<system>/<benchmark>/{result_<n>.txt, scaling.json}` (mlcommons/policies,
//! submission_rules).

use super::System;
use crate::results::ResultsError;
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// System descriptions and scaling factors, each read once.
#[derive(Debug, Default)]
pub(super) struct Systems {
    files: HashMap<PathBuf, Option<Value>>,
    problems: Vec<ResultsError>,
}

/// Where a log stands.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// As far as the tree tells; `name` is empty if nothing does.
    pub system: System,
    /// The benchmark's folder.
    pub benchmark: Option<String>,
    /// `open` or `closed` in the system's description.
    pub division: Option<String>,
    /// The framework in the system's description.
    pub framework: Option<String>,
    /// Score's factor, once MLPerf's checker has written it.
    pub scaling_factor: Option<f64>,
    /// Logs of the same key belong to one submission.
    pub key: String,
}

impl Systems {
    /// What the surroundings of `log` say of it.
    pub fn surroundings(&mut self, log: &Path) -> Surroundings {
        let log = log.canonicalize().unwrap_or_else(|_| log.into());
        let up = |n: usize| log.ancestors().nth(n);
        let name = |n: usize| Some(up(n)?.file_name()?.to_string_lossy().into_owned());
        let folder = up(1).unwrap_or(&log);
        let mut surroundings =
            Surroundings { key: folder.display().to_string(), ..Surroundings::default() };
        surroundings.system.round = round_of(&log);
        let scaling = folder.join("scaling.json");
        if scaling.is_file() {
            surroundings.scaling_factor =
                self.json(&scaling).and_then(|j| j.get("scaling_factor")?.as_f64());
        }
        let (Some(org), Some("results")) = (up(4), name(3).as_deref()) else { return surroundings };
        (surroundings.benchmark, surroundings.system.folder, surroundings.system.org) =
            (name(1), name(2), name(4));
        if let Some(system) = &surroundings.system.folder {
            surroundings.system.name.clone_from(system);
            let description = org.join("systems").join(format!("{system}.json"));
            if description.is_file()
                && let Some(json) = self.json(&description)
            {
                let text = |key: &str| {
                    json.get(key)?
                        .as_str()
                        .map(str::trim)
                        .filter(|s| !s.is_empty())
                        .map(str::to_owned)
                };
                (surroundings.framework, surroundings.division) =
                    (text("framework"), text("division"));
                surroundings.system.org = text("submitter").or(surroundings.system.org.take());
                surroundings.system.name = text("system_name").unwrap_or_else(|| system.clone());
                surroundings.system.description = lines(json);
            }
        }
        surroundings
    }

    /// Descriptions that could not be read, in order of paths.
    pub fn problems(mut self) -> Vec<ResultsError> {
        self.problems.sort_by_key(ToString::to_string);
        self.problems
    }

    fn json(&mut self, path: &Path) -> Option<&Value> {
        if !self.files.contains_key(path) {
            let read =
                fs::read_to_string(path).map_err(ResultsError::read(path)).and_then(|text| {
                    serde_json::from_str(&text)
                        .map_err(|e| ResultsError::malformed(path, format!("broken JSON: {e}")))
                });
            let value = read.map_err(|problem| self.problems.push(problem)).ok();
            self.files.insert(path.into(), value);
        }
        self.files.get(path)?.as_ref()
    }
}

/// Labels and values of a system description, as far as it says something, hardware before
/// software.
fn lines(json: &Value) -> Vec<(String, String)> {
    let known = |text: &&str| {
        !text.is_empty() && !["n/a", "na", "none", "-"].contains(&&*text.to_lowercase())
    };
    let value = |value: &Value| match value {
        Value::String(text) => Some(text.trim()).filter(known).map(str::to_owned),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let label = |key: &str| {
        let words = key.replace('_', " ");
        let mut letters = words.chars();
        letters.next().map_or(String::new(), |c| c.to_uppercase().chain(letters).collect())
    };
    let place = |key: &str| {
        let starts = ["number_of", "host_", "accelerator", "cooling", "hw_", "framework"];
        starts.iter().position(|s| key.starts_with(s)).unwrap_or(starts.len())
    };
    // These stand elsewhere.
    let named = ["submitter", "system_name", "division"];
    let keys = json.as_object().into_iter().flatten().filter(|(k, _)| !named.contains(&k.as_str()));
    let mut lines: Vec<_> =
        keys.filter_map(|(k, v)| Some((place(k), label(k), value(v)?))).collect();
    lines.sort_by_key(|(place, ..)| *place);
    lines.into_iter().map(|(_, label, value)| (label, value)).collect()
}

/// The round in whose tree a path lies: `v3.1`.
pub(super) fn round_of(path: &Path) -> Option<String> {
    path.ancestors().skip(1).find_map(round)
}

/// `v3.1` of `v3.1` or `training_results_v3.1`.
fn round(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?;
    let version = name.strip_prefix("training_results_").unwrap_or(name);
    let (major, minor) = version.strip_prefix('v')?.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (digits(major) && digits(minor)).then(|| version.to_owned())
}
