//! Files that are whole or not there: written under another name, brought to the disk, then
//! renamed.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// What names of unfinished files begin with.
const PREFIX: &str = ".tmp-";

/// Writes `bytes` to `path` so that a reader, or a crash, finds the old file or the new one, never
/// a part. Of several processes that write the same file, one waits for the other.
///
/// # Errors
/// If it cannot be written; nothing is left of it then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file = loop {
        if let Some(file) = held(&temporary, File::lock)? {
            break file;
        }
    };
    // A kill may have left a part of another.
    let put = file
        .set_len(0)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| publish(&temporary, path));
    put.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// The right to write a file, of which one process at a time has it. It is a locked file beside it,
/// which goes when this is dropped, and keeps nobody out if a kill leaves it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// The right to write `path`, which need not be there; `None` if another process has it.
    ///
    /// # Errors
    /// If the file beside it cannot be made.
    pub fn of(path: &Path) -> io::Result<Option<Lock>> {
        let mut name = temporary(path).into_os_string();
        name.push(".lock");
        let path = PathBuf::from(name);
        let mut taken = false;
        loop {
            let lock = |file: &File| match file.try_lock() {
                Ok(()) => Ok(()),
                Err(TryLockError::WouldBlock) => {
                    taken = true;
                    Ok(())
                }
                Err(TryLockError::Error(e)) => Err(e),
            };
            let file = held(&path, lock)?;
            if taken {
                return Ok(None);
            }
            if let Some(file) = file {
                return Ok(Some(Lock { path, _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked: nobody else can have made another in its place.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens `path`, which is made if need be, and passes it through `lock`; `None` if whoever had it
/// before moved it or took it away meanwhile.
fn held(path: &Path, lock: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match lock(&file) {
        Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(None),
        // Some file systems of networks have no locks.
        Err(e) if e.kind() != ErrorKind::Unsupported => return Err(e),
        _ => {}
    }
    Ok(is_at(&file, path).then_some(file))
}

/// Whether the open `file` is what lies at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let at = |m: &fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if at(&a) == at(&b))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// The name under which `path` is written: in the same folder, hidden, with the same ending (image
/// writers go by it).
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(PREFIX);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Whether `path` is one of [`temporary`].
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

/// The last part of a path, or the one that it will have when it is moved to its place.
pub fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(PREFIX).unwrap_or(&name).to_owned()
}

/// Moves a finished file to its place once the disk has it.
///
/// # Errors
/// If it cannot be brought to the disk or moved.
pub fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    // The rename itself is on disk once the folder is; not every system lets a folder be opened.
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_may_write_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        // As a kill leaves them.
        fs::write(temporary(&path), [7; 99]).unwrap();
        fs::write(dir.path().join(".tmp-a.bin.lock"), "").unwrap();
        let lock = Lock::of(&path).unwrap().unwrap();
        assert!(Lock::of(&path).unwrap().is_none());
        assert!(Lock::of(&dir.path().join("b.bin")).unwrap().is_some());
        drop(lock);
        drop(Lock::of(&path).unwrap().unwrap());
        std::thread::scope(|scope| {
            for i in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    (0..20).for_each(|_| write(path, &vec![i; 1000 * usize::from(i) + 1]).unwrap())
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(
            bytes.len() == 1000 * usize::from(bytes[0]) + 1 && bytes.iter().all(|b| *b == bytes[0])
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(Lock::of(&dir.path().join("none/a")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
