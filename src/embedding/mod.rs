//! Where embedding rows live, in the host's memory or in a file with some of them in memory; and
//! which keys have one.

pub mod cached;
pub mod hashed;
mod quantised;
mod rows;
mod set;
pub(crate) mod sixteen;
mod store;
mod table;
mod table_use;

pub use quantised::{QuantisedRows, QuantisedTable};
pub(crate) use rows::RowPointer;
pub use rows::{RowKind, RowTable};
pub use set::{RowWeights, TableSet};
pub use store::{AutoStore, StoreConfig};
pub use table::{Element, EmbeddingError, Table, tables};
pub use table_use::{Seen, TableUse};
