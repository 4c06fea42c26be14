//! What lies in a folder of prepared data and where it came from, so that what is stale or damaged
//! is found and never used unseen.

use super::preprocess::inputs::Input;
use crate::host::atomic_file;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

/// The manifest's name in its folder.
pub const NAME: &str = "manifest.json";
/// Version of the manifest's own form.
const FORMAT: u32 = 1;
/// Bytes that are read at once for a checksum.
const BUFFER: usize = 1 << 20;

/// What lies in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// Program and version.
    pub made_by: String,
    /// How the data came about.
    pub recipe: String,
    /// What the data depend on, beside the input.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The raw files.
    pub inputs: Vec<Input>,
    /// Samples of each part.
    pub splits: Vec<Split>,
    /// Share of positive labels over all parts.
    pub label_rate: f64,
    /// Malformed lines that were left out.
    pub skipped_lines: u64,
    /// Samples that sub-sampling left out.
    pub dropped_samples: u64,
    /// The columns.
    pub columns: Vec<ColumnFacts>,
    /// The files.
    pub files: Vec<FileFacts>,
}

/// A part of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// `train`, `test`, `val`.
    pub name: String,
    /// Its file, or the folder of its files.
    pub file: String,
    /// Its samples.
    pub samples: u64,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnFacts {
    /// `I1`, `C1`, ...
    pub name: String,
    /// Different ids; categorical columns only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ids: Option<u64>,
    /// Samples in which it is empty.
    pub missing: u64,
}

/// A file as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its name in the folder, with `/` where it lies in a folder there.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub blake3: String,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no manifest.
    #[error("{path}: is no manifest of prepared data: {what}", path = path.display())]
    Malformed {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// A file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Its name in the folder.
    pub file: String,
    /// How it differs.
    pub what: String,
}

