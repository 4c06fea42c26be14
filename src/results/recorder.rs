//! The listener that remembers a run for its record.

use super::{ResultsError, metrics::MetricsWriter};
use crate::{
    system::EnergyMeter,
    train::events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent},
};
use std::{io, path::PathBuf};

/// Writes `metrics.parquet` and keeps what the record needs.
#[derive(Debug)]
pub struct Recorder {
    metrics: MetricsWriter,
    facts: Option<RunFacts>,
    evaluations: Vec<EvalEvent>,
    outcome: Option<Outcome>,
    meter: Option<EnergyMeter>,
    energy_joules: Option<f64>,
}

/// What was heard of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Known when training starts; `None` if it never did.
    pub facts: Option<RunFacts>,
    /// In order.
    pub evaluations: Vec<EvalEvent>,
    /// How it ended; `None` if it never began.
    pub outcome: Option<Outcome>,
    /// What processors and memory used from the start of training to its end; `None` where nothing counts it.
    pub energy_joules: Option<f64>,
}

impl Recorder {
    /// Will write its metrics to `metrics`.
    pub fn new(metrics: PathBuf) -> Self {
        Recorder {
            metrics: MetricsWriter::new(metrics),
            facts: None,
            evaluations: Vec::new(),
            outcome: None,
            meter: None,
            energy_joules: None,
        }
    }

    /// Completes `metrics.parquet`; to be called when the run is over, whatever the reason.
    pub fn finish(self) -> Result<Recorded, ResultsError> {
        self.metrics.finish()?;
        Ok(Recorded {
            facts: self.facts,
            evaluations: self.evaluations,
            outcome: self.outcome,
            energy_joules: self.energy_joules,
        })
    }
}

impl Listener for Recorder {
    fn run_start(&mut self, facts: &RunFacts) -> io::Result<()> {
        self.facts = Some(facts.clone());
        self.meter = EnergyMeter::open();
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
        self.energy_joules = self.meter.as_mut().map(EnergyMeter::joules);
        self.outcome = Some(outcome.clone());
        Ok(())
    }
}
