//! `run --resume`: which run to go on with.

use super::{Failure, ready::ready};
use crate::{
    checkpoint::{CheckpointError, Checkpoints, KEEP, Loaded},
    host::escape::visible,
    results::record,
    train::{Progress, events::StopReason},
    workload::{self, Missing, Resolved, Workload},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A run that goes on.
pub(super) struct Resume {
    /// Its folder.
    pub folder: PathBuf,
    /// The checkpoint.
    pub loaded: Loaded,
    /// What it says.
    pub progress: Progress,
}

/// The workload of the run in a folder, as it was resolved then. If it is no such folder, `hint` says
/// what would be right.
pub(super) fn workload_of(folder: &Path, hint: &str) -> Result<Resolved, Failure> {
    let file = folder.join("workload.toml");
    if !file.is_file() {
        return Err(Failure::Usage(format!(
            "{} is no folder of a run; {hint}",
            visible(&folder.display().to_string())
        )));
    }
    let mut resolved = workload::load_with(&file, &[], Missing::TakeOtherwise)?;
    ready(&mut resolved)?;
    Ok(resolved)
}

/// The checkpoint to go on from in the folder of a run of this workload.
pub(super) fn in_folder(folder: &Path, resolved: &Resolved) -> Result<Resume, Failure> {
    let named = |what: String| {
        Failure::Usage(format!("{}: {what}", visible(&folder.display().to_string())))
    };
    if let Some(ended) = ended(folder) {
        return Err(named(format!("this run is over, {ended}; there is nothing to go on with")));
    }
    let (loaded, damaged) = match checkpoints_of(folder, &resolved.workload).newest() {
        Err(CheckpointError::None { damaged, .. }) if damaged.is_empty() => {
            return Err(named(
                "this run has no checkpoint; [checkpoint] in a workload says when they are written"
                    .to_owned(),
            ));
        }
        found => found?,
    };
    for what in damaged {
        errln!("warning: {}; going on from the one before", visible(&what));
    }
    if loaded.manifest.workload != resolved.workload.sha256() {
        return Err(named(
            "its checkpoints are of another workload than its workload.toml; put that back as it was"
                .to_owned(),
        ));
    }
    let progress = Progress::of(&loaded)?;
    Ok(Resume { folder: folder.to_owned(), loaded, progress })
}

/// The newest run of a workload below `root` that is not over and has a checkpoint; `None` if there
/// is none.
pub(super) fn newest(root: &Path, resolved: &Resolved) -> Result<Option<Resume>, Failure> {
    let (name, hash) = (&resolved.workload.workload.name, resolved.workload.sha256());
    let of_workload = |folder: &PathBuf| {
        let same = |r: Resolved| r.workload.sha256() == hash;
        workload::load_with(&folder.join("workload.toml"), &[], Missing::TakeOtherwise)
            .is_ok_and(same)
    };
    let mut runs: Vec<PathBuf> = folders(root)
        .flat_map(|system| folders(&system.join(name)).collect::<Vec<_>>())
        .filter(|run| run.join("workload.toml").is_file())
        .collect();
    // Their names begin with the time.
    runs.sort_by_key(|run| run.file_name().map(ToOwned::to_owned));
    for folder in runs.into_iter().rev().filter(of_workload) {
        if ended(&folder).is_some() {
            continue;
        }
        if checkpoints_of(&folder, &resolved.workload).any() {
            return in_folder(&folder, resolved).map(Some);
        }
    }
    Ok(None)
}

/// Folders in a folder; none if it cannot be read.
fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir())
}

/// How a run came to its end; `None` if it was interrupted, broke off, or was killed.
fn ended(folder: &Path) -> Option<&'static str> {
    let record = record::read(&folder.join("run.json")).ok()?;
    match record.outcome?.reason {
        StopReason::Target => Some("it has reached its target"),
        StopReason::Budget => Some("it has done all its steps"),
        StopReason::Patience => Some("its patience had an end"),
        StopReason::Failed => Some("it has failed: a loss or a prediction is not a number"),
        StopReason::Interrupted | StopReason::Broken => None,
    }
}

/// The checkpoints of the run of `workload` in a folder.
pub(super) fn checkpoints_of(folder: &Path, workload: &Workload) -> Checkpoints {
    let config = &workload.checkpoint;
    let dir = match (&config.dir, folder.file_name()) {
        (Some(dir), Some(run)) => dir.join(run),
        _ => folder.join("checkpoints"),
    };
    Checkpoints::new(dir, config.keep.unwrap_or(KEEP))
}

impl From<CheckpointError> for Failure {
    fn from(e: CheckpointError) -> Self {
        match e {
            CheckpointError::Write { .. } => Failure::Output(e.to_string()),
            _ => Failure::Input(e.to_string()),
        }
    }
}