impl Manifest {
    /// A manifest without samples, columns and files.
    pub fn new(
        recipe: &str,
        parameters: BTreeMap<String, serde_json::Value>,
        inputs: Vec<Input>,
    ) -> Self {
        Manifest {
            format: FORMAT,
            made_by: concat!("dlrm-bench ", env!("CARGO_PKG_VERSION")).into(),
            recipe: recipe.into(),
            parameters,
            inputs,
            splits: Vec::new(),
            label_rate: 0.0,
            skipped_lines: 0,
            dropped_samples: 0,
            columns: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reads the manifest of a folder; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn read(folder: &Path) -> Result<Option<Manifest>, ManifestError> {
        let path = folder.join(NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(ManifestError::Read { path, source }),
        };
        let manifest: Manifest = match serde_json::from_slice(&text) {
            Ok(manifest) => manifest,
            Err(e) => return Err(ManifestError::Malformed { path, what: e.to_string() }),
        };
        // No way out of the folder, in any notation.
        let stray = |f: &&FileFacts| {
            let mut parts = Path::new(&f.name).components();
            f.name.is_empty()
                || f.name.contains('\\')
                || !parts.all(|part| matches!(part, Component::Normal(_)))
        };
        if manifest.format != FORMAT {
            let what = format!("its format is {}; this program knows {FORMAT}", manifest.format);
            return Err(ManifestError::Malformed { path, what });
        }
        if let Some(file) = manifest.files.iter().find(stray) {
            return Err(ManifestError::Malformed {
                path,
                what: format!("{:?} is no name of a file in its folder", file.name),
            });
        }
        Ok(Some(manifest))
    }

    /// Writes it to its folder, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        atomic_file::write(&folder.join(NAME), &text)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Compares every file with what was written, byte for byte; `tell` hears of bytes as they are
    /// read. Names files that differ, and how, and files that were not written: in folders of
    /// parts, where readers take every file for one of the part.
    pub fn verify(&self, folder: &Path, mut tell: impl FnMut(u64)) -> Vec<Damage> {
        let mut hash = |path: &Path| hash(path, &mut tell).map(Some);
        let mut found: Vec<Damage> =
            self.files.iter().filter_map(|file| file.damage(folder, &mut hash)).collect();
        let named = |split: &&Split| self.files.iter().any(|f| f.name.starts_with(&split.file));
        found.extend(self.splits.iter().filter(|split| !named(split)).map(|split| Damage {
            file: split.file.clone(),
            what: format!("is part {}, but {NAME} names no file of it", split.name),
        }));
        found.extend(self.foreign(folder));
        found
    }

    /// Files in folders of parts that were not written with the others.
    pub fn foreign(&self, folder: &Path) -> Vec<Damage> {
        let mut found = Vec::new();
        for part in self.splits.iter().map(|split| &split.file) {
            // A part of one file is no folder, and a folder that is missing was told of by its
            // files.
            for entry in fs::read_dir(folder.join(part)).into_iter().flatten().flatten() {
                let file = format!("{part}/{}", entry.file_name().to_string_lossy());
                if !self.files.iter().any(|f| f.name == file) {
                    found.push(Damage {
                        file,
                        what: "does not belong here; it was not written with the others".into(),
                    });
                }
            }
        }
        found.sort_by(|a, b| a.file.cmp(&b.file));
        found.dedup();
        found
    }
}

impl FileFacts {
    /// How the file in `folder` differs from what was written, by the checksum that `hash` finds;
    /// `None` if it does not, or `hash` was not seen to its end.
    pub fn damage(
        &self,
        folder: &Path,
        hash: impl FnOnce(&Path) -> io::Result<Option<String>>,
    ) -> Option<Damage> {
        let path = folder.join(&self.name);
        let what = match fs::metadata(&path).map(|meta| meta.len()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => "is missing".into(),
            Err(e) => e.to_string(),
            Ok(bytes) if bytes != self.bytes => {
                let (by, how) = match bytes < self.bytes {
                    true => (self.bytes - bytes, "short"),
                    false => (bytes - self.bytes, "long"),
                };
                format!("has {bytes} bytes, {by} too {how}; {} were written", self.bytes)
            }
            Ok(_) => match hash(&path) {
                Ok(None) => return None,
                Ok(Some(hash)) if hash == self.blake3 => return None,
                Ok(Some(hash)) => format!(
                    "has the right size but other content: its BLAKE3 is {hash}; {} was written",
                    self.blake3
                ),
                Err(e) => format!("cannot be read: {e}"),
            },
        };
        Some(Damage { file: self.name.clone(), what })
    }
}

/// BLAKE3 of a file, in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub fn hash(path: &Path, tell: &mut impl FnMut(u64)) -> io::Result<String> {
    let all = hash_until(path, &mut |n| {
        tell(n);
        true
    })?;
    all.ok_or_else(|| io::Error::other("was not read to its end"))
}

/// [`hash`], given up when `tell`, which hears of bytes as they are read, says not to go on: then
/// `None`.
///
/// # Errors
/// If it cannot be read.
pub fn hash_until(path: &Path, tell: &mut impl FnMut(u64) -> bool) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hasher.finalize().to_hex().to_string())),
            n => {
                hasher.update(&buffer[..n]);
                if !tell(n as u64) {
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut manifest = Manifest::new("test", BTreeMap::new(), vec![]);
        for (name, text) in [("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")] {
            fs::write(at(name), text).unwrap();
            let blake3 = hash(&at(name), &mut |_| ()).unwrap();
            manifest.files.push(FileFacts { name: name.into(), bytes: text.len() as u64, blake3 });
        }
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest.clone()));
        let mut read = 0;
        assert_eq!(manifest.verify(dir.path(), |n| read += n), []);
        assert_eq!((read, manifest.bytes()), (15, 15));
        fs::write(at("a"), "ont").unwrap();
        fs::write(at("b"), "tw").unwrap();
        fs::remove_file(at("c")).unwrap();
        let found: Vec<String> = manifest
            .verify(dir.path(), |_| ())
            .into_iter()
            .map(|d| format!("{} {}", d.file, d.what))
            .collect();
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("a has the right size but other content"), "{}", found[0]);
        assert_eq!(found[1..], ["b has 2 bytes, 1 too short; 3 were written", "c is missing"]);
    }

    #[test]
    fn a_foreign_file_among_those_of_a_part_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("test", BTreeMap::new(), vec![]);
        fs::create_dir(dir.path().join("train")).unwrap();
        for name in ["train/0.parquet", "test.bin"] {
            fs::write(dir.path().join(name), "x").unwrap();
            let blake3 = hash(&dir.path().join(name), &mut |_| ()).unwrap();
            manifest.files.push(FileFacts { name: name.into(), bytes: 1, blake3 });
        }
        manifest.splits = ["train", "test.bin"]
            .map(|f| Split { name: f.into(), file: f.into(), samples: 1 })
            .into();
        // What lies beside the parts is the user's own.
        fs::write(dir.path().join("notes"), "x").unwrap();
        assert_eq!(manifest.verify(dir.path(), |_| ()), []);
        fs::write(dir.path().join("train/1.parquet"), "x").unwrap();
        let found = manifest.verify(dir.path(), |_| ());
        assert!(
            found.len() == 1
                && found[0].file == "train/1.parquet"
                && found[0].what.starts_with("does not belong"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("test", BTreeMap::new(), vec![]);
        for name in ["../passwd", "/etc/passwd", "", "..", "train/../../passwd", "train\\x"] {
            manifest.files = vec![FileFacts { name: name.into(), bytes: 0, blake3: String::new() }];
            manifest.write(dir.path()).unwrap();
            assert!(
                Manifest::read(dir.path())
                    .unwrap_err()
                    .to_string()
                    .contains("is no name of a file"),
                "{name}"
            );
        }
        fs::write(dir.path().join(NAME), "{}").unwrap();
        assert!(
            Manifest::read(dir.path())
                .unwrap_err()
                .to_string()
                .contains("is no manifest of prepared data")
        );
    }
}
