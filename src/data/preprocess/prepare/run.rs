//! The whole way: reading and encoding, the recipe's files, the manifest.

use super::{
    Input, Job, PrepareError, Progress, Tell,
    encode::Encoder,
    encoding::Encoding,
    place::place,
    plan::{check_disk, estimate},
    resolve::resolve,
    state::{Checkpoint, FOLDER, Growing, Stage, Written},
    there::{finished, nothing_in_the_way, refuse_file, reuse, same_job},
    write::Writer,
};
use crate::{
    data::{
        DataError,
        manifest::Manifest,
        preprocess::{
            chunks::Chunks,
            criteo::{Blocks, TABLES},
        },
    },
    host::pool::Pool,
};
use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// Samples of all days but the last (of one file: of all), and of the last.
pub(super) const RECORDS: [&str; 2] = ["records.bin", "last-day.bin"];
const KEPT: &str = "kept.bin";
const LOCK: &str = "lock";

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// The data were made; `true` if an earlier run had begun.
    Made(Manifest, bool),
    /// They were there already, made from the same input in the same way, and every byte is as it
    /// was written.
    WasThere(Manifest),
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
        return reuse(job, manifest, &work, tell).map(Done::WasThere);
    }
    fs::create_dir_all(&work).map_err(PrepareError::write(&work))?;
    let lock = lock(&work)?;
    let found = Checkpoint::read(&work)?;
    let resumed = found.is_some();
    let checkpoint = match found {
        Some(found) => same_job(found, &fresh, &work)?,
        None => {
            let begun = estimate(job, &fresh.inputs).and_then(|plan| {
                nothing_in_the_way(job, &plan)?;
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
            Ok(Done::Made(manifest, resumed))
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

/// Takes the folder of unfinished work away, and the output folder too if it was made for it.
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

pub(super) struct Worker<'a> {
    pub job: &'a Job,
    pub work: &'a Path,
    pub stop: &'a AtomicBool,
    pub pool: Pool,
}

impl Worker<'_> {
    fn finish(&self, mut checkpoint: Checkpoint, tell: Tell) -> Result<Manifest, PrepareError> {
        if checkpoint.stage == Stage::Make {
            // An earlier run wrote them.
            for which in 0..RECORDS.len() {
                self.records(which, &checkpoint, tell)?;
            }
            for (name, counts) in &checkpoint.made {
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
            let complete = checkpoint.left.iter().all(|left| left.bytes == 0);
            checkpoint.stage = if complete { Stage::Make } else { Stage::Resolve };
            checkpoint.write(self.work)?;
        }
        if checkpoint.stage == Stage::Resolve {
            resolve(self, &mut checkpoint, tell)?;
            checkpoint.stage = Stage::Make;
            checkpoint.write(self.work)?;
        }
        if checkpoint.stage == Stage::Make {
            self.drop_dictionaries()?;
            let made = self.job.recipe.finish().make(self, &mut checkpoint, tell)?;
            checkpoint.stage = Stage::Place { made };
            checkpoint.write(self.work)?;
        }
        place(self, &checkpoint, tell)
    }

    /// Takes away what only numbering needed: the samples have their numbers now.
    fn drop_dictionaries(&self) -> Result<(), PrepareError> {
        for path in (0..TABLES)
            .flat_map(|column| [self.path(&dictionary(column)), self.path(&left(column))])
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

    pub fn interrupted(&self) -> Result<(), PrepareError> {
        if self.stop.load(Ordering::Relaxed) { Err(PrepareError::Interrupted) } else { Ok(()) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Reads from where the checkpoint is to the end of the log.
    fn encode(&self, checkpoint: &mut Checkpoint, tell: Tell) -> Result<(), PrepareError> {
        let job = self.job;
        let mut encoder =
            Encoder::new(job.recipe.form(), job.parameters.max_ind_range, job.dictionaries());
        let mut dictionaries = Vec::new();
        let mut lefts = Vec::new();
        for column in 0..encoder.columns() {
            let full = checkpoint.left[column].bytes > 0;
            encoder.reserve(column, checkpoint.dictionaries[column].bytes / 4, full)?;
            dictionaries.push(self.dictionary(column, checkpoint, &mut encoder)?);
            lefts.push(Growing::open(&self.path(&left(column)), &checkpoint.left[column], |_| {
                Ok(())
            })?);
        }
        let kept = Growing::open(&self.path(KEPT), &checkpoint.kept, |_| Ok(()))?;
        let numpy = checkpoint.generator(self.work)?;
        let mut encoding = Encoding {
            worker: self,
            blocks: Blocks::new(job.isa, job.parameters.on_error, job.threads),
            encoder,
            dictionaries,
            lefts,
            kept,
            numpy,
            checkpoint,
        };
        thread::scope(|scope| {
            let chunks = Chunks::start(
                scope,
                &job.raw,
                encoding.checkpoint.place,
                job.chunk(),
                job.unpackers(),
            );
            let mut current = encoding.day();
            // Whole days of an earlier run are checked too.
            for which in 0..current {
                self.records(which, encoding.checkpoint, tell)?;
            }
            let mut writer =
                Writer::start(scope, self.records(current, encoding.checkpoint, tell)?);
            let mut last = Instant::now();
            let total: u64 = encoding.checkpoint.inputs.iter().map(|i| i.bytes).sum();
            while let Some(chunk) = chunks.next()? {
                if self.stop.load(Ordering::Relaxed) {
                    encoding.save(&writer, current)?;
                    return Err(PrepareError::Interrupted);
                }
                let file = chunk.start.file;
                if file != encoding.checkpoint.place.file {
                    encoding.checkpoint.place = chunk.start;
                }
                if encoding.day() != current {
                    encoding.checkpoint.records[current] = writer.finish()?;
                    current = encoding.day();
                    writer =
                        Writer::start(scope, self.records(current, encoding.checkpoint, tell)?);
                }
                let done: u64 =
                    encoding.checkpoint.inputs[..file].iter().map(|i| i.bytes).sum::<u64>()
                        + chunk.raw;
                encoding.push(&chunk, &writer)?;
                chunks.recycle(chunk);
                tell(Progress::Encode {
                    bytes: done,
                    total,
                    samples: encoding.checkpoint.tally.total(),
                });
                if last.elapsed() >= job.checkpoint {
                    encoding.save(&writer, current)?;
                    last = Instant::now();
                }
            }
            encoding.save(&writer, current)?;
            writer.finish().map(drop)
        })
    }

    /// A file of samples, to go on with; what an earlier run wrote is checked.
    fn records(
        &self,
        which: usize,
        checkpoint: &Checkpoint,
        tell: Tell,
    ) -> Result<Growing, PrepareError> {
        self.check(&self.path(RECORDS[which]), &checkpoint.records[which], tell)
    }

    fn check(&self, path: &Path, counts: &Written, tell: Tell) -> Result<Growing, PrepareError> {
        let (mut bytes, total) = (0, counts.bytes);
        Growing::open(path, counts, |part| {
            bytes += part.len() as u64;
            tell(Progress::Other { what: "checking what is there", bytes, total });
            self.interrupted()
        })
    }

    /// The file of a column's ids, which are numbered again as it is read.
    fn dictionary(
        &self,
        column: usize,
        checkpoint: &Checkpoint,
        encoder: &mut Encoder,
    ) -> Result<Growing, PrepareError> {
        let path = self.path(&dictionary(column));
        Growing::open(&path, &checkpoint.dictionaries[column], |bytes| {
            let ids: Vec<u32> =
                bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
            if encoder.restore(column, &ids)? {
                return Ok(());
            }
            Err(PrepareError::Stale(format!(
                "{}: holds an id twice; delete {} to begin anew",
                path.display(),
                self.work.display()
            )))
        })
    }
}

/// The file of a column's ids, in order of their numbers.
pub(super) fn dictionary(column: usize) -> String {
    format!("ids_C{}.u32", column + 1)
}

/// The file of places whose ids have no numbers yet.
pub(super) fn left(column: usize) -> String {
    format!("left_C{}.u32", column + 1)
}

/// Shows the bytes that tell which lines of one file sub-sampling kept, as they count, in pieces.
pub(super) fn kept(
    worker: &Worker,
    counts: &Written,
    mut see: impl FnMut(&[u8]),
) -> Result<(), PrepareError> {
    Growing::open(&worker.path(KEPT), counts, |bytes| {
        see(bytes);
        Ok(())
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::{Recipe, testing::Workplace};
    use super::*;

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
        let Done::Made(expected, false) = run(&job, &AtomicBool::new(false), &mut |_| {}).unwrap()
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
        let Done::Made(manifest, true) =
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
