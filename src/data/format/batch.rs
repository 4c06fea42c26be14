//! A batch as a file.

use super::{
    super::{
        DataError,
        rows::{Hotness, IdColumn, Layout, Numbers, Rows},
    },
    Format, create,
};
use crate::batch::{Batch, Schema};
use std::path::Path;

/// Writes the samples of a batch, with its columns named as in `schema`: dense features as the model
/// reads them, ids as rows of tables.
///
/// # Errors
/// If the file cannot be written.
pub fn write_batch(
    path: &Path,
    format: Format,
    schema: &Schema,
    batch: &Batch,
) -> Result<(), DataError> {
    let hotness = |most| if most <= 1 { Hotness::One } else { Hotness::Any };
    let ids = schema
        .tables
        .iter()
        .map(|t| IdColumn { name: t.name.clone(), hotness: hotness(t.max_hotness) })
        .collect();
    let layout = Layout { ids, ..Layout::numbered(schema.dense, Numbers::Float32, []) };
    let mut file = create(path, format, &layout)?;
    file.write(&Rows {
        labels: batch.labels.clone(),
        dense: batch.dense.iter().map(|&v| f64::from(v)).collect(),
        ids: batch.bags.clone(),
    })?;
    file.finish()
}
