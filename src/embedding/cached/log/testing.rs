//! What tests ask of the file.

use super::{At, Log};
use std::{fs::File, sync::Arc};

impl Log {
    /// Bytes of all segments that there are.
    pub fn bytes(&self) -> u64 {
        self.bytes_of(self.per_segment * self.segments.len() as u32)
    }

    /// Bytes that segments in files may take.
    pub fn bytes_in_files(&self) -> u64 {
        let in_files = self.segments.iter().filter(|s| s.file.is_some()).count() + self.spare.len();
        self.bytes_of(self.per_segment * in_files as u32)
    }

    /// Where a record is in a file, to damage it.
    pub fn in_file(&mut self, place: u32) -> (Arc<File>, u64) {
        self.flush().unwrap();
        self.settle().unwrap();
        let At { file, offset } = self.place(place).unwrap();
        (file, offset)
    }
}
