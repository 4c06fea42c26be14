//! What a sample is: dense columns, categorical columns, a label.

use serde::Serialize;

/// The columns of a data set, in the order in which the model reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schema {
    /// Number of dense (numeric) columns; may be 0.
    pub dense: usize,
    /// One entry a categorical column.
    pub tables: Vec<Column>,
}

/// One categorical column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Name as in the data (`C1`, `user`, ...).
    pub name: String,
    /// Number of distinct ids: every index is below it.
    pub rows: usize,
    /// The most ids that one sample can hold in this column (1 = one-hot).
    pub max_hotness: usize,
}

impl Schema {
    /// The most ids that one sample can hold over all columns.
    pub fn max_ids_per_sample(&self) -> usize {
        self.tables.iter().map(|t| t.max_hotness).sum()
    }
}
