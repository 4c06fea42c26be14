//! The log's segments in memory, and how they go to the file.

use super::{CHUNK, Leaving, Log, RowFileError, WRITING};

impl Log {
    /// Records that are gathered at one time.
    pub(super) fn per_chunk(&self) -> usize {
        CHUNK.div_ceil(self.record)
    }

    /// Whether what was appended is in memory, where there is memory for segments.
    pub fn in_memory(&self, place: u32) -> bool {
        self.homes.memory(place / self.per_segment).is_some()
    }

    /// Which chunk of its segment a record is in, and its bytes there.
    fn within(&self, place: u32) -> (u32, usize, std::ops::Range<usize>) {
        let (segment, n) = (place / self.per_segment, (place % self.per_segment) as usize);
        let at = n % self.per_chunk() * self.record;
        (segment, n / self.per_chunk(), at..at + self.record)
    }

    /// A record in memory that is not being gathered any more.
    pub(super) fn kept(&self, place: u32) -> Option<&[u8]> {
        let (segment, chunk, bytes) = self.within(place);
        self.homes.memory(segment)?.get(chunk)?.get(bytes)
    }

    /// The same, to change.
    pub(super) fn kept_mut(&mut self, place: u32) -> Option<&mut [u8]> {
        let (segment, chunk, bytes) = self.within(place);
        self.homes.memory_mut(segment)?.get_mut(chunk)?.get_mut(bytes)
    }

    /// Writes a segment to the file that memory has no room for.
    pub(super) fn spill(
        &mut self,
        Leaving { segment, chunks }: Leaving,
    ) -> Result<(), RowFileError> {
        self.give_file(segment)?;
        let mut place = segment * self.per_segment;
        for bytes in chunks {
            for record in bytes.chunks_exact(self.record) {
                self.count_written(u32::from_le_bytes([4, 5, 6, 7].map(|at| record[at])));
            }
            let (start, n) = (place, bytes.len() / self.record);
            place += n as u32;
            self.begin_to_write(start, bytes)?;
            self.written_but(WRITING)?;
        }
        Ok(())
    }

    /// Counts a record of a column that goes to the file.
    pub(super) fn count_written(&mut self, column: u32) {
        if self.written_of.len() <= column as usize {
            self.written_of.resize(column as usize + 1, 0);
        }
        self.written_of[column as usize] += self.record as u64;
    }
}
