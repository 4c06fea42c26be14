//! Preparing, or finding what was prepared.

use super::{
    cache,
    checked::{self, Found},
    files,
};
use crate::{
    data::{
        DataError, PreparedFacts,
        manifest::{self, Manifest},
        preprocess::{
            inputs::{self, Input},
            prepare::{
                self, Done, Job, OutputState, PrepareError, Progress, foresee, look,
                settings::as_keys,
            },
        },
        source::config::PreparedConfig,
        until::until,
    },
    host::{Isa, atomic_file::Lock},
};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

/// How much work a kill may cost.
const CHECKPOINT: Duration = Duration::from_secs(30);
/// Between looks whether another process is done.
const PAUSE: Duration = Duration::from_millis(100);

/// What is told while data are made ready.
#[derive(Debug)]
pub enum News<'a> {
    /// Another process is at work in this folder, and is waited for.
    Waits(&'a Path),
    /// Preparing begins.
    Begins(&'a Begins),
    /// It goes on.
    Goes(Progress),
    /// It was interrupted; the next run goes on with this folder.
    Interrupted(&'a Path),
    /// The data are there.
    Ready(&'a Ready),
}

/// What will be done, before it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Begins {
    /// Where to.
    pub folder: PathBuf,
    /// The recipe.
    pub recipe: &'static str,
    /// Whether an earlier run had begun.
    pub resumed: bool,
    /// Days that are not among the raw files though later ones are, in words.
    pub missing: Option<String>,
    /// Raw files.
    pub raw_files: usize,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Bytes that will be written, about, by the start of each raw file.
    pub bytes: u64,
    /// The most on the disk at once, as likely.
    pub peak_bytes: u64,
    /// Seconds that reading and encoding takes, by a sample; shuffling and writing come after it.
    pub seconds: Option<f64>,
}

/// Data that are there.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// Where.
    pub folder: PathBuf,
    /// What they are.
    pub manifest: Manifest,
    /// How that is known.
    pub how: How,
    /// Seconds that it took.
    pub seconds: f64,
}

/// How it is known that prepared data are what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// They have been made; `true` if an earlier run had begun.
    Made(bool),
    /// They were there, and so many files of them were compared with their checksums; the others
    /// have the size and the time that they had when that was done last.
    Found(usize),
}

impl Ready {
    /// In one line.
    pub fn sentence(&self) -> String {
        let folder = self.folder.display();
        let all = self.manifest.files.len();
        match self.how {
            How::Made(false) => format!("prepared data: made in {folder}"),
            How::Made(true) => {
                format!("prepared data: made in {folder}, from where an earlier run was")
            }
            How::Found(0) => format!(
                "prepared data: found in {folder}, {all} files with the sizes and times that they had when their checksums were right"
            ),
            How::Found(read) => format!(
                "prepared data: found in {folder}, {read} of {all} files compared with their checksums"
            ),
        }
    }

    /// Whether they have just been made.
    pub fn made(&self) -> bool {
        matches!(self.how, How::Made(_))
    }

    /// For the record.
    pub fn facts(&self, config: &PreparedConfig) -> PreparedFacts {
        let hash = fs::read(self.folder.join(manifest::NAME)).ok().map(|text| blake3::hash(&text));
        PreparedFacts {
            recipe: config.recipe.name().into(),
            parameters: self.manifest.parameters.clone(),
            folder: self.folder.clone(),
            raw: self.manifest.inputs.clone(),
            manifest: hash.map(|hash| hash.to_hex().to_string()),
            made: self.made(),
            seconds: self.seconds,
        }
    }
}

/// What would be done for a run.
#[derive(Debug)]
pub struct Outlook {
    /// The raw files.
    pub raw: Vec<Input>,
    /// Where prepared data lie, or will.
    pub folder: PathBuf,
    /// The manifest of finished data.
    pub there: Option<Manifest>,
    /// What will be made, if they are not there.
    pub plan: Option<Begins>,
}

/// Looks at what is there, and at the start of the log for what is not. Writes nothing.
///
/// # Errors
/// If the log cannot be read, or the folder holds something else.
pub fn outlook(config: &PreparedConfig, threads: usize) -> Result<Outlook, DataError> {
    let (job, raw) = job(config, threads)?;
    let (there, manifest) = look(&job).map_err(by_keys)?;
    let plan = match manifest {
        Some(_) => None,
        None => Some(begins(&job, there).map_err(by_keys)?),
    };
    Ok(Outlook { raw, folder: job.output, there: manifest, plan })
}

/// The folder and the manifest of finished data, if they are there.
///
/// # Errors
/// As [`outlook`].
pub(super) fn found(config: &PreparedConfig) -> Result<Option<(PathBuf, Manifest)>, DataError> {
    let (job, _) = job(config, 1)?;
    let (_, manifest) = look(&job).map_err(by_keys)?;
    Ok(manifest.map(|manifest| (job.output, manifest)))
}

