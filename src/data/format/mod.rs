//! File formats, one file each: readers and writers that pass samples on in chunks, so that memory does not grow with the file.
//! docs/data-formats.md describes each format.

pub mod bin40;
pub mod columns;
pub mod criteo;
pub mod csv;
pub mod npz;
pub mod nvidia;
pub mod parquet;
pub mod planted;
#[cfg(test)]
mod testing;
mod text;
pub mod torchrec;
pub mod transformed;

use super::{
    DataError,
    rows::{Layout, Rows},
};
use columns::Columns;
use std::path::{Path, PathBuf};

/// Rows that are passed on together.
pub const CHUNK: usize = 1 << 13;

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

    /// Replaces `rows`, which are of this layout, by the next ones, at most `n` (at least 1); none after the last.
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
    /// If the file cannot be written, or the format has no way to hold a value; the message names file, row and column.
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
}

impl Format {
    /// Each format with its word on the command line.
    pub const ALL: &[(&str, Format)] = &[
        ("bin40", Format::Bin40),
        ("parquet", Format::Parquet),
        ("npz", Format::Npz),
        ("torchrec", Format::TorchRec),
        ("criteo", Format::Criteo),
        ("csv", Format::Csv),
        ("deeprec", Format::DeepRec),
        ("nvidia", Format::Nvidia),
    ];

    /// The format's word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, f)| *f == self).map_or("", |(w, _)| *w)
    }

    /// The format of a file by the ending of its name.
    ///
    /// # Errors
    /// If the name tells nothing; the message names the endings that do.
    pub fn of(path: &Path) -> Result<Format, DataError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if torchrec::ENDINGS.iter().any(|e| name.ends_with(e)) {
            return Ok(Format::TorchRec);
        }
        // Text may be packed.
        let text = name.strip_suffix(".gz").unwrap_or(&name);
        match (name.rsplit_once('.').map(|(_, ending)| ending), text.rsplit_once('.').map(|(_, ending)| ending)) {
            (Some("bin"), _) => Ok(Format::Bin40),
            (Some("parquet"), _) => Ok(Format::Parquet),
            (Some("npz"), _) => Ok(Format::Npz),
            (_, Some("tsv")) => Ok(Format::Criteo),
            (_, Some("csv")) => Ok(Format::Csv),
            _ if nvidia::beside_spec(path) => Ok(Format::Nvidia),
            _ => Err(super::rows::wrong(
                path,
                format!("the name does not tell the format; must end in {ENDINGS}, or name the format"),
            )),
        }
    }
}

/// Endings that tell a format, for messages.
const ENDINGS: &str = ".bin, .parquet, .npz, _dense.npy, .tsv or .csv";

/// Opens a file. `columns` says which columns of it to take, for formats whose files name them.
///
/// # Errors
/// If the file cannot be read, is not of the format, or lacks a column.
pub fn open(path: &Path, format: Format, columns: &Columns) -> Result<Box<dyn Reader>, DataError> {
    if !matches!(format, Format::Parquet | Format::Csv) {
        columns.unused(path, format.word())?;
    }
    Ok(match format {
        Format::Bin40 => Box::new(bin40::Bin40Reader::open(path)?),
        Format::Parquet => Box::new(parquet::ParquetReader::open(path, columns)?),
        Format::Npz => Box::new(npz::NpzReader::open(path)?),
        Format::TorchRec => Box::new(torchrec::TorchRecReader::open(path)?),
        Format::Criteo => Box::new(criteo::CriteoReader::open(path)?),
        Format::Csv => Box::new(csv::CsvReader::named(path, columns)?),
        Format::DeepRec => Box::new(csv::CsvReader::deeprec(path)?),
        Format::Nvidia => Box::new(nvidia::NvidiaReader::open(path)?),
    })
}

/// Starts a file for samples of `layout`.
///
/// # Errors
/// If the file cannot be written, or the format cannot hold such samples.
pub fn create(path: &Path, format: Format, layout: &Layout) -> Result<Box<dyn Writer>, DataError> {
    Ok(match format {
        Format::Bin40 => Box::new(bin40::Bin40Writer::create(path, layout)?),
        Format::Parquet => Box::new(parquet::ParquetWriter::create(path, layout)?),
        Format::Npz => Box::new(npz::NpzWriter::create(path, layout)?),
        Format::TorchRec => Box::new(torchrec::TorchRecWriter::create(path, layout)?),
        Format::Criteo => Box::new(criteo::CriteoWriter::create(path, layout)?),
        Format::Csv => Box::new(csv::CsvWriter::create(path, layout, csv::Dialect::Named)?),
        Format::DeepRec => Box::new(csv::CsvWriter::create(path, layout, csv::Dialect::DeepRec)?),
        Format::Nvidia => Box::new(nvidia::NvidiaWriter::create(path, layout)?),
    })
}

/// Whether a data set of several files shares this one with others, so that it may be there already.
pub fn is_shared(file: &Path, format: Format) -> bool {
    format == Format::Nvidia && file.file_name().is_some_and(|n| n == nvidia::NAME)
}

/// The files that make up a data set of `layout` which is named by `path`.
pub fn files(path: &Path, format: Format, layout: &Layout) -> Vec<PathBuf> {
    match format {
        Format::TorchRec => torchrec::files(path, layout),
        Format::Nvidia => nvidia::files(path, layout),
        _ => vec![path.to_owned()],
    }
}
