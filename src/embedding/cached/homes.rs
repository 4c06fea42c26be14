//! Where the segments of the log are: the newest in the host's memory, as many as there is memory
//! for, and the others in the file. A segment that goes to the file keeps its number, so places of
//! records stay what they are.

use std::collections::VecDeque;

/// Where a segment is.
#[derive(Debug)]
enum Home {
    /// Nowhere: it is free.
    Free,
    /// In memory, in chunks of so many records as are gathered at one time; the last may have fewer.
    Memory(Vec<Vec<u8>>),
    /// In the file, in a place of its size.
    File(u32),
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
    /// Places of the file that nothing is in, below those that were never taken.
    free: Vec<u32>,
    taken: u32,
}

impl Homes {
    /// None yet. With `most` 0 all will be in the file.
    pub fn new(most: usize) -> Self {
        Homes { most, all: Vec::new(), oldest: VecDeque::new(), free: Vec::new(), taken: 0 }
    }

    /// Takes the oldest segment out of memory if there is no room for another one. It is in the file
    /// from now on, where its chunks are to be written.
    pub fn make_room(&mut self) -> Option<Leaving> {
        if self.most == 0 || self.oldest.len() < self.most {
            return None;
        }
        let segment = self.oldest.pop_front()?;
        let place = self.place();
        match std::mem::replace(&mut self.all[segment as usize], Home::File(place)) {
            Home::Memory(chunks) => Some(Leaving { segment, chunks }),
            Home::Free | Home::File(_) => None,
        }
    }

    /// Begins a segment: in memory, if there is any for it.
    pub fn begin(&mut self, segment: u32) {
        if self.all.len() <= segment as usize {
            self.all.resize_with(segment as usize + 1, || Home::Free);
        }
        self.all[segment as usize] = if self.most == 0 {
            Home::File(self.place())
        } else {
            self.oldest.push_back(segment);
            Home::Memory(Vec::new())
        };
    }

    fn place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.taken += 1;
            self.taken - 1
        })
    }

    /// Frees a segment; the chunks of one in memory.
    pub fn free(&mut self, segment: u32) -> Vec<Vec<u8>> {
        self.oldest.retain(|&s| s != segment);
        match std::mem::replace(&mut self.all[segment as usize], Home::Free) {
            Home::Free => Vec::new(),
            Home::Memory(chunks) => chunks,
            Home::File(place) => {
                self.free.push(place);
                Vec::new()
            }
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

    /// The place of a segment in the file; that of one in memory is none, and never asked for.
    pub fn file(&self, segment: u32) -> u32 {
        match self.all.get(segment as usize) {
            Some(Home::File(place)) => *place,
            _ => u32::MAX,
        }
    }
}

#[cfg(test)]
mod tests;
