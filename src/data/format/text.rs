//! Text files that are written line by line, packed if their names end in `.gz` or `.zst`.

use crate::data::{
    DataError,
    preprocess::lines::LONGEST,
    rows::{Numbers, io, wrong},
};
use flate2::{Compression, write::GzEncoder};
use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// A text file on its way.
pub(super) struct TextWriter {
    path: PathBuf,
    file: Kind,
    line: String,
}

enum Kind {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
    Zstd(Box<zstd::Encoder<'static, BufWriter<File>>>),
}

impl TextWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io(path))?);
        let ends = |ending| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
        let file = if ends("gz") {
            Kind::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
        } else if ends("zst") {
            Kind::Zstd(Box::new(zstd::Encoder::new(file, 0).map_err(io(path))?))
        } else {
            Kind::Plain(file)
        };
        Ok(TextWriter { path: path.to_owned(), file, line: String::new() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line at hand.
    pub fn line(&mut self) -> &mut String {
        &mut self.line
    }

    /// Appends a whole number to the line at hand.
    pub fn whole(&mut self, x: impl std::fmt::Display) {
        // A string takes whatever is written.
        let _ = write!(self.line, "{x}");
    }

    /// Appends a number, in the least digits that give it back.
    pub fn number(&mut self, x: f64, numbers: Numbers) {
        let _ = match numbers {
            Numbers::Float32 => write!(self.line, "{}", x as f32),
            Numbers::Int32 | Numbers::Float64 => write!(self.line, "{x}"),
        };
    }

    /// Ends the line at hand.
    ///
    /// # Errors
    /// If it cannot be written, or is longer than the lines that are read.
    pub fn end(&mut self) -> Result<(), DataError> {
        if self.line.len() > LONGEST {
            let what = format!(
                "a line would be {} bytes long; must be at most {LONGEST}, since no longer one is read; parquet has no lines",
                self.line.len()
            );
            return Err(wrong(&self.path, what));
        }
        self.line.push('\n');
        let done = match &mut self.file {
            Kind::Plain(f) => f.write_all(self.line.as_bytes()),
            Kind::Gzip(f) => f.write_all(self.line.as_bytes()),
            Kind::Zstd(f) => f.write_all(self.line.as_bytes()),
        };
        self.line.clear();
        done.map_err(io(&self.path))
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(), DataError> {
        let done = match self.file {
            Kind::Plain(mut f) => f.flush(),
            Kind::Gzip(f) => f.finish().and_then(|mut f| f.flush()),
            Kind::Zstd(f) => f.finish().and_then(|mut f| f.flush()),
        };
        done.map_err(io(&self.path))
    }
}
