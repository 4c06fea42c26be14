//! The folder of checkpoints: one is added whole, old ones go, the newest whole one is found.

use super::{
    CheckpointError, Loaded, ReadPart, Shard, Tensor,
    tensors::{SHARD_BYTES, plain, write},
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
pub const FORMAT: u32 = 1;

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

    fn name(self, step: u64) -> String {
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
    /// [`FORMAT`].
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// Whose parameters these are: SHA-256 of the resolved workload.
    pub workload: String,
    /// All other files.
    pub files: Vec<Shard>,
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
        (step, workload): (u64, &str),
        groups: &mut [Group<'_>],
        progress: &Value,
    ) -> Result<Saved, CheckpointError> {
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
            let text = format!("{progress:#}\n");
            files.push(plain(&waiting, PROGRESS, text.as_bytes())?);
            let bytes = files.iter().map(|f| f.bytes).sum();
            let manifest = Manifest { format: FORMAT, step, workload: workload.to_owned(), files };
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
        Ok(Saved { path, bytes, took: began.elapsed() })
    }

    /// Takes away what is not to be kept. It is no error if that cannot be done: the next one tries
    /// again.
    fn tidy(&self, kind: Kind) {
        let keep = if kind == Kind::Best { 1 } else { self.keep };
        let all = self.all(kind).unwrap_or_default();
        for (_, path) in all.iter().rev().skip(keep) {
            let _ = remove(path);
        }
        let left = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path());
        for path in left.filter(|p| is_temporary(p) && p.is_dir()) {
            let _ = fs::remove_dir_all(path);
        }
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
        of.save(kind, (step, "w"), &mut [group], &serde_json::json!({"step": step}))
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
        let text = fs::read_to_string(&file).unwrap().replace("\"format\": 1", "\"format\": 2");
        fs::write(file, text).unwrap();
        assert!(all.newest().unwrap_err().to_string().contains("formats up to 1"));
    }

    #[test]
    fn one_that_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(dir.path().to_owned(), 1);
        save(&all, Kind::Newest, 1).unwrap();
        let tensors = [Tensor { name: "a".into(), form: Form::F32, shape: vec![5] }];
        let mut read = |_: usize, _: usize, _: &mut [f32]| Err(io::Error::other("device lost"));
        let group = Group { stem: "model", tensors: &tensors, read: &mut read };
        let failed = all.save(Kind::Newest, (2, "w"), &mut [group], &Value::Null).unwrap_err();
        assert!(failed.to_string().ends_with("device lost"), "{failed}");
        assert_eq!(names(dir.path()), ["step-000000000001"]);
        // What a kill leaves goes with the next one, and counts as none before.
        fs::create_dir(dir.path().join(".tmp-step-000000000002")).unwrap();
        assert_eq!(all.newest().unwrap().0.manifest.step, 1);
        save(&all, Kind::Newest, 3).unwrap();
        assert_eq!(names(dir.path()), ["step-000000000003"]);
    }
}
