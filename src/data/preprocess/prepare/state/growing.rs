//! A file that only grows: what lies behind the part that a checkpoint counts is cut off when a
//! killed run goes on.

use crate::data::preprocess::prepare::PrepareError;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Bytes that are read at once to check what is there.
const BUFFER: usize = 1 << 20;

/// How far a growing file counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes; what lies behind them was written after the checkpoint.
    pub bytes: u64,
    /// BLAKE3 of them, in hexadecimal.
    pub blake3: String,
}

/// A file that only grows, and its checksum.
pub struct Growing {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Growing {
    /// Creates `path`; cuts it to nothing if an earlier run left one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Growing, PrepareError> {
        Growing::open(path, &Written::default(), |_| Ok(()))
    }

    /// Opens `path` to append to the part that `counts`: shows this part to `seen`, and cuts off
    /// what lies behind it.
    ///
    /// # Errors
    /// If something counts and the file is missing, too short, or has other content; if it cannot
    /// be written; or those of `seen`.
    pub fn open(
        path: &Path,
        counts: &Written,
        mut seen: impl FnMut(&[u8]) -> Result<(), PrepareError>,
    ) -> Result<Growing, PrepareError> {
        let io = |source| PrepareError::Write { path: path.to_owned(), source };
        let damaged = |what: String| {
            PrepareError::Stale(format!(
                "{}: {what}, so that the unfinished work cannot go on; delete {} to begin anew",
                path.display(),
                path.parent().unwrap_or(path).display()
            ))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = counts.bytes;
        let mut buffer = vec![0; BUFFER.min(left.max(1) as usize)];
        while left > 0 {
            let n = BUFFER.min(left as usize);
            match file.read_exact(&mut buffer[..n]) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(damaged(format!(
                        "has less than the {} bytes that were written",
                        counts.bytes
                    )));
                }
                Err(e) => return Err(io(e)),
            }
            hasher.update(&buffer[..n]);
            seen(&buffer[..n])?;
            left -= n as u64;
        }
        if counts.bytes > 0 && hasher.finalize().to_hex().as_str() != counts.blake3 {
            return Err(damaged(format!(
                "its first {} bytes are not those that were written",
                counts.bytes
            )));
        }
        file.set_len(counts.bytes).map_err(io)?;
        Ok(Growing { path: path.to_owned(), file, hasher, bytes: counts.bytes })
    }

    /// Appends.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PrepareError> {
        self.write_all(bytes).map_err(PrepareError::write(&self.path))
    }

    /// Whether nothing was ever written to it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Brings it to the disk, and tells how far it counts.
    pub fn sync(&mut self) -> Result<Written, PrepareError> {
        self.file.sync_data().map_err(PrepareError::write(&self.path))?;
        Ok(Written { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_growing_file_goes_on_where_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.bin");
        let nothing = |_: &[u8]| Ok(());
        let mut file = Growing::open(&path, &Written::default(), nothing).unwrap();
        file.append(b"one").unwrap();
        let counts = file.sync().unwrap();
        file.append(b"lost").unwrap();
        drop(file);
        let mut seen = Vec::new();
        let mut file = Growing::open(&path, &counts, |b| {
            seen.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, b"one");
        file.append(b"two").unwrap();
        let all = file.sync().unwrap();
        assert_eq!((all.bytes, fs::read(&path).unwrap()), (6, b"onetwo".to_vec()));
        assert_eq!(all.blake3, blake3::hash(b"onetwo").to_hex().as_str());
        fs::write(&path, b"onetwi").unwrap();
        let error = |counts| Growing::open(&path, counts, nothing).err().unwrap().to_string();
        assert!(
            error(&all).contains("rows.bin: its first 6 bytes are not those that were written")
        );
        fs::write(&path, b"one").unwrap();
        assert!(error(&all).contains("has less than the 6 bytes"));
    }
}
