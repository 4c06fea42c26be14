//! Tables larger than memory: rows with their optimizer state in a file, and a cache of some of them
//! in an engine's tables.
//!
//! An engine's table has *slots*, and knows nothing else; which row is in which slot is known here,
//! on the host. A row that has never been changed takes no place in the file: what it begins with is
//! a function of its number. Slots are given and taken in the order of the batches, so neither
//! bits nor counts depend on threads.

mod config;
mod counts;
mod error;
mod homes;
mod io;
mod log;
mod reads;
mod record;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod ring;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "no_ring.rs"]
mod ring;
mod rows;
mod sealed;
mod segment;
mod slots;
#[cfg(test)]
mod tests;
mod threads;

pub(super) use config::resident_columns;
pub use config::{CachedColumn, CachedSpec, CachedStore, RowSizes};
pub use counts::CacheCounts;
pub use error::RowFileError;
pub use reads::{ReadBy, Reads};
pub use record::{Field, Record};
pub use rows::{Resolved, RowStore};
pub use sealed::{AdoptedRows, RecordLayout, SealedRows};
pub use segment::SegmentFile;
pub use slots::{Insert, SLOT_BYTES, Where};
