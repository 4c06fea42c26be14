//! A file in the address space: its pages are read when they are touched and given up when memory
//! is short.

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use std::{fs::File, io, ops::Range, path::Path};

/// A file mapped for reading.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the whole file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no plain file"));
        }
        let map = match metadata.len() {
            0 => None,
            // SAFETY: the mapping is private to reading and lives as long as `self`. Its bytes are
            // plain numbers, valid whatever they are, and users check the values they take from
            // them. What no program can rule out is that another one cuts the file short meanwhile;
            // `check` tells users who ask before they read.
            _ => Some(unsafe { Mmap::map(&file)? }),
        };
        Ok(MappedFile { file, map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Says that it is read here and there, so that the system reads no more than what is touched.
    pub fn at_random(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // Without it reading takes longer, and that is all.
            let _ = map.advise(memmap2::Advice::Random);
        }
    }

    /// Gives back the memory that holds these of the file's bytes: the process holds them no more,
    /// the system's cache may. They are read again when they are touched.
    pub fn release(&self, bytes: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = self.map.as_ref().filter(|_| !bytes.is_empty()) {
            let end = bytes.end.min(map.len());
            let start = bytes.start.min(end);
            let advice = UncheckedAdvice::DontNeed;
            // SAFETY: the range lies in the mapping, which is shared with a file and never written
            // to, so pages that are given back come again with the file's bytes; whoever holds a
            // reference to them reads the same.
            let _ = unsafe { map.unchecked_advise_range(advice, start, end - start) };
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    /// Asks whether the file is still as long as the mapping.
    ///
    /// # Errors
    /// If it has been cut short, so that its bytes must not be touched any more.
    pub fn check(&self) -> io::Result<()> {
        let (now, mapped) = (self.file.metadata()?.len(), self.bytes().len() as u64);
        if now >= mapped {
            return Ok(());
        }
        let what = format!("has been cut from {mapped} to {now} bytes while it was in use");
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_mapped_whole_and_missed_when_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"twelve bytes").unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(file.bytes(), b"twelve bytes");
        file.check().unwrap();
        file.release(3..100);
        file.release(0..0);
        assert_eq!(file.bytes(), b"twelve bytes");
        File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
        assert!(file.check().unwrap_err().to_string().contains("from 12 to 5 bytes"));
        std::fs::write(&path, b"").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"");
        assert!(MappedFile::open(dir.path()).is_err());
        assert!(MappedFile::open(&dir.path().join("none")).is_err());
    }
}
