//! What is on disk while the work goes on: files that only grow, and a checkpoint that says how far
//! each of them counts.

use super::{Made, MadeFile, Parameters, PrepareError, Recipe, Worker};
use crate::{
    data::preprocess::{
        chunks::Place,
        criteo::{DENSE, TABLES},
        inputs::Input,
    },
    host::atomic_file,
    random::numpy::RandomState,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The folder of unfinished work, in the output folder.
pub const FOLDER: &str = ".partial";
const CHECKPOINT: &str = "checkpoint.json";
/// Version of the checkpoint and of what it speaks of.
const FORMAT: u32 = 3;
/// Bytes that are read at once to check what is there.
const BUFFER: usize = 1 << 20;

/// How far a growing file counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes; what lies behind them was written after the checkpoint.
    pub bytes: u64,
    /// BLAKE3 of them, in hexadecimal.
    pub blake3: String,
}

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

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Read on from [`Checkpoint::place`].
    Encode,
    /// All is read, and some ids have no numbers yet.
    Resolve,
    /// Make the recipe's files.
    Make,
    /// They are there, in the folder of unfinished work or already in their places.
    Place {
        /// The files.
        made: Made,
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
    pub place: Place,
    pub tally: Tally,
    /// Samples of all days but the last (of one file: of all), and of the last.
    pub records: [Written; 2],
    /// New ids of each column.
    pub dictionaries: Vec<Written>,
    /// Places in the samples of each column whose ids have no numbers yet (`resolve.rs`).
    pub left: Vec<Written>,
    /// A byte for each well-formed line, 1 = kept; only while sub-sampling slices of one file.
    pub kept: Written,
    /// numpy's generator; only while sub-sampling.
    pub numpy: Option<Vec<u32>>,
    /// Files that are made, by their names in the folder of unfinished work.
    pub made: Vec<(String, Written)>,
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
            place: Place::default(),
            records: Default::default(),
            dictionaries: vec![Written::default(); TABLES],
            left: vec![Written::default(); TABLES],
            kept: Written::default(),
            numpy: None,
            made: Vec::new(),
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
            && checkpoint.left.len() == TABLES
            && checkpoint.tally.missing.len() == DENSE + TABLES
            && checkpoint.tally.samples.len() == checkpoint.inputs.len();
        if checkpoint.format != FORMAT || !shape {
            return Err(stale("is of another version of this program".into()));
        }
        Ok(Some(checkpoint))
    }

    /// A file that is made, if it is.
    pub fn find(&self, name: &str) -> Option<&Written> {
        self.made.iter().find(|(made, _)| made == name).map(|(_, written)| written)
    }

    /// Notes that a file is made and on the disk.
    pub fn done(
        &mut self,
        worker: &Worker,
        name: &str,
        written: Written,
    ) -> Result<(), PrepareError> {
        self.made.push((name.into(), written));
        self.write(worker.work)
    }

    /// Files that are made, of so many samples each, as they go to the output folder.
    pub fn files(&self, names: &[(String, u64)]) -> Vec<MadeFile> {
        let file = |(name, _): &(String, u64)| {
            self.find(name).map(|written| MadeFile {
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

/// A file that only grows, and its checksum.
pub struct Growing {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Growing {
    /// Opens `path` to go on behind what counts, which `seen` is shown; what lies behind it is cut
    /// off.
    ///
    /// # Errors
    /// If it is not there, too short, or has other content, though something counts; or cannot be
    /// written.
    pub fn open(
        path: &Path,
        counts: &Written,
        mut seen: impl FnMut(&[u8]) -> Result<(), PrepareError>,
    ) -> Result<Growing, PrepareError> {
        let io = |source| PrepareError::Write { path: path.to_owned(), source };
        let damaged = |what: String| {
            PrepareError::Stale(format!(
                "{}: {what}, so that the unfinished work cannot go on; delete {} to begin anew",
                path.display(),
                path.parent().unwrap_or(path).display()
            ))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = counts.bytes;
        let mut buffer = vec![0; BUFFER.min(left.max(1) as usize)];
        while left > 0 {
            let n = BUFFER.min(left as usize);
            match file.read_exact(&mut buffer[..n]) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(damaged(format!(
                        "has less than the {} bytes that were written",
                        counts.bytes
                    )));
                }
                Err(e) => return Err(io(e)),
            }
            hasher.update(&buffer[..n]);
            seen(&buffer[..n])?;
            left -= n as u64;
        }
        if counts.bytes > 0 && hasher.finalize().to_hex().as_str() != counts.blake3 {
            return Err(damaged(format!(
                "its first {} bytes are not those that were written",
                counts.bytes
            )));
        }
        file.set_len(counts.bytes).map_err(io)?;
        Ok(Growing { path: path.to_owned(), file, hasher, bytes: counts.bytes })
    }

    /// Appends.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PrepareError> {
        self.write_all(bytes).map_err(PrepareError::write(&self.path))
    }

    /// Whether nothing was ever written to it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Brings it to the disk, and tells how far it counts.
    pub fn sync(&mut self) -> Result<Written, PrepareError> {
        self.file.sync_data().map_err(PrepareError::write(&self.path))?;
        Ok(Written { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_file_goes_on_where_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.bin");
        let nothing = |_: &[u8]| Ok(());
        let mut file = Growing::open(&path, &Written::default(), nothing).unwrap();
        file.append(b"one").unwrap();
        let counts = file.sync().unwrap();
        file.append(b"lost").unwrap();
        drop(file);
        let mut seen = Vec::new();
        let mut file = Growing::open(&path, &counts, |b| {
            seen.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, b"one");
        file.append(b"two").unwrap();
        let all = file.sync().unwrap();
        assert_eq!((all.bytes, fs::read(&path).unwrap()), (6, b"onetwo".to_vec()));
        assert_eq!(all.blake3, blake3::hash(b"onetwo").to_hex().as_str());
        fs::write(&path, b"onetwi").unwrap();
        let error = |counts| Growing::open(&path, counts, nothing).err().unwrap().to_string();
        assert!(
            error(&all).contains("rows.bin: its first 6 bytes are not those that were written")
        );
        fs::write(&path, b"one").unwrap();
        assert!(error(&all).contains("has less than the 6 bytes"));
    }
}
