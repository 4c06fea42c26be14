//! The row file: a log of records in segments of one size. Records are appended; what replaces one
//! leaves it dead. When the file may not grow any more, the segment with the fewest live records is
//! cleaned: they are appended again, and it is free.
//!
//! The file has no name while it is open, so nothing is left of it however a run ends. What is in
//! it says nothing to another run: a run that goes on fills it from its checkpoint.
//!
//! Where there is memory for segments ([`Homes`]), the newest are there, and the file has those that
//! memory has no room for; if it has room for all, there is no file.

use super::{
    error::RowFileError,
    homes::{Homes, Leaving},
    io::{At, Fetch, Io, Writing},
    reads::{ReadBy, Reads},
};
use crate::host::positioned::{read_at, write_at};
use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use twox_hash::XxHash64;

mod tier;

/// Bytes of a segment, where a file is large enough for many.
const SEGMENT: u64 = 64 << 20;
/// Segments of a file, if they are smaller then.
const SEGMENTS: u64 = 16;
/// Bytes that are gathered before they are written.
const CHUNK: usize = 1 << 20;
/// Pieces of that size that may be on their way to the disk.
const WRITING: usize = 8;
/// Checksum, column, row.
const HEADER: usize = 12;
/// Records that the smallest file has room for.
pub(super) const LEAST_RECORDS: u64 = 64;
/// More records have no number.
const MOST_RECORDS: u64 = (1 << 31) - 1;

/// Bytes of a record.
fn record_bytes(packed: usize) -> usize {
    (HEADER + packed).next_multiple_of(4)
}

/// The most that a file of `rows` rows needs: a quarter of it may be dead.
pub(super) fn file_bytes(rows: u64, packed: usize) -> u64 {
    let all = rows * record_bytes(packed) as u64;
    (all + all / 4 + 4 * SEGMENT.min(all / SEGMENTS)).max(least_bytes(packed))
}

/// The least that a file has.
pub(super) fn least_bytes(packed: usize) -> u64 {
    LEAST_RECORDS * record_bytes(packed) as u64
}

/// Who knows where records are.
pub(super) trait Owner {
    /// Whether what stands at `place` is a row's newest record.
    fn is_at(&self, column: u32, row: u32, place: u32) -> bool;
    /// It is at another place now.
    fn moved(&mut self, column: u32, row: u32, place: u32);
}

#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    used: u32,
    live: u32,
}

/// The file.
#[derive(Debug)]
pub(super) struct Log {
    /// The file, and who reads and writes it; none where all segments have room in memory.
    file: Option<(Io, Arc<File>)>,
    folder: PathBuf,
    record: usize,
    /// Records of a segment.
    per_segment: u32,
    /// Segments at most.
    most: u32,
    /// Segments of the file at most.
    most_in_file: u32,
    segments: Vec<Segment>,
    homes: Homes,
    free: Vec<u32>,
    /// The segment that is appended to.
    open: Option<u32>,
    /// Records that are not written yet, from this place on.
    chunk: Vec<u8>,
    chunk_start: u32,
    /// What is on its way to the file, the oldest first.
    writing: VecDeque<Arc<Writing>>,
    /// What is being read.
    fetching: Vec<Arc<Fetch>>,
    /// Bytes of the file by column that were written so far, with what cleaning has moved.
    pub written_of: Vec<u64>,
}

impl Log {
    /// A file without records in `folder`, which is made if need be, of at most `disk` bytes, for
    /// records of `packed` bytes.
    #[cfg(test)]
    pub fn new(
        folder: &Path,
        disk: u64,
        packed: usize,
        reads: Reads,
    ) -> Result<Self, RowFileError> {
        Log::behind_memory(folder, 0, disk, packed, reads)
    }

