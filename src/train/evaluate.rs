//! Evaluation over a whole split.

use super::{TrainError, saved::Sink};
use crate::{
    batch::{Batch, GeneratedSplit, Samples},
    data::{DataError, Source, loader},
    engine::{Engine, EngineError},
    metrics::{self, MetricsError, Quality},
    workload::{EvalCache, WorkloadError},
};
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

/// A split that is kept in memory ([`EvalCache::Auto`]) when it is no larger than this; larger ones
/// are read anew at each evaluation.
const CACHE_BYTES: u64 = 1 << 30;

/// An engine that lets a device make samples keeps the predictions there too (`Engine::learn`).
const ELSEWHERE: &str = "the samples are on a device that does not judge predictions";

/// What can go wrong while evaluating.
pub(super) enum EvalError {
    Data(DataError),
    Engine(EngineError),
    Metrics(MetricsError),
    /// Whoever takes the predictions cannot.
    Sink(io::Error),
    Interrupted,
}

impl EvalError {
    /// What it is to a run, after a step.
    pub fn at_step(self, step: u64) -> TrainError {
        match self {
            EvalError::Data(e) => e.into(),
            EvalError::Engine(e) => e.into(),
            EvalError::Metrics(source) => TrainError::Metrics { step, source },
            EvalError::Sink(e) => TrainError::Listener(e),
            EvalError::Interrupted => TrainError::Interrupted,
        }
    }
}

impl From<DataError> for EvalError {
    fn from(error: DataError) -> Self {
        EvalError::Data(error)
    }
}

impl From<EngineError> for EvalError {
    fn from(error: EngineError) -> Self {
        EvalError::Engine(error)
    }
}

impl From<MetricsError> for EvalError {
    fn from(error: MetricsError) -> Self {
        EvalError::Metrics(error)
    }
}

/// A split to evaluate on, again and again.
pub(super) struct EvalSplit {
    source: Box<dyn Source>,
    batch_size: usize,
    /// The device makes the samples itself.
    generated: Option<GeneratedSplit>,
    /// Samples that are evaluated.
    len: u64,
    keep: EvalCache,
    cache: Option<Vec<Batch>>,
    scratch: Batch,
    predictions: Vec<f32>,
    labels: Vec<f32>,
}

impl EvalSplit {
    /// The whole of a split.
    pub fn new(source: Box<dyn Source>, batch_size: usize, keep: EvalCache) -> Self {
        let (predictions, labels) = (Vec::new(), Vec::new());
        EvalSplit {
            len: source.len().unwrap_or(0),
            source,
            batch_size,
            generated: None,
            keep,
            cache: None,
            scratch: Batch::default(),
            predictions,
            labels,
        }
    }

