//! From a workload to an outcome.

use super::{
    TrainError,
    checkpoint::{Progress, now_ms, restore, start_from},
    diagnosis::{Diagnosis, Origin},
    events::{Listener, Outcome, Resumption, RunFacts, StopReason},
    feed::Feed,
    prepare::{Prepared, prepare_until},
    told::{State, Told},
    trainer::{Parts, Trainer},
};
use crate::{
    batch::Schema,
    checkpoint::{CheckpointError, Checkpoints, Loaded},
    comm::Team,
    data::{Facts, source::prepared::News},
    engine::{Engine, EngineConfig, Phase},
    model::init::Initializer,
    workload::{Workload, WorkloadError},
};
use std::{io::ErrorKind, path::Path, sync::atomic::AtomicBool, time::Instant};

/// What to run.
pub struct Job<'a> {
    /// The workload, resolved.
    pub workload: &'a Workload,
    /// Set from outside (Ctrl-C) to end the run soon.
    pub stop: &'a AtomicBool,
    /// Where checkpoints go; only used if the workload asks for some.
    pub checkpoints: Option<&'a Checkpoints>,
    /// The checkpoint that the run goes on from.
    pub from: Option<&'a Loaded>,
    /// Where to leave what is found of a loss or a prediction that is not a number.
    pub failure: Option<&'a Path>,
    /// Look at the end what training has left as it was ([`Finished::diagnosis`]).
    pub diagnose: bool,
    /// All ranks, where there are several. This is the first one; the others follow it
    /// ([`crate::engine::ranks::follow()`]).
    pub ranks: Option<&'a Team>,
}

impl<'a> Job<'a> {
    /// A run from the start, without checkpoints.
    pub fn new(workload: &'a Workload, stop: &'a AtomicBool) -> Self {
        Job {
            workload,
            stop,
            checkpoints: None,
            from: None,
            failure: None,
            diagnose: false,
            ranks: None,
        }
    }
}

/// A run that came to its end (target, budget, patience or interruption).
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// Columns of the data.
    pub schema: Schema,
    /// What is known of the data.
    pub data_facts: Facts,
    /// What the engine was made from.
    pub config: EngineConfig,
    /// The model with its final (or restored best) parameters.
    pub engine: Box<dyn Engine>,
    /// Numbers known at the start.
    pub facts: RunFacts,
    /// Seconds from `init_start` to `run_start`.
    pub init_seconds: f64,
    /// Seconds of training steps by phase, if the engine keeps a clock.
    pub phases: Option<Vec<(Phase, f64)>>,
    /// What training has left as it was, if somebody asked.
    pub diagnosis: Option<Diagnosis>,
}

/// Trains until the target, the budget, the patience or the stop flag ends it. Listeners hear of
/// everything as it happens; if the run fails they hear [`Listener::run_stop`] with the reason
/// before the error is returned.
///
/// # Errors
/// If the data, the engine or a listener fails, or a loss or a prediction is not a number.
pub fn run(job: &Job<'_>, listeners: &mut [&mut dyn Listener]) -> Result<Finished, TrainError> {
    let mut told = Told { listeners, state: State::default() };
    match train(job, &mut told) {
        Ok(finished) => Ok(finished),
        Err(error) => {
            let reason = match &error {
                TrainError::Interrupted => StopReason::Interrupted,
                e if e.is_quality() => StopReason::Failed,
                _ => StopReason::Broken,
            };
            let mut outcome = told.state.outcome(reason, false);
            outcome.message = (reason != StopReason::Interrupted).then(|| error.to_string());
            told.all(|l| l.run_stop(&outcome));
            Err(error)
        }
    }
}

