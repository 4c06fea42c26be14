//! The listener that remembers a run for its record.

use super::{
    ResultsError,
    metrics::{Metrics, MetricsWriter},
};
use crate::{
    backend::cuda::driver::DeviceInfo,
    batch::Schema,
    engine::EngineConfig,
    system::EnergyMeter,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent},
};
use std::{io, path::PathBuf};

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
    gpu: Option<DeviceInfo>,
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
}

impl Recorder {
    /// Will write its metrics to `metrics`, and ask `gpu` for its energy if one computes.
    pub fn new(metrics: PathBuf, gpu: Option<DeviceInfo>) -> Self {
        Recorder {
            metrics: MetricsWriter::new(metrics),
            facts: None,
            config: None,
            schema: None,
            evaluations: Vec::new(),
            outcome: None,
            meter: None,
            energy: None,
            gpu,
        }
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
        self.meter =
            EnergyMeter::open(self.gpu.as_ref().map(|gpu| (gpu.name.as_str(), gpu.uuid.as_str())));
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

    fn run_stop(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.energy =
            self.meter.as_mut().map(|meter| Energy { joules: meter.joules(), of: meter.counted() });
        // If another listener fails now, the run is over nevertheless.
        self.outcome.get_or_insert_with(|| outcome.clone());
        Ok(())
    }
}
