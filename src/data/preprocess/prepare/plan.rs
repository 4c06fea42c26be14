//! What will be written and how long it will take, before anything is done.

use super::{
    Job, PrepareError, Progress,
    encoder::Encoder,
    recipes::PlannedOutput,
    state::{
        checkpoint::Checkpoint,
        existing::{OutputState, output_state, refuse_overwriting},
        spill::NewShare,
    },
    survey::survey_all,
};
use crate::{
    data::{
        DataError,
        preprocess::{
            chunks::{Chunk, Chunks, Position, count_lines},
            criteo::Blocks,
            inputs::Input,
        },
        source::config::OnError,
    },
    host::pool::Pool,
};
use serde::Serialize;
use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

/// Bytes of text by which lines are measured.
const SAMPLE: usize = 4 << 20;
/// Bytes that are taken to be free on a disk instead of those that are.
pub const LIMIT: &str = "DLRM_BENCH_DISK_LIMIT";
/// Stretches of text that the speed is measured on, or more until there are [`MEASURED`] samples.
const TIMED: usize = 4;
/// The most bytes of a checkpoint and of the one that is written in its place, files aside.
const CHECKPOINT: u64 = 64 << 10;
/// The same for each file that they name, and of the manifest.
const NAMED: u64 = 1 << 10;
/// Samples by which sizes of files are told: a row group's.
const MEASURED: usize = 1 << 16;

/// What a job will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Whether the lines were counted, not only measured; malformed ones count too.
    pub exact: bool,
    /// Lines of the log.
    pub lines: u64,
    /// Bytes of the raw files.
    pub raw_bytes: u64,
    /// Files and their sizes. With sub-sampling, or if lines are skipped, they will be smaller.
    pub files: Vec<PlannedFile>,
    /// The most that is on the disk at once, whatever the log holds.
    pub peak_bytes: u64,
    /// The same if new values come no more often than at the start of each file. A run refuses a
    /// disk that has less.
    pub likely_peak_bytes: u64,
    /// What the output folder holds.
    #[serde(rename = "there")]
    pub output: OutputState,
    /// Seconds that reading and encoding takes, by a sample; shuffling and writing come after it.
    pub seconds: Option<f64>,
    /// Samples by which that was measured.
    pub sampled: u64,
}

/// A file that will be written, or a folder of such.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedFile {
    /// Its name in the output folder.
    pub name: String,
    /// How many files.
    pub files: u64,
    /// The samples in them; 0 where there are none.
    pub samples: u64,
    /// Their size.
    pub bytes: u64,
    /// Whether that is their size for certain, and not only the most that it can be.
    pub exact: bool,
    /// What it will be about, by samples from the start of the log, where it is not certain.
    pub about: Option<u64>,
}

impl PlannedFile {
    /// A file of known size.
    pub(super) fn exact(name: &str, samples: u64, bytes: u64) -> Self {
        PlannedFile { name: name.into(), files: 1, samples, bytes, exact: true, about: None }
    }

    /// A file that is not larger than this.
    pub(super) fn at_most(name: &str, samples: u64, bytes: u64) -> Self {
        PlannedFile { exact: false, ..PlannedFile::exact(name, samples, bytes) }
    }
}

