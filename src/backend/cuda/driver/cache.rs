//! Compiled kernels in the user's cache folder, by a hash of all that they depend on.

use etcetera::BaseStrategy;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Names another folder.
pub const FOLDER: &str = "DLRM_BENCH_CACHE";

/// The folder for compiled kernels, if the user has a home.
pub fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(folder.into());
    }
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("dlrm-bench").join("kernels"))
}

/// What was kept in `folder` under `key`, or what `make` makes of nothing; kept for the next time
/// where that can be written.
///
/// # Errors
/// Those of `make`: a cache that cannot be read or written is none.
pub fn cached<E>(
    folder: Option<&Path>,
    key: &str,
    make: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let Some(folder) = folder else { return make() };
    let path = folder.join(key);
    // A file that has been cut short is not the one that its last bytes say.
    if let Ok(mut kept) = fs::read(&path)
        && kept.len() > 32
    {
        let hash = kept.split_off(kept.len() - 32);
        if blake3::hash(&kept).as_bytes().as_slice() == hash {
            return Ok(kept);
        }
    }
    let made = make()?;
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&made)?;
        file.write_all(blake3::hash(&made).as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    let _ = write();
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_once_is_kept_unless_it_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        let get = |value: u8| cached::<()>(Some(&folder), "k", || Ok(vec![value; 100])).unwrap();
        assert_eq!(get(1), [1; 100]);
        assert_eq!(get(2), [1; 100], "kept");
        let whole = fs::read(folder.join("k")).unwrap();
        fs::write(folder.join("k"), &whole[..90]).unwrap();
        assert_eq!(get(3), [3; 100], "made again");
        assert_eq!(cached::<()>(None, "k", || Ok(vec![4])), Ok(vec![4]));
        assert_eq!(cached(Some(&folder), "other", || Err("no")), Err("no"));
    }
}
