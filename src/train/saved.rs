//! A saved model that predicts.

use super::{
    TrainError,
    checkpoint::restore_parameters,
    evaluate::EvalSplit,
    memory::{check_device, check_memory, memory_plan, quantised_memory_plan},
};
use crate::{
    backend::Quantisation,
    batch::Batch,
    checkpoint::Loaded,
    data::{DataError, Dataset, Facts, Source},
    engine::{self, Engine, EngineConfig, ModelBytes},
    metrics::Quality,
    model::init::{InitSource, Initializer},
    optim::{OptimizerConfig, OptimizerSpec},
    workload::{EvalCache, Workload, WorkloadError},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

/// Which samples are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Those that decide when the target is reached.
    Eval,
    /// Those of `data.test`.
    Test,
    /// Those that were trained on; the first epoch's order.
    Train,
}

impl Split {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Split::Eval => "eval",
            Split::Test => "test",
            Split::Train => "train",
        }
    }
}

/// Takes predictions and labels, in the order of the samples.
pub type Sink<'a> = dyn FnMut(&[f32], &[f32]) -> io::Result<()> + 'a;

/// Samples to judge saved models of one workload on.
pub struct Judge {
    /// With an optimizer that has no state.
    workload: Workload,
    config: EngineConfig,
    split: EvalSplit,
    facts: Facts,
}

/// A model whose parameters were read from a file, and samples to judge it on.
pub struct SavedModel<'a> {
    engine: Box<dyn Engine>,
    bytes: ModelBytes,
    judge: &'a mut Judge,
}

/// How long predictions of a batch take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Batches that were timed.
    pub batches: usize,
    /// Seconds of half of them, at most.
    pub p50: f64,
    /// Of 95 in 100.
    pub p95: f64,
    /// Of 99 in 100.
    pub p99: f64,
    /// Samples over the seconds of all of them.
    pub samples_per_second: f64,
}

impl Judge {
    /// Opens the data of `workload`.
    ///
    /// # Errors
    /// If they cannot be opened, or lack such a split.
    pub fn open(workload: &Workload, split: Split, stop: &AtomicBool) -> Result<Self, TrainError> {
        let mut workload = workload.clone();
        workload.optimizer = OptimizerConfig { rule: OptimizerSpec::SGD, ..workload.optimizer };
        let Dataset { train, eval, test, facts, numpy: _ } =
            workload.open_data_until(stop, &mut |_| ())?.ok_or(TrainError::Interrupted)?;
        let source: Box<dyn Source> = match split {
            Split::Eval => eval,
            Split::Train => train,
            Split::Test => test.ok_or_else(|| {
                DataError::Invalid("these data have no test split; data.test names one".into())
            })?,
        };
        if source.len().is_none() {
            let name = split.name();
            return Err(DataError::Invalid(format!("the {name} split has no end")).into());
        }
        let config = workload.engine_config(source.schema())?;
        let mut split = EvalSplit::new(source, workload.eval.batch_size, EvalCache::Never);
        if let Some(samples) = workload.eval.samples {
            split.limit(samples)?;
        }
        Ok(Judge { workload, config, split, facts })
    }

    /// The model of the workload with the parameters of `loaded`, quantised as they are read or as
    /// the workload keeps them. No state of an optimizer is made. Of several models only one is in
    /// memory at a time.
    ///
    /// # Errors
    /// If the model is another one, memory does not suffice, or it cannot be quantised.
    pub fn model(
        &mut self,
        loaded: &Loaded,
        quantisation: Quantisation,
        stop: &AtomicBool,
    ) -> Result<SavedModel<'_>, TrainError> {
        let Judge { workload, config, .. } = self;
        let bytes = ModelBytes::of(config, quantisation);
        let mut engine = if quantisation.is_none() {
            check_memory(&memory_plan(workload, Some(config)))?;
            check_device(workload, config)?;
            // Every value is overwritten, or stays as it is at every start; this generator is the
            // fastest.
            let init = InitSource::Philox { seed: workload.train.seed };
            let mut init = Initializer::new(&config.whole_model(), init).until(stop);
            let (kind, device) = (workload.engine.kind, workload.engine.device);
            engine::build(kind, device, config, &mut init)?
        } else {
            check_memory(&quantised_memory_plan(workload, config, quantisation))?;
            engine::quantised(config, quantisation)?
        };
        restore_parameters(&mut *engine, loaded, &config.model)?;
        Ok(SavedModel { engine, bytes, judge: self })
    }

    /// What is known of the data.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Samples that are judged.
    pub fn samples(&self) -> u64 {
        self.split.len()
    }

    /// Bytes of the parameters of a model that is kept so.
    pub fn bytes(&self, quantisation: Quantisation) -> ModelBytes {
        ModelBytes::of(&self.config, quantisation)
    }
}

impl SavedModel<'_> {
    /// Bytes of its parameters.
    pub fn bytes(&self) -> ModelBytes {
        self.bytes
    }

    /// Predicts all samples and judges the predictions, which go to `sink` as well.
    ///
    /// # Errors
    /// If the data cannot be read or the device fails; [`TrainError::Metrics`] if predictions are no
    /// probabilities, or all labels are equal.
    pub fn evaluate(
        &mut self,
        stop: &AtomicBool,
        sink: Option<&mut Sink<'_>>,
    ) -> Result<Quality, TrainError> {
        let judged = match sink {
            None => self.judge.split.evaluate(&mut *self.engine, stop),
            Some(sink) => self.judge.split.evaluate_on_host(&mut *self.engine, stop, sink),
        };
        judged.map_err(|e| e.at_step(0))
    }

    /// Times predictions of batches of each size, the first of the split again and again: each size
    /// for `time` after a warm-up of a tenth of it, and at least 20 batches.
    ///
    /// # Errors
    /// If the data cannot be read or the device fails; if a size is larger than `eval.batch_size`.
    pub fn latencies(
        &mut self,
        sizes: &[usize],
        time: Duration,
        stop: &AtomicBool,
    ) -> Result<Vec<Latency>, TrainError> {
        sizes.iter().map(|&size| self.latency(size, time, stop)).collect()
    }

    fn latency(
        &mut self,
        size: usize,
        time: Duration,
        stop: &AtomicBool,
    ) -> Result<Latency, TrainError> {
        let most = (self.judge.config.max_batch as u64).min(self.judge.samples());
        if size as u64 > most {
            let what = format!("is {size} for a latency; must be at most {most} here");
            return Err(WorkloadError::Unfit { key: "eval.batch_size", what }.into());
        }
        let batch: Batch = self.judge.split.part(0, size)?;
        let mut out = vec![0.0; size];
        let (mut seconds, began) = (Vec::new(), Instant::now());
        let warm = time / 10;
        loop {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(TrainError::Interrupted);
            }
            let start = Instant::now();
            self.engine.predict(&batch, &mut out)?;
            let took = start.elapsed();
            if began.elapsed() < warm {
                continue;
            }
            seconds.push(took.as_secs_f64());
            if began.elapsed() >= time + warm && seconds.len() >= 20 {
                break;
            }
        }
        let total: f64 = seconds.iter().sum();
        seconds.sort_by(f64::total_cmp);
        // The smallest time that so many of all do not pass.
        let at = |share: f64| seconds[(share * seconds.len() as f64).ceil() as usize - 1];
        Ok(Latency {
            batch_size: size,
            batches: seconds.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            samples_per_second: (size * seconds.len()) as f64 / total,
        })
    }
}
