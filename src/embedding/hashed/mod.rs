//! Tables that grow: rows of keys that training has met, made at the first sight of each.
//!
//! Keys become *slots* before an engine sees a batch. An engine's table has rows for as many keys as
//! there may be, and knows only slots; which key has which is known here, on the host. Slots are
//! given in the order of the batches, so no bit depends on threads. What is done to a key follows
//! DeepRec's EmbeddingVariable (DeepRec-AI/DeepRec: core/framework/embedding).

mod bloom;
mod config;
mod filter;
mod saved;
mod slots;
mod table;
#[cfg(test)]
mod tests;

pub use bloom::Bloom;
pub use config::{FilterConfig, HashedColumn, HashedConfig, HashedSpec, HashedStore};
pub use saved::SavedTable;
pub use slots::KEY_BYTES;
pub use table::{Changes, Full, HashedTable, TableCounts};
