//! Lines of a text file, unpacked while reading if it is gzip or zstd.

use super::super::DataError;
use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

const BUFFER: usize = 1 << 20;
/// Bytes of the longest line, without its end. What is longer is no text, or a few kilobytes of
/// gzip that stand for gigabytes.
pub(in crate::data) const LONGEST: usize = 1 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What is not read: the first bytes of such files, and what they are.
const OTHERS: [(&[u8], &str); 5] = [
    (b"BZh", "is packed by bzip2; must be plain text, or packed by gzip (bunzip2 unpacks it)"),
    (b"\xfd7zXZ", "is packed by xz; must be plain text, or packed by gzip (unxz unpacks it)"),
    (b"PK\x03\x04", "is a zip archive; must be plain text, or packed by gzip (unzip unpacks it)"),
    (b"\xff\xfe", "is text of UTF-16; must be UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "is text of UTF-16; must be UTF-8 (iconv -f UTF-16 -t UTF-8)"),
];
/// What is wrong with text of old Macs.
const RETURNS: &str =
    "its lines end in carriage returns alone; must end in line feeds (tr '\\r' '\\n' < FILE > NEW)";
/// What some programs put in front of UTF-8 text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A text file read line by line; knows its place for messages.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// By what, if it is.
    packed: Option<&'static str>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens `path`; gzip (also of several members) and zstd are recognised by their first bytes.
    ///
    /// # Errors
    /// If the file cannot be opened or read, or is packed otherwise or no UTF-8.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(io)?);
        let first = file.fill_buf().map_err(io)?;
        if let Some(what) = other(first) {
            return Err(DataError::File { path: path.to_owned(), what: what.into() });
        }
        let (gzip, zstd) = (first.starts_with(&GZIP), first.starts_with(&ZSTD));
        let packed = if zstd { Some("zstd") } else { gzip.then_some("gzip") };
        let reader: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
        } else if zstd {
            let text = zstd::stream::read::Decoder::with_buffer(file).map_err(io)?;
            Box::new(BufReader::with_capacity(BUFFER, text))
        } else {
            Box::new(file)
        };
        Ok(Lines { path: path.to_owned(), reader, packed, line: Vec::new(), number: 0 })
    }

    /// The next line without its end (`\n` or `\r\n`), nor a byte-order mark in front of the first;
    /// `None` after the last.
    ///
    /// # Errors
    /// If the file cannot be read, or is packed and ends early or is damaged, or a line is longer
    /// than 1 MiB, or lines end in carriage returns alone; the message names the line reached.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, DataError> {
        self.line.clear();
        self.number += 1;
        let most = LONGEST + BYTE_ORDER_MARK.len() + b"\r\n".len();
        match (&mut self.reader).take(most as u64).read_until(b'\n', &mut self.line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(e) => {
                return Err(match self.packed {
                    Some(by) => self.malformed(describe_of(by, &e)),
                    None => DataError::Io { path: self.path.clone(), source: e },
                });
            }
        }
        let text = if self.number == 1 {
            self.line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.line)
        } else {
            &self.line
        };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        // All is one line, which nothing would be read of but a header.
        if self.number == 1 && text.contains(&b'\r') {
            return Err(self.malformed(RETURNS.into()));
        }
        if text.len() > LONGEST {
            return Err(self.malformed(format!(
                "the line is longer than {LONGEST} bytes; must be text, a sample a line"
            )));
        }
        Ok(Some(text))
    }

    /// Number of the line handed out last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error at the line handed out last.
    pub fn malformed(&self, what: String) -> DataError {
        // The last one ends the line.
        let within = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let within = within.strip_suffix(b"\r").unwrap_or(within);
        let what = match self.number > 1 && within.contains(&b'\r') {
            true => format!("{what} (there is a carriage return within the line)"),
            false => what,
        };
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

/// The name of a column for a message; cut if it is long.
pub(in crate::data) fn shown_name(name: &str) -> String {
    match name.char_indices().nth(64) {
        Some((cut, _)) => format!("{}...", &name[..cut]),
        None if name.is_empty() => "\"\"".to_owned(),
        None => name.to_owned(),
    }
}

/// What is wrong with packed data.
pub(super) fn describe(e: &io::Error) -> String {
    describe_of("gzip", e)
}

/// The same of what is packed `by` something.
fn describe_of(by: &str, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => {
            format!("the {by} data end early; the file is not complete")
        }
        _ => format!("the {by} data are damaged: {e}"),
    }
}

/// Why a file that starts with these bytes is no text that is read.
fn other(first: &[u8]) -> Option<&'static str> {
    OTHERS.iter().find(|(start, _)| first.starts_with(start)).map(|&(_, what)| what)
}

/// Why a log that starts with these bytes cannot be prepared: only gzip is unpacked there.
pub(super) fn unprepared(first: &[u8]) -> Option<&'static str> {
    let zstd = first.starts_with(&ZSTD);
    other(first).or(zstd
        .then_some("is packed by zstd; must be plain text, or packed by gzip (zstd -d unpacks it)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    #[test]
    fn a_line_has_a_largest_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let long = vec![b'0'; LONGEST];
        std::fs::write(&path, [BYTE_ORDER_MARK, &long, b"\r\nx\n", &long].concat()).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        for length in [LONGEST, 1, LONGEST] {
            assert_eq!(lines.next_line().unwrap().map(<[u8]>::len), Some(length));
        }
        assert!(lines.next_line().unwrap().is_none());
        for end in ["1", "1\n", "22\r\n", "333333"] {
            std::fs::write(&path, [&b"x\n"[..], &long, end.as_bytes()].concat()).unwrap();
            let mut lines = Lines::open(&path).unwrap();
            assert_eq!(lines.next_line().unwrap(), Some(&b"x"[..]));
            let error = lines.next_line().unwrap_err().to_string();
            let right = "the line is longer than 1048576 bytes; must be text, a sample a line";
            assert_eq!(error, format!("{}:2: {right}", path.display()));
        }
        // Packed, it is small; no more of it is unpacked than a line may have.
        let mut gzip = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
        (0..100).for_each(|_| gzip.write_all(&long).unwrap());
        gzip.finish().unwrap();
        let mut lines = Lines::open(&path).unwrap();
        assert!(lines.next_line().unwrap_err().to_string().contains(":1: the line is longer than"));
        assert!(lines.line.capacity() < 4 * LONGEST);
    }
}
