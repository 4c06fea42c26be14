//! Who is told of a run, and what they have been told so far.

use super::{
    checkpoint::{Progress, since_ms},
    events::{EvalEvent, Listener, Outcome, StopReason},
    failure::LastSteps,
};
use crate::{embedding::TableUse, engine::Served, metrics::Quality, optim::LossScale};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The listeners, and what has happened so far.
pub(super) struct Told<'a, 'b> {
    pub listeners: &'a mut [&'b mut dyn Listener],
    pub state: State,
}

impl Told<'_, '_> {
    /// Tells each of them, until one cannot hear.
    pub fn each(
        &mut self,
        mut tell: impl FnMut(&mut dyn Listener) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        self.listeners.iter_mut().try_for_each(|l| tell(&mut **l))
    }

    /// What all of them go on from at a checkpoint of this moment.
    pub fn saved(&mut self) -> std::io::Result<BTreeMap<String, Value>> {
        let mut all = BTreeMap::new();
        for listener in self.listeners.iter_mut() {
            all.extend(listener.save()?.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(all)
    }

    /// Tells all of them, whichever fails: another error, which most likely has the same cause, is
    /// the one to report.
    pub fn all(&mut self, mut tell: impl FnMut(&mut dyn Listener) -> std::io::Result<()>) {
        for listener in self.listeners.iter_mut() {
            let _ = tell(&mut **listener);
        }
    }
}

/// What has happened so far.
#[derive(Default)]
pub(super) struct State {
    pub clock: Option<Instant>,
    pub steps: u64,
    pub samples: u64,
    pub train_seconds: f64,
    pub loss_scale: Option<LossScale>,
    pub last_steps: LastSteps,
    pub last_eval: Option<EvalEvent>,
    pub best_auc: f64,
    pub restored: Option<EvalEvent>,
    pub test: Option<Quality>,
    /// When the run first began, and what had passed since then when it was taken up.
    pub run_start_ms: u64,
    before: Duration,
    pub resumed_at: Vec<u64>,
    pub checkpoint_seconds: f64,
    pub tables: Vec<TableUse>,
    pub served: Option<Served>,
}

impl State {
    /// Seconds since the run first began.
    pub fn elapsed(&self) -> f64 {
        self.clock.map_or(0.0, |c| (self.before + c.elapsed()).as_secs_f64())
    }

    /// Goes on where another run was.
    pub fn go_on(&mut self, from: &Progress) {
        (self.steps, self.samples) = (from.steps, from.samples);
        self.train_seconds = from.train_seconds;
        (self.last_eval, self.best_auc) = (from.last_eval.clone(), from.best_auc);
        (self.run_start_ms, self.before) = (from.run_start_ms, since_ms(from.run_start_ms));
        self.checkpoint_seconds = from.checkpoint_seconds;
        self.resumed_at.clone_from(&from.resumed_at);
        self.resumed_at.push(from.steps);
    }

    /// How the run ended, as far as is known.
    pub fn outcome(&self, reason: StopReason, success: bool) -> Outcome {
        Outcome {
            reason,
            success,
            message: None,
            restored: self.restored.clone(),
            steps: self.steps,
            samples: self.samples,
            seconds: self.elapsed(),
            train_seconds: self.train_seconds,
            loss_scale: self.loss_scale,
            last_eval: self.last_eval.clone(),
            test: self.test,
            resumed_at: self.resumed_at.clone(),
            checkpoint_seconds: self.checkpoint_seconds,
            tables: self.tables.clone(),
            served: self.served.clone(),
        }
    }
}
