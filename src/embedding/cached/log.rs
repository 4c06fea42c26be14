//! The row file: a log of records in segments of one size. Records are appended; what replaces one
//! leaves it dead. When the file may not grow any more, the segment with the fewest live records is
//! cleaned: they are appended again, and it is free.
//!
//! Each segment is a file without a name, so nothing is left of it however a run ends, unless a
//! checkpoint refers to it ([`Log::seal`]): then it is not written to any more.
//!
//! Where there is memory for segments ([`Homes`]), the newest are there, and files have those that
//! memory has no room for; if it has room for all, there is no file.

mod layout;
mod sealed;
#[cfg(test)]
mod testing;
mod tier;

pub(super) use layout::{HEADER, LEAST_RECORDS, file_bytes, least_bytes, record_bytes};

use super::{
    error::RowFileError,
    homes::{Homes, Leaving},
    io::{At, Fetch, Io, Writing},
    reads::{ReadBy, Reads},
    segment::SegmentFile,
};
use crate::host::positioned::{read_at, write_at};
use layout::{MOST_RECORDS, checksum, seal};
use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that are gathered before they are written.
const CHUNK: usize = 1 << 20;
/// Pieces of that size that may be on their way to the disk.
const WRITING: usize = 8;

/// Who knows where records are.
pub(super) trait Owner {
    /// Whether what stands at `place` is a row's newest record.
    fn is_at(&self, column: u32, row: u32, place: u32) -> bool;
    /// It is at another place now.
    fn moved(&mut self, column: u32, row: u32, place: u32);
}

#[derive(Debug, Default)]
struct Segment {
    used: u32,
    live: u32,
    /// `None` where there is none yet, or none any more.
    file: Option<Arc<SegmentFile>>,
    /// Whether a checkpoint refers to it.
    sealed: bool,
}

