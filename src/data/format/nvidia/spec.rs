//! `feature_spec.yaml`.

use crate::{
    data::{
        DataError,
        npy::Type,
        rows::{io, wrong},
    },
    host::atomic_file,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::ErrorKind, path::Path};

/// The spec's name, beside the folders of the splits.
pub const NAME: &str = "feature_spec.yaml";
/// Kind of all chunks.
const SPLIT_BINARY: &str = "split_binary";
/// A larger spec is none.
const LARGEST: u64 = 64 << 20;

/// What the columns are and where they lie.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// Names of the columns of each kind.
    pub channel_spec: Channels,
    /// What each column is.
    pub feature_spec: BTreeMap<String, Feature>,
    /// Whatever its writer found worth noting.
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// The files of each split.
    pub source_spec: BTreeMap<String, Vec<Chunk>>,
}

/// Names of the columns, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channels {
    pub categorical: Vec<String>,
    pub label: Vec<String>,
    pub numerical: Vec<String>,
}

/// What a column is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Feature {
    /// Ids of a categorical column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cardinality: Option<u64>,
    /// numpy's name of its type.
    pub dtype: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Chunk {
    /// Columns that it holds, one after another in each row.
    pub features: Vec<String>,
    /// One file, by its place beside the spec.
    pub files: Vec<String>,
    #[serde(rename = "type")]
    pub kind: String,
}

impl Chunk {
    pub fn new(features: Vec<String>, file: String) -> Self {
        Chunk { features, files: vec![file], kind: SPLIT_BINARY.into() }
    }
}

impl Spec {
    /// Reads the spec at `path`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is none of NVIDIA's.
    pub fn read(path: &Path) -> Result<Option<Spec>, DataError> {
        let length = match std::fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(io(path))?.len(),
        };
        if length > LARGEST {
            return Err(wrong(path, format!("{length} bytes are too many for a feature spec")));
        }
        let text = std::fs::read_to_string(path).map_err(io(path))?;
        // The parser's messages show the text around, line by line; the first line says what is
        // wrong and where.
        let spec: Spec = serde_saphyr::from_str(&text).map_err(|e| {
            wrong(
                path,
                format!(
                    "no feature spec of NVIDIA's: {}",
                    e.to_string().lines().next().unwrap_or_default()
                ),
            )
        })?;
        spec.check().map_err(|what| wrong(path, what))?;
        Ok(Some(spec))
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        atomic_file::write(path, self.text(path)?.as_bytes()).map_err(io(path))
    }

    /// What stands in the file at `path`.
    pub fn text(&self, path: &Path) -> Result<String, DataError> {
        serde_saphyr::to_string(self)
            .map_err(|e| wrong(path, format!("cannot be written as YAML: {e}")))
    }

    fn check(&self) -> Result<(), String> {
        let Channels { categorical, label, numerical } = &self.channel_spec;
        if label.len() != 1 {
            return Err(format!("channel_spec names {} labels; must name one", label.len()));
        }
        for name in categorical.iter().chain(label).chain(numerical) {
            let feature = self
                .feature_spec
                .get(name)
                .ok_or_else(|| format!("feature_spec does not say what column {name} is"))?;
            if Type::named(&feature.dtype).is_none() {
                return Err(format!(
                    "column {name} is of type {:?}; must be one of numpy's numbers",
                    feature.dtype
                ));
            }
        }
        if let Some(name) =
            categorical.iter().find(|name| self.feature_spec[*name].cardinality.is_none())
        {
            return Err(format!("column {name} has no cardinality"));
        }
        for (split, chunks) in &self.source_spec {
            for chunk in chunks {
                if chunk.kind != SPLIT_BINARY || chunk.files.len() != 1 || chunk.features.is_empty()
                {
                    return Err(format!(
                        "split {split}: each entry must be of type {SPLIT_BINARY}, with features and one file"
                    ));
                }
            }
        }
        Ok(())
    }
}
