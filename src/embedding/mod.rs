//! Where embedding rows live, so far in the host's memory; and files mapped into it.

mod rows;
mod set;
pub(crate) mod sixteen;
mod table;

pub(crate) use rows::RowPointer;
pub use rows::{RowKind, RowTable};
pub use set::{RowWeights, TableSet};
pub use table::{Element, EmbeddingError, Table, tables};
