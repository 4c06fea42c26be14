//! What will be written and how long it will take, before anything is done.

use super::{Job, Outcome, PrepareError, Progress, encode::Encoder, state::Checkpoint};
use crate::{
    backend::cpu::pool::Pool,
    data::{
        DataError,
        preprocess::{
            chunks::{Chunk, Chunks, Place, count_lines},
            criteo::Blocks,
            inputs::Input,
        },
    },
    workload::OnError,
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
/// Bytes that may be written, instead of what is free.
const LIMIT: &str = "DLRM_BENCH_DISK_LIMIT";
/// The most stretches of text that the speed is measured on.
const TIMED: usize = 4;

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
    /// The most that is on the disk at once, dictionaries aside (4 bytes for each different id).
    pub peak_bytes: u64,
    /// Seconds that reading and encoding takes, by a sample; writing and shuffling come on top where the disk is slower.
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
    /// Their size.
    pub bytes: u64,
    /// Whether that is their size for certain, and not only the most that it can be.
    pub exact: bool,
}

impl PlannedFile {
    /// A file of known size.
    pub(super) fn exact(name: &str, bytes: u64) -> Self {
        PlannedFile { name: name.into(), files: 1, bytes, exact: true }
    }

    /// A file that is not larger than this.
    pub(super) fn at_most(name: &str, bytes: u64) -> Self {
        PlannedFile { exact: false, ..PlannedFile::exact(name, bytes) }
    }
}

impl Plan {
    fn new(job: &Job, lines: &[u64], raw_bytes: u64, exact: bool) -> Plan {
        let Outcome { files, peak } = job.recipe.finish().plan(job, lines);
        let lines = lines.iter().sum();
        Plan { exact, lines, raw_bytes, files, peak_bytes: peak, seconds: None, sampled: 0 }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// Measures lines at the start of each file.
pub(super) fn estimate(job: &Job, inputs: &[Input]) -> Result<Plan, PrepareError> {
    let mut lines = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let sample = first_chunk(job, i, SAMPLE)?;
        let n = sample.as_ref().map_or(0, |c| c.end.line);
        // Of a packed file more is read than is unpacked: the first line's share is too large rather than too small.
        let read = sample.as_ref().map_or(1, |c| c.raw.min(input.bytes)).max(1);
        let whole = sample.is_none_or(|c| c.raw >= input.bytes && (c.text.len() as u64) < SAMPLE as u64);
        lines.push(if whole { n } else { (n as f64 * input.bytes as f64 / read as f64) as u64 });
    }
    Ok(Plan::new(job, &lines, inputs.iter().map(|i| i.bytes).sum(), false))
}

fn first_chunk(job: &Job, file: usize, size: usize) -> Result<Option<Chunk>, DataError> {
    thread::scope(|scope| Chunks::start(scope, &job.raw[..=file], Place { file, ..Place::default() }, size).next())
}

/// Counts lines, which reads (and unpacks) all files, and measures the speed on the first ones. Writes nothing.
///
/// # Errors
/// If a file cannot be read.
pub fn plan(job: &Job, tell: &(dyn Fn(Progress) + Sync)) -> Result<Plan, PrepareError> {
    job.check()?;
    let inputs = job.inputs()?;
    let pool = Pool::new(job.threads);
    let total: u64 = inputs.iter().map(|i| i.bytes).sum();
    let done: Vec<AtomicU64> = inputs.iter().map(|_| AtomicU64::new(0)).collect();
    let failed = Mutex::new(Vec::new());
    let mut lines = vec![0; inputs.len()];
    pool.for_each_chunk(&mut lines, 1, |i, _, lines| {
        let counted = count_lines(&job.raw[i], |raw| {
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
    if let Some((_, e)) = failed.into_iter().next() {
        return Err(e.into());
    }
    let mut plan = Plan::new(job, &lines, total, true);
    let (samples, seconds) = time(job, &inputs, &pool)?;
    plan.sampled = samples;
    plan.seconds = (samples > 0).then(|| seconds / samples as f64 * plan.lines as f64);
    Ok(plan)
}

/// Reads and encodes the log's start as it will be done. Malformed lines are left for later.
fn time(job: &Job, inputs: &[Input], pool: &Pool) -> Result<(u64, f64), PrepareError> {
    let mut blocks = Blocks::new(job.isa, OnError::Skip, job.threads);
    let mut encoder = Encoder::new(job.recipe.form(), job.parameters.max_ind_range, job.dictionaries());
    let mut tally = Checkpoint::new(job.recipe, job.parameters, inputs.to_vec()).tally;
    let (mut records, mut samples) = (Vec::new(), 0);
    let start = Instant::now();
    thread::scope(|scope| -> Result<(), PrepareError> {
        let chunks = Chunks::start(scope, &job.raw, Place::default(), job.chunk());
        for _ in 0..TIMED {
            let Some(chunk) = chunks.next()? else { break };
            // Nothing is refused.
            if blocks.fill(pool, &chunk.text).is_ok() {
                encoder.encode(pool, &blocks, &mut records, &mut tally)?;
                samples += (records.len() / job.recipe.form().bytes()) as u64;
            }
            chunks.recycle(chunk);
        }
        Ok(())
    })?;
    Ok((samples, start.elapsed().as_secs_f64()))
}

/// Refuses a disk that cannot hold `needed` bytes.
///
/// # Errors
/// If there is less room where `folder` is.
pub(super) fn check_disk(folder: &Path, needed: u64) -> Result<(), PrepareError> {
    match free(folder) {
        Some(free) if free < needed => Err(PrepareError::Disk(format!(
            "{}: about {:.1} GB will be written, but {:.1} GB are free on this disk",
            folder.display(),
            needed as f64 / 1e9,
            free as f64 / 1e9
        ))),
        _ => Ok(()),
    }
}

/// Free bytes on the disk that holds `folder`, or the nearest folder above it that is there; what the environment variable
/// `DLRM_BENCH_DISK_LIMIT` says instead, if it is set. `None` where that cannot be known.
pub fn free(folder: &Path) -> Option<u64> {
    if let Some(limit) = std::env::var(LIMIT).ok().and_then(|v| v.trim().parse().ok()) {
        return Some(limit);
    }
    let there = std::path::absolute(folder).ok()?.ancestors().find_map(|f| f.canonicalize().ok())?;
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let holding = disks.iter().filter(|d| there.starts_with(d.mount_point()));
    holding.max_by_key(|d| d.mount_point().as_os_str().len()).map(|d| d.available_space())
}
