//! Where embedding rows live, so far in the host's memory; and which keys have one.

pub mod hashed;
mod quantised;
mod rows;
mod set;
pub(crate) mod sixteen;
mod table;

pub use quantised::{QuantisedRows, QuantisedTable};
pub(crate) use rows::RowPointer;
pub use rows::{RowKind, RowTable};
pub use set::{RowWeights, TableSet};
pub use table::{Element, EmbeddingError, Table, tables};
