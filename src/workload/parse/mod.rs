//! Reading a workload file: TOML, overrides, defaults, checks; and writing it back.

mod axes;
mod blank;
mod check;
mod docs;
mod embedding;
mod error;
mod explain;
mod key;
mod keys;
mod nearest;
mod otherwise;
#[cfg(test)]
mod otherwise_tests;
mod schema;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
mod tree;
mod value;
mod words;

pub use docs::document;
pub use error::{Origin, WorkloadError};
pub use nearest::nearest;
pub use otherwise::{Instead, Missing};
pub use schema::{schema, schema_text};

use super::{
    ChosenStore, Fitted, Workload,
    shipped::{self, TextSource},
    sweep::Axis,
};
pub use embedding::keeps_from_caching;
use otherwise::Choice;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, path::Path};
use toml_edit::Value;
use tree::Tree;
use words::Words;

/// A workload and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The workload.
    pub workload: Workload,
    /// Origin of every key that has a value, by `section.key`.
    pub origin: BTreeMap<String, Origin>,
    /// The file as it was read.
    pub source: String,
    /// Where that came from.
    pub read_from: TextSource,
    /// That `[data.otherwise]` was taken, if so.
    pub instead: Option<Instead>,
    /// What `embedding.store = "auto"` came to, once a machine has been looked at.
    pub chosen_store: Option<ChosenStore>,
    /// What `data.fit_memory` came to, once a machine has been looked at.
    pub fitted: Option<Fitted>,
}

/// Reads the workload file `path`, or the workload of the program that has this name, applies `overrides` (`section.key=VALUE`, in order) and checks
/// the result.
///
/// Relative paths in it are relative to the current directory; `${NAME}` in a path takes the
/// environment's value.
///
/// # Errors
/// If the file cannot be read, a key is unknown, missing or wrong, or keys do not go together; the
/// message names file, line and key.
pub fn load(path: &Path, overrides: &[String]) -> Result<Resolved, WorkloadError> {
    load_with(path, overrides, Missing::TakeOtherwise)
}

/// Like [`load`]; `missing` says what becomes of a workload of which a variable is not set.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    path: &Path,
    overrides: &[String],
    missing: Missing,
) -> Result<Resolved, WorkloadError> {
    resolve_with(path, text(path)?, overrides, missing)
}

/// The text of the workload file `path`, or of the program's workload of this name.
///
/// # Errors
/// If the file cannot be read, or is no text.
pub fn text(path: &Path) -> Result<String, WorkloadError> {
    let unreadable =
        |what: String| WorkloadError::Unreadable { place: path.display().to_string(), what };
    String::from_utf8(shipped::read(path)?)
        .map_err(|_| unreadable("not a text file (UTF-8); must be a workload in TOML".to_owned()))
}

/// Name and description of the workload file `text`, whatever else it holds; `None` if it has no
/// name.
pub fn about(text: &str) -> Option<(String, String)> {
    let document = toml_edit::Document::parse(text).ok()?;
    let about = document.as_table().get("workload")?;
    let say = |key: &str| Some(about.get(key)?.as_str()?.to_owned());
    Some((say("name")?, say("description").unwrap_or_default()))
}

/// Like [`load`] with the file's text at hand; `path` is only named in messages.
///
/// # Errors
/// As [`load`].
pub fn resolve(
    path: &Path,
    source: String,
    overrides: &[String],
) -> Result<Resolved, WorkloadError> {
    resolve_with(path, source, overrides, Missing::TakeOtherwise)
}

/// Like [`resolve`]; `missing` says what becomes of a workload of which a variable is not set.
///
/// # Errors
/// As [`load`].
pub fn resolve_with(
    path: &Path,
    source: String,
    overrides: &[String],
    missing: Missing,
) -> Result<Resolved, WorkloadError> {
    let file = Tree::parse(path, &source)?;
    file.refuse_sweep()?;
    resolve_tree(file, path, source, overrides, missing)
}

/// What `[sweep]` of the workload `text` holds; none without one. `path` is only named in messages.
///
/// # Errors
/// If the text is no workload, or `[sweep]` is wrong.
pub fn axes(path: &Path, text: &str) -> Result<Vec<Axis>, WorkloadError> {
    Ok(Tree::parse(path, text)?.axes().to_vec())
}

/// The names of all keys, `section.key`, each once.
pub fn key_names() -> Vec<&'static str> {
    keys::names()
}

/// Refuses a text with `[sweep]`, for those who take one workload.
///
/// # Errors
/// If it has one, or is no workload.
pub fn refuse_sweep(path: &Path, text: &str) -> Result<(), WorkloadError> {
    Tree::parse(path, text)?.refuse_sweep()
}

