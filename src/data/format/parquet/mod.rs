//! Parquet: a column a feature, as OneFlow (`label`, `I1`..`I13`, `C1`..`C26`), FuxiCTR and anybody
//! else have it.
//!
//! Read: label, dense columns and ids may be of any type of numbers, ids also lists of whole
//! numbers; what is null is missing. Written: the label as FLOAT, dense columns as INT32, FLOAT or
//! DOUBLE by what they hold, ids as INT64, or lists of it.

mod chunk;
mod column;
mod open;
mod pages;
mod read;
mod shards;
mod shared;
mod survey;
mod table;
mod write;

pub use read::ParquetReader;
pub(in crate::data) use shards::{NONE, gaps};
pub use shards::{Shards, files_of, is_parquet};
pub use survey::survey;
pub use table::{Part, Table};
pub use write::ParquetWriter;

#[cfg(test)]
mod tests;
