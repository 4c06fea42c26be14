//! Whole files or none.

use super::ResultsError;
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

pub(super) use crate::data::whole::{publish, temporary};

/// Writes `bytes` to `path` so that a reader, or a crash, finds the old file or the new one, never
/// a part.
///
/// # Errors
/// If it cannot be written; then the old file is still there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ResultsError> {
    replace(path, |temporary| {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)
    })
}

/// Lets `fill` write a file under a temporary name in `path`'s folder, then puts it in `path`'s
/// place. If `fill` fails, nothing is left of it.
///
/// # Errors
/// If `fill` fails, or the file cannot be put in its place.
pub fn replace(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), ResultsError> {
    let temporary = temporary(path);
    // Made before it is filled: what is wrong with the folder is said in the system's words,
    // whoever fills it.
    let put = File::create(&temporary)
        .and_then(|_| fill(&temporary))
        .and_then(|()| publish(&temporary, path));
    put.map_err(|source| {
        // It may never have come to be.
        let _ = fs::remove_file(&temporary);
        ResultsError::Write { path: path.into(), source }
    })
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
        assert_eq!(
            error.unwrap_err().to_string(),
            format!("cannot write {}: disk full", path.display())
        );
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
        let error =
            replace(&path, |_| Err(std::io::Error::other("what a drawing library makes of it")))
                .unwrap_err()
                .to_string();
        assert!(error.contains("none/run.json: No such file"), "{error}");
    }
}
