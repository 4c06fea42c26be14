//! What is there of a job and what it would make, told at once: only the start of each raw file is
//! read.

use super::{
    Job, OutputState, PrepareError,
    plan::{Plan, estimate_closely},
    state::{
        checkpoint::{Checkpoint, FOLDER},
        existing::{finished, output_state, refuse_file},
    },
};
use crate::data::manifest::Manifest;
use std::fs;

/// What the output folder holds of a job, with the manifest of finished data.
///
/// # Errors
/// If the raw files cannot be read, or the folder holds something else.
pub fn look(job: &Job) -> Result<(OutputState, Option<Manifest>), PrepareError> {
    job.check()?;
    let fresh = Checkpoint::new(job.recipe, job.parameters, job.inputs()?);
    refuse_file(&job.output)?;
    match finished(job, &fresh)? {
        Some(manifest) => Ok((OutputState::Finished, Some(manifest))),
        None => Ok((output_state(job, &fresh)?, None)),
    }
}

/// Takes away what a kill at the end of a job has left of its work, once its data are finished.
pub fn tidy(job: &Job) {
    let _ = fs::remove_dir_all(job.output.join(FOLDER));
}

/// What a job will write, and how long reading will take, by the start of each raw file.
///
/// # Errors
/// If a file cannot be read.
pub fn foresee(job: &Job) -> Result<Plan, PrepareError> {
    job.check()?;
    estimate_closely(job, &job.inputs()?)
}
