//! Evaluation over a whole split.

use crate::{
    data::{Batch, DataError, Source, loader},
    engine::{Engine, EngineError},
    metrics::{self, MetricsError, Quality},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// A split that is kept in memory when it is no larger than this; larger ones are read anew at each evaluation.
const CACHE_BYTES: u64 = 1 << 30;

/// What can go wrong while evaluating.
pub(super) enum EvalError {
    Data(DataError),
    Engine(EngineError),
    Metrics(MetricsError),
    Interrupted,
}

/// A split to evaluate on, again and again.
pub(super) struct EvalSplit {
    source: Box<dyn Source>,
    batch_size: usize,
    cache: Option<Vec<Batch>>,
    scratch: Batch,
    predictions: Vec<f32>,
    labels: Vec<f32>,
}

impl EvalSplit {
    pub fn new(source: Box<dyn Source>, batch_size: usize) -> Self {
        EvalSplit { source, batch_size, cache: None, scratch: Batch::default(), predictions: Vec::new(), labels: Vec::new() }
    }

    pub fn len(&self) -> Option<u64> {
        self.source.len()
    }

    /// Predicts the whole split and judges the predictions.
    pub fn evaluate(&mut self, engine: &mut dyn Engine, stop: &AtomicBool) -> Result<Quality, EvalError> {
        let len = self.source.len().unwrap_or(0);
        if self.cache.is_none() && len * loader::bytes_per_sample(self.source.schema()) <= CACHE_BYTES {
            self.cache = Some(loader::read_all(&mut *self.source, self.batch_size).map_err(EvalError::Data)?);
        }
        self.predictions.clear();
        self.labels.clear();
        if self.cache.is_none() && self.scratch.bags.is_empty() {
            self.scratch = Batch::with_capacity(self.source.schema(), self.batch_size);
        }
        let (predictions, labels) = (&mut self.predictions, &mut self.labels);
        let mut judge = |batch: &Batch| {
            if stop.load(Ordering::Relaxed) {
                return Err(EvalError::Interrupted);
            }
            let at = predictions.len();
            predictions.resize(at + batch.len, 0.0);
            engine.predict(batch, &mut predictions[at..]).map_err(EvalError::Engine)?;
            labels.extend_from_slice(&batch.labels);
            Ok(())
        };
        if let Some(cache) = &self.cache {
            cache.iter().try_for_each(&mut judge)?;
        } else {
            let mut start = 0;
            while start < len {
                let n = (len - start).min(self.batch_size as u64);
                self.source.fill(0, start, n as usize, &mut self.scratch).map_err(EvalError::Data)?;
                judge(&self.scratch)?;
                start += n;
            }
        }
        metrics::quality(predictions, labels).map_err(EvalError::Metrics)
    }
}
