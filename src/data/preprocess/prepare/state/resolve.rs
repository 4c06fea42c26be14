//! Numbers ids for which a dictionary had no memory. The encoder wrote a placeholder to such an
//! id's sample, and sample and id to a file of its column. Ids are numbered in order of first
//! appearance, those of the dictionary first. So the occurrences are dealt to files by the hash of
//! the id: the ids of one file fit in memory, and get numbers within the file. A second pass over
//! all occurrences in order turns these into the final numbers.

use super::{
    checkpoint::Checkpoint,
    growing::{Growing, Written},
};
use crate::data::preprocess::{
    criteo::DENSE,
    numbering::{Budget, Full, Numbering},
    prepare::{
        PrepareError, Progress, Tell,
        encoder::too_many,
        shuffle::{
            partition::{self, MOST, Reader, WordFiles, file_of},
            records::Form,
        },
        worker::{RECORDS, Worker, dictionary_file, unnumbered_file},
    },
};
use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Words of an occurrence: the sample in two, the lower one first, and the id.
pub const OCCURRENCE: usize = 3;
/// Samples that are patched together.
const BLOCK: u64 = 1 << 14;

/// Numbers all ids that have no number, completes the dictionaries, and writes the numbers to the
/// samples. After a kill it can be called again.
///
/// # Errors
/// If a file cannot be read or written, memory does not suffice even for parts, or there are more
/// ids than 32 bits hold.
pub fn resolve(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    tell: Tell,
) -> Result<(), PrepareError> {
    let mut columns = Vec::new();
    for column in 0..checkpoint.unnumbered.len() {
        if checkpoint.unnumbered[column].bytes > 0 {
            columns.push(number(worker, checkpoint, column)?);
        }
        tell(Progress::Other {
            what: "numbering what was left",
            bytes: column as u64 + 1,
            total: checkpoint.unnumbered.len() as u64,
        });
    }
    let mut unnumbered = columns.iter().map(Unnumbered::open).collect::<Result<Vec<_>, _>>()?;
    let mut before = 0;
    for which in 0..RECORDS.len() {
        before = patch(worker, checkpoint, which, before, &mut unnumbered, tell)?;
    }
    drop(unnumbered);
    columns.iter().try_for_each(|column| partition::remove(&column.numbers))
}

/// A column whose ids have numbers.
struct Column {
    column: usize,
    /// The file of their occurrences.
    left: PathBuf,
    /// Their numbers, dealt to files as the ids are.
    numbers: Vec<PathBuf>,
}

