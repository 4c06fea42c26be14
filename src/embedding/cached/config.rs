//! What is said of tables that are cached, and how memory is shared among them.

use super::{Reads, log, slots::SLOT_BYTES};
use crate::{
    batch::{Column, Schema},
    host::Size,
};
use serde::Serialize;
use std::path::PathBuf;

/// `store = "cached"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CachedStore {
    /// Memory for rows, with their optimizer state; behind a GPU's, for those that are not there.
    pub cache: Size,
    /// A GPU's memory for rows with their optimizer state, where one computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_cache: Option<Size>,
    /// The most that the file of the other rows may take; `None` = what all rows take, and a
    /// quarter more.
    pub disk: Option<Size>,
    /// Folder of that file; `None` = the user's cache folder.
    pub path: Option<PathBuf>,
    /// Columns whose rows are all in slots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resident: Vec<String>,
}

impl CachedStore {
    /// The folder of the file.
    pub fn folder(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| match etcetera::choose_base_strategy() {
            Ok(base) => etcetera::BaseStrategy::cache_dir(&base).join("dlrm-bench").join("rows"),
            Err(_) => std::env::temp_dir(),
        })
    }
}

/// Bytes of a row with all that is kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSizes {
    /// In an engine's tables.
    pub memory: usize,
    /// Packed, in the file.
    pub packed: usize,
}

/// Tables that are cached, sized for data and batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedSpec {
    /// Bytes that rows in slots may take, of the memory of what computes.
    pub cache: u64,
    /// Bytes of the host's memory for rows that are not in slots, where a GPU has those; `None` where
    /// slots are in the host's memory themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<u64>,
    /// The most bytes that the file may take; 0 if there is none.
    pub disk: u64,
    /// One entry a categorical column.
    pub columns: Vec<CachedColumn>,
    /// Where the file is made.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Who reads it.
    #[serde(skip)]
    pub reads: Reads,
}

/// The tables of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedColumn {
    /// Name of the column.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Rows that are in memory at most. If all are, none is ever in the file.
    pub slots: usize,
}

impl CachedColumn {
    /// Whether all rows are in memory.
    pub fn fits(&self) -> bool {
        self.slots == self.rows
    }
}

/// Whether data have the columns that are to be resident.
///
/// # Errors
/// The key, and a sentence.
pub(in crate::embedding) fn resident_columns(
    resident: &[String],
    schema: &Schema,
) -> Result<(), (&'static str, String)> {
    let unknown = resident.iter().find(|name| schema.tables.iter().all(|t| t.name != **name));
    unknown.map_or(Ok(()), |name| {
        let all: Vec<&str> = schema.tables.iter().take(50).map(|t| &*t.name).collect();
        let what = format!("names {name:?}; the categorical columns are {}", all.join(", "));
        Err(("embedding.resident", what))
    })
}

impl CachedSpec {
    /// For data of `schema`. `together` samples are the most whose rows must be in memory at one
    /// time. Memory is shared as water is: tables that are to be resident and the smallest ones have all
    /// their rows in it, the others as many as one another.
    ///
    /// # Errors
    /// The key, and a sentence, if memory or disk are too small.
    pub fn new(
        store: &CachedStore,
        schema: &Schema,
        sizes: RowSizes,
        together: usize,
    ) -> Result<Self, (&'static str, String)> {
        // What is known of a slot is in the host's memory.
        let (key, given, bytes) = match store.device_cache {
            Some(given) => ("embedding.device_cache", given, sizes.memory as u64),
            None => ("embedding.cache", store.cache, (sizes.memory + SLOT_BYTES) as u64),
        };
        resident_columns(&store.resident, schema)?;
        let slots = |t: &Column, level: usize| match store.resident.contains(&t.name) {
            true => t.rows,
            false => t.rows.min(level),
        };
        let taken = |level: usize| {
            schema.tables.iter().map(|t| slots(t, level) as u64 * bytes).sum::<u64>()
        };
        let needed = |t: &Column| t.rows.min(together.saturating_mul(t.max_hotness));
        let least = schema.tables.iter().map(needed).max().unwrap_or(0);
        let cache = given.0;
        if taken(least) > cache {
            let what = format!(
                "is {given}, in which the rows of two batches do not fit; must be at least {}, for up to {least} rows a table of {bytes} bytes",
                Size(taken(least)),
            );
            return Err((key, what));
        }
        // The highest level that memory is enough for.
        let (mut level, mut above) =
            (least, schema.tables.iter().map(|t| t.rows).max().unwrap_or(0) + 1);
        while above - level > 1 {
            let middle = level + (above - level) / 2;
            if taken(middle) <= cache { level = middle } else { above = middle }
        }
        let column = |t: &Column| CachedColumn {
            name: t.name.clone(),
            rows: t.rows,
            slots: slots(t, level),
        };
        let columns: Vec<CachedColumn> = schema.tables.iter().map(column).collect();
        let outside: u64 = columns.iter().filter(|c| !c.fits()).map(|c| c.rows as u64).sum();
        let all = log::file_bytes(outside, sizes.packed);
        let least = log::least_bytes(sizes.packed);
        let host = store.device_cache.map(|_| store.cache.0.min(all));
        let rest = all - host.unwrap_or(0);
        // Behind memory that has room for all there is no file.
        let rest = if host.is_some() && rest == 0 { 0 } else { rest.max(least) };
        let disk = store.disk.map_or(rest, |size| size.0.min(rest));
        let too_small = |key, bytes| {
            let what = format!(
                "is {}; must be at least {}, for {} records",
                Size(bytes),
                Size(least),
                log::LEAST_RECORDS
            );
            Err((key, what))
        };
        match host {
            Some(host) if outside > 0 && host < least => {
                return too_small("embedding.cache", store.cache.0);
            }
            _ if outside > 0 && rest > 0 && disk < least => {
                return too_small("embedding.disk", disk);
            }
            _ => {}
        }
        let (folder, reads) = (store.folder(), Reads::default());
        Ok(CachedSpec { cache, host, disk, columns, folder, reads })
    }
}
