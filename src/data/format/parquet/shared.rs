//! A file that several threads read at once, each at places of its own.
//!
//! The parquet crate's own reading of a [`File`] moves the one position that all of its copies
//! share: two threads would read each other's pieces.

use bytes::Bytes;
use parquet::{
    errors::Result,
    file::reader::{ChunkReader, Length},
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::Arc,
};

/// The file, and its length when it was opened.
#[derive(Clone)]
pub(super) struct Shared {
    file: Arc<File>,
    len: u64,
}

impl Shared {
    pub(super) fn new(file: File, len: u64) -> Self {
        Shared { file: Arc::new(file), len }
    }

    fn from(&self, at: u64) -> Piece {
        Piece { file: Arc::clone(&self.file), at }
    }
}

impl Length for Shared {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Shared {
    type T = BufReader<Piece>;

    fn get_read(&self, start: u64) -> Result<BufReader<Piece>> {
        Ok(BufReader::new(self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // A broken file may ask for more than there is.
        let there = usize::try_from(self.len.saturating_sub(start)).unwrap_or(usize::MAX);
        if length > there {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut bytes = vec![0; length];
        self.from(start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A place in the file from which is read on.
pub(super) struct Piece {
    file: Arc<File>,
    at: u64,
}

impl Read for Piece {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = read_at(&self.file, to, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, to, at)
}

#[cfg(windows)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, to, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Whatever is read elsewhere in between, a reader goes on where it was.
    #[test]
    fn readers_have_places_of_their_own() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..40_000u32).map(|i| ((i * i) >> 7) as u8).collect();
        file.write_all(&bytes).unwrap();
        let shared = Shared::new(file, bytes.len() as u64);
        let starts = [0, 20_000, 39_000];
        let mut readers = starts.map(|at| shared.get_read(at).unwrap());
        let mut read = [(); 3].map(|()| Vec::new());
        // Each reads more than its buffer holds, in turns.
        for _ in 0..200 {
            for (reader, read) in readers.iter_mut().zip(&mut read) {
                reader.take(100).read_to_end(read).unwrap();
                assert_eq!(shared.get_bytes(777, 50).unwrap(), bytes[777..827]);
            }
        }
        for (start, read) in starts.into_iter().zip(read) {
            let start = start as usize;
            assert!(read == bytes[start..(start + 20_000).min(bytes.len())], "from {start}");
        }
    }

    #[test]
    fn no_more_is_made_room_for_than_the_file_holds() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10]).unwrap();
        let shared = Shared::new(file, 10);
        assert_eq!(shared.get_bytes(4, 6).unwrap(), [7u8; 6][..]);
        for (start, length) in [(4, 7), (10, 1), (11, 1), (0, usize::MAX), (u64::MAX, 1)] {
            assert!(shared.get_bytes(start, length).is_err(), "{start} {length}");
        }
    }
}
