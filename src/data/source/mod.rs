//! Sources, one file a format.

pub mod bin40;
mod buffered;
pub mod config;
mod counting;
pub mod criteo_tsv;
pub(crate) mod csv;
pub(crate) mod files;
mod hold_out;
mod ids;
pub(crate) mod numpy_random;
mod order;
pub mod parquet;
mod part;
pub mod paths;
mod picked;
pub mod planted;
pub mod prepared;
mod sharded;
#[cfg(test)]
mod testing;

use super::{DataError, Dataset, preprocess::criteo::RECORD, until::until};
use crate::{
    batch::Schema,
    data::{loader::Shard, source::config::DataConfig},
};
pub use numpy_random::DrawOrder;
use prepared::{News, Ready};
use sharded::Sharded;
use std::{collections::HashSet, path::PathBuf, sync::atomic::AtomicBool};

/// What sources are told of a run.
#[derive(Debug, Clone)]
pub struct OpenSettings {
    /// Samples of a training batch.
    pub batch_size: usize,
    /// Seed of the order of training samples.
    pub seed: u64,
    /// Threads that may read.
    pub threads: usize,
    /// The part of the training samples that this process takes; `None` = all.
    pub shards: Option<Shard>,
    /// In which order facebook's random generator draws.
    pub draw: DrawOrder,
}

/// Opens a data set; prepares it first, if it is to be prepared and is not.
///
/// # Errors
/// If a file cannot be read or is malformed, or the data do not fit what is asked for.
pub fn open(config: &DataConfig, settings: &OpenSettings) -> Result<Dataset, DataError> {
    let never = AtomicBool::new(false);
    let ready = prepare(config, settings.threads, &never, &mut |_| ())?;
    open_prepared(config, ready, settings)
}

