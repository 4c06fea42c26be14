//! Whole files or none.

use super::ResultsError;
use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// Writes `bytes` to `path` so that a reader, or a crash, finds the old file or the new one, never a part.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ResultsError> {
    replace(path, |temporary| {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)
    })
}

/// Lets `fill` write a file under a temporary name in `path`'s folder, then puts it in `path`'s place. If `fill` fails, nothing
/// is left of it.
pub fn replace(path: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), ResultsError> {
    let temporary = temporary(path);
    let put = fill(&temporary).and_then(|()| publish(&temporary, path));
    put.map_err(|source| {
        // It may never have come to be.
        let _ = fs::remove_file(&temporary);
        ResultsError::Write { path: path.into(), source }
    })
}

/// The name under which `path` is written: in the same folder, hidden, with the same ending (image writers go by it).
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".tmp-");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Moves a finished file to its place once the disk has it.
pub(super) fn publish(temporary: &Path, path: &Path) -> std::io::Result<()> {
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
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        write_file(&path, b"old").unwrap();
        let error = replace(&path, |t| {
            fs::write(t, b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert_eq!(error.unwrap_err().to_string(), format!("cannot write {}: disk full", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/run.json");
        assert!(write_file(&path, b"x").unwrap_err().to_string().contains("none/run.json"));
    }
}
