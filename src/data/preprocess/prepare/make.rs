//! What recipes need to make their files: one after the other or as many at a time as there are
//! threads, each noted once it is on the disk.

use super::{
    PrepareError, Progress, Tell,
    run::{RECORDS, Worker},
    state::{Checkpoint, Written},
};
use crate::data::{DataError, manifest::hash};
use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Memory that a file takes while it is written: rows that wait, and what they are packed to.
const FILE: u64 = 40 << 20;

/// Told of samples that are done with; an error if the work is interrupted.
pub type Turn<'a> = &'a (dyn Fn(u64) -> Result<(), PrepareError> + Sync);

impl Worker<'_> {
    /// Makes files in the folder of unfinished work, by number and path, on all threads; those that
    /// were made before are left alone. Each comes with the samples that it is made of; `make`
    /// calls what it is given whenever it is done with some more of them.
    ///
    /// # Errors
    /// The first that occurs. What was made before it is noted.
    pub fn make(
        &self,
        checkpoint: &mut Checkpoint,
        files: &[(String, u64)],
        tell: Tell,
        make: impl Fn(usize, &Path, Turn) -> Result<Written, PrepareError> + Sync,
    ) -> Result<(), PrepareError> {
        let (left, made): (Vec<usize>, Vec<usize>) =
            (0..files.len()).partition(|&i| checkpoint.find(&files[i].0).is_none());
        let width = self.job.recipe.form().bytes() as u64;
        let total = files.iter().map(|f| f.1).sum::<u64>() * width;
        let done = made.iter().map(|&i| files[i].1).sum::<u64>() * width;
        let state = Mutex::new((done, tell));
        let turn = |samples: u64| {
            // Nothing in it that a panic could leave half done.
            let (done, tell) = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
            *done += samples * width;
            tell(Progress::Other { what: "writing", bytes: *done, total });
            self.interrupted()
        };
        let at_once = self.job.memory.saturating_sub(super::PROGRAM) / FILE;
        for batch in left.chunks((at_once as usize).clamp(1, self.pool.threads())) {
            let results = Mutex::new(Vec::new());
            self.pool.run(batch.len(), |k, _| {
                let path = self.path(&files[batch[k]].0);
                let made = folder(&path).and_then(|()| make(batch[k], &path, &turn));
                results.lock().unwrap_or_else(PoisonError::into_inner).push((batch[k], made));
            });
            let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
            results.sort_by_key(|r| r.0);
            for (i, made) in results {
                checkpoint.made.push((files[i].0.clone(), made?));
            }
            checkpoint.write(self.work)?;
        }
        Ok(())
    }

    /// What lies in a file.
    pub fn written(&self, path: &Path) -> Result<Written, PrepareError> {
        let bytes = fs::metadata(path).map_err(PrepareError::write(path))?.len();
        let blake3 = hash(path, &mut |_| ()).map_err(PrepareError::write(path))?;
        Ok(Written { bytes, blake3 })
    }

    /// Takes one of [`RECORDS`] away, since another file has what is in it.
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

/// Makes the folder of a file.
pub fn folder(path: &Path) -> Result<(), PrepareError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(PrepareError::write(folder)),
        None => Ok(()),
    }
}
