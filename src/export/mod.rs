//! Saved models in the formats of other programs: PyTorch's as facebookresearch/dlrm saves it, ONNX,
//! and one file of safetensors. docs/export.md shows how each is read.

mod facebook;
mod onnx;

pub use onnx::{Bags, EXTERNAL_ABOVE};

use crate::{
    batch::Schema,
    checkpoint::{CheckpointError, Form, Loaded, ReadPart, Tensor, torch::Counters, write_file},
    engine::EngineConfig,
    host::atomic_file::replace,
    model::ParamSpec,
    train::Progress,
    workload::Workload,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Why a model cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file lacks what the model has, or is damaged.
    #[error(transparent)]
    Model(#[from] CheckpointError),
    /// The format has no way to say what the model does.
    #[error("{0}")]
    Refused(String),
    /// It was given up, and nothing is left of the file.
    #[error("interrupted")]
    Interrupted,
    /// The file cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A format, which the ending of a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PyTorch's, with facebook's dictionary in it.
    Torch,
    /// ONNX, of operations since opset 18.
    Onnx,
    /// The parameters in one file of safetensors.
    Safetensors,
}

impl Format {
    /// All of them with their endings.
    pub const ENDINGS: [(&str, Format); 3] =
        [("pt", Format::Torch), ("onnx", Format::Onnx), ("safetensors", Format::Safetensors)];

    /// The format of a file of this name.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_lowercase();
        Self::ENDINGS.iter().find(|(of, _)| *of == ending).map(|(_, format)| *format)
    }
}

/// Sizes of a training that its model does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Samples of an evaluation.
    pub eval_samples: u64,
}

/// A saved model that is to be written.
pub struct Model<'a> {
    /// Set from outside (Ctrl-C) to give up.
    pub stop: &'a AtomicBool,
    /// Its tensors.
    pub loaded: &'a Loaded,
    /// Its workload.
    pub workload: &'a Workload,
    /// What it is.
    pub config: &'a EngineConfig,
    /// Its columns.
    pub schema: &'a Schema,
    /// How long its training is.
    pub training: Training,
    /// Loss of the last step, where it is known.
    pub train_loss: Option<f64>,
    /// How the columns of an ONNX model are given.
    pub bags: Bags,
    /// Bytes of tensors above which those of an ONNX model go to a file beside it.
    pub external_above: u64,
}

impl Model<'_> {
    /// Writes the model to `path`, which appears whole or not at all. Sentences about what was left
    /// out.
    ///
    /// # Errors
    /// If the format cannot hold it, tensors are missing, or the file cannot be written.
    pub fn write(&self, format: Format, path: &Path) -> Result<Vec<String>, ExportError> {
        if self.config.hashed.is_some() {
            let what = "the model has tables that grow (embedding.store = \"hashed\"), and no format here says which id has which row; train it with \"resident\"";
            return Err(ExportError::Refused(what.to_owned()));
        }
        let params = self.params();
        for param in &params {
            self.loaded.tensor(&param.name, &param.shape)?;
        }
        let written = |source| self.failed(path, source);
        match format {
            Format::Torch => facebook::write_pt(self, params, path),
            Format::Onnx => onnx::write(self, path).map(|()| Vec::new()),
            Format::Safetensors => {
                let tensors: Vec<Tensor> = params.iter().map(|p| self.kept(p)).collect();
                let names: Vec<String> = params.into_iter().map(|p| p.name).collect();
                replace(path, |to| write_file(to, &tensors, &mut self.reader(&names)))
                    .map_err(written)?;
                Ok(Vec::new())
            }
        }
    }

    /// The parameters, but for those that stay 1 and are not there.
    fn params(&self) -> Vec<ParamSpec> {
        let mut params = self.config.model.params();
        let there = |p: &ParamSpec| self.loaded.tensors.get(&p.name).is_some();
        params.retain(|p| !self.config.model.stays_one(p) || there(p));
        params
    }

    /// A parameter in the form in which the file has it.
    fn kept(&self, param: &ParamSpec) -> Tensor {
        let form = self.loaded.tensors.get(&param.name).map_or(Form::F32, |view| view.form);
        Tensor { name: param.name.clone(), form, shape: param.shape.clone() }
    }

    /// Copies out numbers of the tensors `names`, all of which are there.
    fn reader<'b>(&'b self, names: &'b [String]) -> Box<ReadPart<'b>> {
        Box::new(move |i, first, out| self.copy(&names[i], first, out))
    }

    /// Copies out numbers `first..` of a tensor that is there, unless it is to be given up.
    fn copy(&self, name: &str, first: usize, out: &mut [f32]) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let missing = || io::Error::other(format!("{name} is missing"));
        self.loaded.tensors.get(name).ok_or_else(missing)?.copy(first, out);
        Ok(())
    }

    /// Why the file could not be written.
    fn failed(&self, path: &Path, source: io::Error) -> ExportError {
        match self.stop.load(Ordering::Relaxed) {
            true => ExportError::Interrupted,
            false => ExportError::Write { path: path.to_owned(), source },
        }
    }

    /// What facebook's program would say of the training: as it said it, or made of a checkpoint's
    /// progress. It counts epochs from 0 and batches within one from 1.
    fn counters(&self) -> Counters {
        if let Some(counters) = self.loaded.counters() {
            return counters;
        }
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let Training { steps_per_epoch, eval_samples } = self.training;
        let progress = Progress::of(self.loaded).ok();
        let steps = progress.as_ref().map_or(0, |p| p.steps);
        let epoch = steps.saturating_sub(1) / steps_per_epoch.max(1);
        let quality = progress.and_then(|p| p.last_eval).map(|e| e.quality);
        Counters {
            nepochs: whole(self.workload.train.epochs),
            nbatches: whole(steps_per_epoch),
            nbatches_test: whole(eval_samples.div_ceil(self.workload.eval.batch_size as u64)),
            epoch: whole(epoch),
            iter: whole(steps - epoch * steps_per_epoch),
            train_loss: self.train_loss,
            total_loss: Some(0.0),
            test_acc: quality.map(|q| q.accuracy),
        }
    }
}
