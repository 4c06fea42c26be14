//! How the files that a recipe writes are trained on.

use super::Parameters;
use crate::data::{format::Format, source::config::DenseTransform};

/// How the files that a recipe writes are trained on: in what format, on which of their parts.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// What they are.
    pub files: Files,
    /// Which parts evaluation looks at.
    pub evaluation: Evaluation,
    /// What the original takes of the dense values in the files.
    pub transform: DenseTransform,
    /// Whether, with these settings, the ids in the files are hashes or stand there as in the log,
    /// so that tables have to take them modulo their rows.
    pub hashed: fn(&Parameters) -> bool,
}

/// What files are.
#[derive(Debug, Clone, Copy)]
pub enum Files {
    /// Records of 160 bytes, a file for each part.
    Records,
    /// A folder of parquet files for each part.
    Parquet {
        /// Whether the integers of the log are ids, too, and no dense values.
        all_ids: bool,
        /// Where the ids of a column start, for each column before it.
        stride: fn(&Parameters) -> u32,
    },
    /// Files that are read by the reader of their format.
    Format(Format),
}

/// Which parts evaluation looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluation {
    /// A part while training goes on, and one at its end.
    Parts(&'static str, Option<&'static str>),
    /// Parts are days; of the last one the first half, rounded up, and then the rest.
    Halves,
}

/// For recipes that number all ids.
pub(super) fn never(_: &Parameters) -> bool {
    false
}

/// For recipes that number none.
pub(super) fn always(_: &Parameters) -> bool {
    true
}
