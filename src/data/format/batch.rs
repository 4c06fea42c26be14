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
    let of_tables = || schema.tables.iter().map(|t| hotness(t.max_hotness));
    let numbered = Layout::numbered(schema.dense, Numbers::Float32, of_tables());
    let named = schema.tables.iter().zip(of_tables());
    let ids = named.map(|(t, hotness)| IdColumn { name: t.name.clone(), hotness }).collect();
    let named = Layout { ids, ..numbered.clone() };
    // A column may have the name that is given to a dense one.
    let layout = if named.check_names(path).is_ok() { named } else { numbered };
    let mut file = create(path, format, &layout)?;
    file.write(&Rows {
        labels: batch.labels.clone(),
        dense: batch.dense.iter().map(|&v| f64::from(v)).collect(),
        ids: batch.bags.clone(),
    })?;
    file.finish()
}
