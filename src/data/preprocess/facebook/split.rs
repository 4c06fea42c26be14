//! The records cut into the parts that the original writes, and all files put in their places.

use super::{
    PrepareError, Progress, RECORD, Randomize,
    run::{RECORDS, Worker, kept},
    shuffle::shuffle,
    state::{Checkpoint, Growing, Stage, Written},
};
use crate::data::{
    DataError,
    manifest::{ColumnFacts, FileFacts, Manifest, Split, hash},
    npy::Type,
    npz::{Member, Packing, pack},
    preprocess::criteo::{DENSE, TABLES, slice_ends},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes that are copied at once.
const BUFFER: usize = RECORD << 13;

/// Samples of each part.
struct Sizes {
    train: u64,
    test: u64,
    val: u64,
}

/// Samples of each day, or of each slice of one file.
fn days(worker: &Worker, checkpoint: &Checkpoint) -> Result<Vec<u64>, PrepareError> {
    if !worker.job.recipe.one_file() {
        return Ok(checkpoint.tally.samples.clone());
    }
    let ends: Vec<u64> = slice_ends(checkpoint.tally.lines).collect();
    if checkpoint.parameters.sub_sample_rate == 0.0 {
        return Ok(ends.windows(2).map(|e| e[1] - e[0]).collect());
    }
    // Slices have equal numbers of lines, those that sub-sampling drops included.
    let kept = kept(worker, &checkpoint.kept)?;
    let kept_in = |e: &[u64]| kept[e[0] as usize..e[1] as usize].iter().map(|&k| u64::from(k)).sum();
    Ok(ends.windows(2).map(kept_in).collect())
}

fn sizes(worker: &Worker, days: &[u64]) -> Result<Sizes, PrepareError> {
    let last = days.last().copied().unwrap_or(0);
    let all: u64 = days.iter().sum();
    let (train, test) = (all - last, last.div_ceil(2));
    if train == 0 || last == 0 {
        let files = worker.job.raw.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(PrepareError::Data(DataError::Invalid(format!(
            "{files}: {all} samples are too few: {train} in the training days and {last} in the last one; must be at least 1 in each"
        ))));
    }
    Ok(Sizes { train, test, val: last - test })
}

/// Makes all parts in the folder of unfinished work. Changes nothing that was there, so that it can be done again.
pub fn split(
    worker: &Worker,
    checkpoint: &Checkpoint,
    tell: &mut dyn FnMut(Progress),
) -> Result<Vec<(String, Written)>, PrepareError> {
    let recipe = worker.job.recipe;
    let days = days(worker, checkpoint)?;
    let Sizes { train, test, val } = sizes(worker, &days)?;
    let mut parts = Vec::new();
    let (tail, start) = if recipe.one_file() { (RECORDS[0], train) } else { (RECORDS[1], 0) };
    for (part, first, samples) in [("test", start, test), ("val", start + test, val)] {
        let name = recipe.file(part);
        let written = copy(worker, tail, first, samples, Some(&name), tell)?;
        parts.push((name, written));
    }
    let written = match checkpoint.parameters.randomize {
        // Known already if the file is not cut.
        Randomize::None if !recipe.one_file() => checkpoint.records[0].clone(),
        Randomize::None => copy(worker, RECORDS[0], 0, train, None, tell)?,
        Randomize::Day | Randomize::Total => shuffle(worker, checkpoint, &days, &recipe.file("train"), tell)?,
    };
    parts.insert(0, (recipe.file("train"), written));
    parts.push(counts(worker, checkpoint)?);
    Ok(parts)
}

/// Copies samples to a file of their own, or only takes their checksum.
fn copy(
    worker: &Worker,
    from: &str,
    first: u64,
    samples: u64,
    to: Option<&str>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Written, PrepareError> {
    let path = worker.path(from);
    let total = samples * RECORD as u64;
    let mut file = reader(&path, first)?;
    let mut out = to.map(|name| Growing::open(&worker.path(name), &Written::default(), |_| Ok(()))).transpose()?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    while bytes < total {
        worker.interrupted()?;
        let n = BUFFER.min((total - bytes) as usize);
        file.read_exact(&mut buffer[..n]).map_err(PrepareError::write(&path))?;
        match &mut out {
            Some(out) => out.append(&buffer[..n])?,
            None => {
                hasher.update(&buffer[..n]);
            }
        }
        bytes += n as u64;
        tell(Progress::Other { what: "cutting", bytes, total });
    }
    match out {
        Some(mut out) => out.sync(),
        None => Ok(Written { bytes: total, blake3: hasher.finalize().to_hex().to_string() }),
    }
}

/// The numbers of different ids, where the original's loader looks for them.
fn counts(worker: &Worker, checkpoint: &Checkpoint) -> Result<(String, Written), PrepareError> {
    let name = worker.job.recipe.counts_file();
    let path = worker.path(name);
    let write = || -> std::io::Result<()> {
        let mut counts = Member::new(&path, "counts", Type::Int(4), None)?;
        for dictionary in &checkpoint.dictionaries {
            counts.write(&((dictionary.bytes / 4) as u32).to_le_bytes())?;
        }
        pack(&path, Packing::Stored, [(counts, TABLES as u64)])
    };
    write().map_err(PrepareError::write(&path))?;
    let bytes = fs::metadata(&path).map_err(PrepareError::write(&path))?.len();
    let blake3 = hash(&path, &mut |_| ()).map_err(PrepareError::write(&path))?;
    Ok((name.into(), Written { bytes, blake3 }))
}

/// Moves all parts to their places and writes the manifest, the last of all. Can be done again if it was not done to the end.
pub fn place(worker: &Worker, checkpoint: &Checkpoint, tell: &mut dyn FnMut(Progress)) -> Result<Manifest, PrepareError> {
    let job = worker.job;
    let Stage::Place { parts } = &checkpoint.stage else {
        return Err(PrepareError::Stale(format!("{}: the parts are not there yet", worker.work.display())));
    };
    for (name, written) in parts {
        let uncut = *name == job.recipe.file("train") && checkpoint.parameters.randomize == Randomize::None;
        let from = worker.path(if uncut { RECORDS[0] } else { name });
        let to = job.output.join(name);
        if from.exists() {
            move_part(&from, &to, written.bytes).map_err(PrepareError::write(&to))?;
            continue;
        }
        // It was moved before a kill.
        let (mut bytes, total) = (0, written.bytes);
        let found = hash(&to, &mut |n| {
            bytes += n;
            tell(Progress::Other { what: "verifying", bytes, total });
        });
        if found.map_err(PrepareError::write(&to))? != written.blake3 {
            let work = worker.work.display();
            return Err(PrepareError::Stale(format!(
                "{}: is not as it was written; delete it and {work} to begin anew",
                to.display()
            )));
        }
    }
    let manifest = manifest(worker, checkpoint, parts)?;
    manifest.write(&job.output).map_err(PrepareError::write(&job.output))?;
    Ok(manifest)
}

fn move_part(from: &Path, to: &Path, bytes: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(from)?;
    if file.metadata()?.len() != bytes {
        file.set_len(bytes)?;
    }
    crate::data::whole::publish(from, to)
}

fn manifest(worker: &Worker, checkpoint: &Checkpoint, parts: &[(String, Written)]) -> Result<Manifest, PrepareError> {
    let recipe = worker.job.recipe;
    let Checkpoint { parameters, inputs, tally, dictionaries, .. } = checkpoint;
    let mut manifest = Manifest::new(recipe.name(), parameters.named(), inputs.clone());
    for part in ["train", "test", "val"] {
        let file = recipe.file(part);
        let bytes = parts.iter().find(|(name, _)| *name == file).map_or(0, |(_, written)| written.bytes);
        manifest.splits.push(Split { name: part.into(), file, samples: bytes / RECORD as u64 });
    }
    manifest.label_rate = tally.positives as f64 / tally.total() as f64;
    manifest.skipped_lines = tally.skipped;
    manifest.dropped_samples = tally.lines - tally.total();
    for (i, &missing) in tally.missing.iter().enumerate() {
        let (name, ids) = match i.checked_sub(DENSE) {
            None => (format!("I{}", i + 1), None),
            Some(j) => (format!("C{}", j + 1), Some(dictionaries[j].bytes / 4)),
        };
        manifest.columns.push(ColumnFacts { name, ids, missing });
    }
    let file = |(name, written): &(String, Written)| FileFacts {
        name: name.clone(),
        bytes: written.bytes,
        blake3: written.blake3.clone(),
    };
    manifest.files = parts.iter().map(file).collect();
    Ok(manifest)
}

/// Reads the samples of a file from one on.
pub(super) fn reader(path: &Path, first: u64) -> Result<BufReader<File>, PrepareError> {
    let open = || -> std::io::Result<BufReader<File>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(first * RECORD as u64))?;
        Ok(BufReader::with_capacity(BUFFER, file))
    };
    open().map_err(PrepareError::write(path))
}
