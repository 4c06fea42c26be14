//! What is wrong with a workload, and where it stands.

use std::path::PathBuf;

/// Where a value of a resolved workload came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A line (counted from 1) of the workload file.
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// Its line.
        line: usize,
    },
    /// `--set KEY=VALUE`.
    Set,
    /// Nobody said otherwise.
    Default,
    /// It follows from `[data.otherwise]` being taken.
    Otherwise,
    /// `data.fit_memory` made it so.
    FitMemory,
    /// `embedding.store = "auto"` made it so.
    AutoStore,
}

/// A workload that cannot be run. The message is one line that says where, which key, and what
/// would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// The file cannot be read, or is no TOML.
    #[error("{place}: {what}")]
    Unreadable {
        /// The file, and its line where one is at fault.
        place: String,
        /// Why.
        what: String,
    },
    /// A key of the file is wrong.
    #[error("{path}:{line}: {key}: {what}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The line of the key, or of its section where the key is missing.
        line: usize,
        /// The key, `section.name`.
        key: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// An override is wrong.
    #[error("--set {key}: {what}")]
    InOverride {
        /// The key, `section.name`.
        key: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The model does not fit the data.
    #[error("{key}: {what}")]
    Unfit {
        /// The key, `section.name`.
        key: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
}
