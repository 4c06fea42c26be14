//! Criteo's logs as facebook's program prepares them for its binary loader (facebookresearch/dlrm: data_utils.py, `getCriteoAdData` with
//! `--memory-map`, and data_loader_terabyte.py, `numpy_to_binary`): records of 160 bytes, 40 little-endian 32-bit integers each:
//! the label, I1..I13 (what is missing or negative is 0), C1..C26 (numbered in order of first appearance; missing is the id 0).
//!
//! The last day (Kaggle: the last of seven slices) is cut in two: its first half, rounded up, is `test`, the rest `val`; all before is `train`.
//! Where the original fails, this differs as [`criteo`](super::criteo) says.
//!
//! One pass over the text writes records and dictionaries (`encode.rs`), in memory that does not grow with the input but for the
//! dictionaries; then the parts are cut out (`split.rs`) and, if asked for, shuffled (`shuffle.rs`). What is on disk is known by checksums
//! at all times (`state.rs`), so that a killed run goes on where it was.

mod encode;
mod plan;
mod run;
mod shuffle;
mod split;
mod state;
mod write;

pub use plan::{Plan, free, plan};
pub use run::{Done, run};

use super::inputs::Input;
use crate::{
    backend::cpu::gemm::Isa,
    data::{DataError, manifest::ManifestError, preprocess::criteo::RECORD},
    workload::OnError,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Bytes that the program itself, its buffers aside, may take.
const PROGRAM: u64 = 32 << 20;
/// The least budget.
pub const LEAST_MEMORY: u64 = 64 << 20;

/// A system whose data preparation is reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// bench/dlrm_s_criteo_kaggle.sh.
    FacebookKaggle,
    /// bench/dlrm_s_criteo_terabyte.sh.
    FacebookTerabyte,
    /// bench/run_and_time.sh, MLPerf training rounds 0.7 to 2.1.
    MlperfV1,
}

/// In which order the training samples are written (`--data-randomize`); the last day is never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Randomize {
    /// As in the log.
    None,
    /// Each day shuffled.
    Day,
    /// Each sample sent to a day at random, then each day shuffled.
    Total,
}

impl Recipe {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::FacebookKaggle => "facebook-kaggle",
            Recipe::FacebookTerabyte => "facebook-terabyte",
            Recipe::MlperfV1 => "mlperf-v1",
        }
    }

    /// Whether the log is one file that is cut into slices.
    fn one_file(self) -> bool {
        self == Recipe::FacebookKaggle
    }

    /// What the original's script sets.
    pub fn parameters(self) -> Parameters {
        let (max_ind_range, randomize) = match self {
            Recipe::FacebookKaggle => (None, Randomize::None),
            Recipe::FacebookTerabyte => (Some(10_000_000), Randomize::None),
            Recipe::MlperfV1 => (Some(40_000_000), Randomize::Total),
        };
        Parameters { max_ind_range, sub_sample_rate: 0.0, randomize, on_error: OnError::Fail, seed: 123 }
    }

    /// The name that the original gives `train`, `test` or `val`.
    fn file(self, part: &str) -> String {
        let stem = if self.one_file() { "kaggleAdDisplayChallenge_processed" } else { "terabyte_processed" };
        format!("{stem}_{part}.bin")
    }

    /// The name that the original gives the numbers of different ids; its loader looks for it beside the raw log.
    fn counts_file(self) -> &'static str {
        if self.one_file() { "train_fea_count.npz" } else { "day_fea_count.npz" }
    }

    /// The names of all files that are made.
    fn files(self) -> Vec<String> {
        let mut files: Vec<String> = ["train", "test", "val"].iter().map(|part| self.file(part)).collect();
        files.push(self.counts_file().into());
        files
    }

    fn check_files(self, raw: &[PathBuf]) -> Result<(), PrepareError> {
        match (self.one_file(), raw.len()) {
            (true, 1) | (false, 2..) => Ok(()),
            (true, n) => Err(PrepareError::Usage(format!("{}: the log is one file, train.txt, but {n} are named", self.name()))),
            (false, n) => Err(PrepareError::Usage(format!(
                "{}: the log has 2 days or more (the last one is for testing), but {n} file is named; give a folder or a pattern",
                self.name()
            ))),
        }
    }
}

/// What the output depends on, beside recipe and input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Ids modulo this before they are numbered.
    pub max_ind_range: Option<u32>,
    /// Share of negatives that is dropped.
    pub sub_sample_rate: f64,
    /// The order of training samples.
    pub randomize: Randomize,
    /// Malformed lines.
    pub on_error: OnError,
    /// Of numpy's generator, for sub-sampling and shuffling.
    pub seed: u32,
}

impl Parameters {
    /// By name, for manifests.
    fn named(&self) -> BTreeMap<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map.into_iter().collect(),
            _ => BTreeMap::new(),
        }
    }

    /// # Errors
    /// If a value is out of its range.
    pub fn check(&self) -> Result<(), PrepareError> {
        if !(0.0..1.0).contains(&self.sub_sample_rate) {
            let rate = self.sub_sample_rate;
            return Err(PrepareError::Usage(format!("the share of negatives to drop is {rate}; from 0 to less than 1 is right")));
        }
        if self.max_ind_range == Some(0) || self.max_ind_range.is_some_and(|r| r > i32::MAX as u32) {
            return Err(PrepareError::Usage(format!("the range of ids is from 1 to {}", i32::MAX)));
        }
        Ok(())
    }
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
    /// Bytes of text that are read at once. Some twenty times as much is in memory at the worst: stretches that wait, columns and records,
    /// of which a line of 41 bytes makes 160 each.
    fn chunk(&self) -> usize {
        (self.memory / 128).clamp(super::chunks::SMALLEST as u64, 16 << 20) as usize
    }

    /// Bytes left for dictionaries.
    fn dictionaries(&self) -> u64 {
        self.memory.saturating_sub(PROGRAM + 24 * self.chunk() as u64)
    }

    fn check(&self) -> Result<(), PrepareError> {
        self.parameters.check()?;
        self.recipe.check_files(&self.raw)?;
        if self.memory < LEAST_MEMORY {
            let (given, least) = (self.memory, LEAST_MEMORY >> 20);
            return Err(PrepareError::Usage(format!("{given} bytes of memory are too few; must be at least {least} MiB")));
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
    /// For [`Result::map_err`] after an operation on `path`.
    fn write(path: &Path) -> impl FnOnce(io::Error) -> PrepareError + '_ {
        move |source| PrepareError::Write { path: path.to_owned(), source }
    }
}