/// Has data prepared that are to be prepared; `None` for others, and if `stop` was set before it was
/// done.
///
/// # Errors
/// As [`prepared::ready`].
pub fn prepare(
    config: &DataConfig,
    threads: usize,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Option<Ready>, DataError> {
    match config {
        DataConfig::Prepared(c) => prepared::ready(c, threads, stop, tell),
        _ => Ok(None),
    }
}

fn open_prepared(
    config: &DataConfig,
    ready: Option<Ready>,
    settings: &OpenSettings,
) -> Result<Dataset, DataError> {
    let mut data = match (config, ready) {
        (DataConfig::Prepared(c), Some(ready)) => prepared::open(c, ready, settings),
        _ => open_files(config, settings),
    }?;
    if let Some(Shard { shard, of }) = settings.shards {
        data.train = Box::new(Sharded::new(data.train, settings.batch_size, shard, of));
        if data.train.is_empty() {
            return Err(DataError::Invalid(format!(
                "the training split has too few samples for process {shard} of {of} to have one"
            )));
        }
    }
    Ok(data)
}

/// Opens what can be opened as it is.
fn open_files(config: &DataConfig, settings: &OpenSettings) -> Result<Dataset, DataError> {
    match &paths::expanded(config)? {
        DataConfig::Planted(c) => planted::open(c),
        DataConfig::NumpyRandom(c) => numpy_random::open(c, settings.draw, settings.batch_size),
        DataConfig::CriteoTsv(c) => criteo_tsv::open(c),
        DataConfig::Csv(c) => csv::open(c, settings.seed),
        DataConfig::Bin40(c) => bin40::open(c, settings),
        DataConfig::Parquet(c) => parquet::open(c, settings),
        DataConfig::Files(c) => files::open(c, settings),
        DataConfig::Prepared(_) => {
            Err(DataError::Invalid("the data have not been prepared".into()))
        }
    }
}

/// Refuses a file that is named twice, under whatever name.
///
/// # Errors
/// Which it is.
fn once(paths: &[PathBuf]) -> Result<(), DataError> {
    let mut seen = HashSet::new();
    for path in paths {
        // What is not there is said when it is opened.
        if path.canonicalize().is_ok_and(|file| !seen.insert(file)) {
            let path = path.display();
            return Err(DataError::Invalid(format!("{path} is named twice; name each file once")));
        }
    }
    Ok(())
}

/// Opens a data set unless `stop` is set meanwhile: then `None`, at once. Reading goes on behind it
/// until its end, or the program's. `tell` hears of data that are prepared first.
///
/// # Errors
/// As [`open`].
pub fn open_until(
    config: &DataConfig,
    settings: OpenSettings,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Option<Dataset>, DataError> {
    let ready = prepare(config, settings.threads, stop, tell)?;
    if matches!(config, DataConfig::Prepared(_)) && ready.is_none() {
        return Ok(None);
    }
    let config = config.clone();
    until(stop, move || open_prepared(&config, ready, &settings))
}

/// The columns, where they are known before any data is read.
///
/// # Errors
/// If the data do not fit what is asked for.
pub fn schema(config: &DataConfig) -> Result<Option<Schema>, DataError> {
    Ok(match config {
        DataConfig::NumpyRandom(c) => Some(numpy_random::schema(c)),
        DataConfig::Planted(c) => Some(planted::schema(c)?),
        DataConfig::Bin40(c) => c.tables.as_deref().map(bin40::schema),
        DataConfig::Prepared(c) => prepared::schema(c)?,
        DataConfig::CriteoTsv(_)
        | DataConfig::Csv(_)
        | DataConfig::Parquet(_)
        | DataConfig::Files(_) => None,
    })
}

/// Ids that a sample holds in each table on average; before repeated ones are taken out, where a
/// source does that.
pub fn mean_ids(config: &DataConfig, schema: &Schema) -> Vec<f64> {
    let most = schema.tables.iter().map(|t| t.max_hotness as f64);
    match config {
        // The mean of round(max(1, u m)) over u in [0, 1).
        DataConfig::NumpyRandom(c) if !c.fixed_indices => most.map(|m| 0.5 * m + 0.5 / m).collect(),
        _ => most.collect(),
    }
}

/// Samples of the evaluation split, where they are known before any data is read.
pub fn eval_samples(config: &DataConfig) -> Option<u64> {
    match config {
        DataConfig::Planted(c) => Some(c.eval_samples),
        DataConfig::NumpyRandom(c) => Some(c.samples),
        DataConfig::Bin40(c) => {
            Some(std::fs::metadata(&c.eval).map_or(0, |m| m.len() / RECORD as u64))
        }
        DataConfig::Prepared(c) => prepared::eval_samples(c),
        DataConfig::CriteoTsv(_)
        | DataConfig::Csv(_)
        | DataConfig::Parquet(_)
        | DataConfig::Files(_) => None,
    }
}

/// About how many bytes the samples themselves take while a run goes on, judged by the sizes of
/// files that are held in memory.
pub fn resident_bytes(config: &DataConfig) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |m| m.len());
    let packed = |path: &PathBuf| path.extension().is_some_and(|e| e == "gz");
    // Files that are not there are told of when they are opened.
    match &paths::expanded(config).unwrap_or_else(|_| config.clone()) {
        // Files of records are mapped, of others a row group's columns or some rows are held, which
        // is little.
        DataConfig::Planted(_)
        | DataConfig::NumpyRandom(_)
        | DataConfig::Bin40(_)
        | DataConfig::Prepared(_)
        | DataConfig::Parquet(_)
        | DataConfig::Files(_) => 0,
        // A line of 240 bytes becomes 157; gzip makes it 90.
        DataConfig::CriteoTsv(c) => {
            let kept = 1.0 - 0.7 * c.sub_sample_rate;
            c.paths
                .iter()
                .map(|p| (size(p) as f64 * kept * if packed(p) { 1.75 } else { 0.65 }) as u64)
                .sum()
        }
        // Four bytes a field.
        DataConfig::Csv(c) => {
            [&c.train, &c.eval, &c.test].into_iter().flat_map(|paths| &paths.0).map(size).sum()
        }
    }
}
