//! The listener that remembers a run for its record.

use super::{
    ResultsError, RunFolder,
    metrics::{Metrics, MetricsWriter},
};
use crate::{
    backend::cuda::driver::DeviceInfo,
    batch::Schema,
    checkpoint::CheckpointError,
    engine::EngineConfig,
    system::{EnergyMeter, Usage, UsageMeter},
    train::events::{EvalEvent, Listener, Outcome, Resumption, RunFacts, StepEvent},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fs, io, path::PathBuf};

/// Writes `metrics.parquet` and keeps what the record needs.
#[derive(Debug)]
pub struct Recorder {
    metrics: MetricsWriter,
    facts: Option<RunFacts>,
    config: Option<EngineConfig>,
    schema: Option<Schema>,
    evaluations: Vec<EvalEvent>,
    outcome: Option<Outcome>,
    meter: Option<EnergyMeter>,
    energy: Option<Energy>,
    processors: Option<UsageMeter>,
    usage: Option<Usage>,
    /// Joules that were used before the run was taken up.
    joules_before: f64,
    gpu: Option<DeviceInfo>,
    /// What a run that goes on is told of this one.
    about: Value,
    /// Checkpoints that could not be written, one sentence each.
    lost: Vec<String>,
    /// What an earlier end of the run has left, and is no more true once it goes on.
    stale: Vec<PathBuf>,
}

/// What a record goes on from.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    evaluations: Vec<EvalEvent>,
    joules: Option<f64>,
    about: Value,
}

/// [`Recorder`]'s name among listeners.
const NAME: &str = "record";

/// What a recorder was told of the run that it goes on with; null if it was told nothing.
pub fn about(saved: &BTreeMap<String, Value>) -> Value {
    saved.get(NAME).map_or(Value::Null, |saved| saved["about"].clone())
}

/// Energy that was used from the start of training to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Energy {
    /// Joules of all together.
    pub joules: f64,
    /// Whose, as in `package-0`, `dram`, `NVIDIA H200`.
    pub of: Vec<String>,
}

/// What was heard of a run.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Known when training starts; `None` if it never did.
    pub facts: Option<RunFacts>,
    /// What the engine was made from; `None` if it never was.
    pub config: Option<EngineConfig>,
    /// Columns of the data.
    pub schema: Option<Schema>,
    /// In order.
    pub evaluations: Vec<EvalEvent>,
    /// How it ended; `None` if it never began.
    pub outcome: Option<Outcome>,
    /// What processors, memory and the GPU used; `None` where nothing counts it.
    pub energy: Option<Energy>,
    /// How processors were used while training; `None` if that was a moment.
    pub usage: Option<Usage>,
    /// Checkpoints that could not be written, one sentence each.
    pub lost: Vec<String>,
}

impl Recorder {
    /// Will write its metrics to `metrics`, and ask `gpu` for its energy if one computes. Checkpoints
    /// keep `about` for who goes on with them ([`about`]).
    pub fn new(metrics: PathBuf, gpu: Option<DeviceInfo>, about: Value) -> Self {
        Recorder::with(MetricsWriter::new(metrics), gpu, about)
    }

    /// Goes on with the run in `folder`, which was taken up after `steps` steps, at the checkpoint
    /// that says `saved`. When training begins, what an earlier end of the run has left goes.
    ///
    /// # Errors
    /// If its metrics are not there.
    pub fn go_on(
        folder: &RunFolder,
        gpu: Option<DeviceInfo>,
        steps: u64,
        saved: &BTreeMap<String, Value>,
    ) -> Result<Self, ResultsError> {
        let metrics = folder.metrics();
        let stale = vec![folder.record(), metrics.clone()];
        let Saved { evaluations, joules, about } =
            Saved::deserialize(saved.get(NAME).unwrap_or(&Value::Null)).map_err(|e| {
                ResultsError::malformed(&metrics, format!("the checkpoint says of the record: {e}"))
            })?;
        let writer = MetricsWriter::go_on(metrics, steps, &evaluations)?;
        let before = joules.unwrap_or(0.0);
        let new = Recorder::with(writer, gpu, about);
        Ok(Recorder { evaluations, joules_before: before, stale, ..new })
    }

    fn with(metrics: MetricsWriter, gpu: Option<DeviceInfo>, about: Value) -> Self {
        Recorder {
            metrics,
            about,
            joules_before: 0.0,
            lost: Vec::new(),
            stale: Vec::new(),
            facts: None,
            config: None,
            schema: None,
            evaluations: Vec::new(),
            outcome: None,
            meter: None,
            energy: None,
            processors: None,
            usage: None,
            gpu,
        }
    }

    /// Leaves everything as it was before it was to go on: that did not come about.
    pub fn leave(self) {
        self.metrics.leave();
    }

    /// Whether the run has begun: what comes before it is no run.
    pub fn begun(&self) -> bool {
        self.facts.is_some()
    }

    /// Completes `metrics.parquet`; to be called when the run is over, whatever the reason. What was
    /// heard, the metrics, and why they are not in the file, if it cannot be written.
    pub fn finish(self) -> (Recorded, Metrics, Option<ResultsError>) {
        let (metrics, failed) = self.metrics.finish();
        let recorded = Recorded {
            facts: self.facts,
            config: self.config,
            schema: self.schema,
            evaluations: self.evaluations,
            outcome: self.outcome,
            energy: self.energy,
            usage: self.usage,
            lost: self.lost,
        };
        (recorded, metrics, failed)
    }
}

impl Listener for Recorder {
    fn configured(&mut self, config: &EngineConfig, schema: &Schema) -> io::Result<()> {
        (self.config, self.schema) = (Some(config.clone()), Some(schema.clone()));
        Ok(())
    }

    fn run_start(&mut self, facts: &RunFacts) -> io::Result<()> {
        self.facts = Some(facts.clone());
        self.processors = Some(UsageMeter::start());
        self.meter =
            EnergyMeter::open(self.gpu.as_ref().map(|gpu| (gpu.name.as_str(), gpu.uuid.as_str())));
        Ok(())
    }

    fn resumed(&mut self, _: &Resumption) -> io::Result<()> {
        for path in self.stale.drain(..) {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        if let Some(meter) = &mut self.meter {
            meter.poll();
        }
        self.metrics.step(step)
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> io::Result<()> {
        if let Some(meter) = &mut self.meter {
            meter.poll();
        }
        self.evaluations.push(eval.clone());
        self.metrics.eval_stop(eval)
    }

    fn save(&mut self) -> io::Result<Option<(&'static str, Value)>> {
        self.metrics.save()?;
        let before = self.joules_before;
        let saved = Saved {
            evaluations: self.evaluations.clone(),
            joules: self.meter.as_mut().map(|meter| before + meter.joules()),
            about: self.about.clone(),
        };
        Ok(Some((NAME, serde_json::to_value(saved)?)))
    }

    fn checkpoint_failed(&mut self, step: u64, why: &CheckpointError) -> io::Result<()> {
        self.lost.push(format!("the checkpoint after step {step}: {why}"));
        Ok(())
    }

    fn run_stop(&mut self, outcome: &Outcome) -> io::Result<()> {
        let before = self.joules_before;
        self.energy = self
            .meter
            .as_mut()
            .map(|meter| Energy { joules: before + meter.joules(), of: meter.counted() });
        self.usage = self.processors.as_ref().and_then(UsageMeter::usage);
        // If another listener fails now, the run is over nevertheless.
        self.outcome.get_or_insert_with(|| outcome.clone());
        Ok(())
    }
}
