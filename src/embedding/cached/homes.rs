//! Which segments of the log are in the host's memory: the newest, as many as there is memory for. The
//! others are in files. A segment that goes to a file keeps its number, so places of records
//! stay what they are.

use std::collections::VecDeque;

/// A segment that has to go to the file.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Which.
    pub segment: u32,
    /// What is in it.
    pub chunks: Vec<Vec<u8>>,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Homes {
    /// Segments in memory at most.
    most: usize,
    /// By number: chunks of so many records as are gathered at one time, the last may have fewer;
    /// `None` of one that is in a file, or free.
    all: Vec<Option<Vec<Vec<u8>>>>,
    /// Those in memory, the oldest first.
    oldest: VecDeque<u32>,
}

impl Homes {
    /// None yet. With `most` 0 all will be in files.
    pub fn new(most: usize) -> Self {
        Homes { most, all: Vec::new(), oldest: VecDeque::new() }
    }

    /// Takes the oldest segment out of memory if there is no room for another one. It is in the file
    /// from now on, where its chunks are to be written.
    pub fn make_room(&mut self) -> Option<Leaving> {
        if self.most == 0 || self.oldest.len() < self.most {
            return None;
        }
        let segment = self.oldest.pop_front()?;
        let chunks = self.all[segment as usize].take()?;
        Some(Leaving { segment, chunks })
    }

    /// Begins a segment: in memory, if there is any for it. Whether it is there.
    pub fn begin(&mut self, segment: u32) -> bool {
        if self.most == 0 {
            return false;
        }
        if self.all.len() <= segment as usize {
            self.all.resize_with(segment as usize + 1, || None);
        }
        self.all[segment as usize] = Some(Vec::new());
        self.oldest.push_back(segment);
        true
    }

    /// Frees a segment.
    pub fn free(&mut self, segment: u32) {
        self.oldest.retain(|&s| s != segment);
        if let Some(chunks) = self.all.get_mut(segment as usize) {
            *chunks = None;
        }
    }

    /// The chunks of a segment in memory.
    pub fn memory(&self, segment: u32) -> Option<&[Vec<u8>]> {
        self.all.get(segment as usize)?.as_deref()
    }

    /// The same, to change.
    pub fn memory_mut(&mut self, segment: u32) -> Option<&mut Vec<Vec<u8>>> {
        self.all.get_mut(segment as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests;
