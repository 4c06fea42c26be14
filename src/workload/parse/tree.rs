//! The file and the overrides as one flat table: `section.key` -> value and origin.

use super::{
    axes::axes,
    error::{Origin, WorkloadError},
    keys,
    nearest::nearest,
};
use crate::workload::sweep::{self, Axis};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml_edit::{Document, Item, TableLike, Value};

/// One key's value and where it came from.
#[derive(Clone)]
pub(super) struct Entry {
    pub value: Value,
    pub origin: Origin,
    /// The key as it was given: `target.otherwise.auc` may stand for `target.auc`.
    pub given: String,
}

/// All keys that were given.
#[derive(Clone)]
pub(super) struct Tree {
    path: PathBuf,
    /// Line of each section's header, and of each `[section.otherwise]`.
    sections: BTreeMap<String, usize>,
    entries: BTreeMap<String, Entry>,
    /// Keys of `[section.otherwise]`, by `section.key`.
    otherwise: BTreeMap<String, Entry>,
    /// What `--set` did to keys, in order; `None` took one out.
    sets: Vec<(String, Option<Entry>)>,
    /// Keys of `[section.otherwise]` that `--set` named.
    otherwise_sets: Vec<String>,
    /// Sections that are those of `otherwise` as a whole.
    replaced: Vec<&'static str>,
    /// What `[sweep]` holds.
    axes: Vec<Axis>,
}

impl Tree {
    /// Reads `text`, the contents of `path`, refusing sections and keys that do not exist.
    pub fn parse(path: &Path, text: &str) -> Result<Tree, WorkloadError> {
        let line_of = |byte: usize| {
            1 + text.as_bytes()[..byte.min(text.len())].iter().filter(|&&c| c == b'\n').count()
        };
        let document = Document::parse(text).map_err(|e| {
            // An error at the end of the file is shown at its last line that holds something.
            let byte = e.span().map_or(0, |s| s.start).min(text.trim_end().len());
            WorkloadError::Unreadable {
                place: format!("{}:{}", path.display(), line_of(byte)),
                what: format!("not valid TOML: {}", one_line(e.message())),
            }
        })?;
        let mut tree = Tree {
            path: path.to_path_buf(),
            sections: BTreeMap::new(),
            entries: BTreeMap::new(),
            otherwise: BTreeMap::new(),
            sets: Vec::new(),
            otherwise_sets: Vec::new(),
            replaced: Vec::new(),
            axes: Vec::new(),
        };
        let root = document.as_table();
        let mut sections: Vec<_> =
            root.iter().filter_map(|(name, _)| root.get_key_value(name)).collect();
        sections.sort_by_key(|(key, _)| key.span().map(|s| s.start));
        for (key, item) in sections {
            let line = line_of(key.span().map_or(0, |s| s.start));
            let refuse = |key: &str, line, what| WorkloadError::InFile {
                path: path.to_path_buf(),
                line,
                key: key.to_owned(),
                what,
            };
            let section = key.get();
            if section == sweep::SECTION {
                tree.sections.insert(section.to_owned(), line);
                tree.axes = axes(path, item, line, &line_of)?;
                continue;
            }
            if !keys::SECTIONS.contains(&section) {
                return Err(refuse(section, line, unknown_section(section)));
            }
            let Some(table) = item.as_table_like() else {
                return Err(refuse(
                    section,
                    line,
                    format!("must be a section: write [{section}] once and its keys below it"),
                ));
            };
            tree.sections.insert(section.to_owned(), line);
            tree.read_section(section, line, table, &line_of)?;
        }
        Ok(tree)
    }

    /// The axes of `[sweep]`; none without one.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Refuses a file that is a sweep.
    pub fn refuse_sweep(&self) -> Result<(), WorkloadError> {
        match self.sections.get(sweep::SECTION) {
            None => Ok(()),
            Some(&line) => {
                let what = "several workloads in one, which only dlrm-bench run takes; must be taken out here".to_owned();
                let (path, key) = (self.path.clone(), sweep::SECTION.to_owned());
                Err(WorkloadError::InFile { path, line, key, what })
            }
        }
    }

