//! File formats, one file each: readers and writers that pass samples on in chunks, so that memory
//! does not grow with the file. docs/data-formats.md describes each format.

mod arrays;
mod batch;
pub(crate) mod bin40;
mod capacity;
pub mod columns;
pub(crate) mod criteo;
pub(crate) mod csv;
pub(crate) mod found;
pub(crate) mod fuxictr;
#[cfg(feature = "hdf5")]
mod h5;
pub(crate) mod hotness;
pub(crate) mod hugectr;
pub(crate) mod intermediate;
pub(in crate::data) mod leftovers;
pub(crate) mod libsvm;
pub(crate) mod matrices;
pub(crate) mod npz;
pub(crate) mod numpy;
pub mod nvidia;
pub(crate) mod parquet;
pub mod planted;
mod reduced;
mod registry;
mod sidecar;
mod spool;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub(crate) mod texts;
pub(crate) mod torchrec;
pub(crate) mod transformed;

use super::{
    DataError,
    rows::{Hotness, Layout, Rows},
};
pub use batch::write_batch;
pub use capacity::{Capacity, holding};
use columns::Columns;
pub use registry::TRAINED;
use std::path::{Path, PathBuf};

/// Rows that are passed on together.
pub const CHUNK: usize = 1 << 13;

/// Bytes that rows which are passed on together may take.
const MOST_BYTES: usize = 16 << 20;

/// Rows of `layout` to pass on together: [`CHUNK`], or fewer where a row is wide, at least 1.
pub fn chunk(layout: &Layout) -> usize {
    // A column of one id has its end beside it, a dense value or one of many ids is at most 8 bytes
    // in any file.
    let ids = layout
        .ids
        .iter()
        .map(|c| if let Hotness::Fixed(n) = c.hotness { n.saturating_add(1) } else { 2 });
    let row = ids.fold(layout.dense.len(), usize::saturating_add).saturating_mul(8);
    (MOST_BYTES / row.max(1)).clamp(1, CHUNK)
}

/// Gives the samples of a file, in order.
pub trait Reader: Send {
    /// The columns.
    fn layout(&self) -> &Layout;

    /// Rows of the file, where that is known before it has been read.
    fn len(&self) -> Option<u64>;

    /// Whether the file is known to hold no rows.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// What has been left out of the file, and what else whoever reads it should know, a sentence
    /// each.
    fn told(&self) -> &[String] {
        &[]
    }

    /// Categorical columns whose values are text, by their numbers.
    fn texts(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Replaces `rows`, which are of this layout, by the next ones, at most `n` (at least 1); none
    /// after the last.
    ///
    /// # Errors
    /// If the file cannot be read or a row is malformed; the message names file, row and column.
    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError>;
}

/// Takes samples, in order, and writes them to a file.
pub trait Writer {
    /// Appends `rows`, which are of the layout that the writer was made for.
    ///
    /// # Errors
    /// If the file cannot be written, or the format has no way to hold a value; the message names
    /// file, row and column.
    fn write(&mut self, rows: &Rows) -> Result<(), DataError>;

    /// Writes what is left. A file is complete only after this.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn finish(self: Box<Self>) -> Result<(), DataError>;
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// facebook's and MLPerf's records of 160 bytes.
    Bin40,
    /// Parquet: OneFlow's, FuxiCTR's, anybody's.
    Parquet,
    /// facebook's preprocessed archive.
    Npz,
    /// facebook's archive of a day in numbers.
    NpzDay,
    /// facebook's archive of a shuffled day.
    NpzReordered,
    /// facebook's arrays of a day that is being shuffled.
    Intermediate,
    /// TorchRec's arrays.
    TorchRec,
    /// Criteo's raw log.
    Criteo,
    /// Text with a header line.
    Csv,
    /// DeepRec's text.
    DeepRec,
    /// NVIDIA's split binary files.
    Nvidia,
    /// HugeCTR's raw records.
    HugeCtr,
    /// Sparse text, indices from 1.
    LibSvm,
    /// Sparse text, indices from 0.
    LibFm,
    /// A plain array.
    Numpy,
    /// FuxiCTR's prepared data.
    FuxiCtr,
}

impl serde::Serialize for Format {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl Format {
    /// The words of all formats.
    pub fn words() -> impl Iterator<Item = &'static str> {
        registry::FORMATS.iter().map(|f| f.word)
    }

    /// The format that `word` names.
    pub fn named(word: &str) -> Option<Format> {
        registry::FORMATS.iter().find(|f| f.word == word).map(|f| f.format)
    }

    /// The format's word.
    pub fn word(self) -> &'static str {
        registry::of(self).word
    }