/// The file.
#[derive(Debug)]
pub(super) struct Log {
    /// Who reads and writes files; nobody where all segments have room in memory.
    io: Option<Io>,
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
    /// What is on its way to the file, with the place where it begins, the oldest first.
    writing: VecDeque<(u32, Arc<Writing>)>,
    /// For the next segments.
    spare: Vec<Arc<SegmentFile>>,
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
            Ok((Io::new(reads)?, Arc::new(SegmentFile::new(folder)?)))
        };
        let (io, spare) = (disk > 0).then(file).transpose().map_err(error)?.unzip();
        let record = record_bytes(packed);
        let [memory, disk] = [memory, disk].map(|b| (b / record as u64).min(MOST_RECORDS));
        let disk = disk.min(MOST_RECORDS - memory);
        let least = [memory, disk].into_iter().filter(|&n| n > 0).min().unwrap_or(0);
        let per_segment = layout::per_segment(record, least);
        let [in_memory, in_file] = [memory, disk].map(|n| (n / per_segment) as u32);
        Ok(Log {
            io,
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
            spare: spare.into_iter().collect(),
            fetching: Vec::new(),
            written_of: Vec::new(),
        })
    }

    fn error(&self, what: &'static str) -> impl FnOnce(io::Error) -> RowFileError {
        let folder = self.folder.clone();
        move |source| RowFileError::Io { folder, what, source }
    }

    fn bytes_of(&self, records: u32) -> u64 {
        u64::from(records) * self.record as u64
    }

    /// Where the record at `place` is.
    fn place(&self, place: u32) -> Result<At, RowFileError> {
        let (segment, n) = (place / self.per_segment, place % self.per_segment);
        let file = self.segments.get(segment as usize).and_then(|s| s.file.as_ref());
        let none = || self.error("read")(io::ErrorKind::NotFound.into());
        let file = Arc::clone(file.ok_or_else(none)?.file());
        Ok(At { file, offset: self.bytes_of(n) })
    }

    /// Who reads it, if there is one.
    pub fn read_by(&self) -> Option<&ReadBy> {
        self.io.as_ref().map(|io| &io.by)
    }

    /// Gives a segment a file, if it has none.
    fn give_file(&mut self, segment: u32) -> Result<(), RowFileError> {
        if self.segments[segment as usize].file.is_none() {
            let file = match self.spare.pop() {
                Some(file) => file,
                None => Arc::new(SegmentFile::new(&self.folder).map_err(self.error("made"))?),
            };
            self.segments[segment as usize].file = Some(file);
        }
        Ok(())
    }

    /// Begins to write bytes whose first record has a place.
    fn begin_to_write(&mut self, start: u32, bytes: Vec<u8>) -> Result<(), RowFileError> {
        let to = self.place(start)?;
        let io = self.io.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into());
        let writing = io.map(|io| io.write(to, bytes)).map_err(self.error("written"))?;
        self.writing.push_back((start, writing));
        Ok(())
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
        if !self.homes.begin(segment) {
            self.give_file(segment)?;
        }
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
            let bytes = self.bytes_of(self.per_segment * self.most_in_file);
            return Err(RowFileError::Full { folder: self.folder.clone(), bytes });
        };
        self.take()?;
        // What is read of it may be late, and what belongs there may not be there yet.
        self.settle()?;
        let start = victim * self.per_segment;
        let per_read = self.per_chunk() as u32;
        let mut bytes = Vec::new();
        let (mut at, used) = (0, self.segments[victim as usize].used);
        while at < used && live(self, victim) > 0 {
            let n = per_read.min(used - at);
            match self.homes.memory(victim).map(|chunks| &chunks[(at / per_read) as usize]) {
                Some(chunk) => bytes.clone_from(chunk),
                None => {
                    bytes.resize(n as usize * self.record, 0);
                    let At { file, offset } = self.place(start + at)?;
                    read_at(&file, &mut bytes, offset).map_err(self.error("read"))?;
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
        // What a checkpoint refers to is left to it.
        let segment = std::mem::take(&mut self.segments[victim as usize]);
        self.spare.extend(segment.file.filter(|_| !segment.sealed));
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
        let (start, n) = (self.chunk_start, bytes.len());
        self.chunk_start += (n / self.record) as u32;
        if let Some(chunks) = self.homes.memory_mut(start / self.per_segment) {
            chunks.push(bytes.into_boxed_slice().into_vec());
            return Ok(());
        }
        self.begin_to_write(start, bytes)?;
        self.written_but(WRITING)
    }

    /// Waits until no more than so many pieces are on their way.
    fn written_but(&mut self, most: usize) -> Result<(), RowFileError> {
        while let Some((_, first)) = self.writing.front() {
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
    ///
    /// # Errors
    /// If there is no such place.
    pub fn fetch(&mut self, places: &[u32]) -> Result<Option<Arc<Fetch>>, RowFileError> {
        let Some(io) = self.io.as_ref().filter(|_| !places.is_empty()) else { return Ok(None) };
        let from = |&place: &u32| match self.gathered(place) {
            Some(bytes) => Ok(Err(bytes)),
            None => self.place(place).map(Ok),
        };
        let records: Vec<Result<At, &[u8]>> = places.iter().map(from).collect::<Result<_, _>>()?;
        let fetch = io.fetch(self.record, &records);
        self.fetching.retain(|fetch| Arc::strong_count(fetch) > 1);
        self.fetching.push(Arc::clone(&fetch));
        Ok(Some(fetch))
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
        let of = |start: u32, bytes| -> Option<&[u8]> {
            let bytes: &[u8] = bytes;
            let at = place.checked_sub(start)? as usize * self.record;
            bytes.get(at..at + self.record)
        };
        let mut writing = self.writing.iter().map(|(start, w)| (*start, &w.bytes[..]));
        let open = of(self.chunk_start, &self.chunk);
        open.or_else(|| self.kept(place))
            .or_else(|| writing.find_map(|(start, bytes)| of(start, bytes)))
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
                let At { file, offset } = self.place(place)?;
                read_at(&file, record, offset).map_err(self.error("read"))?;
            }
        }
        self.check(record, (column, row))?;
        Ok(&mut record[HEADER..])
    }

    /// Changes what was appended for a row, where it is: no checkpoint refers to it.
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
                let At { file, offset } = self.place(place)?;
                write_at(&file, &record, offset).map_err(self.error("written"))?;
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
}
