//! What a training writes down of itself: checkpoints, and how it failed.

use super::{
    TrainError,
    checkpoint::{BestSaved, Progress, Saver, Written},
    evaluate::EvalSplit,
    failure::{Scene, first_bad, samples_of},
    saved::Split,
    told::Told,
    trainer::Trainer,
};
use crate::checkpoint::{CheckpointConfig, Checkpoints, Kind};
use std::{path::Path, time::Instant};

impl Trainer<'_> {
    /// Writes a checkpoint of this moment, if any are written and none of it is, and waits for it.
    pub(super) fn save_unless_saved(&mut self, told: &mut Told<'_, '_>) -> Result<(), TrainError> {
        self.go_on_saving(told, true)?;
        if self.saver.as_ref().is_some_and(|s| !s.has(told.state.steps)) {
            self.save(Kind::Newest, told)?;
        }
        self.go_on_saving(told, true)
    }

    /// Writes a checkpoint; no step is in flight. Training goes on meanwhile where it can. One that
    /// cannot be written is told of, and training goes on.
    pub(super) fn save(&mut self, kind: Kind, told: &mut Told<'_, '_>) -> Result<(), TrainError> {
        if self.saver.is_none() {
            return Ok(());
        }
        // One at a time.
        self.go_on_saving(told, true)?;
        let progress = self.position(told)?;
        let Some(saver) = &mut self.saver else { return Ok(()) };
        let began = Instant::now();
        let saved = if saver.links() { self.engine.seal_rows()? } else { None };
        let of = (&progress, saved);
        let parameters = self.best.as_ref().and_then(|b| b.parameters.as_deref());
        if self.beside && parameters.is_none() {
            return saver.begin(kind, &*self.engine, (self.config, self.rows), of, began);
        }
        let written = saver.save(kind, &*self.engine, self.rows, parameters, of, began);
        self.tell_written(written, told)
    }

    /// Goes on with a checkpoint that is being written; with `wait` until it is there.
    pub(super) fn go_on_saving(
        &mut self,
        told: &mut Told<'_, '_>,
        wait: bool,
    ) -> Result<(), TrainError> {
        let Some(saver) = &mut self.saver else { return Ok(()) };
        let written = saver.advance(&*self.engine, self.step_seconds, wait)?;
        told.state.checkpoint_seconds = saver.seconds;
        written.map_or(Ok(()), |written| self.tell_written(written, told))
    }

    fn tell_written(
        &mut self,
        written: Written,
        told: &mut Told<'_, '_>,
    ) -> Result<(), TrainError> {
        let Written { step, result } = written;
        told.state.checkpoint_seconds = self.saver.as_ref().map_or(0.0, |s| s.seconds);
        match result {
            Ok(saved) => told.each(|l| l.checkpoint(&saved))?,
            Err(why) => told.each(|l| l.checkpoint_failed(step, &why))?,
        }
        Ok(())
    }

    /// Where the training stands; no step is in flight.
    fn position(&mut self, told: &mut Told<'_, '_>) -> Result<Progress, TrainError> {
        let phases = self.phases();
        let listeners = told.saved()?;
        let state = &told.state;
        Ok(Progress {
            steps: state.steps,
            samples: state.samples,
            epoch: self.epoch_open,
            engine: self.engine.position()?,
            rule: Some(self.job.workload.optimizer.rule.kind().to_owned()),
            schedule: self.schedule.state(),
            best: self.best.as_ref().map(|b| BestSaved {
                monitored: b.monitored,
                event: b.event.clone(),
                age: b.age,
                parameters: b.parameters.is_some(),
            }),
            evaluation_due: self.evaluation_due,
            ended: self.ended,
            last_eval: state.last_eval.clone(),
            best_auc: state.best_auc,
            train_seconds: state.train_seconds,
            init_seconds: self.init_seconds,
            run_start_ms: state.run_start_ms,
            phases,
            checkpoint_seconds: self.saver.as_ref().map_or(0.0, |s| s.seconds),
            resumed_at: state.resumed_at.clone(),
            listeners,
        })
    }

    /// Leaves what can be found of a loss or a prediction that is not a number.
    pub(super) fn leave(
        self,
        error: &TrainError,
        told: &mut Told<'_, '_>,
        test: Option<&mut EvalSplit>,
    ) {
        let Some(folder) = self.job.failure.filter(|_| error.is_quality()) else { return };
        match self.write_failure(error, folder, told, test) {
            Ok(false) => {}
            Ok(true) => told.all(|l| l.failure_left(folder)),
            Err(why) => told.all(|l| l.failure_lost(&why)),
        }
    }

    /// The same; `false` if there is nothing to be found.
    fn write_failure(
        mut self,
        error: &TrainError,
        folder: &Path,
        told: &mut Told<'_, '_>,
        test: Option<&mut EvalSplit>,
    ) -> Result<bool, TrainError> {
        let mut progress = self.position(told)?;
        // Its parameters are not part of it.
        progress.best = progress.best.map(|best| BestSaved { parameters: false, ..best });
        let (split, found) = match (error, test) {
            (TrainError::Loss { step, .. }, _) => {
                let range = self.in_flight.iter().find(|(number, _)| number == step);
                let (range, source) = (range.map(|(_, range)| *range), self.feed.stop());
                let found = range.zip(source).map(|(range, mut source)| {
                    Ok::<_, TrainError>((range, samples_of(&mut *source, range)?))
                });
                (Split::Train, found.transpose()?)
            }
            (_, Some(test)) => (Split::Test, first_bad(test, self.engine)?),
            (_, None) => (Split::Eval, first_bad(&mut self.eval, self.engine)?),
        };
        let Some((range, batch)) = found else { return Ok(false) };
        let checkpoints = Checkpoints::new(folder.to_owned(), 1);
        let (config, workload) = (CheckpointConfig::default(), self.job.workload);
        let mut saver = Saver::new(&checkpoints, &config, workload.sha256(), 0.0);
        let of = (&progress, None);
        saver.save(Kind::Newest, self.engine, self.rows, None, of, Instant::now()).result?;
        let (steps, last) = (told.state.steps, &told.state.last_steps);
        let scene = Scene { error, steps, last, schema: self.schema, split, range, batch: &batch };
        scene.write(self.engine, folder)?;
        Ok(true)
    }
}
