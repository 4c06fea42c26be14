//! Where embedding rows live. So far: in the host's memory.

mod set;
mod table;

pub use set::{RowWeights, TableSet};
pub use table::{EmbeddingError, Table, tables};