/// Prepares the data, unless they are there; `None` if `stop` is set before that is done. The next
/// call goes on where it was.
///
/// # Errors
/// As preparing, or if what is there is damaged.
pub fn ready(
    config: &PreparedConfig,
    threads: usize,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Option<Ready>, DataError> {
    let (job, _) = job(config, threads)?;
    match steps(&job, stop, tell) {
        Ok(ready) => {
            tell(&News::Ready(&ready));
            // What a part is called is known for sure.
            files::of(config, &ready.folder, &ready.manifest)?;
            Ok(Some(ready))
        }
        Err(PrepareError::Interrupted) => {
            tell(&News::Interrupted(&job.output));
            Ok(None)
        }
        Err(e) => Err(by_keys(e)),
    }
}

fn steps(
    job: &Job,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Ready, PrepareError> {
    let began = Instant::now();
    let ready = |manifest, how| Ready {
        folder: job.output.clone(),
        manifest,
        how,
        seconds: began.elapsed().as_secs_f64(),
    };
    if let (_, Some(manifest)) = look(job)? {
        let how = check(job, &manifest, stop, tell)?;
        return Ok(ready(manifest, how));
    }
    let _lock = lock(job, stop, tell)?;
    // Whoever was waited for may have made them.
    let (there, manifest) = look(job)?;
    if let Some(manifest) = manifest {
        let how = check(job, &manifest, stop, tell)?;
        return Ok(ready(manifest, how));
    }
    tell(&News::Begins(&begins_until(job, there, stop)?));
    let (manifest, resumed) = match make(job, stop, tell)? {
        Done::Prepared { manifest, resumed } => (manifest, resumed),
        Done::Verified(manifest) => (manifest, true),
    };
    checked::note(&job.output, &manifest);
    Ok(ready(manifest, How::Made(resumed)))
}

/// What will be done, by the start of the log.
fn begins(job: &Job, there: OutputState) -> Result<Begins, PrepareError> {
    let plan = foresee(job)?;
    Ok(Begins {
        folder: job.output.clone(),
        recipe: job.recipe.name(),
        resumed: there == OutputState::Unfinished,
        missing: inputs::first_days_missing(&[], &job.raw),
        raw_files: job.raw.len(),
        raw_bytes: plan.raw_bytes,
        bytes: plan.files.iter().map(|f| f.about.unwrap_or(f.bytes)).sum(),
        peak_bytes: plan.likely_peak_bytes,
        seconds: plan.seconds,
    })
}

/// [`begins`], given up when `stop` is set: it reads a little of each raw file, which may be slow,
/// and writes nothing.
fn begins_until(job: &Job, there: OutputState, stop: &AtomicBool) -> Result<Begins, PrepareError> {
    let job = job.clone();
    let seen = until(stop, move || begins(&job, there).map_err(DataError::prepare))?;
    seen.ok_or(PrepareError::Interrupted)
}

/// Prepares, on a thread of its own, so that who is told need not be known to several.
fn make(
    job: &Job,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Done, PrepareError> {
    let (send, heard) = channel();
    thread::scope(|scope| {
        let work = scope.spawn(move || {
            prepare::run(job, stop, &mut |progress| {
                // Nobody may listen any more.
                let _ = send.send(progress);
            })
        });
        heard.iter().for_each(|progress| tell(&News::Goes(progress)));
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether all that is there is as it was written.
fn check(
    job: &Job,
    manifest: &Manifest,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<How, PrepareError> {
    let found = checked::check(&job.output, manifest, |bytes, total| {
        let what = "comparing with checksums";
        tell(&News::Goes(Progress::Other { what, bytes, total }));
        !stop.load(Ordering::Relaxed)
    });
    match found {
        Found::Whole { read } => {
            prepare::tidy(job);
            Ok(How::Found(read))
        }
        Found::Stopped => Err(PrepareError::Interrupted),
        Found::Damaged(damaged) => {
            let (folder, first) = (job.output.display(), &damaged[0]);
            Err(PrepareError::Stale(format!(
                "{folder}: {} {}; damaged files: {} of {}; delete the folder to have it made anew",
                first.file,
                first.what,
                damaged.len(),
                manifest.files.len()
            )))
        }
    }
}

/// The right to write to the folder, once no other process has it.
fn lock(
    job: &Job,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Lock, PrepareError> {
    let folder = &job.output;
    let failed = |source| PrepareError::Write { path: folder.clone(), source };
    let above = folder.parent().unwrap_or(folder);
    fs::create_dir_all(above).map_err(failed)?;
    let mut waits = false;
    loop {
        if let Some(lock) = Lock::of(folder).map_err(failed)? {
            return Ok(lock);
        }
        if !std::mem::replace(&mut waits, true) {
            tell(&News::Waits(folder));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(PrepareError::Interrupted);
        }
        thread::sleep(PAUSE);
    }
}

/// What is to be done, and the raw files as they are.
fn job(config: &PreparedConfig, threads: usize) -> Result<(Job, Vec<Input>), DataError> {
    let names: Vec<String> = config.raw.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let raw = inputs::find_all(&names)?;
    config.recipe.check_files(&raw).map_err(by_keys)?;
    let inputs = raw.iter().map(|path| Input::probe(path)).collect::<Result<Vec<_>, _>>()?;
    let job = Job {
        recipe: config.recipe,
        parameters: config.parameters,
        output: cache::folder(config, &inputs)?,
        raw,
        memory: config.memory.0,
        threads: threads.max(1),
        isa: Isa::detect().map_err(|e| DataError::Invalid(e.to_string()))?,
        checkpoint: CHECKPOINT,
    };
    Ok((job, inputs))
}

/// Messages speak of keys, not of flags.
fn by_keys(e: PrepareError) -> DataError {
    match e {
        PrepareError::Usage(what) => DataError::prepare(PrepareError::Usage(as_keys(&what))),
        PrepareError::Memory(what) => DataError::prepare(PrepareError::Memory(as_keys(&what))),
        e => DataError::prepare(e),
    }
}
