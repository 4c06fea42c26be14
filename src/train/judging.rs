//! Evaluations during a run: what they found, which was the best, and whether it ends training.

use super::{
    TrainError,
    checkpoint::{BestSaved, EvaluationDue, Progress, Saver, best_parameters},
    evaluate::{EvalError, EvalSplit},
    events::{EvalEvent, StopReason},
    told::Told,
    trainer::Trainer,
};
use crate::{
    checkpoint::{CheckpointError, Kind, Loaded},
    engine::Engine,
    metrics::Quality,
    system,
    workload::Monitor,
};
use std::time::Instant;

/// The best evaluation so far.
pub(super) struct Best {
    pub(super) monitored: f64,
    pub(super) event: EvalEvent,
    /// Evaluations since then.
    pub(super) age: u32,
    /// Its parameters, if they are to be restored.
    pub(super) parameters: Option<Vec<Vec<f32>>>,
}

impl Best {
    /// That of a checkpoint.
    pub(super) fn saved(
        engine: &dyn Engine,
        from: &Loaded,
        progress: &Progress,
    ) -> Result<Option<Best>, CheckpointError> {
        let Some(best) = &progress.best else { return Ok(None) };
        let BestSaved { monitored, age, parameters, .. } = *best;
        let parameters = parameters.then(|| best_parameters(engine, from)).transpose()?;
        Ok(Some(Best { monitored, event: best.event.clone(), age, parameters }))
    }
}

impl Trainer<'_> {
    /// Evaluates and tells the listeners. If that ends training, [`Trainer::ended`] says why.
    pub(super) fn evaluate(
        &mut self,
        told: &mut Told<'_, '_>,
        last_of_epoch: bool,
    ) -> Result<(), TrainError> {
        let step = told.state.steps;
        let progress = self.progress(step, told.state.samples);
        // One that a run before this one began has been told of.
        if self.evaluation_due.take().is_none() {
            told.each(|l| l.eval_start(progress))?;
        }
        let began = Instant::now();
        let quality = match self.eval.evaluate(self.engine, self.job.stop) {
            Ok(q) => q,
            Err(EvalError::Interrupted) => {
                self.evaluation_due = Some(EvaluationDue { last_of_epoch });
                self.save(Kind::Newest, told)?;
                self.ended = Some(StopReason::Interrupted);
                return Ok(());
            }
            Err(e) => return Err(e.at_step(step)),
        };
        let state = &mut told.state;
        state.best_auc = state.best_auc.max(quality.auc);
        let event = EvalEvent {
            step,
            progress,
            samples: state.samples,
            elapsed: state.elapsed(),
            seconds: began.elapsed().as_secs_f64(),
            quality,
            best_auc: state.best_auc,
            host_memory: system::held_memory(),
            gpu_memory: self.engine.device_memory(),
            tables: self.tables(),
        };
        state.last_eval = Some(event.clone());
        told.each(|l| l.eval_stop(&event))?;
        if let Some(saver) = &mut self.saver {
            saver.outdate();
        }
        let reached = self.facts.reached(&quality);
        if reached {
            self.ended = Some(StopReason::Target);
        } else {
            self.judge(event)?;
        }
        let best = reached || self.best.as_ref().is_some_and(|b| b.event.step == step);
        if best && self.saver.as_ref().is_some_and(Saver::wants_best) {
            self.save(Kind::Best, told)?;
        }
        Ok(())
    }

    /// Keeps the best evaluation and applies the patience.
    fn judge(&mut self, event: EvalEvent) -> Result<(), TrainError> {
        let (e, quality) = (&self.job.workload.eval, &event.quality);
        let monitored = match e.monitor {
            Monitor::Auc => quality.auc,
            Monitor::AucMinusLogloss => quality.auc - quality.logloss,
            Monitor::Logloss => -quality.logloss,
        };
        self.schedule.on_eval(monitored);
        match &mut self.best {
            Some(best) if monitored < best.monitored + e.min_delta => {
                best.age += 1;
                if e.patience.is_some_and(|p| best.age >= p) {
                    self.ended = Some(StopReason::Patience);
                }
                return Ok(());
            }
            _ => {}
        }
        let old = self.best.take().and_then(|b| b.parameters);
        let parameters = if e.restore_best { Some(snapshot(self.engine, old)?) } else { None };
        self.best = Some(Best { monitored, event, age: 0, parameters });
        Ok(())
    }

    /// Restores the best parameters if asked for, and says which evaluation was theirs unless it is
    /// the last one. A run that met its target ends with the parameters that met it.
    pub(super) fn restore(&mut self, reason: StopReason) -> Result<Option<EvalEvent>, TrainError> {
        let ended = matches!(reason, StopReason::Budget | StopReason::Patience);
        let Some(Best { parameters: Some(values), event, age, .. }) =
            self.best.as_ref().filter(|_| ended)
        else {
            return Ok(None);
        };
        for (i, v) in values.iter().enumerate() {
            self.engine.write(i, v)?;
        }
        Ok((*age > 0).then(|| event.clone()))
    }

    /// Judges the test split.
    pub(super) fn test(
        &mut self,
        test: Option<&mut EvalSplit>,
        reason: StopReason,
        step: u64,
    ) -> Result<Option<Quality>, TrainError> {
        let Some(test) = test.filter(|_| reason != StopReason::Interrupted) else {
            return Ok(None);
        };
        match test.evaluate(self.engine, self.job.stop) {
            Ok(q) => Ok(Some(q)),
            Err(EvalError::Interrupted) => Ok(None),
            Err(e) => Err(e.at_step(step)),
        }
    }

    /// Epochs done, from 0, fractions included: by samples, so that a short last batch counts for
    /// what it is.
    fn progress(&self, step: u64, samples: u64) -> f64 {
        if step.is_multiple_of(self.facts.steps_per_epoch) {
            (step / self.facts.steps_per_epoch) as f64
        } else {
            samples as f64 / self.facts.train_samples as f64
        }
    }
}

/// Copies all parameters out, into old copies where there are some.
fn snapshot(engine: &dyn Engine, old: Option<Vec<Vec<f32>>>) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut values =
        old.unwrap_or_else(|| engine.params().iter().map(|p| vec![0.0; p.len()]).collect());
    for (i, v) in values.iter_mut().enumerate() {
        engine.read(i, v)?;
    }
    Ok(values)
}