impl Plan {
    fn new(job: &Job, lines: &[u64], raw_bytes: u64, exact: bool, new: &NewShare) -> Plan {
        let recipe = job.recipe.steps();
        let PlannedOutput { files, peak } = recipe.plan(job, lines, new);
        let most = recipe.plan(job, lines, &NewShare::all()).peak;
        let checkpoint = CHECKPOINT + NAMED * files.iter().map(|f| f.files).sum::<u64>();
        Plan {
            exact,
            lines: lines.iter().sum(),
            raw_bytes,
            files,
            peak_bytes: most + checkpoint,
            likely_peak_bytes: peak + checkpoint,
            output: OutputState::Empty,
            seconds: None,
            sampled: 0,
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// Measures lines at the start of each file.
pub(super) fn estimate(job: &Job, inputs: &[Input]) -> Result<Plan, PrepareError> {
    let (lines, new) = look_at_starts(job, inputs)?;
    Ok(Plan::new(job, &lines, inputs.iter().map(|i| i.bytes).sum(), false, &new))
}

/// [`estimate`] with seconds, and sizes by samples from the start of the log.
pub(super) fn estimate_closely(job: &Job, inputs: &[Input]) -> Result<Plan, PrepareError> {
    let (lines, new) = look_at_starts(job, inputs)?;
    let mut plan = Plan::new(job, &lines, inputs.iter().map(|i| i.bytes).sum(), false, &new);
    measure(job, inputs, &Pool::new(job.threads), &new, &mut plan)?;
    Ok(plan)
}

/// About how many lines each file has, and how often new values come at its start.
fn look_at_starts(job: &Job, inputs: &[Input]) -> Result<(Vec<u64>, NewShare), PrepareError> {
    let (mut lines, mut new) = (Vec::new(), NewShare::none());
    let (pool, mut blocks) =
        (Pool::new(job.threads), Blocks::new(job.isa, OnError::Skip, job.threads));
    for (i, input) in inputs.iter().enumerate() {
        let sample = first_chunk(job, i, SAMPLE)?;
        let n = sample.as_ref().map_or(0, |c| c.end.line);
        // What is malformed is said when it is read.
        if sample.as_ref().is_some_and(|chunk| blocks.fill(&pool, &chunk.text).is_ok()) {
            new.see(job, &pool, &blocks);
        }
        // Of a packed file more is read than is unpacked: the first line's share is too large
        // rather than too small.
        let read = sample.as_ref().map_or(1, |c| c.raw.min(input.bytes)).max(1);
        let whole =
            sample.is_none_or(|c| c.raw >= input.bytes && (c.text.len() as u64) < SAMPLE as u64);
        lines.push(if whole { n } else { (n as f64 * input.bytes as f64 / read as f64) as u64 });
    }
    Ok((lines, new.or_all()))
}

fn first_chunk(job: &Job, file: usize, size: usize) -> Result<Option<Chunk>, DataError> {
    thread::scope(|scope| {
        Chunks::start(scope, &job.raw[..=file], Position { file, ..Position::default() }, size, 1)
            .next()
    })
}

/// Counts lines, which reads (and unpacks) all files, and measures the speed on the first ones.
/// Writes nothing.
///
/// # Errors
/// If a file cannot be read.
pub fn plan(job: &Job, tell: &(dyn Fn(Progress) + Sync)) -> Result<Plan, PrepareError> {
    job.check()?;
    let inputs = job.inputs()?;
    let pool = Pool::new(job.threads);
    let raw_bytes = inputs.iter().map(|i| i.bytes).sum();
    let output = output_state(job, &Checkpoint::new(job.recipe, job.parameters, inputs.clone()))?;
    let (about, new) = look_at_starts(job, &inputs)?;
    if output == OutputState::Empty {
        // Names do not depend on how many lines there are.
        refuse_overwriting(job, &Plan::new(job, &about, raw_bytes, false, &new))?;
    }
    let mut plan = match job.recipe.steps().survey(job) {
        None => Plan::new(job, &count(job, &inputs, &pool, tell)?, raw_bytes, true, &new),
        Some(mut survey) => {
            let samples = survey_all(job, &inputs, &pool, survey.as_mut(), tell)?;
            Plan {
                files: survey.files(job, &pool, &samples)?,
                ..Plan::new(job, &samples, raw_bytes, true, &new)
            }
        }
    };
    plan.output = output;
    measure(job, &inputs, &pool, &new, &mut plan)?;
    Ok(plan)
}

/// Adds to a plan what the log's start tells: seconds, and sizes of files that are not certain.
fn measure(
    job: &Job,
    inputs: &[Input],
    pool: &Pool,
    new: &NewShare,
    plan: &mut Plan,
) -> Result<(), PrepareError> {
    let (samples, seconds, records) = time(job, inputs, pool)?;
    plan.sampled = samples;
    plan.seconds = (samples > 0).then(|| seconds / samples as f64 * plan.lines as f64);
    job.recipe.steps().estimate(job, &records, new, &mut plan.files);
    for file in &mut plan.files {
        file.about = file.about.map(|about| about.min(file.bytes));
    }
    Ok(())
}

/// Lines of each file, as many at a time as there are threads.
fn count(
    job: &Job,
    inputs: &[Input],
    pool: &Pool,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<u64>, PrepareError> {
    let total: u64 = inputs.iter().map(|i| i.bytes).sum();
    let done: Vec<AtomicU64> = inputs.iter().map(|_| AtomicU64::new(0)).collect();
    let failed = Mutex::new(Vec::new());
    let mut lines = vec![0; inputs.len()];
    // Of few files each has several threads.
    let unpackers = job.unpackers() / inputs.len().min(pool.threads());
    pool.for_each_chunk(&mut lines, 1, |i, _, lines| {
        let counted = count_lines(&job.raw[i], unpackers, |raw| {
            done[i].store(raw, Ordering::Relaxed);
            let bytes = done.iter().map(|d| d.load(Ordering::Relaxed)).sum();
            tell(Progress::Other { what: "counting lines", bytes, total });
        });
        match counted {
            Ok(n) => lines[0] = n,
            Err(e) => failed.lock().unwrap_or_else(PoisonError::into_inner).push((i, e)),
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|f| f.0);
    match failed.into_iter().next() {
        Some((_, e)) => Err(e.into()),
        None => Ok(lines),
    }
}

/// Reads and encodes the log's start as it will be done: samples, seconds, and the first samples as
/// they will lie on the disk. Malformed lines are left for later.
fn time(job: &Job, inputs: &[Input], pool: &Pool) -> Result<(u64, f64, Vec<u8>), PrepareError> {
    let mut blocks = Blocks::new(job.isa, OnError::Skip, job.threads);
    let mut encoder =
        Encoder::new(job.recipe.form(), job.parameters.max_ind_range, job.dictionaries());
    let mut tally = Checkpoint::new(job.recipe, job.parameters, inputs.to_vec()).tally;
    let (mut records, mut first, width) = (Vec::new(), Vec::new(), job.recipe.form().bytes());
    let (mut samples, mut seconds) = (0, 0.0);
    thread::scope(|scope| -> Result<(), PrepareError> {
        let chunks =
            Chunks::start(scope, &job.raw, Position::default(), job.chunk(), job.unpackers());
        let mut seen = 0;
        while seen < TIMED || samples < MEASURED {
            records.clear();
            let start = Instant::now();
            let Some(chunk) = chunks.next()? else { break };
            // Nothing is refused.
            if blocks.fill(pool, &chunk.text).is_ok() {
                encoder.encode(pool, &blocks, &mut records, &mut tally)?;
                samples += records.len() / width;
            }
            chunks.recycle(chunk);
            seconds += start.elapsed().as_secs_f64();
            first.extend_from_slice(&records[..records.len().min(MEASURED * width - first.len())]);
            seen += 1;
        }
        Ok(())
    })?;
    Ok((samples as u64, seconds, first))
}

/// Refuses a disk on which a run that begins would not.
///
/// # Errors
/// As of [`run`](super::run()).
pub fn refuse_small_disk(job: &Job, plan: &Plan) -> Result<(), PrepareError> {
    match plan.output {
        OutputState::Empty => check_disk(&job.output, plan.likely_peak_bytes),
        OutputState::Unfinished | OutputState::Finished => Ok(()),
    }
}

/// Refuses a disk that cannot hold `needed` bytes.
///
/// # Errors
/// If there is less room where `folder` is.
pub(super) fn check_disk(folder: &Path, needed: u64) -> Result<(), PrepareError> {
    match free(folder) {
        Some(free) if free < needed => {
            let shown = |bytes: u64| match bytes as f64 {
                b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
                b => format!("{:.3} MB", b / 1e6),
            };
            let (folder, needed, free) = (folder.display(), shown(needed), shown(free));
            Err(PrepareError::Disk(format!(
                "{folder}: about {needed} will be written, but {free} are free on this disk"
            )))
        }
        _ => Ok(()),
    }
}

/// Free bytes on the disk that holds `folder`, or the nearest folder above it that exists; the value
/// of the environment variable `DLRM_BENCH_DISK_LIMIT` instead, if it is set. `None` if unknown.
pub fn free(folder: &Path) -> Option<u64> {
    if let Some(limit) = std::env::var(LIMIT).ok().and_then(|v| v.trim().parse().ok()) {
        return Some(limit);
    }
    let nearest =
        std::path::absolute(folder).ok()?.ancestors().find_map(|f| f.canonicalize().ok())?;
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let holding = disks.iter().filter(|d| nearest.starts_with(d.mount_point()));
    holding.max_by_key(|d| d.mount_point().as_os_str().len()).map(|d| d.available_space())
}
