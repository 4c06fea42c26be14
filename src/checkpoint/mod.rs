//! Checkpoints: all that a training goes on from, in folders that are whole or not there at all.
//!
//! ```text
//! checkpoints/
//!   step-000000001000/
//!     model.safetensors       the parameters, by facebook's names where it has them
//!     optimizer.safetensors   the update rule's state, <parameter>.<what it is>
//!     keys.safetensors        whose rows they are, where tables grow
//!     rows.json               what is in records of a row file; segment-00000.rows: its segments,
//!     rows.safetensors        and where in them each row's record is
//!     progress.json           everything else: numbers of steps, loss scale, schedule, listeners
//!     manifest.json           size and BLAKE3 of each; written last
//! ```
//!
//! An incremental one has of tables only the rows that were touched since its base (docs/checkpoints.md).
//!
//! A checkpoint is written under another name, brought to the disk, and renamed: what has its name
//! is whole, unless a disk or a hand damaged it, which the manifest tells. docs/checkpoints.md
//! describes the format for readers of other programs.

mod changes;
mod config;
mod folder;
pub mod keys;
mod loaded;
mod referred;
mod rows;
mod tensors;
pub mod torch;
mod write;

pub use changes::{changed_name, rows_name};
pub use config::{CheckpointConfig, KEEP};
pub use folder::{About, Base, Checkpoints, FORMAT, Group, Kind, Manifest, Saved};
pub use loaded::Loaded;
pub use referred::ReferredRows;
pub use rows::{Begins, RowColumn, RowTensor, SavedRows};
pub use tensors::{Form, Tensor, Tensors, View};
pub use write::{ReadPart, Shard, write_file};

use std::path::PathBuf;

/// What can go wrong with checkpoints. Each message names the file or folder.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be written.
    #[error("{path}: cannot write the checkpoint: {source}", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error("{path}: cannot read the checkpoint: {source}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what was written.
    #[error("{path}: {what}", path = path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is whole, but of something else.
    #[error("{path}: {what}", path = path.display())]
    Unfit {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// There is none that could be used.
    #[error("{path}: there is no whole checkpoint{}", others(damaged), path = path.display())]
    None {
        /// Where they would be.
        path: PathBuf,
        /// Why those that are there cannot be used.
        damaged: Vec<String>,
    },
}

fn others(damaged: &[String]) -> String {
    damaged.iter().map(|what| format!("; {what}")).collect()
}