    /// The same with the newest records in at most `memory` bytes of the host's memory. With `disk` 0
    /// there is no file. It is read as `reads` says.
    pub fn behind_memory(
        folder: &Path,
        memory: u64,
        disk: u64,
        packed: usize,
        reads: Reads,
    ) -> Result<Self, RowFileError> {
        let error = |source| RowFileError::Io { folder: folder.to_owned(), what: "made", source };
        let file = || {
            std::fs::create_dir_all(folder)?;
            Ok((Io::new(reads)?, Arc::new(tempfile::tempfile_in(folder)?)))
        };
        let file = (disk > 0).then(file).transpose().map_err(error)?;
        let record = record_bytes(packed);
        let [memory, disk] = [memory, disk].map(|b| (b / record as u64).min(MOST_RECORDS));
        let disk = disk.min(MOST_RECORDS - memory);
        let least = [memory, disk].into_iter().filter(|&n| n > 0).min().unwrap_or(0);
        let per_segment = (SEGMENT / record as u64).min(least / SEGMENTS).max(1);
        let [in_memory, in_file] = [memory, disk].map(|n| (n / per_segment) as u32);
        Ok(Log {
            file,
            folder: folder.to_owned(),
            record,
            per_segment: per_segment as u32,
            most: in_memory + in_file,
            most_in_file: in_file,
            homes: Homes::new(in_memory as usize),
            segments: Vec::new(),
            free: Vec::new(),
            open: None,
            chunk: Vec::with_capacity(CHUNK + record),
            chunk_start: 0,
            writing: VecDeque::new(),
            fetching: Vec::new(),
            written_of: Vec::new(),
        })
    }

    fn error(&self, what: &'static str) -> impl FnOnce(io::Error) -> RowFileError {
        let folder = self.folder.clone();
        move |source| RowFileError::Io { folder, what, source }
    }

    /// Where in the file a place of a segment is that is there.
    fn at(&self, place: u32) -> u64 {
        let home = self.homes.file(place / self.per_segment);
        let record =
            u64::from(home) * u64::from(self.per_segment) + u64::from(place % self.per_segment);
        record * self.record as u64
    }

    /// Who reads it, if there is one.
    pub fn read_by(&self) -> Option<&ReadBy> {
        self.file.as_ref().map(|(io, _)| &io.by)
    }

    /// Appends a record, which `fill` fills; the place that it has now.
    pub fn append(
        &mut self,
        (column, row): (u32, u32),
        fill: &mut dyn FnMut(&mut [u8]),
        owner: &mut dyn Owner,
    ) -> Result<u32, RowFileError> {
        self.make_room(owner)?;
        self.push((column, row), fill)
    }

    /// Makes sure that the open segment has room.
    fn make_room(&mut self, owner: &mut dyn Owner) -> Result<(), RowFileError> {
        loop {
            let has_room = |s: u32| self.segments[s as usize].used < self.per_segment;
            if self.open.is_some_and(has_room) {
                return Ok(());
            }
            // One is kept to clean into.
            if self.available() > 1 {
                self.take()?;
                return Ok(());
            }
            self.clean(owner)?;
        }
    }

    fn available(&self) -> usize {
        self.free.len() + (self.most as usize - self.segments.len())
    }

    /// Opens a free segment.
    fn take(&mut self) -> Result<(), RowFileError> {
        self.flush()?;
        if let Some(leaving) = self.homes.make_room() {
            self.spill(leaving)?;
        }
        let segment = self.free.pop().unwrap_or_else(|| {
            self.segments.push(Segment::default());
            self.segments.len() as u32 - 1
        });
        self.homes.begin(segment);
        self.open = Some(segment);
        self.chunk_start = segment * self.per_segment;
        Ok(())
    }

