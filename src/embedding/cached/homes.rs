//! Where the segments of the log are: the newest in the host's memory, as many as there is memory
//! for, and the others in files. A segment that goes to a file keeps its number, so places of records
//! stay what they are.

use std::collections::VecDeque;

/// Where a segment is.
#[derive(Debug)]
enum Home {
    /// Nowhere: it is free.
    Free,
    /// In memory, in chunks of so many records as are gathered at one time; the last may have fewer.
    Memory(Vec<Vec<u8>>),
    /// In a file.
    File,
}

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
    all: Vec<Home>,
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
        match std::mem::replace(&mut self.all[segment as usize], Home::File) {
            Home::Memory(chunks) => Some(Leaving { segment, chunks }),
            Home::Free | Home::File => None,
        }
    }

    /// Begins a segment: in memory, if there is any for it. Whether it is there.
    pub fn begin(&mut self, segment: u32) -> bool {
        if self.all.len() <= segment as usize {
            self.all.resize_with(segment as usize + 1, || Home::Free);
        }
        let there = self.most > 0;
        self.all[segment as usize] = if there {
            self.oldest.push_back(segment);
            Home::Memory(Vec::new())
        } else {
            Home::File
        };
        there
    }

    /// Frees a segment.
    pub fn free(&mut self, segment: u32) {
        self.oldest.retain(|&s| s != segment);
        if let Some(home) = self.all.get_mut(segment as usize) {
            *home = Home::Free;
        }
    }

    /// The chunks of a segment in memory.
    pub fn memory(&self, segment: u32) -> Option<&[Vec<u8>]> {
        match self.all.get(segment as usize) {
            Some(Home::Memory(chunks)) => Some(chunks),
            _ => None,
        }
    }

    /// The same, to change.
    pub fn memory_mut(&mut self, segment: u32) -> Option<&mut Vec<Vec<u8>>> {
        match self.all.get_mut(segment as usize) {
            Some(Home::Memory(chunks)) => Some(chunks),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
