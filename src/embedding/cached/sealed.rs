//! What the store hands to a checkpoint that refers to its segments: where each row's newest record
//! is, and the files that nobody writes to any more.

use super::{Field, Record, SegmentFile, log};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// All rows at one moment. Segments that it has are never written to again.
#[derive(Debug)]
pub struct SealedRows {
    /// How records lie in the segments.
    pub layout: RecordLayout,
    /// Those that have a row's newest record, by their numbers.
    pub segments: Vec<(u32, Arc<SegmentFile>)>,
    /// Of each column the place of each row's newest record and one, 0 of a row that is what it
    /// began with; `None` where all rows are in memory.
    pub places: Vec<Option<Vec<u32>>>,
}

/// How records lie in segments: place `p` is record `p % per_segment` of segment
/// `p / per_segment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLayout {
    /// What a record holds.
    pub fields: Vec<Field>,
    /// Records of a segment at most.
    pub per_segment: u32,
}

impl RecordLayout {
    /// Bytes of a record in a segment.
    pub fn record_bytes(&self) -> usize {
        log::record_bytes(Record::new(self.fields.clone()).bytes())
    }

    /// What a record of a segment holds, behind its checksum, its column and its row.
    pub fn payload(record: &[u8]) -> Option<&[u8]> {
        record.get(log::HEADER..)
    }
}

/// Rows of a checkpoint, whose segments a store goes on with.
#[derive(Debug)]
pub struct AdoptedRows<'a> {
    /// How records lie in the segments.
    pub layout: &'a RecordLayout,
    /// The segments by their numbers, with the records that they have.
    pub segments: Vec<(u32, Arc<SegmentFile>, u32)>,
    /// Of each column, as in [`SealedRows`].
    pub places: Vec<Option<Vec<u32>>>,
}
