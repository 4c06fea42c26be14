//! What tests of the steps of a recipe share.

use super::{Job, Recipe, state::checkpoint::FOLDER, worker::Worker};
use crate::host::{Isa, pool::Pool};
use std::{fs, path::PathBuf, sync::atomic::AtomicBool};

/// A folder of unfinished work, and one thread that works in it.
pub struct Workplace {
    _dir: tempfile::TempDir,
    pub job: Job,
    pub work: PathBuf,
    stop: AtomicBool,
}

impl Workplace {
    /// With a budget of `memory` bytes. Nothing is lost by a kill.
    pub fn new(recipe: Recipe, memory: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let work = output.join(FOLDER);
        fs::create_dir_all(&work).unwrap();
        let job = Job {
            recipe,
            parameters: recipe.parameters(),
            raw: Vec::new(),
            output,
            memory,
            threads: 1,
            isa: Isa::best(),
            checkpoint: std::time::Duration::ZERO,
        };
        Workplace { _dir: dir, job, work, stop: AtomicBool::new(false) }
    }

    pub fn worker(&self) -> Worker<'_> {
        Worker {
            job: &self.job,
            work: &self.work,
            stop: &self.stop,
            pool: Pool::new(self.job.threads),
        }
    }
}
