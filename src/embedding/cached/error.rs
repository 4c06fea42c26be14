//! What can be wrong with the row file.

use crate::host::Size;
use std::{io, path::PathBuf};

/// What is wrong with the row file.
#[derive(Debug, thiserror::Error)]
pub enum RowFileError {
    /// There is no room for another row.
    #[error(
        "the row file in {} is full: all its {} hold rows that are in use; give it more (embedding.disk), or more of them a place in memory (embedding.cache)",
        folder.display(), Size(*bytes)
    )]
    Full {
        /// Where it is.
        folder: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It cannot be made, read or written.
    #[error(
        "the row file in {} cannot be {what}: {source}; training can go on from its last checkpoint, elsewhere with embedding.path",
        folder.display()
    )]
    Io {
        /// Where it is.
        folder: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A record is not what was written.
    #[error(
        "the row file in {} is damaged: what it has for row {row} of column {column} is not what was written; training can go on from its last checkpoint",
        folder.display()
    )]
    Damaged {
        /// Where it is.
        folder: PathBuf,
        /// The column, from 0.
        column: u32,
        /// The row.
        row: u32,
    },
}
