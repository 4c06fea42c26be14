//! What is in the output folder before a job begins: nothing, its own work, its own data, or
//! something that is not to be touched.

use super::checkpoint::{Checkpoint, FOLDER};
use crate::data::{
    manifest::{Manifest, NAME},
    preprocess::{
        inputs::Input,
        prepare::{Job, PrepareError, Progress, Tell, plan::Plan},
    },
};
use serde::Serialize;
use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

/// What the output folder holds of a job before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputState {
    /// Nothing.
    #[serde(rename = "nothing")]
    Empty,
    /// Unfinished work, which goes on.
    #[serde(rename = "begun")]
    Unfinished,
    /// Finished data, which will only be checked.
    Finished,
}

/// Tells what the output folder holds of this job.
///
/// # Errors
/// If it holds something else, as [`run`](super::super::run()) does.
pub fn output_state(job: &Job, fresh: &Checkpoint) -> Result<OutputState, PrepareError> {
    refuse_file(&job.output)?;
    if finished(job, fresh)?.is_some() {
        return Ok(OutputState::Finished);
    }
    let work = job.output.join(FOLDER);
    match Checkpoint::read(&work)? {
        Some(found) => same_job(found, fresh, &work).map(|_| OutputState::Unfinished),
        None => Ok(OutputState::Empty),
    }
}

/// Refuses an output folder that is a file, or lies below one.
///
/// # Errors
/// [`PrepareError::Write`], if so.
pub fn refuse_file(output: &Path) -> Result<(), PrepareError> {
    let what = match output.ancestors().find(|path| path.exists()) {
        Some(found) if found.is_dir() => return Ok(()),
        Some(found) if found == output => "is a file; must be a folder, or not be there yet".into(),
        Some(found) => format!("cannot be a folder, since {} is a file", found.display()),
        None => return Ok(()),
    };
    Err(PrepareError::write(output)(io::Error::new(ErrorKind::NotADirectory, what)))
}

/// Reads the manifest of finished data of this job; `None` if there are no data.
///
/// # Errors
/// If the data are of another job, or their manifest cannot be read.
pub fn finished(job: &Job, fresh: &Checkpoint) -> Result<Option<Manifest>, PrepareError> {
    let Some(manifest) = Manifest::read(&job.output)? else { return Ok(None) };
    let output = job.output.display();
    let (recipe, named) = (job.recipe.name(), job.parameters.named(job.recipe));
    let other = if manifest.recipe != recipe {
        Some(format!("made by {}", manifest.recipe))
    } else if let Some((name, value)) =
        manifest.parameters.iter().find(|&(name, value)| named.get(name) != Some(value))
    {
        Some(format!("made with {name} = {value}"))
    } else {
        Input::difference(&manifest.inputs, &fresh.inputs).map(|what| format!("made from {what}"))
    };
    match other {
        Some(how) => Err(PrepareError::Stale(format!(
            "{output}: holds data {how}; choose another folder, or delete this one"
        ))),
        None => Ok(Some(manifest)),
    }
}

/// Checks that every byte of finished data is as it was written.
///
/// # Errors
/// [`PrepareError::Stale`], if one is not.
pub fn reuse(
    job: &Job,
    manifest: Manifest,
    work: &Path,
    tell: Tell,
) -> Result<Manifest, PrepareError> {
    let output = job.output.display();
    let (mut bytes, total) = (0, manifest.bytes());
    let damaged = manifest.verify(&job.output, |n| {
        bytes += n;
        tell(Progress::Other { what: "verifying what is there", bytes, total });
    });
    if let Some(first) = damaged.first() {
        return Err(PrepareError::Stale(format!(
            "{output}: {} {}; damaged files: {} of {}; delete the folder to make them anew",
            first.file,
            first.what,
            damaged.len(),
            manifest.files.len()
        )));
    }
    // A kill between the manifest and the end leaves it.
    let _ = fs::remove_dir_all(work);
    Ok(manifest)
}

/// Accepts unfinished work of this job.
///
/// # Errors
/// [`PrepareError::Stale`], if it is of another.
pub fn same_job(
    found: Checkpoint,
    fresh: &Checkpoint,
    work: &Path,
) -> Result<Checkpoint, PrepareError> {
    let what = if found.recipe != fresh.recipe {
        format!("by {}", found.recipe.name())
    } else if found.parameters != fresh.parameters {
        "with other settings".into()
    } else if let Some(what) = Input::difference(&found.inputs, &fresh.inputs) {
        format!("from {what}")
    } else {
        return Ok(found);
    };
    let work = work.display();
    Err(PrepareError::Stale(format!(
        "{work}: work was begun here {what}; delete {work} to begin anew, or choose another folder"
    )))
}

/// Refuses to overwrite files of the user's.
///
/// # Errors
/// [`PrepareError::Stale`], if a file that will be written exists.
pub fn refuse_overwriting(job: &Job, plan: &Plan) -> Result<(), PrepareError> {
    match plan.files.iter().map(|file| job.output.join(&file.name)).find(|path| path.exists()) {
        Some(path) => Err(PrepareError::Stale(format!(
            "{}: is there already, but no {NAME} that tells what it is; choose another folder, or delete it",
            path.display()
        ))),
        None => Ok(()),
    }
}
