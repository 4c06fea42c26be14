//! Whether a batch fits a model. Sources make batches that do; this is for the ones that do not,
//! before a kernel reads past an end.

use super::{EngineConfig, EngineError};
use crate::{
    batch::{Batch, GeneratedLog},
    model::ModelSpec,
};

/// Checks sizes, offsets and ids of `batch` against the model and the buffers of `config`;
/// allocates nothing unless it fails.
///
/// # Errors
/// [`EngineError::Shape`], naming the table and the sample at fault.
pub(crate) fn check_batch(config: &EngineConfig, batch: &Batch) -> Result<(), EngineError> {
    let (tables, dense) = columns(config);
    let n = batch.len;
    check_len(config, n)?;
    if batch.dense.len() != n * dense {
        return shape(format!(
            "{} dense values for {n} samples of {dense} columns",
            batch.dense.len()
        ));
    }
    if batch.labels.len() != n {
        return shape(format!("{} labels for {n} samples", batch.labels.len()));
    }
    if batch.bags.len() != tables.len() {
        return shape(format!(
            "{} categorical columns; the model has {} tables",
            batch.bags.len(),
            tables.len()
        ));
    }
    for (k, (bags, &rows)) in batch.bags.iter().zip(tables).enumerate() {
        let (offsets, ids) = (&bags.offsets, &bags.indices);
        let spans = offsets.len() == n + 1
            && offsets[0] == 0
            && offsets[n] as usize == ids.len()
            && ascending(offsets);
        if !spans {
            return shape(format!(
                "table {k}: the {} offsets do not cut {} ids into {n} bags",
                offsets.len(),
                ids.len()
            ));
        }
        let hotness = config.max_hotness[k];
        if ids.len() > n * hotness {
            return shape(format!(
                "table {k}: {} ids in {n} samples of at most {hotness}",
                ids.len()
            ));
        }
        // The largest first: that is a loop without a branch, and nearly always all there is to do.
        let largest = ids.iter().fold(0, |a, &b| a.max(b)) as usize;
        if largest >= rows
            && let Some(at) = ids.iter().position(|&id| id as usize >= rows)
        {
            let sample = offsets.partition_point(|&o| o as usize <= at) - 1;
            return shape(format!(
                "table {k}, sample {sample}: id {} in a table of {rows} rows",
                ids[at]
            ));
        }
    }
    Ok(())
}

/// Checks the number of samples of a batch.
///
/// # Errors
/// [`EngineError::Shape`].
pub(crate) fn check_len(config: &EngineConfig, n: usize) -> Result<(), EngineError> {
    if n == 0 || n > config.max_batch {
        return shape(format!("{n} samples; the engine takes 1 to {}", config.max_batch));
    }
    Ok(())
}

/// Checks that all samples of a log fit the model and the buffers of `config`.
///
/// # Errors
/// [`EngineError::Shape`], naming the column at fault.
pub(crate) fn check_log(config: &EngineConfig, log: &GeneratedLog) -> Result<(), EngineError> {
    let (tables, dense) = columns(config);
    if log.columns.len() != tables.len() {
        return shape(format!(
            "{} categorical columns; the model has {} tables",
            log.columns.len(),
            tables.len()
        ));
    }
    if log.dense.len() != dense {
        return shape(format!("{} dense columns; the model has {dense}", log.dense.len()));
    }
    for (k, (column, &rows)) in log.columns.iter().zip(tables).enumerate() {
        let ids = column.base as usize + column.values as usize;
        if ids > rows {
            return shape(format!("table {k}: {ids} ids in a table of {rows} rows"));
        }
        if column.hotness as usize > config.max_hotness[k] {
            return shape(format!(
                "table {k}: {} ids in samples of at most {}",
                column.hotness, config.max_hotness[k]
            ));
        }
    }
    Ok(())
}

/// Rows of the model's tables, and its dense columns.
fn columns(config: &EngineConfig) -> (&[usize], usize) {
    match &config.model {
        ModelSpec::Dlrm(m) => (&m.tables, m.dense),
        ModelSpec::DeepFm(m) => (&m.tables, m.dense),
    }
}

/// Whether no number is below the one before it.
fn ascending(x: &[u32]) -> bool {
    x.iter().zip(&x[1..]).fold(true, |so_far, (a, b)| so_far & (a <= b))
}

fn shape(what: String) -> Result<(), EngineError> {
    Err(EngineError::Shape(what))
}
