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
    file.file_name().is_some_and(|n| {
        n.as_encoded_bytes().starts_with(b".") || n.as_encoded_bytes().starts_with(b"_")
    })
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
                let what = format!(
                    "has other columns than {}; files that are read as one must have equal ones",
                    first.display()
                );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        format::{Format, testing},
        rows::{Hotness, Numbers},
    };
    use std::fs;

    #[test]
    fn a_folder_is_read_as_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = |dense| Layout::numbered(dense, Numbers::Int32, [Hotness::One]);
        let write = |name: &str, layout: &Layout, ids: std::ops::Range<u32>| {
            let mut rows = Rows::new(layout);
            for id in ids {
                rows.labels.push((id % 2) as f32);
                rows.dense.extend(layout.dense.iter().map(|_| f64::from(id)));
                rows.ids[0].push([id]);
            }
            testing::write_all(Format::Parquet, &dir.path().join(name), layout, &rows, 4).unwrap();
        };
        let read =
            |chunk| testing::read_all(Format::Parquet, dir.path(), chunk, &Columns::default());
        assert!(
            read(1).unwrap_err().to_string().ends_with("no file in this folder ends in .parquet")
        );
        // In the order of their names, an empty one among them.
        for (name, ids) in [("b", 5..11), ("a", 0..5), ("ab", 5..5), ("c", 11..12)] {
            write(&format!("{name}.parquet"), &layout(1), ids);
        }
        fs::write(dir.path().join("_SUCCESS"), "").unwrap();
        fs::write(dir.path().join(".c.parquet"), "no parquet").unwrap();
        for chunk in [1, 3, 100] {
            let rows = read(chunk).unwrap().1;
            assert_eq!(rows.ids[0].indices, (0..12).collect::<Vec<u32>>());
        }
        assert_eq!(Shards::open(dir.path(), &Columns::default()).unwrap().len(), Some(12));
        write("d.parquet", &layout(2), 12..13);
        let error = read(1).unwrap_err().to_string();
        assert!(
            error.contains("d.parquet: has other columns than ")
                && error.contains("a.parquet; files that"),
            "{error}"
        );
    }
}
