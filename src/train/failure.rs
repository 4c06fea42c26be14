//! What a run leaves whose loss, or a prediction of which, is not a number: the batch at which it
//! happened, the model as it was then, what lies in its tensors and comes out of its layers; and how
//! that step is done again.

use super::{
    TrainError,
    checkpoint::{Progress, restore},
    evaluate::EvalSplit,
    prepare::prepare_until,
    saved::Split,
};
use crate::{
    batch::{Batch, Schema},
    checkpoint::{CheckpointError, Checkpoints},
    data::{
        DataError, Source,
        format::{Format, write_batch},
        ranges::Range,
    },
    engine::{Engine, EngineError, Summary},
    host::atomic_file,
    optim::LossScale,
    workload::Workload,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// The record's file, written when all else is.
const RECORD: &str = "failure.json";
/// The batch's.
const BATCH: &str = "batch.parquet";
/// The newest format that is known.
const FORMAT: u32 = 1;
/// Samples without a proper prediction that are listed.
const LISTED: usize = 100;
/// Numbers that are read from a device at once.
const PART: usize = 1 << 20;

/// What was found when a loss or a prediction was not a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// Of this file.
    pub format: u32,
    /// What is wrong.
    pub message: String,
    /// Updates done before it.
    pub steps: u64,
    /// Where in the data.
    pub at: Place,
    /// Learning rate and loss of the step; `None` in an evaluation.
    pub step: Option<LastStep>,
    /// Steps before it, the newest last.
    pub last_steps: Vec<LastStep>,
    /// What the model held, and made of the batch.
    pub found: Found,
}

/// Samples of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The split.
    pub split: Split,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Number of the first sample.
    pub first: u64,
    /// Samples.
    pub samples: usize,
    /// BLAKE3 of the batch, hexadecimal.
    pub blake3: String,
}

/// A step and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastStep {
    /// From 1.
    pub step: u64,
    /// Mean loss, in words: JSON has no NaN.
    pub loss: String,
    /// Learning rate.
    pub learning_rate: f64,
    /// Loss scale after the step, if there is loss scaling.
    pub loss_scale: Option<LossScale>,
}

/// What a model holds, and makes of a batch as in an evaluation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Found {
    /// Samples whose prediction is no probability.
    pub bad_samples: usize,
    /// The first of them.
    pub bad: Vec<BadSample>,
    /// Of each parameter.
    pub parameters: Vec<Summary>,
    /// Of each layer's output, in the order in which they are computed; `None` if the engine does
    /// not keep them.
    pub layers: Option<Vec<Summary>>,
}

/// A sample without a proper prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BadSample {
    /// Its place in the batch, from 0.
    pub sample: usize,
    /// What was predicted.
    pub prediction: String,
}

/// The newest steps.
pub(super) struct LastSteps(VecDeque<(u64, f32, f64, Option<LossScale>)>);

impl Default for LastSteps {
    fn default() -> Self {
        LastSteps(VecDeque::with_capacity(Self::KEPT))
    }
}

impl LastSteps {
    const KEPT: usize = 64;

    /// Notes a step; memory is that of the beginning.
    pub fn add(&mut self, step: u64, loss: f32, rate: f64, scale: Option<LossScale>) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back((step, loss, rate, scale));
    }

    fn all(&self) -> Vec<LastStep> {
        let all = self.0.iter();
        all.map(|&(step, loss, learning_rate, loss_scale)| LastStep {
            step,
            loss: loss.to_string(),
            learning_rate,
            loss_scale,
        })
        .collect()
    }
}

/// Where a run was when it failed.
pub(super) struct Scene<'a> {
    pub error: &'a TrainError,
    /// Updates done.
    pub steps: u64,
    pub last: &'a LastSteps,
    pub schema: &'a Schema,
    pub split: Split,
    pub range: Range,
    pub batch: &'a Batch,
}

impl Scene<'_> {
    /// Looks at the model, and writes what was found, with the batch, into `folder`.
    pub fn write(&self, engine: &mut dyn Engine, folder: &Path) -> Result<(), TrainError> {
        let path = folder.join(BATCH);
        let batch = |to: &Path| {
            let wrote = write_batch(to, Format::Parquet, self.schema, self.batch);
            wrote.map_err(io::Error::other)
        };
        let put = atomic_file::replace(&path, batch);
        put.map_err(|source| CheckpointError::Write { path, source })?;
        let step = match *self.error {
            TrainError::Loss { loss, step, rate } => Some(LastStep {
                step,
                loss: loss.to_string(),
                learning_rate: rate,
                loss_scale: engine.loss_scale(),
            }),
            _ => None,
        };
        let record = FailureRecord {
            format: FORMAT,
            message: self.error.to_string(),
            steps: self.steps,
            at: Place {
                split: self.split,
                epoch: self.range.epoch,
                first: self.range.start,
                samples: self.range.n,
                blake3: hash(self.batch),
            },
            step,
            last_steps: self.last.all(),
            found: Found::of(engine, self.batch)?,
        };
        let path = folder.join(RECORD);
        let put = serde_json::to_vec_pretty(&record)
            .map_err(io::Error::from)
            .and_then(|text| atomic_file::write(&path, &text));
        Ok(put.map_err(|source| CheckpointError::Write { path, source })?)
    }
}