    /// Where the samples come from.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// Samples that are evaluated.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Evaluates on the first `samples` samples only.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn limit(&mut self, samples: u64) -> Result<(), WorkloadError> {
        if samples > self.len {
            let what = format!(
                "is {samples}, but the evaluation split holds {}; must be at most that",
                self.len
            );
            return Err(WorkloadError::Unfit { key: "eval.samples", what });
        }
        self.len = samples;
        Ok(())
    }

    /// Lets the device make the samples itself, unless they are to be kept.
    pub fn make_on_device(&mut self, generated: Option<GeneratedSplit>) {
        let generated = generated.filter(|_| self.keep != EvalCache::Always);
        self.cache = self.cache.take().filter(|_| generated.is_none());
        self.generated = generated;
    }

    /// Reads the split before anything is trained: whether all samples can be read, and can be
    /// judged. `name` is that of the split.
    pub fn check(&mut self, name: &str, stop: &AtomicBool) -> Result<(), EvalError> {
        let wrong = |e: MetricsError| DataError::Invalid(format!("the {name} split: {e}"));
        if self.source.len().is_none() {
            return Err(DataError::Invalid(format!("the {name} split needs an end")).into());
        }
        if self.len == 0 {
            return Err(wrong(MetricsError::Empty).into());
        }
        let (mut samples, mut ones) = (0usize, 0usize);
        let mut look = |batch: &Batch| {
            for (&value, position) in batch.labels.iter().zip(samples..) {
                match value {
                    0.0 => {}
                    1.0 => ones += 1,
                    _ => return Err(wrong(MetricsError::NotBinary { position, value })),
                }
            }
            samples += batch.labels.len();
            Ok(ones > 0 && ones < samples)
        };
        if self.source.generated_split().is_some() {
            // What is made of numbers cannot be malformed: enough is seen with both labels.
            let mut batch = Batch::with_capacity(self.source.schema(), self.batch_size);
            let len = self.len;
            for start in (0..len).step_by(self.batch_size) {
                let n = (len - start).min(self.batch_size as u64) as usize;
                self.source.fill(0, start, n, &mut batch)?;
                if stop.load(Ordering::Relaxed) {
                    return Err(EvalError::Interrupted);
                }
                if look(&batch)? {
                    return Ok(());
                }
            }
        } else {
            self.each(stop, |samples| {
                if let Some(batch) = samples.host() {
                    look(batch)?;
                }
                Ok(())
            })?;
        }
        if ones == 0 || ones == samples {
            return Err(wrong(MetricsError::OneClass { samples, class: u8::from(ones > 0) }).into());
        }
        Ok(())
    }

    /// Predicts the whole split and judges the predictions: where the device keeps them, there.
    pub fn evaluate(
        &mut self,
        engine: &mut dyn Engine,
        stop: &AtomicBool,
    ) -> Result<Quality, EvalError> {
        if engine.begin_scores(self.len)? {
            self.each(stop, |samples| Ok(engine.score(samples)?))?;
            return Ok(engine.count_scores()??.quality()?);
        }
        self.evaluate_on_host(engine, stop, &mut |_, _| Ok(()))
    }

    /// Predicts the whole split, hands predictions and labels to `sink` batch by batch, and judges
    /// them here.
    pub fn evaluate_on_host(
        &mut self,
        engine: &mut dyn Engine,
        stop: &AtomicBool,
        sink: &mut Sink<'_>,
    ) -> Result<Quality, EvalError> {
        let (mut predictions, mut labels) =
            (std::mem::take(&mut self.predictions), std::mem::take(&mut self.labels));
        predictions.clear();
        labels.clear();
        self.each(stop, |samples| {
            let batch = samples.host().ok_or_else(|| EngineError::Unsupported(ELSEWHERE.into()))?;
            let at = predictions.len();
            predictions.resize(at + batch.len, 0.0);
            engine.predict(batch, &mut predictions[at..])?;
            labels.extend_from_slice(&batch.labels);
            sink(&predictions[at..], &batch.labels).map_err(EvalError::Sink)
        })?;
        let quality = metrics::quality(&predictions, &labels);
        (self.predictions, self.labels) = (predictions, labels);
        Ok(quality?)
    }

    /// Samples of a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Samples `start..start + n`; there are so many.
    pub fn part(&mut self, start: u64, n: usize) -> Result<Batch, DataError> {
        let mut batch = Batch::with_capacity(self.source.schema(), n);
        self.source.fill(0, start, n, &mut batch)?;
        Ok(batch)
    }

    /// Hands out the split batch by batch.
    fn each(
        &mut self,
        stop: &AtomicBool,
        mut f: impl FnMut(Samples<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut f = |samples: Samples<'_>| {
            if stop.load(Ordering::Relaxed) { Err(EvalError::Interrupted) } else { f(samples) }
        };
        let len = self.len;
        let kept = match self.keep {
            EvalCache::Auto => len * loader::bytes_per_sample(self.source.schema()) <= CACHE_BYTES,
            EvalCache::Always => true,
            EvalCache::Never => false,
        };
        if kept && self.generated.is_none() && self.cache.is_none() {
            self.cache = Some(loader::read_first(&mut *self.source, self.batch_size, len)?);
        }
        if let Some(cache) = &self.cache {
            return cache.iter().try_for_each(|batch| f(Samples::Host(batch)));
        }
        if self.generated.is_none() && self.scratch.bags.is_empty() {
            self.scratch = Batch::with_capacity(self.source.schema(), self.batch_size);
        }
        for start in (0..len).step_by(self.batch_size) {
            let n = (len - start).min(self.batch_size as u64) as usize;
            if let Some(generated) = &self.generated {
                f(Samples::Generated(generated.span(0, start, n)))?;
            } else {
                self.source.fill(0, start, n, &mut self.scratch)?;
                f(Samples::Host(&self.scratch))?;
            }
        }
        Ok(())
    }
}
