//! The file and the overrides as one flat table: `section.key` -> value and origin.

use super::{
    error::{Origin, WorkloadError},
    keys,
    nearest::nearest,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml_edit::{Document, Item, Value};

/// One key's value and where it came from.
pub(super) struct Entry {
    pub value: Value,
    pub origin: Origin,
}

/// All keys that were given.
pub(super) struct Tree {
    path: PathBuf,
    /// Line of each section's header.
    sections: BTreeMap<String, usize>,
    entries: BTreeMap<String, Entry>,
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
        let mut tree =
            Tree { path: path.to_path_buf(), sections: BTreeMap::new(), entries: BTreeMap::new() };
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
            let mut items: Vec<_> =
                table.iter().filter_map(|(name, _)| table.get_key_value(name)).collect();
            items.sort_by_key(|(key, _)| key.span().map(|s| s.start));
            for (name, item) in items {
                let line = name.span().map_or(line, |s| line_of(s.start));
                let full = format!("{section}.{}", name.get());
                if !keys::exists(&full) {
                    return Err(refuse(&full, line, unknown_key(section, name.get())));
                }
                let Item::Value(value) = item else {
                    return Err(refuse(
                        &full,
                        line,
                        "is a table; must be a plain value".to_owned(),
                    ));
                };
                let origin = Origin::File { path: path.to_path_buf(), line };
                tree.entries.insert(full, Entry { value: value.clone(), origin });
            }
        }
        Ok(tree)
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
        if !keys::exists(key) {
            return Err(refuse(key, unknown_key(section, name)));
        }
        if text.is_empty() {
            self.entries.remove(key);
            return Ok(());
        }
        let value = match text.parse::<Value>() {
            Ok(value) => value,
            Err(e) if text.starts_with(['[', '{', '"', '\'']) => {
                return Err(refuse(key, format!("not a TOML value: {}", one_line(e.message()))));
            }
            Err(_) => Value::from(text),
        };
        self.entries.insert(key.to_owned(), Entry { value, origin: Origin::Set });
        Ok(())
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
        let (key, what) = (key.to_owned(), what.into());
        let section = key.split('.').next().unwrap_or_default();
        match self.origin(&key) {
            Origin::File { path, line } => WorkloadError::InFile { path, line, key, what },
            Origin::Set => WorkloadError::InOverride { key, what },
            Origin::Default => {
                let line = self.sections.get(section).copied().unwrap_or(1);
                WorkloadError::InFile { path: self.path.clone(), line, key, what }
            }
        }
    }
}

fn unknown_section(name: &str) -> String {
    match nearest(name, keys::SECTIONS) {
        Some(near) => format!("unknown section; did you mean [{near}]?"),
        None => format!(
            "unknown section; the sections are {}",
            keys::SECTIONS.map(|s| format!("[{s}]")).join(" ")
        ),
    }
}

fn unknown_key(section: &str, name: &str) -> String {
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
