//! The folder of checkpoints: one is added whole, old ones go, the newest whole one is found.

use super::{
    CheckpointError, Loaded, ReadPart, Shard, Tensor,
    keys::KEYS,
    rows::SavedRows,
    write::{SHARD_BYTES, plain, write},
};
use crate::host::atomic_file::{create_folders, is_temporary, sync_folder, temporary};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Version of the format. A reader takes this one and those below.
pub const FORMAT: u32 = 3;
/// The format of what is whole by itself, which earlier programs read too.
const WHOLE: u32 = 1;
/// The format of what has a base.
const CHANGES: u32 = 2;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const PROGRESS: &str = "progress.json";

/// Which checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The newest are kept.
    Newest,
    /// That of the best evaluation is kept.
    Best,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Newest => "step",
            Kind::Best => "best",
        }
    }

    /// The name of the folder of one after `step` steps.
    pub fn name(self, step: u64) -> String {
        format!("{}-{step:012}", self.word())
    }

    /// The step of a folder's name, if it is one of these.
    fn step(self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.word())?.strip_prefix('-')?;
        (digits.len() == 12).then(|| digits.parse().ok()).flatten()
    }
}

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1, 2 if there is a base, 3 if there are rows in segments of a row file.
    pub format: u32,
    /// What the rows that are not in it are read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Steps done.
    pub step: u64,
    /// Whose parameters these are: SHA-256 of the resolved workload.
    pub workload: String,
    /// All other files.
    pub files: Vec<Shard>,
}

/// A whole checkpoint that others are the changes of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its folder, beside theirs.
    pub name: String,
    /// BLAKE3 of its manifest, hexadecimal.
    pub manifest: String,
}

impl Base {
    /// The checkpoint in a folder.
    ///
    /// # Errors
    /// If its manifest cannot be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let manifest = blake3::hash(&fs::read(folder.join(MANIFEST))?).to_hex().to_string();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Base { name, manifest })
    }
}

/// What a checkpoint is of.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Steps done.
    pub step: u64,
    /// SHA-256 of the resolved workload.
    pub workload: &'a str,
    /// What it is the changes of; `None` if it is whole.
    pub base: Option<&'a Base>,
    /// The keys of tables that grow ([`super::keys::encode`]).
    pub keys: Option<&'a [u8]>,
    /// Rows that are in segments of a row file, and in no tensor.
    pub rows: Option<&'a SavedRows>,
    /// Everything that is no tensor.
    pub progress: &'a Value,
}

/// A file of tensors to be written: what it is called before `.safetensors`, and what is in it.
pub struct Group<'a> {
    /// As `model`.
    pub stem: &'a str,
    /// Its tensors.
    pub tensors: &'a [Tensor],
    /// Reads them.
    pub read: &'a mut ReadPart<'a>,
}

/// A checkpoint that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// What it took.
    pub took: Duration,
    /// Whether it has only the rows that were touched since another one.
    pub incremental: bool,
}

/// A folder of checkpoints.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
    shard_bytes: u64,
}

impl Checkpoints {
    /// Those in `dir`, which need not be there; the newest `keep` of them stay.
    pub fn new(dir: PathBuf, keep: u64) -> Self {
        Checkpoints {
            dir,
            keep: usize::try_from(keep).unwrap_or(usize::MAX),
            shard_bytes: SHARD_BYTES,
        }
    }

