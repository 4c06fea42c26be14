//! Raw logs that the first run makes into files, as an original program does
//! ([`prepare`](super::super::preprocess::prepare)), and that later runs find made.
//!
//! Training reads these files through the source of their format, so that memory holds none of the
//! log. They lie in a folder whose name follows from the recipe, its settings and the log
//! (`cache.rs`); a manifest tells what they are, and every file is compared with its checksum there
//! unless it is as it was when that was done last (`checked.rs`).

mod cache;
mod checked;
mod files;
mod ready;

pub use ready::{Begins, News, Outlook, Ready, outlook, ready};

use super::{OpenSettings, part::Part};
use crate::{
    batch::Schema,
    data::{
        DataError, Dataset,
        preprocess::prepare::{Evaluation, Files},
        source::config::{DataConfig, PreparedConfig},
    },
    random::numpy::RandomState,
};
use std::path::PathBuf;

/// Opens data that are [`ready`].
///
/// # Errors
/// As the source of their format.
pub fn open(
    config: &PreparedConfig,
    ready: Ready,
    settings: &OpenSettings,
) -> Result<Dataset, DataError> {
    let mut data =
        super::open_files(&files::of(config, &ready.folder, &ready.manifest)?, settings)?;
    if config.recipe.reading().evaluation == Evaluation::Halves {
        data = halved(data);
    }
    if goes_on_from_numpy(config) {
        // facebook's program draws nothing from files that are there: its model has the generator
        // as it is seeded.
        data.numpy = Some(RandomState::new(config.parameters.seed));
    }
    data.facts.skipped_lines = ready.manifest.skipped_lines;
    data.facts.notes.insert(0, ready.sentence());
    data.facts.prepared = Some(ready.facts(config));
    Ok(data)
}

/// The last day, which is the evaluation split and the test split alike: its first half, rounded up,
/// and the rest (MLPerf's validation split, torchrec_dlrm).
fn halved(data: Dataset) -> Dataset {
    let all = data.eval.len().unwrap_or(0);
    let middle = all.div_ceil(2);
    let rest = data.test.filter(|_| middle < all);
    Dataset {
        eval: Box::new(Part::of(data.eval, 0..middle)),
        test: rest.map(|test| Box::new(Part::of(test, middle..all)) as _),
        ..data
    }
}

/// Whether a model's initial values can go on from the generator of these data, as facebook's
/// program has it.
pub fn goes_on_from_numpy(config: &PreparedConfig) -> bool {
    matches!(config.recipe.reading().files, Files::Records)
}

/// The columns, where the files are there and tell them. What is wrong with the log is said when
/// the data are opened.
///
/// # Errors
/// As the source of the files.
pub fn schema(config: &PreparedConfig) -> Result<Option<Schema>, DataError> {
    match source(config) {
        Some(files) => super::schema(&files),
        None => Ok(None),
    }
}

/// The source that reads the files, where they are there.
pub fn source(config: &PreparedConfig) -> Option<DataConfig> {
    let (folder, manifest) = ready::found(config).ok()??;
    files::of(config, &folder, &manifest).ok()
}

/// All files of the data, where they are there.
pub fn all_files(config: &PreparedConfig) -> Option<Vec<PathBuf>> {
    let (folder, manifest) = ready::found(config).ok()??;
    Some(manifest.files.iter().map(|file| folder.join(&file.name)).collect())
}

/// Samples of the evaluation split, where the files are there.
pub fn eval_samples(config: &PreparedConfig) -> Option<u64> {
    let (_, manifest) = ready::found(config).ok()??;
    files::eval_samples(config.recipe, &manifest)
}
