//! A saved model on the command line: which one, and the workload that says what it is.

use super::{
    Failure,
    resume::{checkpoints_of, workload_of},
    workloads::WorkloadPlace,
};
use crate::{
    checkpoint::{CheckpointError, Kind, Loaded},
    host::escape::visible,
};
use clap::Args;
use std::path::{Path, PathBuf};

/// Which model, of which workload.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model: the folder of a checkpoint, or of a run, of which the best
    /// checkpoint is taken if it kept one (checkpoint.best), else the newest; or
    /// a file: .safetensors, or .pt of PyTorch, with --workload
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// The workload that says what the model is and what the data are [default:
    /// that of the run]
    #[arg(long, value_name = "FILE", value_parser = WorkloadPlace, hide_possible_values = true)]
    pub workload: Option<PathBuf>,
    /// Replace one value of the workload, as in --set data.eval=new.csv; may be
    /// given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ModelArgs {
    /// The model, and the run's folder if there is one.
    pub(super) fn find(&self) -> Result<(Loaded, Option<PathBuf>), Failure> {
        find(&self.model)
    }

    /// The file of its workload: the one that was given, or that of the run.
    pub(super) fn file(&self, run: Option<&Path>) -> Result<PathBuf, Failure> {
        match (&self.workload, run) {
            (Some(file), _) => Ok(file.clone()),
            (None, Some(run)) => Ok(run.join("workload.toml")),
            (None, None) => Err(Failure::Usage(format!(
                "{}: there is no workload.toml of a run above it; say with --workload what the model is",
                visible(&self.model.display().to_string())
            ))),
        }
    }
}

/// The checkpoint in a folder, or that of the run in it, or the model in a file, and the run's folder
/// if there is one.
pub(super) fn find(model: &Path) -> Result<(Loaded, Option<PathBuf>), Failure> {
    if model.is_file() {
        return Ok((Loaded::any(model)?, None));
    }
    if model.join("manifest.json").is_file() {
        let run = model.ancestors().nth(2).filter(|run| run.join("workload.toml").is_file());
        return Ok((Loaded::any(model)?, run.map(Path::to_owned)));
    }
    let hint = "name a model: the folder of a checkpoint or of a run, or a file";
    let resolved = workload_of(model, hint)?;
    let all = checkpoints_of(model, &resolved.workload);
    let found = match all.find(Kind::Best) {
        Err(CheckpointError::None { damaged, .. }) if damaged.is_empty() => all.find(Kind::Newest),
        found => found,
    };
    let (loaded, damaged) = found?;
    for what in damaged {
        errln!("warning: {}; taking the one before", visible(&what));
    }
    Ok((loaded, Some(model.to_owned())))
}