    /// Writes one after `step` steps, and takes away those that are not to be kept. What is there
    /// under its name is replaced: it is of the same steps, or of a run that was given up.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is left of it, and all others are still there.
    pub fn save(
        &self,
        kind: Kind,
        about: About<'_>,
        groups: &mut [Group<'_>],
    ) -> Result<Saved, CheckpointError> {
        let About { step, workload, base, keys, rows, progress } = about;
        let began = Instant::now();
        let path = self.dir.join(kind.name(step));
        let waiting = temporary(&path);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::Write { path, source }
        };
        create_folders(&self.dir).map_err(at(&self.dir))?;
        let mut fill = || -> Result<u64, CheckpointError> {
            remove(&waiting).map_err(at(&waiting))?;
            fs::create_dir(&waiting).map_err(at(&waiting))?;
            let mut files = Vec::new();
            for Group { stem, tensors, read } in groups.iter_mut() {
                files.extend(write(&waiting, stem, tensors, self.shard_bytes, read)?);
            }
            if let Some(keys) = keys {
                files.push(plain(&waiting, KEYS, keys)?);
            }
            if let Some(rows) = rows {
                files.extend(rows.put(&waiting, self.shard_bytes)?);
            }
            let text = format!("{progress:#}\n");
            files.push(plain(&waiting, PROGRESS, text.as_bytes())?);
            let bytes = files.iter().map(|f| f.bytes).sum();
            let manifest = Manifest {
                format: match (rows, base) {
                    (Some(_), _) => FORMAT,
                    (None, Some(_)) => CHANGES,
                    (None, None) => WHOLE,
                },
                base: base.cloned(),
                step,
                workload: workload.to_owned(),
                files,
            };
            let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from);
            let text = text.map_err(at(&waiting))? + "\n";
            plain(&waiting, MANIFEST, text.as_bytes())?;
            sync_folder(&waiting).map_err(at(&waiting))?;
            remove(&path).map_err(at(&path))?;
            fs::rename(&waiting, &path).map_err(at(&path))?;
            sync_folder(&self.dir).map_err(at(&self.dir))?;
            Ok(bytes)
        };
        let bytes = fill().inspect_err(|_| {
            let _ = fs::remove_dir_all(&waiting);
        })?;
        self.tidy(kind);
        Ok(Saved { path, bytes, took: began.elapsed(), incremental: base.is_some() })
    }

    /// Takes away what is not to be kept. It is no error if that cannot be done: the next one tries
    /// again.
    fn tidy(&self, kind: Kind) {
        let keep = if kind == Kind::Best { 1 } else { self.keep };
        let all = self.all(kind).unwrap_or_default();
        let (old, kept) = all.split_at(all.len().saturating_sub(keep));
        let bases: Vec<PathBuf> = kept.iter().filter_map(|(_, path)| self.base_of(path)).collect();
        for (_, path) in old.iter().filter(|(_, path)| !bases.contains(path)) {
            let _ = remove(path);
        }
        let left = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path());
        for path in left.filter(|p| is_temporary(p) && p.is_dir()) {
            let _ = fs::remove_dir_all(path);
        }
    }

    /// The base of a checkpoint that has one.
    fn base_of(&self, path: &Path) -> Option<PathBuf> {
        let manifest = fs::read_to_string(path.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_str(&manifest).ok()?;
        Some(self.dir.join(manifest.base?.name))
    }

    /// Whether a base is still what it was.
    pub fn has(&self, base: &Base) -> bool {
        Base::of(&self.dir.join(&base.name)).is_ok_and(|found| found == *base)
    }

    /// All of a kind with their steps, oldest first.
    fn all(&self, kind: Kind) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(step) = entry.file_name().to_str().and_then(|name| kind.step(name)) {
                all.push((step, entry.path()));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Whether there are any, whole or not.
    pub fn any(&self) -> bool {
        self.all(Kind::Newest).is_ok_and(|all| !all.is_empty())
    }

    /// The newest whole checkpoint, and what is wrong with those after it.
    ///
    /// # Errors
    /// If there is none.
    pub fn newest(&self) -> Result<(Loaded, Vec<String>), CheckpointError> {
        self.find(Kind::Newest)
    }

    /// The newest whole checkpoint of a kind, and what is wrong with those after it.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, kind: Kind) -> Result<(Loaded, Vec<String>), CheckpointError> {
        let all = match self.all(kind) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            all => {
                all.map_err(|source| CheckpointError::Read { path: self.dir.clone(), source })?
            }
        };
        let mut damaged = Vec::new();
        for (_, path) in all.iter().rev() {
            match Loaded::open(path) {
                Ok(loaded) => return Ok((loaded, damaged)),
                Err(e @ CheckpointError::Unfit { .. }) => return Err(e),
                Err(e) => damaged.push(e.to_string()),
            }
        }
        Err(CheckpointError::None { path: self.dir.clone(), damaged })
    }
}

/// Removes a folder, first under another name, so that a kill leaves no half of it under its own.
fn remove(path: &Path) -> io::Result<()> {
    if is_temporary(path) {
        return remove_all(path);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".old");
    let doomed = temporary(&path.with_file_name(name));
    // A kill may have left one.
    remove_all(&doomed)?;
    match fs::rename(path, &doomed) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => remove_all(&doomed),
    }
}

