//! Samples as they lie on the disk between reading and the output ([`Form`]).

use crate::data::preprocess::{
    criteo::{DENSE, RECORD, TABLES},
    prepare::{
        PrepareError,
        state::growing::{Growing, Written},
        worker::Advance,
    },
};
use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// How samples lie on the disk between reading and the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 160 bytes, as bin40: ids numbered by first appearance, negative integers 0.
    Numbered,
    /// The same, but negative integers stay.
    Signed,
    /// 168 bytes: integers and ids as in the log, then which columns are empty, 64 bits as
    /// [`Columns::missing`](crate::data::preprocess::criteo::Columns).
    Raw,
}

impl Form {
    /// Bytes of a sample.
    pub const fn bytes(self) -> usize {
        match self {
            Form::Numbered | Form::Signed => RECORD,
            Form::Raw => RECORD + 8,
        }
    }
}

/// Reads samples of [`RECORD`] bytes from sample number `first` on, `buffer` bytes at once.
///
/// # Errors
/// If the file cannot be opened.
pub fn read_from(path: &Path, first: u64, buffer: usize) -> Result<BufReader<File>, PrepareError> {
    open_at(path, first * RECORD as u64, buffer)
}

/// Opens a file to be read from a byte on.
fn open_at(path: &Path, start: u64, buffer: usize) -> Result<BufReader<File>, PrepareError> {
    let open = || -> std::io::Result<BufReader<File>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::with_capacity(buffer, file))
    };
    open().map_err(PrepareError::write(path))
}

/// Samples that are read at once.
pub const BATCH: usize = 1 << 13;

/// Reads the samples of a file one batch after the other.
pub struct Records {
    path: PathBuf,
    file: BufReader<File>,
    width: usize,
    left: u64,
    batch: Vec<u8>,
}

impl Records {
    /// `samples` of a file, from sample number `first` on.
    pub fn open(path: &Path, form: Form, first: u64, samples: u64) -> Result<Self, PrepareError> {
        let width = form.bytes();
        let file = open_at(path, first * width as u64, 1 << 16)?;
        Ok(Records { path: path.to_owned(), file, width, left: samples, batch: Vec::new() })
    }

    /// Samples that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next samples, at most [`BATCH`]; none after the last.
    pub fn next(
        &mut self,
    ) -> Result<impl ExactSizeIterator<Item = Record<'_>> + Clone, PrepareError> {
        let n = self.left.min(BATCH as u64);
        self.left -= n;
        self.batch.resize(n as usize * self.width, 0);
        self.file.read_exact(&mut self.batch).map_err(PrepareError::write(&self.path))?;
        Ok(self.batch.chunks_exact(self.width).map(Record))
    }
}

impl Records {
    /// Writes a new file: `header`, then the bytes that `push` appends for each sample.
    ///
    /// # Errors
    /// If a file cannot be read or written, or the work is interrupted.
    pub fn write(
        mut self,
        path: &Path,
        header: &[u8],
        advance: Advance,
        mut push: impl FnMut(Record, &mut Vec<u8>),
    ) -> Result<Written, PrepareError> {
        let mut out = Growing::create(path)?;
        out.append(header)?;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let batch = self.next()?;
            let n = batch.len();
            if n == 0 {
                return out.sync();
            }
            batch.for_each(|record| push(record, &mut bytes));
            out.append(&bytes)?;
            advance(n as u64)?;
        }
    }
}

/// The samples that lie in `bytes`.
pub fn of(bytes: &[u8], form: Form) -> impl ExactSizeIterator<Item = Record<'_>> + Clone {
    bytes.chunks_exact(form.bytes()).map(Record)
}

/// A sample.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn word(self, i: usize) -> [u8; 4] {
        let mut word = [0; 4];
        word.copy_from_slice(&self.0[4 * i..4 * i + 4]);
        word
    }

    /// All of it.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// 0 or 1.
    pub fn label(self) -> u8 {
        self.0[0]
    }

    /// An integer; 0 if it is missing.
    pub fn dense(self, i: usize) -> i32 {
        i32::from_le_bytes(self.word(1 + i))
    }

    /// An id; 0 if it is missing.
    pub fn id(self, j: usize) -> u32 {
        u32::from_le_bytes(self.word(1 + DENSE + j))
    }

    /// An integer, of [`Form::Raw`].
    pub fn present_dense(self, i: usize) -> Option<i32> {
        (!self.missing(i)).then(|| self.dense(i))
    }

    /// An id, of [`Form::Raw`].
    pub fn present_id(self, j: usize) -> Option<u32> {
        (!self.missing(DENSE + j)).then(|| self.id(j))
    }

    fn missing(self, column: usize) -> bool {
        let at = 4 * (1 + DENSE + TABLES) + column / 8;
        self.0[at] >> (column % 8) & 1 == 1
    }
}
