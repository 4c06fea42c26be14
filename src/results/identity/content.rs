//! The content of data files, whatever they are called and wherever they lie.

use crate::{
    checkpoint::Loaded,
    data::{
        format::parquet::files_of,
        manifest::Manifest,
        source::{paths::expanded, prepared},
    },
    workload::{DataConfig, RandomIds, Workload},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Files up to this size are hashed whole.
const WHOLE: u64 = 32 << 20;
/// Evenly spaced blocks of a larger file, the first and the last included.
const BLOCKS: u64 = 256;
/// Bytes of a block.
const BLOCK: usize = 64 << 10;

/// A data file as a run found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// `train`, `eval`, `test` or `traces`.
    pub split: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of size and bytes; of a file above 32 MiB, of its size and 256 evenly spaced blocks
    /// of 64 KiB. Hexadecimal.
    pub sampled: String,
    /// BLAKE3 of all bytes, where the folder's `manifest.json` states it for a file of this size.
    #[serde(default)]
    pub blake3: Option<String>,
}

/// More files than this beside a set, and its content is unknown.
const MOST_BESIDE: usize = 1000;

/// The content of all files that `workload` reads, in their order; `None` if one cannot be read
/// or is no regular file.
pub fn files(workload: &Workload) -> Option<Vec<FileContent>> {
    let mut found = Vec::new();
    let named = expanded(&workload.data).ok()?;
    if let DataConfig::Files(c) = &named {
        for (split, paths) in [("train", &c.train), ("eval", &c.eval), ("test", &c.test)] {
            for path in paths {
                for file in beside(path)? {
                    found.push(content(split, &file)?);
                }
            }
        }
    }
    let data = match &workload.data {
        DataConfig::Prepared(c) => prepared::source(c)?,
        _ => named,
    };
    if let (DataConfig::Files(_), DataConfig::Prepared(c)) = (&data, &workload.data) {
        // All that was made, each file once.
        for file in prepared::all_files(c)? {
            found.push(content("train", &file)?);
        }
    }
    for (split, path) in paths(&data) {
        let files = if path.is_dir() { files_of(path).ok()? } else { vec![path.clone()] };
        for file in files {
            found.push(content(split, &file)?);
        }
    }
    Some(found)
}

/// The content of the saved model that `workload` begins with; `None` if there is none, or it cannot
/// be read.
pub fn start(workload: &Workload) -> Option<FileContent> {
    content("start", &Loaded::told_by(workload.train.start_from.as_deref()?))
}

/// All paths of a source, with their splits.
fn paths(data: &DataConfig) -> Vec<(&'static str, &PathBuf)> {
    let mut found = Vec::new();
    let mut add = |split, paths: &mut dyn Iterator<Item = _>| {
        found.extend(paths.map(|path| (split, path)));
    };
    match data {
        // Sets of files: see `beside`. Prepared data are read through another source.
        DataConfig::Planted(_) | DataConfig::Files(_) | DataConfig::Prepared(_) => {}
        DataConfig::NumpyRandom(c) => {
            if let RandomIds::Trace { files, .. } = &c.distribution {
                add("traces", &mut files.iter());
            }
        }
        DataConfig::CriteoTsv(c) => add("train", &mut c.paths.iter()),
        DataConfig::Csv(c) => {
            add("train", &mut c.train.0.iter());
            add("eval", &mut c.eval.0.iter());
            add("test", &mut c.test.0.iter());
        }
        DataConfig::Bin40(c) => {
            add("train", &mut c.train.iter());
            add("eval", &mut [&c.eval].into_iter());
            add("test", &mut c.test.iter());
        }
        DataConfig::Parquet(c) => {
            add("train", &mut c.train.iter());
            add("eval", &mut c.eval.iter());
            add("test", &mut c.test.iter());
        }
    }
    found
}

/// All files of the folder of a set of files, or of the folder that it is: sets lie in several files
/// and their descriptions, of which one is named, or what their names have in common. What does not
/// belong to the set keeps runs apart rather than together.
fn beside(path: &Path) -> Option<Vec<PathBuf>> {
    let folder = match path.is_dir() {
        true => path,
        false => path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
    };
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).ok()?.collect();
    let mut files: Vec<PathBuf> = entries.ok()?.into_iter().map(|e| e.path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    (files.len() <= MOST_BESIDE).then_some(files)
}

fn content(split: &str, path: &Path) -> Option<FileContent> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let sampled = sampled(&mut file, meta.len()).ok()?;
    let blake3 = in_manifest(path, meta.len());
    Some(FileContent { split: split.to_owned(), bytes: meta.len(), sampled, blake3 })
}

/// BLAKE3 of a file's size and its bytes, or blocks of them.
fn sampled(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<String> {
    let mut hash = blake3::Hasher::new();
    hash.update(&bytes.to_le_bytes());
    let mut block = vec![0; BLOCK];
    if bytes <= WHOLE {
        loop {
            match file.read(&mut block)? {
                0 => break,
                n => hash.update(&block[..n]),
            };
        }
    } else {
        let last = bytes - BLOCK as u64;
        for i in 0..BLOCKS {
            let at = (u128::from(last) * u128::from(i) / u128::from(BLOCKS - 1)) as u64;
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut block)?;
            hash.update(&block);
        }
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// What the manifest of prepared data, in the file's folder or the one above, says of it.
fn in_manifest(path: &Path, bytes: u64) -> Option<String> {
    let path = path.canonicalize().ok()?;
    for folder in path.ancestors().skip(1).take(2) {
        let Ok(Some(manifest)) = Manifest::read(folder) else { continue };
        let name = path.strip_prefix(folder).ok()?.to_str()?;
        if let Some(file) = manifest.files.iter().find(|f| f.name == name && f.bytes == bytes) {
            return Some(file.blake3.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn ends_and_size_of_large_files_count() {
        let bytes = vec![7u8; WHOLE as usize + 4096];
        let of = |bytes: &[u8]| sampled(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
        let first = of(&bytes);
        assert_eq!(first, of(&bytes.clone()));
        for at in [0, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] = 8;
            assert_ne!(first, of(&other), "byte {at}");
        }
        assert_ne!(first, of(&bytes[1..]));
        assert_ne!(of(b""), of(b"\0"));
    }
}