/// Like [`resolve_with`] for a point of a sweep, whose values are among the overrides: what
/// `[sweep]` holds has no effect.
///
/// # Errors
/// As [`load`].
pub fn resolve_point(
    path: &Path,
    source: String,
    overrides: &[String],
    missing: Missing,
) -> Result<Resolved, WorkloadError> {
    resolve_tree(Tree::parse(path, &source)?, path, source, overrides, missing)
}

fn resolve_tree(
    file: Tree,
    path: &Path,
    source: String,
    overrides: &[String],
    missing: Missing,
) -> Result<Resolved, WorkloadError> {
    let mut tree = file.clone();
    for assignment in overrides {
        tree.set(assignment)?;
    }
    let Choice { used: tree, unused, instead } = otherwise::choose(&file, tree, missing)?;
    let mut workload = read(&tree)?;
    // What `--set` changes is meant for what is used; the file may be whole with it only.
    let wrong: Vec<WorkloadError> = unused.iter().filter_map(|tree| read(tree).err()).collect();
    if wrong.len() == unused.len()
        && let Some(error) = wrong.into_iter().next()
    {
        return Err(error);
    }
    let instead = instead.map(|unset| Instead::name(&mut workload, &tree, unset)).transpose()?;
    let mut origin = BTreeMap::new();
    for (section, keys) in written(&workload) {
        for (key, _) in keys {
            let full = format!("{section}.{key}");
            let from = match tree.origin(&full) {
                // These say what is trained on, and why.
                Origin::Set => Origin::Set,
                _ if section == "workload" && instead.is_some() && full != "workload.quirks" => {
                    Origin::Otherwise
                }
                from => from,
            };
            origin.insert(full, from);
        }
    }
    let read_from = TextSource::new(path, &source);
    Ok(Resolved { workload, origin, source, read_from, instead, chosen_store: None, fitted: None })
}

/// Reads key by key, in the order of the list; those whose default asks others last.
fn read(tree: &Tree) -> Result<Workload, WorkloadError> {
    let mut w = blank::workload();
    for follows in [false, true] {
        for key in keys::all().iter().filter(|k| k.access.follows() == follows) {
            if key.access.applies(&mut w) {
                key.access.read(tree, &mut w)?;
            }
        }
    }
    // A key that was given but means nothing here would have no effect.
    for name in tree.given() {
        if !keys::called(name).any(|k| k.access.applies(&mut w)) {
            let mut means = |key: &str| keys::called(key).any(|k| k.access.applies(&mut w));
            let home = keys::home(name, &mut means);
            let what = format!("has no effect here, it belongs to {home}; remove it");
            return Err(tree.error(name, what));
        }
    }
    check::fill_derived(&mut w, tree)?;
    check::check(&w, tree)?;
    Ok(w)
}

/// All sections with the keys that have a value, in their order; a section without any is left out.
fn written(workload: &Workload) -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let mut w = workload.clone();
    let mut values = |section: &str| -> Vec<(&'static str, Value)> {
        keys::of_section(section)
            .filter_map(|k| Some((k.facts.name.split_once('.')?.1, k.access.write(&mut w)?)))
            .collect()
    };
    let sections = keys::SECTIONS.map(|section| (section, values(section)));
    sections.into_iter().filter(|(_, keys)| !keys.is_empty()).collect()
}

impl Workload {
    /// `data.source` in the word of a workload file: `planted`, `parquet`.
    pub fn data_source(&self) -> &'static str {
        self.data.word()
    }

    /// The canonical form: every key that has a value, defaults included, in a fixed order. Reads
    /// back as the same workload.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for (i, (section, keys)) in written(self).into_iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            out += &format!("[{section}]\n");
            for (key, value) in keys {
                out += &format!("{key} = {value}\n");
            }
        }
        out
    }

    /// The value of `key` (`section.key`) as [`Workload::to_toml`] has it; `None` if it has none.
    pub fn value(&self, key: &str) -> Option<serde_json::Value> {
        let (section, name) = key.split_once('.')?;
        let (_, keys) = written(self).into_iter().find(|(s, _)| *s == section)?;
        keys.into_iter().find(|(k, _)| *k == name).map(|(_, value)| schema::json(&value))
    }

    /// SHA-256 of [`Workload::to_toml`] in hexadecimal. Equal hashes mean equal workloads, threads,
    /// seeds and paths included.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.to_toml()).iter().map(|b| format!("{b:02x}")).collect()
    }
}
