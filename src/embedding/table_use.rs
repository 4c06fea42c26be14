//! What the tables of a column have seen, as runs tell of it.

use super::{cached::CacheCounts, hashed::TableCounts};
use serde::{Deserialize, Serialize};
use std::iter::Sum;

/// What the tables of one column have seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableUse {
    /// Name of the column.
    pub column: String,
    /// What they have seen.
    #[serde(flatten)]
    pub seen: Seen,
}

/// By where rows live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seen {
    /// In a file, some of them in memory.
    Cached(CacheCounts),
    /// In tables that grow.
    Grown(TableCounts),
}

impl TableUse {
    /// Of tables that grow.
    pub fn grown(&self) -> Option<&TableCounts> {
        match &self.seen {
            Seen::Grown(counts) => Some(counts),
            Seen::Cached(_) => None,
        }
    }

    /// Of tables that are cached.
    pub fn cached(&self) -> Option<&CacheCounts> {
        match &self.seen {
            Seen::Cached(counts) => Some(counts),
            Seen::Grown(_) => None,
        }
    }
}

/// Sums of all tables that grow.
impl<'a> Sum<&'a TableUse> for TableCounts {
    fn sum<I: Iterator<Item = &'a TableUse>>(tables: I) -> Self {
        let grown = tables.filter_map(TableUse::grown);
        grown.fold(TableCounts::default(), |sum, c| TableCounts {
            rows: sum.rows + c.rows,
            admitted: sum.admitted + c.admitted,
            filtered: sum.filtered + c.filtered,
            evicted: sum.evicted + c.evicted,
            waiting: sum.waiting + c.waiting,
        })
    }
}

/// Sums of all tables that are cached.
impl<'a> Sum<&'a TableUse> for CacheCounts {
    fn sum<I: Iterator<Item = &'a TableUse>>(tables: I) -> Self {
        let cached = tables.filter_map(TableUse::cached);
        cached.fold(CacheCounts::default(), |sum, c| CacheCounts {
            slots: sum.slots + c.slots,
            hits: sum.hits + c.hits,
            misses: sum.misses + c.misses,
            reads: sum.reads + c.reads,
            host_reads: sum.host_reads + c.host_reads,
            bytes_read: sum.bytes_read + c.bytes_read,
            bytes_written: sum.bytes_written + c.bytes_written,
        })
    }
}