/// Removes a folder that need not be there.
fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Form, *};

    fn save(of: &Checkpoints, kind: Kind, step: u64) -> Result<Saved, CheckpointError> {
        let tensors = [Tensor { name: "a".into(), form: Form::F32, shape: vec![5] }];
        let mut read = |_: usize, first: usize, out: &mut [f32]| {
            out.iter_mut().enumerate().for_each(|(k, o)| *o = (step as usize + first + k) as f32);
            Ok(())
        };
        let group = Group { stem: "model", tensors: &tensors, read: &mut read };
        let progress = &serde_json::json!({"step": step});
        of.save(
            kind,
            About { step, workload: "w", base: None, keys: None, rows: None, progress },
            &mut [group],
        )
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_are_kept_and_the_newest_whole_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(dir.path().join("checkpoints"), 2);
        let none = all.newest().unwrap_err().to_string();
        assert!(none.ends_with("there is no whole checkpoint"), "{none}");
        for step in [0, 9, 10, 100] {
            save(&all, Kind::Newest, step).unwrap();
        }
        save(&all, Kind::Best, 9).unwrap();
        save(&all, Kind::Best, 100).unwrap();
        let kept = ["best-000000000100", "step-000000000010", "step-000000000100"];
        assert_eq!(names(&all.dir), kept);
        let (loaded, damaged) = all.newest().unwrap();
        assert_eq!((loaded.manifest.step, damaged.len()), (100, 0));
        let mut values = [0.0; 2];
        loaded.tensors.get("a").unwrap().copy(3, &mut values);
        assert_eq!(values, [103.0, 104.0]);
        // Again, as a run does that was resumed before it.
        save(&all, Kind::Newest, 100).unwrap();
        assert_eq!(names(&all.dir), kept);
    }

    #[test]
    fn what_is_damaged_is_named_and_the_one_before_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(dir.path().to_owned(), 9);
        save(&all, Kind::Newest, 1).unwrap();
        type Harm = fn(&Path);
        let harms: [(Harm, &str); 6] = [
            (|p| fs::remove_file(p.join("manifest.json")).unwrap(), "manifest.json is missing"),
            (
                |p| fs::remove_file(p.join("model.safetensors")).unwrap(),
                "model.safetensors is missing",
            ),
            (
                |p| {
                    let file = p.join("model.safetensors");
                    let mut bytes = fs::read(&file).unwrap();
                    *bytes.last_mut().unwrap() ^= 1;
                    fs::write(file, bytes).unwrap();
                },
                "model.safetensors was changed",
            ),
            (
                |p| {
                    let file =
                        fs::File::options().write(true).open(p.join("progress.json")).unwrap();
                    file.set_len(1).unwrap();
                },
                "progress.json has 1 bytes",
            ),
            (|p| fs::write(p.join("manifest.json"), "{").unwrap(), "manifest.json: EOF"),
            (
                |p| {
                    let file = p.join("manifest.json");
                    let text = fs::read_to_string(&file).unwrap();
                    fs::write(file, text.replace("model.safetensors", "../model")).unwrap();
                },
                "which is no file of it",
            ),
        ];
        for (harm, told) in harms {
            let saved = save(&all, Kind::Newest, 2).unwrap();
            harm(&saved.path);
            let (loaded, damaged) = all.newest().unwrap();
            assert_eq!(loaded.manifest.step, 1);
            assert!(damaged.len() == 1 && damaged[0].contains(told), "{damaged:?}");
        }
        let saved = save(&all, Kind::Newest, 2).unwrap();
        let file = saved.path.join("manifest.json");
        let text = fs::read_to_string(&file).unwrap().replace("\"format\": 1", "\"format\": 4");
        fs::write(file, text).unwrap();
        assert!(all.newest().unwrap_err().to_string().contains("formats up to 3"));
    }

    /// Changes of a base: rows 1 and 3 of four.
    fn save_changes(of: &Checkpoints, step: u64, base: &Base) -> Saved {
        let tensor = |name: &str, form, shape: &[usize]| Tensor {
            name: name.into(),
            form,
            shape: shape.to_vec(),
        };
        let tensors = [tensor("a.rows", Form::U32, &[2]), tensor("a.changed", Form::F32, &[2, 2])];
        let mut read = |i: usize, first: usize, out: &mut [f32]| {
            let value = |k: usize| match i {
                0 => f32::from_bits([1, 3][k]),
                _ => (step as usize + k) as f32,
            };
            out.iter_mut().enumerate().for_each(|(k, o)| *o = value(first + k));
            Ok(())
        };
        let group = Group { stem: "model", tensors: &tensors, read: &mut read };
        let about = About {
            step,
            workload: "w",
            base: Some(base),
            keys: None,
            rows: None,
            progress: &Value::Null,
        };
        of.save(Kind::Newest, about, &mut [group]).unwrap()
    }

    #[test]
    fn changes_stay_with_what_they_are_the_changes_of() {
        let dir = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(dir.path().to_owned(), 1);
        let save_base = |step: u64| -> Base {
            let tensors = [Tensor { name: "a".into(), form: Form::F32, shape: vec![4, 2] }];
            let mut read = |_: usize, _: usize, out: &mut [f32]| {
                out.fill(step as f32);
                Ok(())
            };
            let group = Group { stem: "model", tensors: &tensors, read: &mut read };
            let about = About {
                step,
                workload: "w",
                base: None,
                keys: None,
                rows: None,
                progress: &Value::Null,
            };
            Base::of(&all.save(Kind::Newest, about, &mut [group]).unwrap().path).unwrap()
        };
        let base = save_base(1);
        save_changes(&all, 20, &base);
        let saved = save_changes(&all, 30, &base);
        assert!(saved.incremental && all.has(&base));
        assert_eq!(names(dir.path()), ["step-000000000001", "step-000000000030"]);
        let (loaded, _) = all.newest().unwrap();
        let mut values = [0.0; 8];
        loaded.tensors.get("a").unwrap().copy(0, &mut values);
        assert_eq!(values, [1.0, 1.0, 30.0, 31.0, 1.0, 1.0, 32.0, 33.0]);
        assert_eq!(loaded.tensors.get("a").unwrap().changed_rows().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(loaded.tensors.names().collect::<Vec<_>>(), ["a"]);
        // Anything else in its place is not taken for it.
        let other = save_base(1);
        assert_eq!(other, base, "the same again");
        fs::write(dir.path().join("step-000000000001/progress.json"), "{}\n").unwrap();
        let told = |what: &str| {
            let none = all.newest().unwrap_err().to_string();
            assert!(none.contains(what), "{none}");
        };
        save_changes(&all, 30, &base);
        told("its base: ");
        fs::write(dir.path().join("step-000000000001/manifest.json"), "{}").unwrap();
        told("step-000000000001, its base, is not the one that it was made of");
        assert!(!all.has(&base));
        fs::remove_dir_all(dir.path().join("step-000000000001")).unwrap();
        told("has only the rows that changed since step-000000000001, which is missing beside it");
        let changes = Base::of(&dir.path().join("step-000000000030")).unwrap();
        save_changes(&all, 40, &changes);
        told("its base");
        // A whole one needs nobody.
        save_base(50);
        assert_eq!(names(dir.path()), ["step-000000000050"]);
    }

    #[test]
    fn one_that_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(dir.path().to_owned(), 1);
        save(&all, Kind::Newest, 1).unwrap();
        let tensors = [Tensor { name: "a".into(), form: Form::F32, shape: vec![5] }];
        let mut read = |_: usize, _: usize, _: &mut [f32]| Err(io::Error::other("device lost"));
        let group = Group { stem: "model", tensors: &tensors, read: &mut read };
        let about = About {
            step: 2,
            workload: "w",
            base: None,
            keys: None,
            rows: None,
            progress: &Value::Null,
        };
        let failed = all.save(Kind::Newest, about, &mut [group]).unwrap_err();
        assert!(failed.to_string().ends_with("device lost"), "{failed}");
        assert_eq!(names(dir.path()), ["step-000000000001"]);
        // What a kill leaves goes with the next one, and counts as none before.
        fs::create_dir(dir.path().join(".tmp-step-000000000002")).unwrap();
        assert_eq!(all.newest().unwrap().0.manifest.step, 1);
        save(&all, Kind::Newest, 3).unwrap();
        assert_eq!(names(dir.path()), ["step-000000000003"]);
    }
}
