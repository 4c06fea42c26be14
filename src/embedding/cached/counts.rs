//! What a cache has seen.

use serde::{Deserialize, Serialize};

/// What the cache of one column has seen since the program began to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheCounts {
    /// Rows that there is memory for.
    pub slots: u64,
    /// Ids of training batches whose row was in memory, or was brought for one before them in the
    /// batch.
    pub hits: u64,
    /// Ids whose row was not.
    pub misses: u64,
    /// Those of them whose row the file had; the others were what they began with, or in the host's
    /// memory.
    pub reads: u64,
    /// Those whose row the host's memory had, behind a GPU's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_reads: u64,
    /// Bytes of the file that were read, for evaluations too.
    pub bytes_read: u64,
    /// Bytes that were written, those that cleaning moved included.
    pub bytes_written: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl CacheCounts {
    /// The share of ids whose row was in memory, if there was any.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }
}
