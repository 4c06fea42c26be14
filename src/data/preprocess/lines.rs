//! Lines of a text file, unpacked while reading if it is gzip.

use super::super::DataError;
use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

const BUFFER: usize = 1 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What some programs put in front of UTF-8 text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A text file read line by line; knows its place for messages.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    packed: bool,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens `path`; gzip (also of several members) is recognised by its first bytes.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(io)?);
        let packed = file.fill_buf().map_err(io)?.starts_with(&GZIP);
        let reader: Box<dyn BufRead + Send> =
            if packed { Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))) } else { Box::new(file) };
        Ok(Lines { path: path.to_owned(), reader, packed, line: Vec::new(), number: 0 })
    }

    /// The next line without its end (`\n` or `\r\n`), nor a byte-order mark in front of the first; `None` after the last.
    ///
    /// # Errors
    /// If the file cannot be read, or is gzip that ends early or is damaged; the message names the line reached.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, DataError> {
        self.line.clear();
        self.number += 1;
        match self.reader.read_until(b'\n', &mut self.line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(e) if self.packed => return Err(self.malformed(describe(&e))),
            Err(source) => return Err(DataError::Io { path: self.path.clone(), source }),
        }
        let text = if self.number == 1 { self.line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.line) } else { &self.line };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Ok(Some(text.strip_suffix(b"\r").unwrap_or(text)))
    }

    /// An error at the line handed out last.
    pub fn malformed(&self, what: String) -> DataError {
        DataError::Malformed { path: self.path.clone(), line: self.number, what }
    }
}

/// Whether a file is gzip, by its first bytes.
pub(super) fn is_gzip(path: &Path) -> io::Result<bool> {
    Ok(BufReader::with_capacity(GZIP.len(), File::open(path)?).fill_buf()?.starts_with(&GZIP))
}

/// A field in quotes, for a message; cut if it is long.
pub(in crate::data) fn shown(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    match text.char_indices().nth(24) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// What is wrong with packed data.
pub(super) fn describe(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => "the gzip data end early; the file is not complete".into(),
        _ => format!("the gzip data are damaged: {e}"),
    }
}
