//! A folder of parquet files, one after the other, as Spark and others write a data set.

use super::ParquetReader;
use crate::{
    data::{
        DataError,
        format::{Format, Reader, columns::Columns},
        rows::{Layout, Rows, io, wrong},
    },
    host::names::natural,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What is wrong with a folder that holds nothing of parquet.
pub(in crate::data) const NONE: &str = "no file in this folder ends in .parquet";

/// Why a file that is none of parquet's is not read.
const OTHER: &str = "is of another format than the parquet files beside it";

/// Whether a file has the name of a parquet file.
pub fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|e| {
        ["parquet", "parq", "pq"].iter().any(|ending| e.eq_ignore_ascii_case(ending))
    })
}

/// The parquet files of a folder, in the order of their names, with numbers as numbers.
///
/// # Errors
/// If the folder cannot be read or has none, or if there is what looks like a part of the data but
/// would be passed over: a folder, a file of another format, or one that is packed or half written.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let (mut files, mut other) = (Vec::new(), None);
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let file = entry.map_err(io(folder))?.path();
        if hidden(&file) {
            continue;
        }
        if is_parquet(&file) && !file.is_dir() {
            files.push(file);
        } else if let Some(what) = passed_over(&file) {
            other = Some((file, what)).max(other);
        }
    }
    match (files.is_empty(), other) {
        (true, Some((part, what))) if what != OTHER => {
            let part = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Err(wrong(folder, format!("{NONE}; {part} {what}")))
        }
        (true, _) => Err(wrong(folder, NONE)),
        (false, Some((part, what))) => {
            let advice = "move it away, or name the files that are meant one by one";
            Err(wrong(&part, format!("{what}, and would be passed over; {advice}")))
        }
        (false, None) => {
            files.sort_by_cached_key(|file| natural(&file.to_string_lossy()));
            Ok(files)
        }
    }
}

/// Why something beside parquet files may be a part of the data that is not read with them.
fn passed_over(file: &Path) -> Option<&'static str> {
    if file.is_dir() {
        let holds = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|e| !hidden(&e.path()) && (is_parquet(&e.path()) || e.path().is_dir()))
        };
        let found = std::fs::read_dir(file).is_ok_and(|mut entries| entries.any(holds));
        return found.then_some("is a folder, whose files are not read with those beside it");
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let words = ["parquet", "parq", "pq"];
    if name.ends_with(".crc") {
        return None;
    }
    if name.split('.').skip(1).any(|part| words.contains(&part)) {
        return Some("does not end in .parquet (is it packed, or half written?)");
    }
    // What is made for each part of a data set, not for a note beside it.
    let data = Format::of(file).is_ok_and(|f| f != Format::Nvidia);
    data.then_some(OTHER)
}

/// The numbers that lack in the names of numbered files (`part-0`, `part-2`), a sentence each.
pub(in crate::data) fn gaps(files: &[PathBuf]) -> Vec<String> {
    // By all that is not the number: names of Spark's and of others have more than one.
    let mut sets: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut at = 0;
        while let Some(start) = name[at..].find(|c: char| c.is_ascii_digit()).map(|i| at + i) {
            at = start + name[start..].bytes().take_while(u8::is_ascii_digit).count();
            if let Ok(number) = name[start..at].parse() {
                let rest = (name[..start].to_owned(), name[at..].to_owned());
                sets.entry(rest).or_default().push(number);
            }
        }
    }
    let mut told = Vec::new();
    for ((before, after), mut numbers) in sets {
        numbers.sort_unstable();
        if let Some(gap) = numbers.windows(2).find(|w| w[1] - w[0] > 1) {
            let (low, high) = (gap[0], gap[1]);
            told.push(format!(
                "between {before}{low}{after} and {before}{high}{after} number {} is missing",
                low + 1
            ));
        }
    }
    told
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
    told: Vec<String>,
}

impl Shards {
    /// Opens all files once.
    ///
    /// # Errors
    /// If one cannot be read, lacks a column, or has other columns than the first.
    pub fn open(folder: &Path, columns: &Columns) -> Result<Self, DataError> {
        let files = files_of(folder)?;
        let mut told = gaps(&files);
        let mut left = files.into_iter();
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
        told.extend_from_slice(now.told());
        Ok(Shards { left, now, columns: columns.clone(), rows, told })
    }
}

impl Reader for Shards {
    fn layout(&self) -> &Layout {
        self.now.layout()
    }

    fn len(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn told(&self) -> &[String] {
        &self.told
    }

    fn texts(&self) -> Vec<usize> {
        self.now.texts()
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
