//! Numbers of ids for which a dictionary had no memory. From then on such an id was left out, a
//! placeholder stood in its sample, and where that was came to a file of its own. All that is
//! needed to number them now is that ids are numbered in order of first appearance, those in the
//! dictionary before all others: the places are dealt to files by the hash of the id, so that the
//! ids of one file fit in memory; there they get numbers of their own, of which going through all
//! places in order once more makes the final ones.

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

/// Words of a place: the sample in two, the lower one first, and the id.
pub const PLACE: usize = 3;
/// Samples that are patched together.
const BLOCK: u64 = 1 << 14;

/// Numbers all ids that were left out, completes the dictionaries, and puts the numbers into the
/// samples. Can be done again if it was not done to the end.
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
    let mut places = columns.iter().map(Unnumbered::open).collect::<Result<Vec<_>, _>>()?;
    let mut before = 0;
    for which in 0..RECORDS.len() {
        before = patch(worker, checkpoint, which, before, &mut places, tell)?;
    }
    drop(places);
    columns.iter().try_for_each(|column| partition::remove(&column.numbers))
}

/// A column whose ids have numbers.
struct Column {
    column: usize,
    /// Where the ids were.
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
    // All that counts is checked, and what lies behind it cut off.
    drop(Growing::open(&path, &checkpoint.unnumbered[column], |_| worker.interrupted())?);
    let places = checkpoint.unnumbered[column].bytes / (4 * PLACE as u64);
    // A table of different ids takes up to 24 bytes for each.
    let room = worker.job.dictionaries().max(1);
    let parts = (places * 24).div_ceil(room).clamp(1, MOST as u64) as usize;
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

    // In order of all places, a number within a part that was not there before is a new id.
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

/// Goes through the ids of all places in order.
fn each_id(
    path: &Path,
    mut f: impl FnMut(u32) -> Result<(), PrepareError>,
) -> Result<(), PrepareError> {
    let mut reader = Reader::open(path)?;
    loop {
        let places = reader.take(PLACE << 12)?;
        if places.is_empty() {
            return Ok(());
        }
        places.chunks_exact(PLACE).try_for_each(|place| f(place[2]))?;
    }
}

/// The places of a column in order, each with its number.
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
        let mut places = Unnumbered {
            column: from.column,
            left: Reader::open(&from.left)?,
            numbers,
            next: None,
        };
        places.advance()?;
        Ok(places)
    }

    fn advance(&mut self) -> Result<(), PrepareError> {
        self.next = None;
        if let &[low, high, id] = &self.left.take(PLACE)?[..] {
            let part = file_of(id, self.numbers.len());
            let number = self.numbers[part].next()?;
            self.next = number.map(|number| (u64::from(low) | u64::from(high) << 32, number));
        }
        Ok(())
    }
}

/// Puts numbers into a file of samples, of which `before` came before it. Tells how many there are
/// up to its end.
fn patch(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    which: usize,
    before: u64,
    places: &mut [Unnumbered],
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
        for places in places.iter_mut() {
            while let Some((sample, number)) = places.next.filter(|next| next.0 < end) {
                let at =
                    ((sample - before - first) * width) as usize + 4 * (1 + DENSE + places.column);
                block[at..at + 4].copy_from_slice(&number.to_le_bytes());
                changed = true;
                places.advance()?;
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