fn train(job: &Job<'_>, told: &mut Told<'_, '_>) -> Result<Finished, TrainError> {
    let began = Instant::now();
    let resumed = job.from.map(|from| Ok::<_, CheckpointError>((from, Progress::of(from)?)));
    let resumed = resumed.transpose()?;
    let w = job.workload;
    refuse(job)?;
    // Named before anything is begun, if it cannot be read.
    let start = w.train.start_from.as_deref().filter(|_| resumed.is_none() || job.diagnose);
    let start = start.map(Loaded::any).transpose()?;
    told.each(|l| l.init_start())?;
    // Who does not listen does not end it; what follows would.
    let mut tell = |news: &News<'_>| told.all(|l| l.preparing(news));
    let mut prepared = prepare_until(job.workload, job.stop, &mut tell, job.ranks)?;
    if let Some(start) = start.as_ref().filter(|_| resumed.is_none()) {
        let rule = w.optimizer.rule.kind();
        let taken = start_from(&mut *prepared.engine, (start, &prepared.config.model), rule)?;
        prepared.data_facts.notes.push(taken);
    }
    let mut init_seconds = began.elapsed().as_secs_f64();
    if let Some((from, progress)) = &resumed {
        restore(&mut *prepared.engine, (from, &prepared.config.model), progress.engine)?;
        prepared.plan.skip = progress.steps;
        init_seconds = progress.init_seconds;
        told.state.go_on(progress);
        told.state.loss_scale = prepared.engine.loss_scale();
    }
    tell_of_start(&prepared, resumed.as_ref(), told)?;
    let parts = Parts {
        job,
        facts: &prepared.facts,
        schema: &prepared.schema,
        config: &prepared.config,
        engine: &mut *prepared.engine,
        eval: prepared.eval,
        feed: Feed::start(prepared.train, prepared.plan, prepared.generated)?,
        init_seconds,
    };
    let mut trainer = Trainer::new(parts, resumed.as_ref(), &told.state)?;
    let steps = trainer.steps(told);
    told.state.tables = trainer.tables();
    told.state.served = trainer.engine.served();
    let reason = match steps {
        Ok(reason) => reason,
        Err(e) => {
            // What is done is told of, whatever else went wrong.
            let _ = trainer.tell(told, true);
            let _ = trainer.go_on_saving(told, true);
            trainer.leave(&e, told, None);
            return Err(e);
        }
    };
    let phases = trainer.phases();
    prepared.data_facts.notes.extend(trainer.engine.notes());
    told.state.restored = trainer.restore(reason)?;
    told.state.test = match trainer.test(prepared.test.as_mut(), reason, told.state.steps) {
        Ok(quality) => quality,
        Err(e) => {
            trainer.leave(&e, told, prepared.test.as_mut());
            return Err(e);
        }
    };
    let origin = || match &start {
        Some(start) => Origin::Saved(start),
        None => Origin::Drawn(Initializer::new(&prepared.config.whole_model(), prepared.init)),
    };
    let diagnosis = job.diagnose.then(|| trainer.diagnose(origin())).transpose()?;
    let target_met = prepared.facts.targets().is_none() || reason == StopReason::Target;
    let outcome = told.state.outcome(reason, target_met && reason != StopReason::Interrupted);
    match told.each(|l| l.run_stop(&outcome)) {
        // The run is whole, whoever has stopped to listen.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        heard => heard?,
    }
    Ok(Finished {
        outcome,
        schema: prepared.schema,
        data_facts: prepared.data_facts,
        config: prepared.config,
        engine: prepared.engine,
        facts: prepared.facts,
        init_seconds,
        phases,
        diagnosis,
    })
}

/// What a run cannot do that it is asked for.
fn refuse(job: &Job<'_>) -> Result<(), TrainError> {
    let w = job.workload;
    if w.checkpoint.is_on() && job.checkpoints.is_none() {
        let what = "is needed: this run has no folder of its own for checkpoints".to_owned();
        return Err(WorkloadError::Unfit { key: "checkpoint.dir", what }.into());
    }
    if job.diagnose && w.embedding.hashed().is_some() {
        let what = "is \"hashed\": rows that are there have been met, so there is nothing to diagnose of them; leave --diagnose out";
        return Err(WorkloadError::Unfit { key: "embedding.store", what: what.to_owned() }.into());
    }
    if job.diagnose && job.ranks.is_some() {
        let what = "several ranks train together, of which none sees all layers' outputs; leave --diagnose out, or train with one";
        return Err(TrainError::Ranks(what.to_owned()));
    }
    Ok(())
}

/// Tells the listeners what is trained, and that training begins.
fn tell_of_start(
    prepared: &Prepared,
    resumed: Option<&(&Loaded, Progress)>,
    told: &mut Told<'_, '_>,
) -> std::io::Result<()> {
    told.each(|l| l.data_ready(&prepared.data_facts))?;
    told.each(|l| l.params_ready(prepared.engine.params()))?;
    told.each(|l| l.model_ready(&*prepared.engine))?;
    told.each(|l| l.configured(&prepared.config, &prepared.schema))?;
    told.state.clock = Some(Instant::now());
    if resumed.is_none() {
        told.state.run_start_ms = now_ms();
    }
    told.each(|l| l.run_start(&prepared.facts))?;
    if let Some((from, progress)) = resumed {
        let Progress { steps: step, samples, .. } = *progress;
        told.each(|l| l.resumed(&Resumption { path: from.path.clone(), step, samples }))?;
    }
    Ok(())
}
