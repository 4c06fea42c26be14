//! Files that are whole or not there: written under another name, brought to the disk, then renamed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What names of unfinished files begin with.
const PREFIX: &str = ".tmp-";

/// Writes `bytes` to `path` so that a reader, or a crash, finds the old file or the new one, never a part.
///
/// # Errors
/// If it cannot be written; nothing is left of it then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let put = File::create(&temporary).and_then(|mut file| file.write_all(bytes)).and_then(|()| publish(&temporary, path));
    put.inspect_err(|_| {
        // It may never have come to be.
        let _ = fs::remove_file(&temporary);
    })
}

/// The name under which `path` is written: in the same folder, hidden, with the same ending (image writers go by it).
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
