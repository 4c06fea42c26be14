//! A folder of parquet files, one after the other, as Spark and others write a data set.

use super::ParquetReader;
use crate::data::{
    DataError,
    format::{Reader, columns::Columns},
    rows::{Layout, Rows, io, wrong},
};
use std::path::{Path, PathBuf};

/// The parquet files of a folder, in order of their names.
///
/// # Errors
/// If the folder cannot be read or has none.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let file = entry.map_err(io(folder))?.path();
        if file.extension().is_some_and(|e| e == "parquet") && !hidden(&file) {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(wrong(folder, "no file in this folder ends in .parquet"));
    }
    files.sort();
    Ok(files)
}

/// Spark and others keep files of their own beside the data.
fn hidden(file: &Path) -> bool {
    file.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".") || n.as_encoded_bytes().starts_with(b"_"))
}

/// Reads them as one file.
pub struct Shards {
    /// Those that were not begun.
    left: std::vec::IntoIter<PathBuf>,
    now: ParquetReader,
    columns: Columns,
    rows: u64,
}

impl Shards {
    /// Opens all files once.
    ///
    /// # Errors
    /// If one cannot be read, lacks a column, or has other columns than the first.
    pub fn open(folder: &Path, columns: &Columns) -> Result<Self, DataError> {
        let mut left = files_of(folder)?.into_iter();
        let first = left.next().unwrap_or_default();
        let now = ParquetReader::open(&first, columns)?;
        let mut rows = now.len().unwrap_or(0);
        for path in left.as_slice() {
            let reader = ParquetReader::open(path, columns)?;
            if reader.layout() != now.layout() {
                let what = format!("has other columns than {}; files that are read as one must have equal ones", first.display());
                return Err(wrong(path, what));
            }
            rows += reader.len().unwrap_or(0);
        }
        Ok(Shards { left, now, columns: columns.clone(), rows })
    }
}

impl Reader for Shards {
    fn layout(&self) -> &Layout {
        self.now.layout()
    }

    fn len(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        loop {
            self.now.read(n, rows)?;
            if !rows.is_empty() {
                return Ok(());
            }
            let Some(path) = self.left.next() else { return Ok(()) };
            self.now = ParquetReader::open(&path, &self.columns)?;
        }
    }
}
