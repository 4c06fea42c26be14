//! A workload for data that nobody has described: roles of the columns, a model and its training are
//! guessed from what the columns hold, and each guess is written down beside what follows from it.

mod roles;
mod write;

pub use roles::{Label, Role, Roles};
pub use write::Draft;

use crate::data::{format::Format, survey::Survey};
use std::path::PathBuf;

/// Which model to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DLRM.
    Dlrm,
    /// DeepFM.
    DeepFm,
}

/// What a user says; what is left out is guessed.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The label.
    pub label: Option<String>,
    /// Values of the label that mean 1.
    pub positive: Vec<String>,
    /// Columns that are dense whatever they hold.
    pub dense: Vec<String>,
    /// Columns that are categorical.
    pub categorical: Vec<String>,
    /// Columns of dates.
    pub dates: Vec<String>,
    /// Columns that are left out.
    pub ignore: Vec<String>,
    /// The model; `None` = a DLRM where there are dense columns, else a DeepFM.
    pub model: Option<Kind>,
    /// Rows to hash text to; `None` = values are numbered while they are not too many.
    pub hash: Option<u32>,
}

/// Files of one kind, as they were found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Training files.
    pub train: Vec<PathBuf>,
    /// Evaluation file, if there is one.
    pub eval: Option<PathBuf>,
    /// Test file, if there is one.
    pub test: Option<PathBuf>,
    /// What they are.
    pub files: Files,
    /// What the training files hold.
    pub survey: Survey,
}

/// What files are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Delimited text.
    Text {
        /// What separates fields.
        delimiter: char,
        /// Whether the first line holds names.
        header: bool,
    },
    /// Files of a format that say themselves which column is what.
    Described(Format),
    /// Parquet.
    Parquet,
}
