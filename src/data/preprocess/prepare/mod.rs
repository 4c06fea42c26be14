//! Criteo's logs as the original programs prepare them. What a recipe makes is told in its own
//! file: [`Recipe`] names them.
//!
//! One pass over the text writes samples of fixed size and, for recipes that number ids by first
//! appearance, dictionaries (`encode.rs`), in memory that does not grow with the input but for the
//! dictionaries. Then the recipe makes its files of them: cut, dealt to folds or shuffled
//! (`order.rs`, `shuffle.rs`), and written in its format. What is on disk is known by checksums at
//! all times (`state.rs`), so that a killed run goes on where it was. Where the originals fail,
//! this differs as [`criteo`](super::criteo) says.

mod deeprec;
mod encode;
mod encoding;
mod facebook;
mod folds;
mod fuxictr;
mod make;
mod mlperf_v2;
mod nvidia;
mod oneflow;
mod order;
mod partition;
mod permutation;
mod place;
mod plan;
mod recipe;
mod records;
mod resolve;
mod run;
mod shuffle;
mod spill;
mod state;
mod survey;
mod table;
#[cfg(test)]
mod testing;
mod there;
mod vocabulary;
mod write;

pub use plan::{LIMIT as DISK_LIMIT, Plan, PlannedFile, free, plan, refuse_small_disk};
pub use recipe::{MultiHot, NullId, Parameters, Randomize, Recipe};
pub use run::{Done, run};
pub use there::There;

use super::{inputs::Input, lines::is_gzip, unpack};
use crate::{
    data::{DataError, manifest::ManifestError, preprocess::criteo::RECORD},
    host::Isa,
};
use run::Worker;
use serde::{Deserialize, Serialize};
use spill::Fresh;
use state::{Checkpoint, Written};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use survey::Survey;

/// Bytes that the program itself, its buffers aside, may take.
const PROGRAM: u64 = 32 << 20;
/// The least budget.
pub const LEAST_MEMORY: u64 = 64 << 20;

/// What a recipe does beside reading the log.
trait Finish: Sync {
    /// # Errors
    /// If settings do not go together.
    fn check(&self, _parameters: &Parameters) -> Result<(), PrepareError> {
        Ok(())
    }

    /// What will be written, for a log of so many lines in each file, in which new values come so
    /// often.
    fn plan(&self, job: &Job, lines: &[u64], fresh: &Fresh) -> Outcome;

    /// What looks at all samples, if that is how the sizes of the files become known.
    fn survey(&self, _job: &Job) -> Option<Box<dyn Survey>> {
        None
    }

    /// Tells what files will be about of which only the most is known, by some samples from the
    /// start of the log, as they lie on the disk.
    fn measure(&self, _job: &Job, _records: &[u8], _fresh: &Fresh, _files: &mut [PlannedFile]) {}

    /// Makes the files in the folder of unfinished work, each by [`Worker::make`], which leaves
    /// alone what was made before a kill.
    ///
    /// # Errors
    /// If they cannot be made; after an interruption what is done is not lost.
    fn make(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<Made, PrepareError>;
}

/// What a recipe will write.
struct Outcome {
    /// Its files, or folders of files.
    files: Vec<PlannedFile>,
    /// The most that lies on the disk at once.
    peak: u64,
}

/// What a recipe has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// The files that go to the output folder.
    files: Vec<MadeFile>,
    /// Name, file or folder, and samples of each part.
    splits: Vec<(String, String, u64)>,
    /// Different ids of columns, by the column's name.
    ids: Vec<(String, u64)>,
}

/// A file that goes to the output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MadeFile {
    /// Its name there, with `/` where it lies in a folder.
    name: String,
    /// Its name in the folder of unfinished work.
    from: String,
    written: Written,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// How.
    pub recipe: Recipe,
    /// With what settings.
    pub parameters: Parameters,
    /// The raw files, in order.
    pub raw: Vec<PathBuf>,
    /// Where to.
    pub output: PathBuf,
    /// Bytes that may be taken.
    pub memory: u64,
    /// Threads, at least 1.
    pub threads: usize,
    /// The instruction set.
    pub isa: Isa,
    /// How much work a kill may cost.
    pub checkpoint: Duration,
}

impl Job {
    /// Bytes of text that are read at once. Some twenty times as much is in memory at the worst:
    /// stretches that wait, columns and records, of which a line of 41 bytes makes 160 each.
    fn chunk(&self) -> usize {
        (self.memory / 128).clamp(super::chunks::SMALLEST as u64, 16 << 20) as usize
    }

    /// Threads that unpack a file; each takes memory.
    fn unpackers(&self) -> usize {
        let packed = self.raw.iter().any(|path| is_gzip(path).unwrap_or(false));
        let room = (self.memory / 8 / unpack::MEMORY) as usize;
        if packed { self.threads.min(room).max(1) } else { 1 }
    }

    /// Bytes left for dictionaries.
    fn dictionaries(&self) -> u64 {
        let unpacking = self.unpackers() as u64 - 1;
        self.memory.saturating_sub(PROGRAM + 24 * self.chunk() as u64 + unpacking * unpack::MEMORY)
    }

    fn check(&self) -> Result<(), PrepareError> {
        self.parameters.check(self.recipe)?;
        self.recipe.check_files(&self.raw)?;
        if self.memory < LEAST_MEMORY {
            let (given, least) = (self.memory, LEAST_MEMORY >> 20);
            return Err(PrepareError::Usage(format!(
                "{given} bytes of memory are too few; must be at least {least} MiB"
            )));
        }
        Ok(())
    }

    fn inputs(&self) -> Result<Vec<Input>, PrepareError> {
        self.raw.iter().map(|path| Ok(Input::probe(path)?)).collect()
    }
}

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
