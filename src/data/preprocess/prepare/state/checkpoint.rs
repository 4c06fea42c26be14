//! The checkpoint: how far the work is, and how much of each growing file counts.

use super::growing::Written;
use crate::{
    data::preprocess::{
        chunks::Position,
        criteo::{DENSE, TABLES},
        inputs::Input,
        prepare::{Parameters, PrepareError, Recipe, worker::Worker},
    },
    host::atomic_file,
    random::numpy::RandomState,
};
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};

/// The folder of unfinished work, in the output folder.
pub const FOLDER: &str = ".partial";
const CHECKPOINT: &str = "checkpoint.json";
/// Version of the checkpoint and of what it speaks of.
const FORMAT: u32 = 3;

/// Sums over the samples so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Samples of each file of the log.
    pub samples: Vec<u64>,
    /// Positive labels.
    pub positives: u64,
    /// Samples in which a column is empty, I1 first.
    pub missing: Vec<u64>,
    /// Well-formed lines.
    pub lines: u64,
    /// Malformed lines.
    pub skipped: u64,
}

impl Tally {
    fn new(files: usize) -> Self {
        Tally {
            samples: vec![0; files],
            positives: 0,
            missing: vec![0; DENSE + TABLES],
            lines: 0,
            skipped: 0,
        }
    }

    /// All samples.
    pub fn total(&self) -> u64 {
        self.samples.iter().sum()
    }
}

/// What a recipe has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeOutput {
    /// The files that go to the output folder.
    pub files: Vec<OutputFile>,
    /// Name, file or folder, and samples of each part.
    pub splits: Vec<(String, String, u64)>,
    /// Different ids of columns, by the column's name.
    pub ids: Vec<(String, u64)>,
}

/// A file that goes to the output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Its name there, with `/` where it lies in a folder.
    pub name: String,
    /// Its name in the folder of unfinished work.
    pub from: String,
    /// Its size and checksum.
    pub written: Written,
}

/// What is to be done next. The names in the file are those of its first version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Read on from [`Checkpoint::position`].
    Encode,
    /// All is read, and some ids have no numbers yet.
    Resolve,
    /// Write the recipe's files.
    #[serde(rename = "make")]
    Write,
    /// Move them from the folder of unfinished work to the output folder, where some may be
    /// already.
    #[serde(rename = "place")]
    Publish {
        /// The files.
        #[serde(rename = "made")]
        output: RecipeOutput,
    },
}

/// All that is needed to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub format: u32,
    pub recipe: Recipe,
    pub parameters: Parameters,
    pub inputs: Vec<Input>,
    pub stage: Stage,
    #[serde(rename = "place")]
    pub position: Position,
    pub tally: Tally,
    /// Samples of all days but the last (of one file: of all), and of the last.
    pub records: [Written; 2],
    /// New ids of each column.
    pub dictionaries: Vec<Written>,
    /// The samples of each column whose ids have no numbers yet (`resolve.rs`).
    #[serde(rename = "left")]
    pub unnumbered: Vec<Written>,
    /// A byte for each well-formed line, 1 = kept; only while sub-sampling slices of one file.
    pub kept: Written,
    /// numpy's generator; only while sub-sampling.
    pub numpy: Option<Vec<u32>>,
    /// Files that are complete, by their names in the folder of unfinished work.
    #[serde(rename = "made")]
    pub written: Vec<(String, Written)>,
    /// Samples of parts, where that is known from the samples alone; what they mean is the
    /// recipe's.
    pub sizes: Vec<u64>,
}

impl Checkpoint {
    /// Nothing done.
    pub fn new(recipe: Recipe, parameters: Parameters, inputs: Vec<Input>) -> Self {
        Checkpoint {
            format: FORMAT,
            recipe,
            parameters,
            tally: Tally::new(inputs.len()),
            inputs,
            stage: Stage::Encode,
            position: Position::default(),
            records: Default::default(),
            dictionaries: vec![Written::default(); TABLES],
            unnumbered: vec![Written::default(); TABLES],
            kept: Written::default(),
            numpy: None,
            written: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Reads the checkpoint of unfinished work; `None` if there is none.
    pub fn read(work: &Path) -> Result<Option<Self>, PrepareError> {
        let path = work.join(CHECKPOINT);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PrepareError::Write { path, source }),
        };
        let stale = |what: String| {
            PrepareError::Stale(format!(
                "{}: {what}; delete {} to begin anew",
                path.display(),
                work.display()
            ))
        };
        let checkpoint: Checkpoint =
            serde_json::from_slice(&text).map_err(|e| stale(format!("is no checkpoint: {e}")))?;
        let shape = checkpoint.dictionaries.len() == TABLES
            && checkpoint.unnumbered.len() == TABLES
            && checkpoint.tally.missing.len() == DENSE + TABLES
            && checkpoint.tally.samples.len() == checkpoint.inputs.len();
        if checkpoint.format != FORMAT || !shape {
            return Err(stale("is of another version of this program".into()));
        }
        Ok(Some(checkpoint))
    }

    /// What a complete file holds; `None` if it is not complete.
    pub fn find(&self, name: &str) -> Option<&Written> {
        self.written.iter().find(|(file, _)| file == name).map(|(_, written)| written)
    }

    /// Notes that a file is complete and on the disk.
    pub fn mark_written(
        &mut self,
        worker: &Worker,
        name: &str,
        written: Written,
    ) -> Result<(), PrepareError> {
        self.written.push((name.into(), written));
        self.write(worker.work)
    }

    /// Those of the files that are complete, as they go to the output folder.
    pub fn files(&self, names: &[(String, u64)]) -> Vec<OutputFile> {
        let file = |(name, _): &(String, u64)| {
            self.find(name).map(|written| OutputFile {
                name: name.clone(),
                from: name.clone(),
                written: written.clone(),
            })
        };
        names.iter().filter_map(file).collect()
    }

    /// numpy's generator as sub-sampling left it, or seeded if nothing was drawn.
    pub fn generator(&self, work: &Path) -> Result<RandomState, PrepareError> {
        let Some(state) = &self.numpy else { return Ok(RandomState::new(self.parameters.seed)) };
        RandomState::restore(state).ok_or_else(|| {
            PrepareError::Stale(format!(
                "{}: holds no state of the generator; delete {} to begin anew",
                work.join(CHECKPOINT).display(),
                work.display()
            ))
        })
    }

    /// Writes it, whole or not at all. All that it speaks of is on disk.
    pub fn write(&self, work: &Path) -> Result<(), PrepareError> {
        let path = work.join(CHECKPOINT);
        let text = serde_json::to_vec(self).map_err(|e| PrepareError::write(&path)(e.into()))?;
        atomic_file::write(&path, &text).map_err(PrepareError::write(&path))
    }
}