    /// Takes in the keys of a section, or of the table `otherwise` within it.
    fn read_section(
        &mut self,
        header: &str,
        line: usize,
        table: &dyn TableLike,
        line_of: &dyn Fn(usize) -> usize,
    ) -> Result<(), WorkloadError> {
        let section = header.split('.').next().unwrap_or_default();
        let within = header != section;
        let mut items: Vec<_> =
            table.iter().filter_map(|(name, _)| table.get_key_value(name)).collect();
        items.sort_by_key(|(key, _)| key.span().map(|s| s.start));
        for (name, item) in items {
            let line = name.span().map_or(line, |s| line_of(s.start));
            let (name, given) = (name.get(), format!("{header}.{}", name.get()));
            let refuse = |what: String| {
                let (path, key) = (self.path.clone(), given.clone());
                WorkloadError::InFile { path, line, key, what }
            };
            if name == OTHERWISE && !within {
                if keys::otherwise(section).is_none() {
                    return Err(refuse(no_otherwise(section)));
                }
                let Some(table) = item.as_table_like() else {
                    return Err(refuse(format!("must be a table: write [{given}]")));
                };
                self.sections.insert(given.clone(), line);
                self.read_section(&given, line, table, line_of)?;
                continue;
            }
            let full = format!("{section}.{name}");
            if !keys::exists(&full) {
                return Err(refuse(unknown_key(section, name)));
            }
            let Item::Value(value) = item else {
                return Err(refuse("is a table; must be a plain value".to_owned()));
            };
            let origin = Origin::File { path: self.path.clone(), line };
            let into = if within { &mut self.otherwise } else { &mut self.entries };
            into.insert(full, Entry { value: value.clone(), origin, given });
        }
        Ok(())
    }

    /// Applies `section.key=VALUE`. VALUE is read as TOML, or as a string where that fails; nothing
    /// after `=` takes the key out, so that its default applies.
    pub fn set(&mut self, assignment: &str) -> Result<(), WorkloadError> {
        let refuse =
            |key: &str, what: String| WorkloadError::InOverride { key: key.to_owned(), what };
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(refuse(
                assignment,
                "must be KEY=VALUE, as in --set train.batch_size=4096".to_owned(),
            ));
        };
        let (key, text) = (key.trim(), text.trim());
        let Some((section, name)) = key.split_once('.') else {
            return Err(refuse(
                key,
                "the key must name its section, as in --set train.batch_size=4096".to_owned(),
            ));
        };
        if !keys::SECTIONS.contains(&section) {
            return Err(refuse(key, unknown_section(section)));
        }
        let inner = name.strip_prefix(OTHERWISE).and_then(|rest| rest.strip_prefix('.'));
        if (inner.is_some() || name == OTHERWISE) && keys::otherwise(section).is_none() {
            return Err(refuse(key, no_otherwise(section)));
        }
        if name == OTHERWISE {
            let what = format!("is a table; must be set key by key, as in --set {key}.KEY=VALUE");
            return Err(refuse(key, what));
        }
        let full = format!("{section}.{}", inner.unwrap_or(name));
        if !keys::exists(&full) {
            return Err(refuse(key, unknown_key(section, inner.unwrap_or(name))));
        }
        let value = match text.parse::<Value>() {
            _ if text.is_empty() => None,
            Ok(value) => Some(value),
            Err(e) if text.starts_with(['[', '{', '"', '\'']) => {
                return Err(refuse(key, format!("not a TOML value: {}", one_line(e.message()))));
            }
            Err(_) => Some(Value::from(text)),
        };
        let entry = value.map(|value| Entry { value, origin: Origin::Set, given: key.to_owned() });
        if inner.is_some() {
            put(&mut self.otherwise, &full, entry);
            self.otherwise_sets.push(full);
        } else {
            put(&mut self.entries, &full, entry.clone());
            self.sets.push((full, entry));
        }
        Ok(())
    }

    /// Keys of `[section.otherwise]` that were given, by `section.key`, with how they were given.
    pub fn otherwise_given(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.otherwise.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Keys outside every `otherwise` that `--set` named.
    pub fn set_keys(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(|(key, _)| key.as_str())
    }

    /// Keys of `[section.otherwise]` that `--set` named, by `section.key`.
    pub fn otherwise_set_keys(&self) -> impl Iterator<Item = &str> {
        self.otherwise_sets.iter().map(String::as_str)
    }

    /// Whether there is a table `[section.otherwise]`, or a key of one.
    pub fn has_otherwise(&self, section: &str) -> bool {
        let of = |key: &str| key.split_once('.').is_some_and(|(s, _)| s == section);
        self.sections.contains_key(&format!("{section}.{OTHERWISE}"))
            || self.otherwise.keys().any(|key| of(key))
    }

    /// The tree where `[data.otherwise]` is taken: data are those, keys of other sections' tables
    /// stand in for the sections' own, and `--set` comes after both.
    pub fn otherwise(&self) -> Tree {
        let mut tree = self.clone();
        let of = |key: &str, section: &str| key.split_once('.').is_some_and(|(s, _)| s == section);
        // A kind decides which other keys there are, so that a table with one is a whole section.
        let whole = |section: &str| {
            section == "data" || self.otherwise.contains_key(&format!("{section}.kind"))
        };
        tree.replaced = keys::SECTIONS.into_iter().filter(|s| whole(s)).collect();
        for section in &tree.replaced {
            tree.entries.retain(|key, _| !of(key, section));
        }
        for other in self.otherwise.keys().flat_map(|key| keys::rivals(key)) {
            tree.entries.remove(other);
        }
        tree.entries.extend(self.otherwise.iter().map(|(key, e)| (key.clone(), e.clone())));
        for (key, entry) in self.sets.iter().filter(|(key, _)| !of(key, "data")) {
            put(&mut tree.entries, key, entry.clone());
        }
        tree
    }

    /// The values of a section's keys.
    pub fn values(&self, section: &str) -> impl Iterator<Item = (&str, &Value)> {
        let of = move |key: &str| key.split_once('.').is_some_and(|(s, _)| s == section);
        self.entries.iter().filter(move |(key, _)| of(key)).map(|(key, e)| (key.as_str(), &e.value))
    }

    /// The tree with every value of a key of `section` made anew.
    pub fn with_values(&self, section: &str, make: &dyn Fn(&str, &Value) -> Value) -> Tree {
        let mut tree = self.clone();
        for (key, entry) in &mut tree.entries {
            if key.split_once('.').is_some_and(|(s, _)| s == section) {
                entry.value = make(key, &entry.value);
            }
        }
        tree
    }

    /// The entry of `key`, if it was given.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.get(key).map_or(Origin::Default, |e| e.origin.clone())
    }

    /// All keys that were given, in the order of the file, overrides last.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        let mut keys: Vec<_> = self.entries.iter().collect();
        keys.sort_by_key(|(_, e)| match e.origin {
            Origin::File { line, .. } => line,
            _ => usize::MAX,
        });
        keys.into_iter().map(|(k, _)| k.as_str())
    }

    /// The error that `key` is wrong: at its own line or override; at its section's where it was
    /// not given.
    pub fn error(&self, key: &str, what: impl Into<String>) -> WorkloadError {
        let what = what.into();
        match self.get(key) {
            Some(entry) => entry.error(&self.path, what),
            None => {
                let (section, name) = key.split_once('.').unwrap_or((key, ""));
                let header = format!("{section}.{OTHERWISE}");
                let own = self.sections.get(section).copied().unwrap_or(1);
                let (line, key) = match self.replaced.contains(&section) {
                    true => (
                        self.sections.get(&header).copied().unwrap_or(own),
                        format!("{header}.{name}"),
                    ),
                    false => (own, key.to_owned()),
                };
                WorkloadError::InFile { path: self.path.clone(), line, key, what }
            }
        }
    }

    /// The error that the table `[section.otherwise]` is wrong.
    pub fn otherwise_error(&self, section: &str, what: String) -> WorkloadError {
        let key = format!("{section}.{OTHERWISE}");
        let first = self.otherwise.iter().find(|(k, _)| k.starts_with(&format!("{section}.")));
        match (self.sections.get(&key), first) {
            (Some(&line), _) => WorkloadError::InFile { path: self.path.clone(), line, key, what },
            (None, Some((_, entry))) => entry.error(&self.path, what),
            (None, None) => self.error(section, what),
        }
    }
}