    /// Frees the segment with the fewest live records.
    fn clean(&mut self, owner: &mut dyn Owner) -> Result<(), RowFileError> {
        let closed = (0..self.segments.len() as u32).filter(|s| !self.free.contains(s));
        let live = |log: &Log, segment: u32| log.segments[segment as usize].live;
        let victim = closed.min_by_key(|&s| live(self, s));
        let victim = victim.filter(|&s| live(self, s) < self.per_segment);
        let Some(victim) = victim else {
            let bytes = u64::from(self.per_segment * self.most_in_file) * self.record as u64;
            return Err(RowFileError::Full { folder: self.folder.clone(), bytes });
        };
        self.take()?;
        // What is read of it may be late, and what belongs there may not be there yet.
        self.settle()?;
        let start = victim * self.per_segment;
        let per_read = self.per_chunk() as u32;
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < self.per_segment && live(self, victim) > 0 {
            let n = per_read.min(self.per_segment - at);
            match self.homes.memory(victim).map(|chunks| &chunks[(at / per_read) as usize]) {
                Some(chunk) => bytes.clone_from(chunk),
                None => {
                    bytes.resize(n as usize * self.record, 0);
                    let place = self.at(start + at);
                    self.ask("read", |_, file| read_at(file, &mut bytes, place))?;
                }
            }
            for (place, record) in (start + at..).zip(bytes.chunks_exact(self.record)) {
                let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| record[at + i]));
                let (column, row) = (word(4), word(8));
                if owner.is_at(column, row, place) {
                    self.check(record, (column, row))?;
                    let payload = &record[HEADER..];
                    let now = self.push((column, row), &mut |out| out.copy_from_slice(payload))?;
                    owner.moved(column, row, now);
                    self.forget(place);
                }
            }
            at += n;
        }
        self.segments[victim as usize] = Segment::default();
        self.homes.free(victim);
        self.free.push(victim);
        Ok(())
    }

    /// Appends a record to the open segment, which has room.
    fn push(
        &mut self,
        (column, row): (u32, u32),
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<u32, RowFileError> {
        let place = self.chunk_start + (self.chunk.len() / self.record) as u32;
        let at = self.chunk.len();
        self.chunk.resize(at + self.record, 0);
        let record = &mut self.chunk[at..];
        record[4..8].copy_from_slice(&column.to_le_bytes());
        record[8..HEADER].copy_from_slice(&row.to_le_bytes());
        fill(&mut record[HEADER..]);
        seal(record);
        let segment = &mut self.segments[(place / self.per_segment) as usize];
        segment.used += 1;
        segment.live += 1;
        if self.homes.memory(place / self.per_segment).is_none() {
            self.count_written(column);
        }
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(place)
    }

    /// Keeps what has been gathered, or begins to write it.
    fn flush(&mut self) -> Result<(), RowFileError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let room = Vec::with_capacity(self.chunk.capacity());
        let bytes = std::mem::replace(&mut self.chunk, room);
        let start = self.chunk_start;
        self.chunk_start += (bytes.len() / self.record) as u32;
        if let Some(chunks) = self.homes.memory_mut(start / self.per_segment) {
            chunks.push(bytes.into_boxed_slice().into_vec());
            return Ok(());
        }
        let offset = self.at(start);
        let writing = self.ask("written", |io, file| {
            Ok(io.write(At { file: Arc::clone(file), offset }, bytes))
        })?;
        self.writing.push_back(writing);
        self.written_but(WRITING)
    }

    /// Waits until no more than so many pieces are on their way.
    fn written_but(&mut self, most: usize) -> Result<(), RowFileError> {
        while let Some(first) = self.writing.front() {
            if self.writing.len() <= most && !first.is_done() {
                break;
            }
            first.wait().map_err(self.error("written"))?;
            self.writing.pop_front();
        }
        Ok(())
    }

    /// Waits for all that is being read and written.
    fn settle(&mut self) -> Result<(), RowFileError> {
        self.fetching.drain(..).for_each(|fetch| fetch.wait());
        self.written_but(0)
    }

    /// Begins to read what was appended for some rows, and is not in memory.
    pub fn fetch(&mut self, places: &[u32]) -> Option<Arc<Fetch>> {
        let (io, file) = self.file.as_ref().filter(|_| !places.is_empty())?;
        let from = |&place: &u32| match self.gathered(place) {
            Some(bytes) => Err(bytes),
            None => Ok(At { file: Arc::clone(file), offset: self.at(place) }),
        };
        let records: Vec<Result<At, &[u8]>> = places.iter().map(from).collect();
        let fetch = io.fetch(self.record, &records);
        self.fetching.retain(|fetch| Arc::strong_count(fetch) > 1);
        self.fetching.push(Arc::clone(&fetch));
        Some(fetch)
    }

    /// Copies record number `n` of those out, once they have been waited for.
    pub fn fetched<'a>(
        &self,
        fetch: &Fetch,
        n: usize,
        (column, row): (u32, u32),
        record: &'a mut Vec<u8>,
    ) -> Result<&'a mut [u8], RowFileError> {
        record.resize(self.record, 0);
        fetch.copy(n, record).map_err(self.error("read"))?;
        self.check(record, (column, row))?;
        Ok(&mut record[HEADER..])
    }

    /// Bytes of a record.
    pub fn record(&self) -> u64 {
        self.record as u64
    }

    /// The record at `place` is not needed any more.
    pub fn forget(&mut self, place: u32) {
        self.segments[(place / self.per_segment) as usize].live -= 1;
    }

    /// A record that is not written yet.
    fn gathered(&self, place: u32) -> Option<&[u8]> {
        let at = place.checked_sub(self.chunk_start).map(|n| n as usize * self.record);
        let open = at.and_then(|at| self.chunk.get(at..at + self.record));
        if let Some(record) = open.or_else(|| self.kept(place)) {
            return Some(record);
        }
        let offset = self.at(place);
        let of = |start: u64, bytes| -> Option<&[u8]> {
            let bytes: &[u8] = bytes;
            let at = offset.checked_sub(start).filter(|&at| at < bytes.len() as u64)? as usize;
            Some(&bytes[at..at + self.record])
        };
        let mut writing = self.writing.iter().map(|w| (w.to.offset, &w.bytes[..]));
        writing.find_map(|(start, bytes)| of(start, bytes))
    }

    /// Reads what was appended for a row. `record` is room for it.
    pub fn read<'a>(
        &self,
        place: u32,
        (column, row): (u32, u32),
        record: &'a mut Vec<u8>,
    ) -> Result<&'a mut [u8], RowFileError> {
        record.resize(self.record, 0);
        match self.gathered(place) {
            Some(bytes) => record.copy_from_slice(bytes),
            None => {
                let at = self.at(place);
                self.ask("read", |_, file| read_at(file, record, at))?;
            }
        }
        self.check(record, (column, row))?;
        Ok(&mut record[HEADER..])
    }

    /// Changes what was appended for a row, where it is.
    pub fn rewrite(
        &mut self,
        place: u32,
        (column, row): (u32, u32),
        change: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), RowFileError> {
        self.settle()?;
        let mut record = Vec::new();
        change(self.read(place, (column, row), &mut record)?);
        seal(&mut record);
        match place.checked_sub(self.chunk_start).map(|n| n as usize * self.record) {
            Some(at) if at < self.chunk.len() => {
                self.chunk[at..at + self.record].copy_from_slice(&record);
            }
            _ => {
                if let Some(kept) = self.kept_mut(place) {
                    kept.copy_from_slice(&record);
                    return Ok(());
                }
                let at = self.at(place);
                self.ask("written", |_, file| write_at(file, &record, at))?;
            }
        }
        Ok(())
    }

    /// Refuses a record that is not that of a row.
    fn check(&self, record: &[u8], (column, row): (u32, u32)) -> Result<(), RowFileError> {
        let of = [column, row].map(u32::to_le_bytes).concat();
        if record[4..HEADER] == of && record[..4] == checksum(record) {
            return Ok(());
        }
        Err(RowFileError::Damaged { folder: self.folder.clone(), column, row })
    }

    /// Bytes of all segments that there are.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        u64::from(self.per_segment) * self.segments.len() as u64 * self.record as u64
    }

    /// The file, to damage it.
    #[cfg(test)]
    pub fn file(&mut self) -> &std::fs::File {
        self.settle().unwrap();
        &self.file.as_ref().unwrap().1
    }
}

fn checksum(record: &[u8]) -> [u8; 4] {
    (XxHash64::oneshot(0, &record[4..]) as u32).to_le_bytes()
}

fn seal(record: &mut [u8]) {
    let sum = checksum(record);
    record[..4].copy_from_slice(&sum);
}
