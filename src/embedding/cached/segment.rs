//! The file of a segment of the row log. It has no name while it is only the log's; a checkpoint
//! that refers to it gives it one, and from then on it is never written to.

use crate::host::positioned::read_at;
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes that are copied or hashed at once.
const PART: usize = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct SegmentFile {
    file: Arc<File>,
    /// Length and BLAKE3, hexadecimal, once it is on the disk for good.
    told: Mutex<Option<(u64, String)>>,
}

impl SegmentFile {
    /// One without a name in `folder`, which is there.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let file = Arc::new(tempfile::tempfile_in(folder)?);
        Ok(SegmentFile { file, told: Mutex::new(None) })
    }

    /// That of a checkpoint, whose length and BLAKE3 are known.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, (bytes, blake3): (u64, &str)) -> io::Result<Self> {
        let told = Mutex::new(Some((bytes, blake3.to_owned())));
        Ok(SegmentFile { file: Arc::new(File::open(path)?), told })
    }

    /// What is read and written.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Gives it the name `to` too, or makes a copy of that name where the file system cannot do
    /// that or is another one; it is on the disk then. Its length and BLAKE3.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn put(&self, to: &Path) -> io::Result<(u64, String)> {
        match link(&self.file, to) {
            Ok(()) => self.tell(),
            // There is something of that name.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
            Err(_) => self.copy(to),
        }
    }

    /// The same of a file that has a name already, or is linked now: hashed and brought to the disk
    /// once.
    fn tell(&self) -> io::Result<(u64, String)> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &*told {
            return Ok(told.clone());
        }
        self.file.sync_all()?;
        let known = self.read(|_| Ok(()))?;
        *told = Some(known.clone());
        Ok(known)
    }

    /// Makes a copy of the name `to`.
    pub(super) fn copy(&self, to: &Path) -> io::Result<(u64, String)> {
        let mut copy = File::options().write(true).create_new(true).open(to)?;
        let known = self.read(|part| copy.write_all(part))?;
        copy.sync_all()?;
        Ok(known)
    }

    /// Hands all of it to `sink`, part by part; length and BLAKE3.
    fn read(&self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, String)> {
        let length = self.file.metadata()?.len();
        let (mut hash, mut part) = (blake3::Hasher::new(), vec![0; PART]);
        for at in (0..length).step_by(PART) {
            part.truncate((length - at).min(PART as u64) as usize);
            read_at(&self.file, &mut part, at)?;
            hash.update(&part);
            sink(&part)?;
        }
        Ok((length, hash.finalize().to_hex().to_string()))
    }
}

/// Gives an open file a name. Of one that never had any only Linux can do that, if it was opened as
/// such (`O_TMPFILE`).
#[cfg(target_os = "linux")]
fn link(file: &File, to: &Path) -> io::Result<()> {
    use nix::{
        fcntl::{AT_FDCWD, AtFlags},
        unistd::linkat,
    };
    use std::os::fd::AsRawFd;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(AT_FDCWD, from.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::positioned::write_at;

    /// Named or copied, it is the same file, and what is told of it is right; a second name is
    /// given without reading it again, and one that is taken is not.
    #[test]
    fn a_segment_gets_names_and_copies() {
        let dir = tempfile::tempdir().unwrap();
        let segment = SegmentFile::new(dir.path()).unwrap();
        let bytes: Vec<u8> = (0..PART as u32 * 2 + 77).map(|k| (k % 253) as u8).collect();
        write_at(segment.file(), &bytes, 0).unwrap();
        let want = (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string());
        let at = |name: &str| dir.path().join(name);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(segment.put(&at("a")).unwrap(), want);
        assert_eq!(segment.put(&at("b")).unwrap(), want);
        assert_eq!(segment.copy(&at("c")).unwrap(), want);
        assert!(segment.put(&at("a")).is_err() && segment.copy(&at("b")).is_err());
        for name in ["a", "b", "c"] {
            assert!(std::fs::read(at(name)).unwrap() == bytes, "{name}");
        }
        // It stays readable when its names are gone, and can be had again: as a copy.
        ["a", "b"].iter().for_each(|name| std::fs::remove_file(at(name)).unwrap());
        assert_eq!(segment.put(&at("d")).unwrap(), want);
        let opened = SegmentFile::open(&at("d"), (want.0, &want.1)).unwrap();
        assert_eq!(opened.put(&at("e")).unwrap(), want);
        assert!(std::fs::read(at("e")).unwrap() == bytes);
    }

    /// Another file system takes a copy.
    #[cfg(target_os = "linux")]
    #[test]
    fn another_file_system_gets_a_copy() {
        use std::os::unix::fs::MetadataExt;
        let (here, Ok(there)) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm"))
        else {
            return;
        };
        let device = |dir: &tempfile::TempDir| std::fs::metadata(dir.path()).unwrap().dev();
        let segment = SegmentFile::new(here.path()).unwrap();
        write_at(segment.file(), b"bytes", 0).unwrap();
        segment.put(&there.path().join("a")).unwrap();
        assert_eq!(std::fs::read(there.path().join("a")).unwrap(), b"bytes");
        let links = std::fs::metadata(there.path().join("a")).unwrap().nlink();
        assert!(
            links == 1
                && (device(&here) == device(&there)
                    || segment.file().metadata().unwrap().nlink() == 0)
        );
    }
}
