//! A model that was saved: the checkpoint in a folder, or a file.

use super::{
    Base, CheckpointError, FORMAT, Manifest, ReferredRows, Shard, Tensors, View,
    folder::{MANIFEST, PROGRESS},
    referred::is_of_places,
    torch,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// A whole checkpoint.
#[derive(Debug)]
pub struct Loaded {
    /// Its folder.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// What is in progress.json.
    pub progress: Value,
    /// All tensors.
    pub tensors: Tensors,
}

impl Loaded {
    /// Opens the checkpoint in a folder, every file checked against the manifest, those of its base
    /// too if it has one.
    ///
    /// # Errors
    /// If it is none, not whole, or of a later format.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
        let text = |name: &str| {
            let file = path.join(name);
            fs::read_to_string(&file).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => damaged(format!("{name} is missing")),
                io::ErrorKind::InvalidData => damaged(format!("{name} is no text")),
                _ => CheckpointError::Read { path: file.clone(), source: e },
            })
        };
        let json = |name: &str, e: serde_json::Error| damaged(format!("{name}: {e}"));
        let manifest = text(MANIFEST)?;
        let head: Value = serde_json::from_str(&manifest).map_err(|e| json(MANIFEST, e))?;
        if let Some(format) = head["format"].as_u64().filter(|&f| f > u64::from(FORMAT)) {
            return Err(CheckpointError::Unfit {
                path: path.to_owned(),
                what: format!(
                    "is a checkpoint of format {format}; this program reads formats up to {FORMAT}, so use the one that wrote it"
                ),
            });
        }
        let manifest: Manifest = serde_json::from_str(&manifest).map_err(|e| json(MANIFEST, e))?;
        for shard in &manifest.files {
            check(path, shard)?;
        }
        let progress = serde_json::from_str(&text(PROGRESS)?).map_err(|e| json(PROGRESS, e))?;
        let of_tensors = |f: &&Shard| f.name.ends_with(".safetensors") && !is_of_places(&f.name);
        let files = manifest.files.iter().filter(of_tensors);
        let paths: Vec<PathBuf> = files.map(|f| path.join(&f.name)).collect();
        let mut tensors = Tensors::open(&paths)?;
        if let Some(rows) = ReferredRows::open(path, &manifest.files)? {
            tensors.refer(rows).map_err(damaged)?;
        }
        if let Some(base) = &manifest.base {
            let whole = open_base(path, base).map_err(damaged)?;
            tensors.over(whole.tensors).map_err(damaged)?;
        }
        Ok(Loaded { path: path.to_owned(), manifest, progress, tensors })
    }

    /// A model in a file, whoever wrote it: `.safetensors`, or what `torch.save` makes. Of a file
    /// little is known but its tensors: the step is 0, there is no workload, and of progress what a
    /// file of torch says.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn file(path: &Path) -> Result<Self, CheckpointError> {
        let (tensors, progress) = match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => (Tensors::open(&[path.to_owned()])?, Value::Null),
            _ => torch::read(path)?,
        };
        let manifest =
            Manifest { format: 1, base: None, step: 0, workload: String::new(), files: Vec::new() };
        Ok(Loaded { path: path.to_owned(), manifest, progress, tensors })
    }

    /// The model in a file, or the checkpoint in a folder.
    ///
    /// # Errors
    /// If it is neither, or cannot be read.
    pub fn any(path: &Path) -> Result<Self, CheckpointError> {
        if path.join(MANIFEST).is_file() {
            return Loaded::open(path);
        }
        if path.is_dir() {
            let what = "is no checkpoint; name one, as RUN/checkpoints/step-000000001000, a .safetensors or a .pt";
            return Err(CheckpointError::Unfit { path: path.to_owned(), what: what.to_owned() });
        }
        Loaded::file(path)
    }

    /// What tells the model at `path` from any other: the file, or the manifest of a checkpoint's
    /// folder, which has the checksums of all in it.
    pub fn told_by(path: &Path) -> PathBuf {
        if path.is_dir() { path.join(MANIFEST) } else { path.to_owned() }
    }

    /// A tensor, which has this shape.
    ///
    /// # Errors
    /// If there is none, or it has another.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<View<'_>, CheckpointError> {
        let unfit = |what: String| CheckpointError::Unfit { path: self.path.clone(), what };
        let view = self
            .tensors
            .get(name)
            .ok_or_else(|| unfit(format!("has no tensor {name}; it is of another model")))?;
        if view.shape != shape {
            return Err(unfit(format!(
                "{name} has the shape {:?}, but this model's has {shape:?}",
                view.shape
            )));
        }
        Ok(view)
    }

    /// The kind of the update rule whose state the tensors have, and the updates so far, where they
    /// are known.
    pub fn rule(&self) -> Option<(&str, u64)> {
        let updates = self.progress["engine"]["updates"].as_u64()?;
        Some((self.progress["rule"].as_str()?, updates))
    }

    /// What a file of facebook's program says of the training.
    pub fn counters(&self) -> Option<torch::Counters> {
        serde_json::from_value(self.progress.get("facebook")?.clone()).ok()
    }
}

/// Opens the base of the checkpoint at `path`; else what is wrong.
fn open_base(path: &Path, base: &Base) -> Result<Loaded, String> {
    let Base { name, .. } = base;
    if !is_plain(name) {
        return Err(format!("{MANIFEST} names the base {name:?}, which is no folder beside it"));
    }
    let folder = path.parent().unwrap_or(Path::new("")).join(name);
    match Base::of(&folder) {
        Ok(found) if found == *base => {}
        Ok(_) => return Err(format!("{name}, its base, is not the one that it was made of")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "has only the rows that changed since {name}, which is missing beside it"
            ));
        }
        Err(e) => return Err(format!("{name}, its base, cannot be read: {e}")),
    }
    let whole = Loaded::open(&folder).map_err(|e| format!("its base: {e}"))?;
    match whole.manifest.base {
        None => Ok(whole),
        Some(_) => Err(format!("{name}, its base, is not whole by itself")),
    }
}

/// Whether a name from a file is that of something in a folder, not of another place.
fn is_plain(name: &str) -> bool {
    Path::new(name).components().count() == 1 && !name.starts_with("..")
}

/// Whether a file is as it was written.
fn check(folder: &Path, shard: &Shard) -> Result<(), CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged { path: folder.to_owned(), what };
    let Shard { name, bytes, blake3 } = shard;
    if !is_plain(name) {
        return Err(damaged(format!("{MANIFEST} names {name:?}, which is no file of it")));
    }
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(format!("{name} is missing")));
        }
        Err(source) => return Err(CheckpointError::Read { path, source }),
    };
    let unreadable = |source| CheckpointError::Read { path: path.clone(), source };
    let length = file.metadata().map_err(unreadable)?.len();
    if length != *bytes {
        return Err(damaged(format!("{name} has {length} bytes; {MANIFEST} says {bytes}")));
    }
    let mut hash = blake3::Hasher::new();
    hash.update_reader(file).map_err(unreadable)?;
    if hash.finalize().to_hex().as_str() != blake3 {
        return Err(damaged(format!(
            "{name} was changed: it has another checksum than {MANIFEST} says"
        )));
    }
    Ok(())
}
