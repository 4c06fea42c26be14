//! `FILE.columns.json`: what the columns of a file are, beside files of formats that have no room
//! to say so.

use crate::{
    data::{
        DataError,
        rows::{Hotness, IdColumn, Layout, Numbers, io, wrong},
    },
    host::atomic_file,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// A larger description is none.
const LARGEST: u64 = 64 << 20;
/// More ids of a sample than this are a slip.
const MOST: usize = 1 << 20;

/// The columns of a file, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sidecar {
    /// Name of the label.
    #[serde(default)]
    pub label: String,
    /// Names of the dense columns.
    #[serde(default)]
    pub dense: Vec<String>,
    /// The categorical columns.
    #[serde(default)]
    pub categorical: Vec<Category>,
    /// Whether label and dense columns of HugeCTR's files are fractions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_label_dense: Option<bool>,
}

/// A categorical column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Category {
    pub name: String,
    /// Ids of a sample, exactly; without it one or none, or any number if `many`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<usize>,
    /// Whether a sample may hold any number of ids.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// One more than the largest id.
    pub rows: u64,
}

/// Where the description of the file at `path` is.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".columns.json");
    path.with_file_name(name)
}

impl Sidecar {
    /// Columns of `layout` with tables of `rows`.
    pub fn new(layout: &Layout, rows: impl IntoIterator<Item = u64>) -> Self {
        let category = |(c, rows): (&IdColumn, u64)| Category {
            name: c.name.clone(),
            ids: if let Hotness::Fixed(n) = c.hotness { Some(n) } else { None },
            many: c.hotness == Hotness::Any,
            rows,
        };
        Sidecar {
            label: layout.label.clone(),
            dense: layout.dense.clone(),
            categorical: layout.ids.iter().zip(rows).map(category).collect(),
            float_label_dense: None,
        }
    }

    /// Whether it describes columns, and not only what their numbers are.
    pub fn columns(&self) -> bool {
        !self.dense.is_empty() || !self.categorical.is_empty()
    }

    /// The columns.
    pub fn layout(&self, numbers: Numbers) -> Layout {
        let hotness = |c: &Category| match c.ids {
            Some(n) => Hotness::Fixed(n),
            None if c.many => Hotness::Any,
            None => Hotness::One,
        };
        Layout {
            label: self.label.clone(),
            dense: self.dense.clone(),
            numbers,
            ids: self
                .categorical
                .iter()
                .map(|c| IdColumn { name: c.name.clone(), hotness: hotness(c) })
                .collect(),
        }
    }

    /// Reads the description of the file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Option<Self>, DataError> {
        let path = &beside(path);
        match std::fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            found => {
                let length = found.map_err(io(path))?.len();
                if length > LARGEST {
                    return Err(wrong(
                        path,
                        format!("{length} bytes are too many for a description of columns"),
                    ));
                }
            }
        }
        let text = std::fs::read(path).map_err(io(path))?;
        let found: Sidecar = serde_json::from_slice(&text)
            .map_err(|e| wrong(path, format!("describes no columns: {e}")))?;
        if !found.columns() && found.float_label_dense.is_none() {
            return Err(wrong(path, "describes no columns but the label"));
        }
        if found.columns() && found.label.is_empty() {
            return Err(wrong(path, "describes no columns: missing field `label`"));
        }
        if let Some(c) =
            found.categorical.iter().find(|c| c.ids.is_some_and(|n| n == 0 || n > MOST || c.many))
        {
            return Err(wrong(
                path,
                format!("column {}: ids must be from 1 to {MOST}, and not beside many", c.name),
            ));
        }
        Ok(Some(found))
    }

    /// Writes the description of the file at `path`, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let path = beside(path);
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| wrong(&path, e.to_string()))?;
        text.push(b'\n');
        atomic_file::write(&path, &text).map_err(io(path))
    }
}

/// The largest ids of the columns so far.
pub(super) struct Largest(Vec<Option<u32>>);

impl Largest {
    pub fn new(layout: &Layout) -> Self {
        Largest(vec![None; layout.ids.len()])
    }

    /// Takes an id of column `k` into account.
    pub fn see(&mut self, k: usize, id: u32) {
        self.0[k] = self.0[k].max(Some(id));
    }

    /// One more than each, 0 where there was none.
    pub fn rows(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|id| id.map_or(0, |id| u64::from(id) + 1))
    }
}

/// The ids of a sample, `bag`, where a format has room for a fixed number of them: an id that is
/// missing is 0.
///
/// # Errors
/// How many there should be.
pub(super) fn fixed(column: &IdColumn, bag: &[u32]) -> Result<Vec<u32>, String> {
    let right = if let Hotness::Fixed(n) = column.hotness { n } else { 1 };
    match bag {
        [] if right == 1 => Ok(vec![0]),
        _ if bag.len() == right => Ok(bag.to_vec()),
        _ => Err(format!(
            "column {} holds {} ids; must hold {right}, as in every row",
            column.name,
            bag.len()
        )),
    }
}
