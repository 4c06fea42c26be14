//! The folder of one run.

use super::{ResultsError, RunRecord, record, time::Utc, write_file};
use crate::host::atomic_file::{Lock, Reserved, create_folders, sync_folder};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Room on the disk for a record: of some hundred evaluations.
const RECORD_BYTES: usize = 256 << 10;

/// `<root>/<system>/<workload>/<run>/`: where a run keeps its files.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    id: String,
    started: String,
    /// No other process writes to it.
    _lock: Lock,
    /// Room for the record, which is the last thing to be lost.
    record: Reserved,
}

impl RunFolder {
    /// Makes a new folder. The run's name is the time in UTC, the first 8 digits of the resolved
    /// workload's hash, and the seed; a second run of the same second gets a number behind it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(
        root: &Path,
        system: &str,
        workload: &str,
        hash: &str,
        seed: u64,
    ) -> Result<Self, ResultsError> {
        Self::create_at(Utc::now(), root, system, workload, hash, seed)
    }

    fn create_at(
        now: Utc,
        root: &Path,
        system: &str,
        workload: &str,
        hash: &str,
        seed: u64,
    ) -> Result<Self, ResultsError> {
        let parent = root.join(system).join(workload);
        create_folders(&parent).map_err(ResultsError::write(&parent))?;
        let name = format!("{}-{}-s{seed}", now.compact(), hash.get(..8).unwrap_or(hash));
        let mut attempt = 1;
        loop {
            let id = if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") };
            let path = parent.join(&id);
            match fs::create_dir(&path) {
                Ok(()) => {
                    let made = sync_folder(&parent)
                        .map_err(ResultsError::write(&parent))
                        .and_then(|()| Self::take(path.clone(), id, now.rfc3339()));
                    return made.inspect_err(|_| {
                        let _ = fs::remove_dir_all(&path);
                    });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => attempt += 1,
                Err(e) => return Err(ResultsError::Write { path, source: e }),
            }
        }
    }

    /// The folder of a run that goes on, which was made at `started`.
    ///
    /// # Errors
    /// If it is not there, cannot be written to, or another process does.
    pub fn open(path: &Path, started: String) -> Result<Self, ResultsError> {
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::take(path.to_owned(), id, started)
    }

    fn take(path: PathBuf, id: String, started: String) -> Result<Self, ResultsError> {
        let file = path.join("run.json");
        let lock = Lock::of(&file).map_err(ResultsError::write(&file))?.ok_or_else(|| {
            ResultsError::malformed(&path, "another process is at work on this run")
        })?;
        let record = Reserved::new(&file, RECORD_BYTES).map_err(ResultsError::write(&file))?;
        Ok(RunFolder { path, id, started, record, _lock: lock })
    }

    /// Takes the folder away with all that is in it, and those above it that it leaves empty.
    pub fn discard(self) {
        let RunFolder { path, record, _lock, .. } = self;
        drop((record, _lock));
        // What cannot be removed is no reason to hide why the run has failed.
        let _ = fs::remove_dir_all(&path);
        for above in path.ancestors().skip(1).take(2) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When the folder was made: `2026-11-21T04:15:23Z`.
    pub fn started(&self) -> &str {
        &self.started
    }

    /// The MLPerf log.
    pub fn log(&self) -> PathBuf {
        self.path.join("result_0.txt")
    }

    /// One row a step; see [`super::metrics`].
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.parquet")
    }

    /// The record.
    pub fn record(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// Loss, AUC, accuracy and throughput as pictures.
    pub fn plots(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// Writes the resolved workload.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_workload(&self, toml: &str) -> Result<(), ResultsError> {
        write_file(&self.path.join("workload.toml"), toml.as_bytes())
    }

    /// Writes the record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), ResultsError> {
        let path = self.record();
        let text = record::text(&path, record)?;
        self.record.publish(text.as_bytes()).map_err(ResultsError::write(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_gets_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let now = Utc::now();
        let make = || {
            RunFolder::create_at(now, dir.path(), "epyc-2c", "tiny", "0123456789abcdef", 7).unwrap()
        };
        let (a, b, c) = (make(), make(), make());
        let name = format!("{}-01234567-s7", now.compact());
        assert_eq!(
            [a.id(), b.id(), c.id()],
            [name.clone(), format!("{name}-2"), format!("{name}-3")]
        );
        assert_eq!(a.path(), dir.path().join("epyc-2c/tiny").join(&name));
        assert!(c.path().is_dir());
    }

    #[test]
    fn a_root_that_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("results");
        fs::write(&root, "").unwrap();
        let error = RunFolder::create(&root, "s", "w", "", 1).unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("results/s/w"), "{error}");
    }
}
