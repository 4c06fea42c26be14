//! Whether prepared files are as they were written, without reading a terabyte each time.
//!
//! A file is read whole and compared with its checksum in the manifest once; beside the manifest
//! stands its size and when it was last written to, then. While both stay, it is taken to be the
//! same.

use crate::{
    data::manifest::{Damage, Manifest, hash_until},
    host::atomic_file,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path, time::UNIX_EPOCH};

/// What tells it, in the folder of the files.
const NAME: &str = "checked.json";

/// Files as they were when they were compared.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checked {
    files: BTreeMap<String, Stamp>,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    /// When it was last written to, in nanoseconds since 1970 began.
    modified: u64,
    /// Its checksum.
    blake3: String,
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// All files are as they were written; so many of them were read for it.
    Whole {
        /// Files that were compared with their checksums now.
        read: usize,
    },
    /// Some are not.
    Damaged(Vec<Damage>),
    /// It was not seen to its end.
    Stopped,
}

/// Notes that all files are as the manifest says, since they have just been written.
///
/// A folder that cannot be written to has the files compared again.
pub fn note(folder: &Path, manifest: &Manifest) {
    let stamp = |(name, blake3): (&String, &String)| {
        Some((name.clone(), stamp(&folder.join(name), blake3.clone())?))
    };
    let files = manifest.files.iter().map(|f| (&f.name, &f.blake3)).filter_map(stamp).collect();
    if let Ok(text) = serde_json::to_vec_pretty(&Checked { files }) {
        let _ = atomic_file::write(&folder.join(NAME), &text);
    }
}

/// Compares all files with the manifest, those that may have changed byte by byte. `tell` hears of
/// bytes read and in all, and says whether to go on.
pub fn check(folder: &Path, manifest: &Manifest, mut tell: impl FnMut(u64, u64) -> bool) -> Found {
    let known: Checked = fs::read(folder.join(NAME))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let changed = |file: &&crate::data::manifest::FileFacts| {
        let now = stamp(&folder.join(&file.name), file.blake3.clone());
        now.is_none_or(|now| now.bytes != file.bytes || known.files.get(&file.name) != Some(&now))
    };
    let changed: Vec<_> = manifest.files.iter().filter(changed).collect();
    let (mut done, total) = (0, changed.iter().map(|f| f.bytes).sum());
    let mut damaged = Vec::new();
    for file in &changed {
        let mut go_on = true;
        damaged.extend(file.damage(folder, |path| {
            hash_until(path, &mut |n| {
                done += n;
                go_on = tell(done, total);
                go_on
            })
        }));
        if !go_on {
            return Found::Stopped;
        }
    }
    damaged.extend(manifest.foreign(folder));
    match damaged.is_empty() {
        false => Found::Damaged(damaged),
        true => {
            if !changed.is_empty() {
                note(folder, manifest);
            }
            Found::Whole { read: changed.len() }
        }
    }
}

fn stamp(path: &Path, blake3: String) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Stamp { bytes: meta.len(), modified: modified.as_nanos().try_into().ok()?, blake3 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::manifest::{FileFacts, hash};
    use std::time::Duration;

    #[test]
    fn only_what_may_have_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("test", Default::default(), vec![]);
        for name in ["a", "b"] {
            let path = dir.path().join(name);
            fs::write(&path, name.repeat(1000)).unwrap();
            let blake3 = hash(&path, &mut |_| ()).unwrap();
            manifest.files.push(FileFacts { name: name.into(), bytes: 1000, blake3 });
        }
        let checked = || {
            let mut read = 0;
            let found = check(dir.path(), &manifest, |bytes, _| {
                read = bytes;
                true
            });
            (found, read)
        };
        // Of a folder that somebody else made nothing is known.
        assert_eq!(checked(), (Found::Whole { read: 2 }, 2000));
        assert_eq!(checked(), (Found::Whole { read: 0 }, 0));
        assert_eq!(check(dir.path(), &manifest, |_, _| false), Found::Whole { read: 0 });
        // The same bytes at another time.
        let a = dir.path().join("a");
        let later = fs::metadata(&a).unwrap().modified().unwrap() + Duration::from_secs(5);
        fs::File::options().append(true).open(&a).unwrap().set_modified(later).unwrap();
        assert_eq!(check(dir.path(), &manifest, |_, _| false), Found::Stopped);
        assert_eq!(checked(), (Found::Whole { read: 1 }, 1000));
        // Other bytes, and fewer.
        fs::write(&a, "c".repeat(1000)).unwrap();
        fs::write(dir.path().join("b"), "b").unwrap();
        let (Found::Damaged(damaged), _) = checked() else { panic!("taken for whole") };
        assert!(damaged[0].what.starts_with("has the right size but other content"), "{damaged:?}");
        assert!(damaged[1].what.starts_with("has 1 bytes, 999 too short"), "{damaged:?}");
    }
}
