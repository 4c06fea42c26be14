//! NVIDIA's split binary files (DeepLearningExamples, PyTorch/Recommendation/DLRM, feature_spec.py
//! and split_dataset.py): a folder a split, usually `train` and `test`, with a file for the labels
//! (`bool`), one for all dense columns (`float16`) and one a categorical column (the smallest of
//! `int8`, `int16` and `int32` that holds its ids), row after row without headers; beside the
//! folders `feature_spec.yaml` says which columns there are, how many ids each has, and which file
//! holds it.
//!
//! A split is named by its folder.

mod read;
mod spec;
#[cfg(test)]
mod tests;
mod write;

pub use read::NvidiaReader;
pub use spec::NAME;
pub(in crate::data) use write::size as id_bytes;
pub use write::{NvidiaWriter, feature_spec};

use crate::{data::rows::Layout, host::atomic_file};
use std::path::{Path, PathBuf};

/// The files of a split of `layout` in the folder `path`, the last of them the feature spec, which
/// other splits share.
pub fn files(path: &Path, layout: &Layout) -> Vec<PathBuf> {
    let ids = (0..layout.ids.len()).map(|k| path.join(category(k)));
    [LABEL, NUMERICAL].iter().map(|f| path.join(f)).chain(ids).chain([spec_file(path)]).collect()
}

/// Whether `path` lies beside a feature spec.
pub fn beside_spec(path: &Path) -> bool {
    path.with_file_name(NAME).is_file()
}

const LABEL: &str = "label.bin";
const NUMERICAL: &str = "numerical.bin";

/// NVIDIA's name of a categorical column and of its file.
fn category(k: usize) -> String {
    format!("cat_{k}.bin")
}

/// Where the spec of a split is written: beside it, under a temporary name as long as the split has
/// one.
fn spec_file(path: &Path) -> PathBuf {
    let spec = path.with_file_name(NAME);
    if atomic_file::is_temporary(path) { atomic_file::temporary(&spec) } else { spec }
}
