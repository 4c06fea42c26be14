//! Where embedding rows live. So far: in the host's memory.

mod rows;
mod set;
pub(crate) mod sixteen;
mod table;

pub(crate) use rows::RowPointer;
pub use rows::{RowKind, RowTable};
pub use set::{RowWeights, TableSet};
pub use table::{Element, EmbeddingError, Table, tables};
