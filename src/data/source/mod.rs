//! Sources, one file a format.

pub mod criteo_tsv;
pub mod csv;
pub mod numpy_random;
pub mod planted;

use super::{DataError, Dataset, Schema};
use crate::workload::{DataConfig, Workload};

/// Opens the data of a workload.
///
/// # Errors
/// If a file cannot be read or is malformed, or the data do not fit what the workload asks for.
pub fn open(workload: &Workload) -> Result<Dataset, DataError> {
    match &workload.data {
        DataConfig::Planted(c) => planted::open(c),
        DataConfig::NumpyRandom(c) => numpy_random::open(c, &workload.workload.quirks, workload.train.batch_size),
        DataConfig::CriteoTsv(c) => criteo_tsv::open(c),
        DataConfig::Csv(c) => csv::open(c, workload.train.seed),
    }
}

/// The columns, where they are known before any data is read.
///
/// # Errors
/// If the data do not fit what the workload asks for.
pub fn schema(workload: &Workload) -> Result<Option<Schema>, DataError> {
    Ok(match &workload.data {
        DataConfig::NumpyRandom(c) => Some(numpy_random::schema(c)),
        DataConfig::Planted(c) => Some(planted::schema(c)?),
        DataConfig::CriteoTsv(_) | DataConfig::Csv(_) => None,
    })
}