impl Entry {
    /// The error that this key is wrong.
    pub fn error(&self, file: &Path, what: String) -> WorkloadError {
        let key = self.given.clone();
        match &self.origin {
            Origin::File { path, line } => {
                WorkloadError::InFile { path: path.clone(), line: *line, key, what }
            }
            Origin::Set => WorkloadError::InOverride { key, what },
            // What was given is from the file or an override.
            _ => WorkloadError::InFile { path: file.to_path_buf(), line: 1, key, what },
        }
    }
}

/// The table within a section that holds what stands in for it.
pub(super) const OTHERWISE: &str = "otherwise";

fn put(entries: &mut BTreeMap<String, Entry>, key: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => drop(entries.insert(key.to_owned(), entry)),
        None => drop(entries.remove(key)),
    }
}

fn no_otherwise(section: &str) -> String {
    let with: Vec<_> = keys::OTHERWISE.iter().map(|(s, _)| format!("[{s}.{OTHERWISE}]")).collect();
    format!("[{section}] has no table otherwise; there are {}", with.join(" "))
}

pub(super) fn unknown_section(name: &str) -> String {
    match nearest(name, keys::SECTIONS) {
        Some(near) => format!("unknown section; did you mean [{near}]?"),
        None => format!(
            "unknown section; the sections are {}",
            keys::SECTIONS.map(|s| format!("[{s}]")).join(" ")
        ),
    }
}

pub(super) fn unknown_key(section: &str, name: &str) -> String {
    let names = keys::names();
    let here: Vec<&str> =
        names.iter().filter_map(|k| k.strip_prefix(section)?.strip_prefix('.')).collect();
    if let Some(near) = nearest(name, here.iter().copied()) {
        return format!("unknown key; did you mean {near}?");
    }
    // A key that stands in the wrong section is the next likeliest slip.
    if let Some(there) = names.iter().find(|k| k.split_once('.').is_some_and(|(_, n)| n == name)) {
        return format!("unknown key; did you mean {there}?");
    }
    format!("unknown key; [{section}] knows {}", here.join(", "))
}

/// The first line of a parser's message.
fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}
