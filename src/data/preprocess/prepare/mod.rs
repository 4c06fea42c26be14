//! Criteo's logs as the original programs prepare them: [`Recipe`] names the programs, and each
//! recipe's file (`recipes/`) says what it writes.
//!
//! One pass over the text (`pass.rs`) writes samples of fixed size and, for recipes that number ids
//! by first appearance, dictionaries (`encoder.rs`), in memory that does not grow with the input but
//! for the dictionaries. Then the recipe writes its files: cut, dealt to folds or shuffled
//! (`shuffle/`), in its format. Checksums tell at all times what lies on the disk (`state/`), so
//! that a killed run goes on where it was. Where the originals fail, this differs as
//! [`criteo`](super::criteo) says.

mod encoder;
mod job;
mod outlook;
mod pass;
mod plan;
mod publish;
mod recipes;
mod run;
mod shuffle;
mod state;
mod survey;
#[cfg(test)]
mod testing;
mod worker;
mod writer;

pub use job::{Job, LEAST_MEMORY};
pub use outlook::{foresee, look, tidy};
pub use plan::{LIMIT as DISK_LIMIT, Plan, PlannedFile, free, plan, refuse_small_disk};
pub use recipes::{
    Evaluation, Files, MLPERF_V2_ROWS, MultiHot, NullId, Parameters, Randomize, Reading, Recipe,
    UnknownRecipe, setting, settings,
};
pub use run::{Done, run};
pub use state::existing::OutputState;

use super::inputs::Input;
use crate::data::{DataError, manifest::ManifestError};
use std::{
    io,
    path::{Path, PathBuf},
};

/// What a listener hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Reading and encoding: bytes of the raw files done and in all, samples so far.
    Encode {
        /// Done.
        bytes: u64,
        /// In all.
        total: u64,
        /// Samples written.
        samples: u64,
    },
    /// Anything else that takes long: what it is, bytes done and in all.
    Other {
        /// In words.
        what: &'static str,
        /// Done.
        bytes: u64,
        /// In all.
        total: u64,
    },
}

/// Who hears of it.
type Tell<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Why data cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The raw data are wrong.
    #[error(transparent)]
    Data(#[from] DataError),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Usage(String),
    /// Something in the output folder is not what it should be.
    #[error("{0}")]
    Stale(String),
    /// A manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The budget is too small.
    #[error("{0}")]
    Memory(String),
    /// A file cannot be written, or the disk is too small.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is too small.
    #[error("{0}")]
    Disk(String),
    /// Ctrl-C or SIGTERM; the next run goes on from here.
    #[error("interrupted; the same command goes on from here")]
    Interrupted,
}

impl PrepareError {
    /// A setting that `recipe` does not take.
    pub fn foreign(recipe: Recipe, setting: &str) -> PrepareError {
        let (recipe, flag) = (recipe.name(), setting.replace('_', "-"));
        PrepareError::Usage(format!(
            "{recipe}: --{flag} does not belong to this recipe; leave it out"
        ))
    }

    /// For [`Result::map_err`] after an operation on `path`.
    fn write(path: &Path) -> impl FnOnce(io::Error) -> PrepareError + '_ {
        move |source| PrepareError::Write { path: path.to_owned(), source }
    }
}
