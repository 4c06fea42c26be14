//! Segments that a checkpoint refers to: they are handed out, and taken up again.

use super::{Log, Segment};
use crate::embedding::cached::{AdoptedRows, RowFileError, SegmentFile};
use std::sync::Arc;

impl Log {
    /// Whether a checkpoint refers to what is at `place`, so that it must stay.
    pub fn is_sealed(&self, place: u32) -> bool {
        self.segments[(place / self.per_segment) as usize].sealed
    }

    /// Closes the present segment, and brings to the file what is on its way. The numbers and files
    /// of the segments with live records: these are not written to any more.
    pub fn seal(&mut self) -> Result<Vec<(u32, Arc<SegmentFile>)>, RowFileError> {
        self.flush()?;
        self.settle()?;
        // One without records stays open.
        self.open = self.open.filter(|&s| self.segments[s as usize].used == 0);
        let mut sealed = Vec::new();
        for (number, segment) in (0..).zip(&mut self.segments).filter(|(_, s)| s.live > 0) {
            segment.sealed = true;
            sealed.extend(segment.file.clone().map(|file| (number, file)));
        }
        Ok(sealed)
    }

    /// Records of a segment at most.
    pub fn per_segment(&self) -> u32 {
        self.per_segment
    }

    /// Goes on with the segments of a checkpoint, of which no record is live yet. `false` if they
    /// are laid out in another way, or too many; nothing has been appended so far.
    pub fn adopt(&mut self, rows: &AdoptedRows<'_>) -> bool {
        let numbers = rows.segments.iter().map(|(number, ..)| *number);
        let count = numbers.max().map_or(0, |n| n + 1);
        // One is kept to clean into, and one is appended to.
        let fits = rows.layout.record_bytes() == self.record
            && rows.layout.per_segment == self.per_segment
            && rows.segments.len() + 2 <= self.most as usize
            && count <= self.most;
        if !fits || !self.segments.is_empty() {
            return false;
        }
        self.segments.resize_with(count as usize, Segment::default);
        for (number, file, used) in &rows.segments {
            let file = Some(Arc::clone(file));
            self.segments[*number as usize] = Segment { used: *used, live: 0, file, sealed: true };
        }
        let free = (0..).zip(&self.segments).filter(|(_, s)| s.file.is_none());
        self.free = free.map(|(number, _)| number).collect();
        true
    }

    /// The record at `place` is a row's newest.
    pub fn remember(&mut self, place: u32) {
        self.segments[(place / self.per_segment) as usize].live += 1;
    }
}