fn number(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    column: usize,
) -> Result<Column, PrepareError> {
    let path = worker.path(&unnumbered_file(column));
    // Checks what counts, and cuts off what lies behind it.
    drop(Growing::open(&path, &checkpoint.unnumbered[column], |_| worker.interrupted())?);
    let occurrences = checkpoint.unnumbered[column].bytes / (4 * OCCURRENCE as u64);
    // A table of different ids takes up to 24 bytes for each.
    let room = worker.job.dictionaries().max(1);
    let parts = (occurrences * 24).div_ceil(room).clamp(1, MOST as u64) as usize;
    let mut dealt = WordFiles::create(worker.work, "ids", parts)?;
    each_id(&path, |id| dealt.push(file_of(id, parts), id))?;
    let dealt = dealt.finish()?;

    // Numbers within each part.
    let mut inner = WordFiles::create(worker.work, "inner", parts)?;
    for (part, path) in dealt.iter().enumerate() {
        worker.interrupted()?;
        let (mut table, budget, mut reader) =
            (Numbering::new(None), Budget::new(room), Reader::open(path)?);
        loop {
            let ids = reader.take(1 << 16)?;
            if ids.is_empty() {
                break;
            }
            let mut numbers = Vec::new();
            table
                .number(&ids, &mut numbers, &mut Vec::new(), &budget)
                .map_err(|full| refusal(column, full))?;
            numbers.into_iter().try_for_each(|number| inner.push(part, number))?;
        }
    }
    let inner = inner.finish()?;
    partition::remove(&dealt)?;

    // In order of all occurrences, a number within a part that is seen for the first time is a new
    // id.
    let mut to = Growing::open(
        &worker.path(&dictionary_file(column)),
        &checkpoint.dictionaries[column],
        |_| Ok(()),
    )?;
    let mut next = checkpoint.dictionaries[column].bytes / 4;
    let mut finals = WordFiles::create(worker.work, "final", parts)?;
    let mut readers = inner.iter().map(|path| Reader::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut counts = vec![0; parts];
    let mut fresh = Vec::new();
    each_id(&path, |id| {
        let part = file_of(id, parts);
        if readers[part].next()? == Some(counts[part]) {
            counts[part] += 1;
            finals.push(part, u32::try_from(next).unwrap_or(u32::MAX))?;
            next += 1;
            fresh.extend_from_slice(&id.to_le_bytes());
            if fresh.len() >= 1 << 16 {
                to.append(&fresh)?;
                fresh.clear();
            }
        }
        Ok(())
    })?;
    drop(readers);
    if next > 1 << 31 {
        return Err(refusal(column, Full::Ids));
    }
    to.append(&fresh)?;
    let finals = finals.finish()?;
    let mut numbers = WordFiles::create(worker.work, &format!("numbers_{column}"), parts)?;
    for part in 0..parts {
        worker.interrupted()?;
        let finals = Reader::open(&finals[part])?.take(usize::MAX)?;
        let mut reader = Reader::open(&inner[part])?;
        while let Some(number) = reader.next()? {
            numbers.push(part, finals[number as usize])?;
        }
    }
    partition::remove(&inner)?;
    partition::remove(&finals)?;
    // The checkpoint is not written before the samples are patched: until then the dictionary ends
    // where it did.
    checkpoint.dictionaries[column] = to.sync()?;
    Ok(Column { column, left: path, numbers: numbers.finish()? })
}

fn refusal(column: usize, full: Full) -> PrepareError {
    match full {
        Full::Memory => PrepareError::Memory(format!(
            "there is no memory for even a part of the ids of C{}; give more with --memory, and the same command goes on from here",
            column + 1
        )),
        Full::Ids => too_many(column),
    }
}

/// Calls `f` with the id of each occurrence in order.
fn each_id(
    path: &Path,
    mut f: impl FnMut(u32) -> Result<(), PrepareError>,
) -> Result<(), PrepareError> {
    let mut reader = Reader::open(path)?;
    loop {
        let occurrences = reader.take(OCCURRENCE << 12)?;
        if occurrences.is_empty() {
            return Ok(());
        }
        occurrences.chunks_exact(OCCURRENCE).try_for_each(|occurrence| f(occurrence[2]))?;
    }
}

/// The occurrences of a column in order, each with the number of its id.
struct Unnumbered {
    column: usize,
    left: Reader,
    numbers: Vec<Reader>,
    /// Sample and number.
    next: Option<(u64, u32)>,
}

impl Unnumbered {
    fn open(from: &Column) -> Result<Self, PrepareError> {
        let numbers =
            from.numbers.iter().map(|path| Reader::open(path)).collect::<Result<_, _>>()?;
        let mut occurrences = Unnumbered {
            column: from.column,
            left: Reader::open(&from.left)?,
            numbers,
            next: None,
        };
        occurrences.advance()?;
        Ok(occurrences)
    }

    fn advance(&mut self) -> Result<(), PrepareError> {
        self.next = None;
        if let &[low, high, id] = &self.left.take(OCCURRENCE)?[..] {
            let part = file_of(id, self.numbers.len());
            let number = self.numbers[part].next()?;
            self.next = number.map(|number| (u64::from(low) | u64::from(high) << 32, number));
        }
        Ok(())
    }
}

/// Writes the numbers to one of the files of samples, which `before` samples precede. Returns the
/// number of samples up to its end.
fn patch(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    which: usize,
    before: u64,
    unnumbered: &mut [Unnumbered],
    tell: Tell,
) -> Result<u64, PrepareError> {
    let path = worker.path(RECORDS[which]);
    let io = || PrepareError::write(&path);
    let width = Form::Numbered.bytes() as u64;
    let bytes = checkpoint.records[which].bytes;
    let samples = bytes / width;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io())?;
    let mut hasher = blake3::Hasher::new();
    let mut block = Vec::new();
    let mut first = 0;
    while first < samples {
        worker.interrupted()?;
        let n = BLOCK.min(samples - first);
        block.resize((n * width) as usize, 0);
        file.seek(SeekFrom::Start(first * width))
            .and_then(|_| file.read_exact(&mut block))
            .map_err(io())?;
        let end = before + first + n;
        let mut changed = false;
        for column in unnumbered.iter_mut() {
            while let Some((sample, number)) = column.next.filter(|next| next.0 < end) {
                let at =
                    ((sample - before - first) * width) as usize + 4 * (1 + DENSE + column.column);
                block[at..at + 4].copy_from_slice(&number.to_le_bytes());
                changed = true;
                column.advance()?;
            }
        }
        if changed {
            file.seek(SeekFrom::Start(first * width))
                .and_then(|_| file.write_all(&block))
                .map_err(io())?;
        }
        hasher.update(&block);
        first += n;
        tell(Progress::Other { what: "putting numbers in", bytes: first * width, total: bytes });
    }
    file.sync_data().map_err(io())?;
    if bytes > 0 {
        checkpoint.records[which] =
            Written { bytes, blake3: hasher.finalize().to_hex().to_string() };
    }
    Ok(before + samples)
}
