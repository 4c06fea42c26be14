//! How records lie in segments, and what is in one.

use twox_hash::XxHash64;

/// Bytes of a segment, where there is room for many.
const SEGMENT: u64 = 64 << 20;
/// Segments at most; larger ones, if need be. A process may have 1024 files open as a rule, and one that
/// goes on from a checkpoint has those of its segments too.
const MOST_SEGMENTS: u64 = 256;
/// Segments of a file, if they are smaller then.
const SEGMENTS: u64 = 16;
/// Checksum, column, row.
pub(in crate::embedding::cached) const HEADER: usize = 12;
/// Records that the smallest file has room for.
pub(in crate::embedding::cached) const LEAST_RECORDS: u64 = 64;
/// More records have no number.
pub(super) const MOST_RECORDS: u64 = (1 << 31) - 1;

/// Bytes of a record.
pub(in crate::embedding::cached) fn record_bytes(packed: usize) -> usize {
    (HEADER + packed).next_multiple_of(4)
}

/// The most that a file of `rows` rows needs: a quarter of it may be dead.
pub(in crate::embedding::cached) fn file_bytes(rows: u64, packed: usize) -> u64 {
    let all = rows * record_bytes(packed) as u64;
    (all + all / 4 + 4 * SEGMENT.min(all / SEGMENTS)).max(least_bytes(packed))
}

/// The least that a file has.
pub(in crate::embedding::cached) fn least_bytes(packed: usize) -> u64 {
    LEAST_RECORDS * record_bytes(packed) as u64
}

/// Records of a segment, where there may be so many in all.
pub(super) fn per_segment(record: usize, records: u64) -> u64 {
    let many = (SEGMENT / record as u64).max(records.div_ceil(MOST_SEGMENTS));
    many.min(records / SEGMENTS).max(1)
}

pub(super) fn checksum(record: &[u8]) -> [u8; 4] {
    (XxHash64::oneshot(0, &record[4..]) as u32).to_le_bytes()
}

pub(super) fn seal(record: &mut [u8]) {
    let sum = checksum(record);
    record[..4].copy_from_slice(&sum);
}
