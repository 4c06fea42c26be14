//! The keys of tables that grow, in a file of safetensors beside the model's: whole numbers.

use super::{CheckpointError, Loaded};
use crate::embedding::hashed::SavedTable;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::fs;

/// Name of the file.
pub(super) const KEYS: &str = "keys.safetensors";

/// Names of a table's lists of 64 bits, behind the number of its column.
const LISTS: [&str; 7] =
    ["keys", "freqs", "versions", "keys_filtered", "freqs_filtered", "versions_filtered", "counts"];
const BLOOM: &str = "bloom";

/// The file's bytes: of column `k` the lists `k.keys` and so on.
///
/// # Errors
/// If the lists are too long for such a file.
pub fn encode(tables: &[SavedTable]) -> Result<Vec<u8>, CheckpointError> {
    let mut lists: Vec<(String, Dtype, usize, Vec<u8>)> = Vec::new();
    for (k, table) in tables.iter().enumerate() {
        for (name, list) in LISTS.iter().zip(lists_of(table)) {
            lists.push((format!("{k}.{name}"), Dtype::U64, list.len(), narrow(list, 64)));
        }
        if let Some((bits, counters)) = &table.bloom {
            let dtype = match bits {
                8 => Dtype::U8,
                16 => Dtype::U16,
                32 => Dtype::U32,
                _ => Dtype::U64,
            };
            lists.push((format!("{k}.{BLOOM}"), dtype, counters.len(), narrow(counters, *bits)));
        }
    }
    let unwritten = |e: &dyn std::fmt::Display| CheckpointError::Write {
        path: KEYS.into(),
        source: std::io::Error::other(e.to_string()),
    };
    let views = lists.iter().map(|(name, dtype, len, bytes)| {
        Ok((name, TensorView::new(*dtype, vec![*len], bytes).map_err(|e| unwritten(&e))?))
    });
    let views = views.collect::<Result<Vec<_>, CheckpointError>>()?;
    safetensors::serialize(views, None).map_err(|e| unwritten(&e))
}

fn lists_of(table: &SavedTable) -> [&[u64]; 7] {
    [
        &table.keys,
        &table.freqs,
        &table.versions,
        &table.keys_filtered,
        &table.freqs_filtered,
        &table.versions_filtered,
        &table.counts,
    ]
}

/// The lower bits of numbers, little-endian.
fn narrow(list: &[u64], bits: u32) -> Vec<u8> {
    list.iter().flat_map(|n| n.to_le_bytes().into_iter().take(bits as usize / 8)).collect()
}

fn widen(bytes: &[u8], bits: u32) -> Vec<u64> {
    let number = |b: &[u8]| b.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
    bytes.chunks_exact(bits as usize / 8).map(number).collect()
}

impl Loaded {
    /// The keys of `columns` tables that grow.
    ///
    /// # Errors
    /// If there are none, or so many.
    pub fn keys(&self, columns: usize) -> Result<Vec<SavedTable>, CheckpointError> {
        let unfit =
            |what: &str| CheckpointError::Unfit { path: self.path.clone(), what: what.to_owned() };
        let path = self.path.join(KEYS);
        if !self.path.is_dir() || !path.is_file() {
            return Err(unfit(
                "has no keys: it is of a model whose tables do not grow (embedding.store = \"resident\")",
            ));
        }
        let bytes = fs::read(&path)
            .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        let damaged = |what: String| CheckpointError::Damaged { path: path.clone(), what };
        let all = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        if all.names().iter().filter(|name| name.ends_with(".keys")).count() != columns {
            return Err(unfit("has keys of another number of columns; it is of another model"));
        }
        let list = |k: usize, name: &str| {
            let view = all.tensor(&format!("{k}.{name}")).map_err(|e| damaged(e.to_string()))?;
            match view.dtype() {
                Dtype::U64 => Ok(widen(view.data(), 64)),
                _ => Err(damaged(format!("{k}.{name} is not of 64 bits"))),
            }
        };
        let table = |k: usize| {
            let bloom = all.tensor(&format!("{k}.{BLOOM}")).ok().map(|view| {
                let bits = view.dtype().bitsize() as u32;
                (bits, widen(view.data(), bits))
            });
            let counts = list(k, "counts")?;
            let counts = counts.try_into().map_err(|_| damaged(format!("{k}.counts")))?;
            Ok(SavedTable {
                keys: list(k, "keys")?,
                freqs: list(k, "freqs")?,
                versions: list(k, "versions")?,
                keys_filtered: list(k, "keys_filtered")?,
                freqs_filtered: list(k, "freqs_filtered")?,
                versions_filtered: list(k, "versions_filtered")?,
                bloom,
                counts,
            })
        };
        (0..columns).map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_from_their_file() {
        let tables = [
            SavedTable {
                keys: vec![7, 0, u64::MAX],
                freqs: vec![1, 2, 3],
                versions: vec![4, 0, 5],
                keys_filtered: vec![9],
                freqs_filtered: vec![2],
                versions_filtered: vec![6],
                bloom: None,
                counts: [3, 2, 1],
            },
            SavedTable { bloom: Some((16, vec![0, 65_535, 258])), ..SavedTable::default() },
            SavedTable { bloom: Some((8, vec![0, 255, 3])), ..SavedTable::default() },
        ];
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEYS), encode(&tables).unwrap()).unwrap();
        let loaded = Loaded {
            path: dir.path().to_owned(),
            manifest: super::super::Manifest {
                format: 1,
                base: None,
                step: 0,
                workload: String::new(),
                files: Vec::new(),
            },
            progress: serde_json::Value::Null,
            tensors: super::super::Tensors::default(),
        };
        assert_eq!(loaded.keys(3).unwrap(), tables);
        let other = loaded.keys(2).unwrap_err().to_string();
        assert!(other.contains("another number of columns"), "{other}");
        fs::remove_file(dir.path().join(KEYS)).unwrap();
        assert!(loaded.keys(3).unwrap_err().to_string().contains("has no keys"));
    }
}
