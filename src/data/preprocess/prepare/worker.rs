//! What all steps share: the job, the folder of unfinished work with its files, threads, and the
//! flag that stops them.

use super::{
    Job, PrepareError, Progress, Tell,
    job::PROGRAM,
    state::{
        checkpoint::Checkpoint,
        growing::{Growing, Written},
    },
};
use crate::{
    data::{DataError, manifest::hash},
    host::{atomic_file, pool::Pool},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Samples of all days but the last (of one file: of all), and of the last.
pub const RECORDS: [&str; 2] = ["records.bin", "last-day.bin"];
/// A byte for each line of one file: whether sub-sampling kept it.
pub const KEPT: &str = "kept.bin";
/// Memory that a file takes while it is written: rows that wait, and what they are packed to.
const FILE: u64 = 40 << 20;

/// Called with the number of samples that were just written; fails if the work is interrupted.
pub type Advance<'a> = &'a (dyn Fn(u64) -> Result<(), PrepareError> + Sync);

/// What a step works with.
pub struct Worker<'a> {
    /// What is to be done.
    pub job: &'a Job,
    /// The folder of unfinished work.
    pub work: &'a Path,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
    /// The job's threads.
    pub pool: Pool,
}

impl Worker<'_> {
    /// # Errors
    /// [`PrepareError::Interrupted`], if the job is to stop.
    pub fn interrupted(&self) -> Result<(), PrepareError> {
        if self.stop.load(Ordering::Relaxed) { Err(PrepareError::Interrupted) } else { Ok(()) }
    }

    /// The path of a file of unfinished work.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Opens one of [`RECORDS`] to append to it, and checks what an earlier run wrote.
    ///
    /// # Errors
    /// As [`Growing::open`].
    pub fn open_records(
        &self,
        which: usize,
        checkpoint: &Checkpoint,
        tell: Tell,
    ) -> Result<Growing, PrepareError> {
        self.check(&self.path(RECORDS[which]), &checkpoint.records[which], tell)
    }

    /// Opens a file to append to it, and checks what an earlier run wrote.
    ///
    /// # Errors
    /// As [`Growing::open`].
    pub fn check(
        &self,
        path: &Path,
        counts: &Written,
        tell: Tell,
    ) -> Result<Growing, PrepareError> {
        let (mut bytes, total) = (0, counts.bytes);
        Growing::open(path, counts, |part| {
            bytes += part.len() as u64;
            tell(Progress::Other { what: "checking what is there", bytes, total });
            self.interrupted()
        })
    }

    /// Shows `see` the bytes of [`KEPT`] that count, in pieces.
    ///
    /// # Errors
    /// As [`Growing::open`].
    pub fn each_kept(
        &self,
        counts: &Written,
        mut see: impl FnMut(&[u8]),
    ) -> Result<(), PrepareError> {
        Growing::open(&self.path(KEPT), counts, |bytes| {
            see(bytes);
            Ok(())
        })
        .map(drop)
    }

    /// Writes `files`, each with its number of samples, to the folder of unfinished work, as many
    /// at a time as there are threads and memory; skips those that are complete. `write` is called
    /// with a file's index and path, and calls [`Advance`] after each batch of samples.
    ///
    /// # Errors
    /// The first that occurs. Files that were complete before it stay so.
    pub fn write_files(
        &self,
        checkpoint: &mut Checkpoint,
        files: &[(String, u64)],
        tell: Tell,
        write: impl Fn(usize, &Path, Advance) -> Result<Written, PrepareError> + Sync,
    ) -> Result<(), PrepareError> {
        let (left, complete): (Vec<usize>, Vec<usize>) =
            (0..files.len()).partition(|&i| checkpoint.find(&files[i].0).is_none());
        let width = self.job.recipe.form().bytes() as u64;
        let total = files.iter().map(|f| f.1).sum::<u64>() * width;
        let done = complete.iter().map(|&i| files[i].1).sum::<u64>() * width;
        let state = Mutex::new((done, tell));
        let advance = |samples: u64| {
            // Nothing in it that a panic could leave half done.
            let (done, tell) = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
            *done += samples * width;
            tell(Progress::Other { what: "writing", bytes: *done, total });
            self.interrupted()
        };
        let at_once = self.job.memory.saturating_sub(PROGRAM) / FILE;
        for batch in left.chunks((at_once as usize).clamp(1, self.pool.threads())) {
            let results = Mutex::new(Vec::new());
            self.pool.run(batch.len(), |k, _| {
                let path = self.path(&files[batch[k]].0);
                let written = create_parent(&path).and_then(|()| write(batch[k], &path, &advance));
                results.lock().unwrap_or_else(PoisonError::into_inner).push((batch[k], written));
            });
            let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
            results.sort_by_key(|r| r.0);
            for (i, written) in results {
                checkpoint.written.push((files[i].0.clone(), written?));
            }
            checkpoint.write(self.work)?;
        }
        Ok(())
    }

    /// Size and checksum of a file that something else has written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn written(&self, path: &Path) -> Result<Written, PrepareError> {
        let bytes = fs::metadata(path).map_err(PrepareError::write(path))?.len();
        let blake3 = hash(path, &mut |_| ()).map_err(PrepareError::write(path))?;
        Ok(Written { bytes, blake3 })
    }

    /// Deletes one of [`RECORDS`], once another file has its samples.
    ///
    /// # Errors
    /// If it cannot be deleted, or the checkpoint cannot be written.
    pub fn drop_records(
        &self,
        checkpoint: &mut Checkpoint,
        which: usize,
    ) -> Result<(), PrepareError> {
        if checkpoint.records[which] != Written::default() {
            checkpoint.records[which] = Written::default();
            checkpoint.write(self.work)?;
        }
        let path = self.path(RECORDS[which]);
        if path.exists() {
            fs::remove_file(&path).map_err(PrepareError::write(&path))?;
        }
        Ok(())
    }

    /// # Errors
    /// If a part has no samples.
    pub fn refuse_empty(&self, parts: &[(&str, u64)]) -> Result<(), PrepareError> {
        if parts.iter().all(|&(_, samples)| samples > 0) {
            return Ok(());
        }
        let files =
            self.job.raw.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        let all: u64 = parts.iter().map(|p| p.1).sum();
        let each = parts
            .iter()
            .map(|(part, samples)| format!("{samples} in {part}"))
            .collect::<Vec<_>>()
            .join(", ");
        Err(PrepareError::Data(DataError::Invalid(format!(
            "{files}: {all} samples are too few: {each}; must be at least 1 in each"
        ))))
    }

    /// The error that a column has more ids than there is memory for.
    pub fn too_many_words(&self) -> PrepareError {
        PrepareError::Memory(
            "there is no memory for the ids that occur often enough; give more with --memory, and the same command goes on from here, \
             or ask for more occurrences with --min-count in a new folder"
                .into(),
        )
    }

    /// The error that the checkpoint lacks what it should have.
    pub fn unusable(&self) -> PrepareError {
        let work = self.work.display();
        PrepareError::Stale(format!(
            "{work}: the unfinished work cannot go on; delete {work} to begin anew"
        ))
    }
}

/// Creates the folder of a file.
///
/// # Errors
/// If it cannot be created.
pub fn create_parent(path: &Path) -> Result<(), PrepareError> {
    match path.parent() {
        Some(folder) => atomic_file::create_folders(folder).map_err(PrepareError::write(folder)),
        None => Ok(()),
    }
}

/// The file of a column's ids, in order of their numbers.
pub fn dictionary_file(column: usize) -> String {
    format!("ids_C{}.u32", column + 1)
}

/// The file of the samples of a column whose ids have no numbers yet.
pub fn unnumbered_file(column: usize) -> String {
    format!("left_C{}.u32", column + 1)
}
