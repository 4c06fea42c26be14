//! What a run leaves behind: `results/<system>/<workload>/<run>/` with the MLPerf log, the record,
//! the metrics and the plots.
//!
//! Everything but the log, which grows with the run, is written under another name and then
//! renamed, so a reader never sees half a file. No folder is ever written twice.
//!
//! [`tree`] reads results back, anybody's; [`table`] sets them side by side.

pub(crate) mod floor;
mod folder;
pub mod history;
pub mod identity;
pub mod metrics;
pub(crate) mod package;
pub mod record;
mod recorder;
pub(crate) mod reference;
pub mod sweep;
pub mod table;
#[cfg(test)]
mod tests;
mod time;
pub mod tree;

pub use floor::Floor;
pub use folder::RunFolder;
pub use record::RunRecord;
pub use recorder::{Recorded, Recorder, about};

use crate::host::atomic_file;
use std::path::{Path, PathBuf};

/// What can go wrong with results. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {what}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl ResultsError {
    fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| ResultsError::Write { path: path.into(), source }
    }

    fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| ResultsError::Read { path: path.into(), source }
    }

    fn malformed(path: &Path, what: impl Into<String>) -> Self {
        ResultsError::Malformed { path: path.into(), what: what.into() }
    }
}

/// Writes `bytes` to `path`, as `atomic_file::write` does.
///
/// # Errors
/// If it cannot be written; then the old file is still there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ResultsError> {
    atomic_file::write(path, bytes).map_err(ResultsError::write(path))
}

/// Lets `fill` write a file that takes the place of `path`, as `atomic_file::replace` does.
///
/// # Errors
/// If `fill` fails, or the file cannot be put in its place.
pub fn replace(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), ResultsError> {
    atomic_file::replace(path, fill).map_err(ResultsError::write(path))
}
