//! Deals values to files by hash, so that each file has few different ones: values that do not fit
//! in memory together are then handled file by file.

use crate::data::preprocess::prepare::PrepareError;
use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// The most files: all of them are read at the same time, for each column.
pub const MOST: usize = 32;
/// Bytes that wait before they are written.
const BUFFER: usize = 1 << 16;

/// Which of `files` files an id goes to. Uses other bits of another product than the dictionaries'
/// hash does.
pub fn file_of(id: u32, files: usize) -> usize {
    ((u64::from(id.wrapping_mul(0x85eb_ca6b) ^ id >> 15).wrapping_mul(0xc2b2_ae35) >> 16)
        % files as u64) as usize
}

/// Files of 32-bit words that grow side by side.
pub struct WordFiles {
    files: Vec<(PathBuf, Vec<u8>)>,
    buffer: usize,
}

impl WordFiles {
    /// `n` empty files in `folder`.
    pub fn create(folder: &Path, name: &str, n: usize) -> Result<Self, PrepareError> {
        WordFiles::create_with(folder, name, n, BUFFER)
    }

    /// The same with so many bytes of memory for each.
    pub fn create_with(
        folder: &Path,
        name: &str,
        n: usize,
        buffer: usize,
    ) -> Result<Self, PrepareError> {
        let mut files = Vec::new();
        for i in 0..n {
            let path = folder.join(format!("{name}_{i}.u32"));
            // An earlier run may have left one.
            File::create(&path).map_err(PrepareError::write(&path))?;
            files.push((path, Vec::new()));
        }
        Ok(WordFiles { files, buffer: buffer.min(BUFFER) })
    }

    pub fn push(&mut self, file: usize, word: u32) -> Result<(), PrepareError> {
        self.push_all(file, &[word])
    }

    pub fn push_all(&mut self, file: usize, words: &[u32]) -> Result<(), PrepareError> {
        let (path, waiting) = &mut self.files[file];
        words.iter().for_each(|word| waiting.extend_from_slice(&word.to_le_bytes()));
        if waiting.len() >= self.buffer { flush(path, waiting) } else { Ok(()) }
    }

    /// Writes what waits for one file, and gives its path.
    pub fn take(&mut self, file: usize) -> Result<PathBuf, PrepareError> {
        let (path, waiting) = &mut self.files[file];
        flush(path, waiting)?;
        *waiting = Vec::new();
        Ok(path.clone())
    }

    /// Writes what waits, and gives the paths.
    pub fn finish(self) -> Result<Vec<PathBuf>, PrepareError> {
        let flushed =
            |(path, mut waiting): (PathBuf, Vec<u8>)| flush(&path, &mut waiting).map(|()| path);
        self.files.into_iter().map(flushed).collect()
    }
}

fn flush(path: &Path, waiting: &mut Vec<u8>) -> Result<(), PrepareError> {
    let append = || OpenOptions::new().append(true).open(path)?.write_all(waiting);
    append().map_err(PrepareError::write(path))?;
    waiting.clear();
    Ok(())
}

/// Reads a file of words.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, PrepareError> {
        let open = || -> std::io::Result<Reader> {
            let file = File::open(path)?;
            let left = file.metadata()?.len() / 4;
            Ok(Reader { path: path.to_owned(), file: BufReader::with_capacity(BUFFER, file), left })
        };
        open().map_err(PrepareError::write(path))
    }

    /// The next word; `None` after the last.
    pub fn next(&mut self) -> Result<Option<u32>, PrepareError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut word = [0; 4];
        self.file.read_exact(&mut word).map_err(PrepareError::write(&self.path))?;
        self.left -= 1;
        Ok(Some(u32::from_le_bytes(word)))
    }

    /// The next words, at most `n`; none after the last.
    pub fn take(&mut self, n: usize) -> Result<Vec<u32>, PrepareError> {
        let n = self.left.min(n as u64);
        let mut bytes = vec![0; 4 * n as usize];
        self.file.read_exact(&mut bytes).map_err(PrepareError::write(&self.path))?;
        self.left -= n;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect())
    }
}

/// Takes files away that are no longer needed.
pub fn remove(paths: &[PathBuf]) -> Result<(), PrepareError> {
    paths.iter().try_for_each(|path| fs::remove_file(path).map_err(PrepareError::write(path)))
}
