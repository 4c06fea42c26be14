//! The whole way from the log to the manifest, and what a second run finds.

use super::{
    Input, Job, PrepareError, Progress, Tell,
    plan::{check_disk, estimate},
    publish::publish,
    state::{
        checkpoint::{Checkpoint, FOLDER, Stage},
        existing::{finished, refuse_file, refuse_overwriting, reuse, same_job},
        resolve::resolve,
    },
    worker::{RECORDS, Worker, dictionary_file, unnumbered_file},
};
use crate::{
    data::{DataError, manifest::Manifest, preprocess::criteo::TABLES},
    host::{atomic_file, pool::Pool},
};
use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

const LOCK: &str = "lock";

/// What [`run`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// It prepared the data.
    Prepared {
        /// What lies in the output folder.
        manifest: Manifest,
        /// Whether an earlier run had begun.
        resumed: bool,
    },
    /// The output folder held the data already, prepared from the same input in the same way; every
    /// byte is as it was written.
    Verified(Manifest),
}

/// Prepares data. Stops at a checkpoint soon after `stop` is set.
///
/// # Errors
/// As [`PrepareError`] says. After an interruption, a full disk or too little memory the same job
/// goes on where it was; if the raw data are wrong nothing is left.
pub fn run(
    job: &Job,
    stop: &AtomicBool,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Done, PrepareError> {
    job.check()?;
    let inputs = job.inputs()?;
    let was_there = job.output.exists();
    let work = job.output.join(FOLDER);
    let fresh = Checkpoint::new(job.recipe, job.parameters, inputs);
    refuse_file(&job.output)?;
    if let Some(manifest) = finished(job, &fresh)? {
        return reuse(job, manifest, &work, tell).map(Done::Verified);
    }
    atomic_file::create_folders(&work).map_err(PrepareError::write(&work))?;
    let lock = lock(&work)?;
    let found = Checkpoint::read(&work)?;
    let resumed = found.is_some();
    let checkpoint = match found {
        Some(found) => same_job(found, &fresh, &work)?,
        None => {
            let begun = estimate(job, &fresh.inputs).and_then(|plan| {
                refuse_overwriting(job, &plan)?;
                check_disk(&job.output, plan.likely_peak_bytes)?;
                fresh.write(&work)
            });
            if let Err(e) = begun {
                clear(&work, was_there.then_some(&job.output));
                return Err(e);
            }
            fresh
        }
    };
    let worker = Worker { job, work: &work, stop, pool: Pool::new(job.threads) };
    match worker.finish(checkpoint, tell) {
        Ok(manifest) => {
            drop(lock);
            fs::remove_dir_all(&work).map_err(PrepareError::write(&work))?;
            Ok(Done::Prepared { manifest, resumed })
        }
        Err(e) => {
            // Wrong input stays wrong. A disk or a network that fails may come back, and what is
            // done stays done.
            if matches!(&e, PrepareError::Data(e) if !matches!(e, DataError::Io { .. })) {
                clear(&work, was_there.then_some(&job.output));
            }
            Err(e)
        }
    }
}

/// Deletes the folder of unfinished work, and the output folder too if it was created for it.
fn clear(work: &Path, keep: Option<&PathBuf>) {
    let _ = fs::remove_dir_all(work);
    if let (None, Some(output)) = (keep, work.parent()) {
        // Only if it is empty.
        let _ = fs::remove_dir(output);
    }
}

/// Locked while this process lives.
fn lock(work: &Path) -> Result<File, PrepareError> {
    let path = work.join(LOCK);
    let file = File::create(&path).map_err(PrepareError::write(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(PrepareError::Usage(format!("{}: another process is at work here", work.display())))
        }
        Err(TryLockError::Error(source)) => Err(PrepareError::Write { path, source }),
    }
}

impl Worker<'_> {
    fn finish(&self, mut checkpoint: Checkpoint, tell: Tell) -> Result<Manifest, PrepareError> {
        if checkpoint.stage == Stage::Write {
            // An earlier run wrote them.
            for which in 0..RECORDS.len() {
                self.open_records(which, &checkpoint, tell)?;
            }
            for (name, counts) in &checkpoint.written {
                self.check(&self.path(name), counts, tell)?;
            }
        }
        if checkpoint.stage == Stage::Encode {
            self.encode(&mut checkpoint, tell)?;
            if let Some(what) = Input::difference(&checkpoint.inputs, &self.job.inputs()?) {
                // Nobody knows which of its bytes were read before.
                return Err(DataError::Invalid(format!(
                    "the raw data changed while they were read: it began from {what}"
                ))
                .into());
            }
            let complete = checkpoint.unnumbered.iter().all(|file| file.bytes == 0);
            checkpoint.stage = if complete { Stage::Write } else { Stage::Resolve };
            checkpoint.write(self.work)?;
        }
        if checkpoint.stage == Stage::Resolve {
            resolve(self, &mut checkpoint, tell)?;
            checkpoint.stage = Stage::Write;
            checkpoint.write(self.work)?;
        }
        if checkpoint.stage == Stage::Write {
            self.drop_dictionaries()?;
            let output = self.job.recipe.steps().write(self, &mut checkpoint, tell)?;
            checkpoint.stage = Stage::Publish { output };
            checkpoint.write(self.work)?;
        }
        publish(self, &checkpoint, tell)
    }

    /// Deletes what only numbering needed: the samples have their numbers now.
    fn drop_dictionaries(&self) -> Result<(), PrepareError> {
        for path in (0..TABLES)
            .flat_map(|column| [dictionary_file(column), unnumbered_file(column)])
            .map(|name| self.path(&name))
        {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(PrepareError::write(&path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::prepare::{Recipe, testing::Workplace};

    fn day(lines: u32, seed: u32) -> String {
        let ids = |i: u32| {
            (0..26)
                .map(|c| format!("\t{:08x}", (i * 26 + c).wrapping_mul(seed) % 5000))
                .collect::<String>()
        };
        (0..lines).map(|i| format!("{}{}{}\n", i % 2, "\t7".repeat(13), ids(i))).collect()
    }

    /// A disk or a network that fails for a while costs nothing of what is done.
    #[test]
    fn a_file_that_cannot_be_read_for_a_while_costs_no_work() {
        let (mut place, whole) = (
            Workplace::new(Recipe::FacebookTerabyte, 64 << 20),
            Workplace::new(Recipe::FacebookTerabyte, 64 << 20),
        );
        let raw = tempfile::tempdir().unwrap();
        let days: Vec<PathBuf> = (0..2).map(|i| raw.path().join(format!("day_{i}"))).collect();
        // Long enough for the second to be out of reach before the first is read to its end.
        fs::write(&days[0], day(40_000, 0x9e37_79b1)).unwrap();
        fs::write(&days[1], day(1000, 0x85eb_ca6b)).unwrap();
        place.job.raw = days.clone();
        let job = Job { raw: days.clone(), ..whole.job.clone() };
        let Done::Prepared { manifest: expected, resumed: false } =
            run(&job, &AtomicBool::new(false), &mut |_| {}).unwrap()
        else {
            panic!("was there")
        };

        let away = raw.path().join("away");
        let failed = run(&place.job, &AtomicBool::new(false), &mut |progress| {
            if matches!(progress, Progress::Encode { .. }) && !away.exists() {
                fs::rename(&days[1], &away).unwrap();
            }
        });
        let failed = failed.unwrap_err();
        assert!(
            matches!(failed, PrepareError::Data(DataError::Io { .. }))
                && failed.to_string().contains("day_1"),
            "{failed}"
        );
        let done = Checkpoint::read(&place.work).unwrap().expect("what was done is kept");
        assert!(done.tally.total() > 0);
        fs::rename(&away, &days[1]).unwrap();
        let Done::Prepared { manifest, resumed: true } =
            run(&place.job, &AtomicBool::new(false), &mut |_| {}).unwrap()
        else {
            panic!("began anew")
        };
        assert_eq!(manifest, expected);
        assert!(manifest.verify(&place.job.output, |_| {}).is_empty() && !place.work.exists());

        // What is wrong stays wrong.
        let mut wrong = Workplace::new(Recipe::FacebookTerabyte, 64 << 20);
        fs::write(&days[1], "x").unwrap();
        wrong.job.raw = days;
        assert!(run(&wrong.job, &AtomicBool::new(false), &mut |_| {}).is_err());
        assert!(!wrong.work.exists());
    }
}