impl Found {
    /// Looks at an engine's parameters, and at what it makes of a batch.
    fn of(engine: &mut dyn Engine, batch: &Batch) -> Result<Self, EngineError> {
        let (mut parameters, mut values) = (Vec::new(), Vec::new());
        for (i, param) in engine.params().iter().enumerate() {
            let mut summary = Summary::new(&param.name);
            for first in (0..param.len()).step_by(PART) {
                values.resize(PART.min(param.len() - first), 0.0);
                engine.read_from(i, first, &mut values)?;
                summary.add(&values);
            }
            parameters.push(summary);
        }
        let mut layers: Vec<Summary> = Vec::new();
        let looked = engine.look(batch, &mut |layer| match layers
            .iter_mut()
            .find(|s| s.name == layer.name)
        {
            Some(summary) => summary.add(layer.values),
            None => {
                let mut summary = Summary::new(layer.name);
                summary.add(layer.values);
                layers.push(summary);
            }
        })?;
        let mut predictions = vec![0.0; batch.len];
        engine.predict(batch, &mut predictions)?;
        let bad = |(sample, p): (usize, &f32)| {
            (!is_probability(*p)).then(|| BadSample { sample, prediction: p.to_string() })
        };
        let mut bad: Vec<BadSample> = predictions.iter().enumerate().filter_map(bad).collect();
        let bad_samples = bad.len();
        bad.truncate(LISTED);
        Ok(Found { bad_samples, bad, parameters, layers: looked.then_some(layers) })
    }
}

fn is_probability(p: f32) -> bool {
    (0.0..=1.0).contains(&p)
}

/// The first samples of a split without proper predictions: a batch as evaluations have them.
pub(super) fn first_bad(
    split: &mut EvalSplit,
    engine: &mut dyn Engine,
) -> Result<Option<(Range, Batch)>, TrainError> {
    let (batch_size, mut out) = (split.batch_size() as u64, Vec::new());
    for start in (0..split.len()).step_by(batch_size as usize) {
        let n = (split.len() - start).min(batch_size) as usize;
        let batch = split.part(start, n)?;
        out.resize(n, 0.0);
        engine.predict(&batch, &mut out)?;
        if !out.iter().copied().all(is_probability) {
            return Ok(Some((Range { epoch: 0, start, n, last_of_epoch: false }, batch)));
        }
    }
    Ok(None)
}

/// The samples of a range.
pub(super) fn samples_of(source: &mut dyn Source, range: Range) -> Result<Batch, DataError> {
    let mut batch = Batch::with_capacity(source.schema(), range.n);
    source.fill(range.epoch, range.start, range.n, &mut batch)?;
    Ok(batch)
}

/// BLAKE3 of all numbers of a batch.
fn hash(batch: &Batch) -> String {
    let mut hash = blake3::Hasher::new();
    for value in batch.labels.iter().chain(&batch.dense) {
        hash.update(&value.to_le_bytes());
    }
    for number in batch.bags.iter().flat_map(|bags| bags.indices.iter().chain(&bags.offsets)) {
        hash.update(&number.to_le_bytes());
    }
    for high in batch.bags.iter().flat_map(|bags| &bags.high) {
        hash.update(&high.to_le_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// A failed step, done again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// What the run found.
    pub then: FailureRecord,
    /// Whether it came out as then.
    pub again: bool,
    /// The loss, or how many predictions are no probabilities.
    pub now: String,
    /// What is found now.
    pub found: Found,
}

/// Whether a run has left something in `folder`.
pub fn is_left(folder: &Path) -> bool {
    folder.join(RECORD).is_file()
}

/// Does again what failed in a run of `workload`, which has left this folder.
///
/// # Errors
/// If the folder is damaged, or of another workload, or the data are others.
pub fn replay(workload: &Workload, folder: &Path, stop: &AtomicBool) -> Result<Replay, TrainError> {
    let then = read(&folder.join(RECORD))?;
    let (loaded, _) = Checkpoints::new(folder.to_owned(), 1).newest()?;
    let unfit = |what: &str| CheckpointError::Unfit { path: folder.to_owned(), what: what.into() };
    if loaded.manifest.workload != workload.sha256() {
        return Err(unfit("is of another workload than the run's workload.toml").into());
    }
    let progress = Progress::of(&loaded)?;
    let mut prepared = prepare_until(workload, stop, &mut |_| (), None)?;
    let engine = &mut *prepared.engine;
    restore(engine, (&loaded, &prepared.config.model), progress.engine)?;
    let Place { split, epoch, first, samples, ref blake3 } = then.at;
    let range = Range { epoch, start: first, n: samples, last_of_epoch: false };
    let batch = match split {
        Split::Train => samples_of(&mut *prepared.train, range)?,
        Split::Eval => prepared.eval.part(first, samples)?,
        Split::Test => {
            let test = prepared.test.as_mut();
            let test = test.ok_or_else(|| DataError::Invalid("there is no test split".into()))?;
            test.part(first, samples)?
        }
    };
    if hash(&batch) != *blake3 {
        return Err(unfit("the data are not those of the run: put them back as they were").into());
    }
    let (again, now) = match &then.step {
        Some(step) => match engine.train_step(&batch, step.learning_rate) {
            Err(EngineError::NotFinite { value, .. }) => (true, (value as f32).to_string()),
            Ok(loss) => (false, loss.to_string()),
            Err(e) => return Err(e.into()),
        },
        None => (false, String::new()),
    };
    let found = Found::of(engine, &batch)?;
    Ok(match then.step {
        Some(_) => Replay { then, again, now, found },
        None => Replay {
            again: found.bad == then.found.bad,
            now: found.bad_samples.to_string(),
            then,
            found,
        },
    })
}

fn read(path: &Path) -> Result<FailureRecord, CheckpointError> {
    let text =
        fs::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
    let record: FailureRecord =
        serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    if record.format > FORMAT {
        return Err(damaged(format!(
            "is of format {}; this program reads {FORMAT}",
            record.format
        )));
    }
    Ok(record)
}

/// Where a run in `folder` leaves what it finds.
pub fn failure_folder(run: &Path) -> PathBuf {
    run.join("failure")
}
