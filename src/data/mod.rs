//! Where samples come from: sources, file formats, preprocessing of raw logs, and the loader that
//! the trainer sees.

mod cardinality;
pub(crate) mod dates;
pub(crate) mod dense;
pub mod format;
mod ids;
pub(crate) mod inspect;
pub(crate) mod json;
pub mod loader;
pub(crate) mod locality;
pub mod manifest;
mod npy;
mod npz;
pub mod preprocess;
pub(crate) mod quiet;
pub(crate) mod ranges;
pub mod rows;
pub mod source;
pub mod survey;
pub(crate) mod texts;
pub(crate) mod until;
mod vocabulary;
pub(crate) mod work_queue;

use crate::batch::{Batch, GeneratedSplit, Schema};
use preprocess::{inputs::Input, prepare::PrepareError};
use std::{collections::BTreeMap, path::PathBuf};

/// What can go wrong with data. Each message names the file and the place.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be opened or read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a text file is not what the format asks for.
    #[error("{path}:{line}: {what}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: u64,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A row of a file is not what the format, or the one it goes to, asks for.
    #[error("{path}: row {row}: {what}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Its row, counted from 1.
        row: u64,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A file as a whole is not what the format asks for.
    #[error("{path}: {what}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The data as a whole does not fit what was asked for.
    #[error("{0}")]
    Invalid(String),
    /// A log cannot be prepared, or what was prepared cannot be used.
    #[error(transparent)]
    Prepare(Box<PrepareError>),
}

impl DataError {
    /// For [`Result::map_err`] after preparing.
    fn prepare(e: PrepareError) -> Self {
        match e {
            PrepareError::Data(e) => e,
            e => DataError::Prepare(Box::new(e)),
        }
    }
}

/// One split (train, eval or test) of a data set.
///
/// A source is asked for consecutive ranges by one loader thread. Given the same `epoch` and range
/// it always answers with the same samples; that is what makes runs repeatable and resumable.
pub trait Source: Send {
    /// The columns.
    fn schema(&self) -> &Schema;

    /// Samples in an epoch; `None` for an endless source.
    fn len(&self) -> Option<u64>;

    /// Whether an epoch holds no samples.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Clears `batch` and fills it with samples `start..start + n` of epoch `epoch` (counted from
    /// 0). Sources with an order of their own shuffle by epoch here. `start + n` never passes
    /// [`Source::len`].
    ///
    /// # Errors
    /// If a file cannot be read, or a sample is malformed; the message names file and row.
    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError>;

    /// How a device makes these samples itself, if they can be made from their numbers.
    fn generated_split(&self) -> Option<GeneratedSplit> {
        None
    }
}

/// An opened data set.
pub struct Dataset {
    /// Samples to learn from.
    pub train: Box<dyn Source>,
    /// Samples that decide when the target is reached.
    pub eval: Box<dyn Source>,
    /// Samples looked at once, at the end, with the best parameters.
    pub test: Option<Box<dyn Source>>,
    /// What is known of the data, for the record.
    pub facts: Facts,
    /// numpy's generator as facebook's program leaves it after preparing its data, for initialisers
    /// that go on drawing from it. `None` where the source does not draw from it.
    pub numpy: Option<crate::random::numpy::RandomState>,
}

/// What is known of a data set; goes into the run record.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// AUC of the true probabilities on the evaluation split (planted data only).
    pub best_auc: Option<f64>,
    /// Share of positive labels in the evaluation split, if known before training.
    pub base_rate: Option<f64>,
    /// Malformed lines that were skipped (`data.on_error = "skip"`).
    pub skipped_lines: u64,
    /// The columns of one's own data as they were understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnFacts>,
    /// How samples for evaluation were taken out of the training files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// What looks like a slip, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How the files came about, if they were prepared of a raw log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<PreparedFacts>,
    /// Anything else worth a line in the record.
    pub notes: Vec<String>,
}

/// A column of one's own data as it was understood.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: ColumnRole,
    /// Different values in the training split, where they were counted.
    pub distinct: Option<u64>,
    /// Whether `distinct` is an estimate, with a standard error of 0.8%.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Share of the training samples without a value, where they were counted.
    pub missing: Option<f64>,
    /// Rows of its table, if it has one.
    pub rows: Option<u64>,
    /// Values for evaluation that training does not hold (often enough), where such values were
    /// counted.
    pub unseen: Option<u64>,
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRole {
    /// A number.
    Dense,
    /// A category.
    Categorical,
}

/// How files came about that were prepared of a raw log.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PreparedFacts {
    /// Whose preparation.
    pub recipe: String,
    /// Its settings.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Where the files lie.
    pub folder: PathBuf,
    /// The raw files as they were read.
    pub raw: Vec<Input>,
    /// BLAKE3 of the manifest, which has those of all files; hexadecimal.
    pub manifest: Option<String>,
    /// Whether this run made the files, and did not find them.
    pub made: bool,
    /// Seconds that it took to make, or to check them; part of the run's `init_seconds`.
    pub seconds: f64,
}