    /// The format of a file by the ending of its name, or by the names that Criteo's logs have.
    ///
    /// # Errors
    /// If the name tells nothing; the message names the endings that do.
    pub fn of(path: &Path) -> Result<Format, DataError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if torchrec::ENDINGS.iter().any(|e| name.ends_with(e)) {
            return Ok(Format::TorchRec);
        }
        if intermediate::ENDINGS.iter().any(|e| name.ends_with(e)) {
            return Ok(Format::Intermediate);
        }
        if name.ends_with("_reordered.npz") {
            return Ok(Format::NpzReordered);
        }
        // Text may be packed.
        let text = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
        let day = text
            .strip_prefix("day_")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if day || matches!(text, "train.txt" | "test.txt") {
            return Ok(Format::Criteo);
        }
        match (
            name.rsplit_once('.').map(|(_, ending)| ending),
            text.rsplit_once('.').map(|(_, ending)| ending),
        ) {
            (Some("bin"), _) => Ok(Format::Bin40),
            _ if parquet::is_parquet(path) => Ok(Format::Parquet),
            (Some("npz"), _) => Ok(Format::Npz),
            (Some("npy"), _) => Ok(Format::Numpy),
            (Some("h5"), _) => Ok(Format::FuxiCtr),
            (_, Some("libsvm" | "svm")) => Ok(Format::LibSvm),
            (_, Some("libfm")) => Ok(Format::LibFm),
            (_, Some("tsv")) => Ok(Format::Criteo),
            (_, Some("csv")) => Ok(Format::Csv),
            _ if nvidia::beside_spec(path) => Ok(Format::Nvidia),
            _ => Err(super::rows::wrong(
                path,
                format!("the name does not tell the format; must end in {ENDINGS}"),
            )),
        }
    }
}

/// Endings that tell a format, for messages.
const ENDINGS: &str = ".bin, .parquet, .npz, .npy, .h5, .tsv, .csv, .libsvm or .libfm";

/// Opens a file. `columns` says which columns of it to take, for formats whose files name them, and
/// modulo what to take ids.
///
/// # Errors
/// If the file cannot be read, is not of the format, lacks a column, or has two of one name.
pub fn open(path: &Path, format: Format, columns: &Columns) -> Result<Box<dyn Reader>, DataError> {
    let entry = registry::of(format);
    if !entry.named {
        columns.unused(path, entry.word)?;
    }
    columns.check_words(path, format)?;
    let reader = (entry.open)(path, columns)?;
    reader.layout().check_names(path)?;
    Ok(match columns.range {
        // Parquet's have more bits before than after.
        Some(range) if format != Format::Parquet => Box::new(reduced::Reduced::new(reader, range)),
        _ => reader,
    })
}

/// Starts a file for samples of `layout`.
///
/// # Errors
/// If the file cannot be written, the format cannot hold such samples, or two columns have one
/// name.
pub fn create(path: &Path, format: Format, layout: &Layout) -> Result<Box<dyn Writer>, DataError> {
    layout.check_names(path)?;
    (registry::of(format).create)(path, layout)
}

/// How many ids of a sample a categorical column of the data set at `path` has room for.
pub fn capacity(path: &Path, format: Format) -> Capacity {
    (registry::of(format).capacity)(path)
}

/// Whether a data set of several files shares this one with others, so that it may be there
/// already.
pub fn is_shared(file: &Path, format: Format) -> bool {
    registry::of(format).shared.is_some_and(|shared| file.file_name().is_some_and(|n| n == shared))
}

/// The file that the data set at `path` shares with others, if there is one. Whoever writes a data
/// set beside others must have its `host::atomic_file::Lock` from [`Writer::finish`], which
/// takes up what the others have written there, until it has been put in its place.
pub fn shared(path: &Path, format: Format) -> Option<PathBuf> {
    registry::of(format).shared.map(|shared| path.with_file_name(shared))
}

/// The files that make up a data set of `layout` which is named by `path`; those that say what the
/// others are come last.
pub fn files(path: &Path, format: Format, layout: &Layout) -> Vec<PathBuf> {
    (registry::of(format).files)(path, layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Numbers;

    #[test]
    fn wide_rows_are_passed_on_a_few_at_a_time() {
        let rows = |dense, hotness: &[Hotness]| {
            chunk(&Layout::numbered(dense, Numbers::Int32, hotness.iter().copied()))
        };
        assert_eq!(chunk(&Layout::criteo(Numbers::Int32)), CHUNK);
        assert_eq!((rows(0, &[]), rows(2, &[Hotness::Any])), (CHUNK, CHUNK));
        assert_eq!(
            (rows(1 << 20, &[]), rows(1 << 15, &[]), rows(0, &[Hotness::Fixed(1 << 14)])),
            (2, 64, 127)
        );
        assert_eq!((rows(1 << 22, &[]), rows(0, &[Hotness::Fixed(usize::MAX); 3])), (1, 1));
    }
}
