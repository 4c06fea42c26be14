//! From a workload to an outcome.

use super::{
    TrainError,
    checkpoint::{
        BestSaved, EvaluationDue, Progress, Saver, best_parameters, now_ms, restore, rows,
        start_from,
    },
    diagnosis::{Diagnosis, Origin, SAMPLES, diagnose},
    evaluate::{EvalError, EvalSplit},
    events::{EvalEvent, Listener, Outcome, Resumption, RunFacts, StopReason},
    feed::{Ahead, Feed, StepInput},
    prepare::prepare_until,
    snapshot,
    step_clock::{StepClock, failed_step},
    told::{State, Told},
};
use crate::{
    backend::{Device, StepContext},
    batch::Schema,
    checkpoint::{CheckpointError, Checkpoints, Kind, Loaded},
    comm::Team,
    data::{Facts, ranges::Range, source::prepared::News},
    embedding::{RowKind, TableUse},
    engine::{Engine, EngineConfig, EngineKind, Phase, PhaseClock},
    metrics::Quality,
    model::init::Initializer,
    optim::schedule::Schedule,
    system,
    workload::{EvalEvery, Monitor, Workload, WorkloadError},
};
use std::{
    collections::VecDeque,
    io::ErrorKind,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

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
    told.each(|l| l.data_ready(&prepared.data_facts))?;
    told.each(|l| l.params_ready(prepared.engine.params()))?;
    told.each(|l| l.model_ready(&*prepared.engine))?;
    told.each(|l| l.configured(&prepared.config, &prepared.schema))?;
    told.state.clock = Some(Instant::now());
    if resumed.is_none() {
        told.state.run_start_ms = now_ms();
    }
    told.each(|l| l.run_start(&prepared.facts))?;
    if let Some((from, progress)) = &resumed {
        let Progress { steps: step, samples, .. } = *progress;
        told.each(|l| l.resumed(&Resumption { path: from.path.clone(), step, samples }))?;
    }
    let feed = Feed::start(prepared.train, prepared.plan, prepared.generated)?;
    let mut schedule = Schedule::new(&w.schedule, w.optimizer.learning_rate)?;
    let (mut best, mut epoch_open, mut evaluation_due, mut ended) = (None, None, None, None);
    if let Some((from, progress)) = &resumed {
        schedule.go_on(progress.schedule);
        (epoch_open, evaluation_due) = (progress.epoch, progress.evaluation_due);
        ended = progress.ended;
        best = Best::saved(&*prepared.engine, from, progress)?;
    }
    let every = match w.eval.every {
        EvalEvery::Steps(n) => n.max(1),
        EvalEvery::Epochs(f) => ((prepared.facts.steps_per_epoch as f64 * f) as u64).max(1),
        EvalEvery::AtEnd | EvalEvery::Never => u64::MAX,
    };
    let engine_name = prepared.engine.name();
    let mut saver = job
        .checkpoints
        .filter(|_| w.checkpoint.is_on())
        .map(|to| Saver::new(to, &w.checkpoint, w.sha256(), told.state.checkpoint_seconds));
    if let Some(saver) = &mut saver {
        saver.follow_changes(&*prepared.engine, &prepared.config, job.from)?;
    }
    let mut trainer = Trainer {
        job,
        facts: &prepared.facts,
        schema: &prepared.schema,
        engine: &mut *prepared.engine,
        eval: prepared.eval,
        feed: Ahead::of(feed),
        announced: false,
        schedule,
        every,
        best,
        begun: told.state.steps,
        in_flight: VecDeque::with_capacity(IN_FLIGHT),
        clock: StepClock::new(),
        epoch_open,
        rows: rows(&prepared.config, engine_name),
        // Row by row candle's GPU hands out too slowly.
        beside: job.ranks.is_none()
            && (w.engine.device == Device::Cpu || w.engine.kind == EngineKind::Fused)
            && snapshot::possible(&prepared.config),
        step_seconds: 0.0,
        config: &prepared.config,
        init_seconds,
        phases: resumed.as_ref().and_then(|(_, p)| p.phases.clone()),
        saver,
        evaluation_due,
        ended,
    };
    let steps = trainer.steps(told);
    told.state.tables = trainer.tables();
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
    let diagnosis = job.diagnose.then(|| {
        let samples = trainer.eval.len().min(prepared.config.max_batch as u64) as usize;
        let batch = trainer.eval.part(0, samples.min(SAMPLES))?;
        let origin = match &start {
            Some(start) => Origin::Saved(start),
            None => Origin::Drawn(Initializer::new(&prepared.config.whole_model(), prepared.init)),
        };
        diagnose(trainer.engine, &prepared.config, trainer.rows, origin, &batch)
    });
    let diagnosis = diagnosis.transpose()?;
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

/// Steps whose samples are remembered.
const IN_FLIGHT: usize = 16;

pub(super) struct Trainer<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) facts: &'a RunFacts,
    pub(super) schema: &'a Schema,
    pub(super) engine: &'a mut dyn Engine,
    pub(super) eval: EvalSplit,
    pub(super) feed: Ahead,
    /// Whether the engine has heard of the next batch.
    pub(super) announced: bool,
    pub(super) schedule: Schedule,
    /// Steps between evaluations.
    pub(super) every: u64,
    pub(super) best: Option<Best>,
    /// Steps begun.
    pub(super) begun: u64,
    /// The newest of them, with their samples: more than a device computes at once.
    pub(super) in_flight: VecDeque<(u64, Range)>,
    pub(super) clock: StepClock,
    /// The epoch that listeners were told of, until they hear of its end.
    pub(super) epoch_open: Option<u64>,
    /// Writes checkpoints, if any are to be written.
    pub(super) saver: Option<Saver<'a>>,
    /// Whether checkpoints are written while training goes on.
    pub(super) beside: bool,
    /// Seconds of the newest step.
    pub(super) step_seconds: f64,
    /// What the engine was made from.
    pub(super) config: &'a EngineConfig,
    /// How the engine keeps its rows.
    pub(super) rows: RowKind,
    /// Seconds from `init_start` to `run_start`.
    pub(super) init_seconds: f64,
    /// Seconds by phase before the run was taken up.
    pub(super) phases: Option<Vec<(Phase, f64)>>,
    /// An evaluation that was begun and not completed.
    pub(super) evaluation_due: Option<EvaluationDue>,
    /// Why training is over, once it is.
    pub(super) ended: Option<StopReason>,
}

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
    fn saved(
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
    fn steps(&mut self, told: &mut Told<'_, '_>) -> Result<StopReason, TrainError> {
        if let Some(due) = self.evaluation_due {
            self.after_step(told, true, due.last_of_epoch)?;
        } else if self.begun == 0 && self.saver.as_ref().is_some_and(Saver::due_at_start) {
            self.save(Kind::Newest, told)?;
        }
        let mut reason = loop {
            if let Some(reason) = self.ended {
                break reason;
            }
            if self.job.stop.load(Ordering::Relaxed) {
                self.tell(told, true)?;
                self.save_unless_saved(told)?;
                break StopReason::Interrupted;
            }
            self.clock.restart(self.engine);
            let began = Instant::now();
            let Some(input) = self.feed.next()? else { break StopReason::Budget };
            let data_wait = began.elapsed().as_secs_f64();
            let Range { epoch, last_of_epoch, .. } = input.range();
            if self.epoch_open != Some(epoch) {
                told.each(|l| l.epoch_start(epoch))?;
                self.epoch_open = Some(epoch);
            }
            self.begin(input, data_wait, told)?;
            let evaluates = self.begun.is_multiple_of(self.every);
            self.after_step(told, evaluates, last_of_epoch)?;
        };
        self.tell(told, true)?;
        let evaluated = told.state.last_eval.as_ref().map(|e| e.step);
        if reason == StopReason::Budget
            && self.job.workload.eval.every != EvalEvery::Never
            && self.job.workload.eval.at_end != Some(false)
            && evaluated != Some(told.state.steps)
        {
            self.evaluate(told, false)?;
            reason = self.ended.unwrap_or(reason);
        }
        if reason != StopReason::Interrupted {
            self.save_unless_saved(told)?;
        }
        self.go_on_saving(told, true)?;
        self.close_epoch(told)?;
        Ok(reason)
    }

    /// What follows a step that has begun: an evaluation, the end of an epoch, a checkpoint.
    fn after_step(
        &mut self,
        told: &mut Told<'_, '_>,
        evaluates: bool,
        last_of_epoch: bool,
    ) -> Result<(), TrainError> {
        let saves = self.saver.as_ref().is_some_and(|s| s.due(self.begun, evaluates));
        let hashed = self.job.workload.embedding.hashed();
        let every = hashed.filter(|h| h.evicts()).and_then(|h| h.evict_every_steps);
        let evicts = every.is_some_and(|n| self.begun.is_multiple_of(n));
        // What is read of a model waits for the steps that a device computes.
        let reads = saves || self.saver.as_ref().is_some_and(Saver::is_writing);
        self.tell(told, evaluates || last_of_epoch || reads || evicts)?;
        self.go_on_saving(told, false)?;
        if evaluates {
            self.evaluate(told, last_of_epoch)?;
        }
        if last_of_epoch || self.ended.is_some() {
            self.close_epoch(told)?;
        }
        if self.ended.is_none() && evicts {
            self.engine.evict()?;
        }
        if self.ended.is_none() && saves {
            self.save(Kind::Newest, told)?;
        }
        Ok(())
    }

    fn close_epoch(&mut self, told: &mut Told<'_, '_>) -> Result<(), TrainError> {
        if let Some(epoch) = self.epoch_open.take() {
            told.each(|l| l.epoch_stop(epoch))?;
        }
        Ok(())
    }

    /// Seconds of training steps by phase, if the engine keeps a clock.
    pub(super) fn phases(&mut self) -> Option<Vec<(Phase, f64)>> {
        let before = self.phases.clone().unwrap_or_default();
        let past = |phase| before.iter().find(|(p, _)| *p == phase).map_or(0.0, |(_, s)| *s);
        let clock = self.engine.phases()?;
        Some(Phase::ALL.iter().map(|&p| (p, past(p) + clock.seconds(p))).collect())
    }

    /// What tables have seen whose rows are not all in memory from the start.
    fn tables(&self) -> Vec<TableUse> {
        self.engine.table_uses()
    }

    /// Lets the engine look ahead: tells it of the batch after `input`, and of that if it has not
    /// heard of it.
    fn look_ahead(&mut self, input: &StepInput) -> Result<(), TrainError> {
        if !self.engine.looks_ahead() {
            return Ok(());
        }
        if let (false, Some(batch)) = (self.announced, input.samples().host()) {
            self.engine.announce(batch)?;
        }
        let began = Instant::now();
        let next = self.feed.peek();
        if let Some(clock) = self.engine.phases() {
            clock.charge(Phase::DataWait, began.elapsed().as_secs_f64());
        }
        let next = next.and_then(|input| input.samples().host());
        self.announced = next.is_some();
        next.map_or(Ok(()), |batch| Ok(self.engine.announce(batch)?))
    }

    /// Begins a step on samples that were waited for, and gives them back.
    fn begin(
        &mut self,
        input: StepInput,
        data_wait: f64,
        told: &mut Told<'_, '_>,
    ) -> Result<(), TrainError> {
        let step = self.begun + 1;
        let learning_rate = self.schedule.rate(step);
        if let Some(clock) = self.engine.phases() {
            clock.charge(Phase::DataWait, data_wait);
            if told.listeners.iter().any(|l| l.wants_laps(step)) {
                clock.keep_laps();
            }
        }
        let context = StepContext { learning_rate, epoch: input.range().epoch, data_wait };
        if self.in_flight.len() == IN_FLIGHT {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back((step, input.range()));
        if let Some(saver) = self.saver.as_mut().filter(|saver| saver.wants_ids()) {
            let began = Instant::now();
            let batch = self.feed.on_host(&input)?;
            self.clock.pause(saver.before_step(self.engine, &batch.bags, began)?);
        }
        self.look_ahead(&input)?;
        self.engine.begin_step(input.samples(), context).map_err(failed_step)?;
        let laps = self.engine.phases().map(PhaseClock::take_laps).unwrap_or_default();
        if !laps.is_empty() {
            told.each(|l| l.laps(step, &laps))?;
        }
        #[cfg(test_slowdown)]
        super::slowdown::wait(self.clock.mark());
        self.begun = step;
        self.feed.recycle(input);
        Ok(())
    }

    /// Tells the listeners of the steps that are done; with `wait` of all that were begun.
    fn tell(&mut self, told: &mut Told<'_, '_>, wait: bool) -> Result<(), TrainError> {
        self.clock.tell(self.engine, wait, |event, loss_scale| {
            let state = &mut told.state;
            (state.steps, state.loss_scale) = (event.step, loss_scale);
            state.samples += u64::from(event.samples);
            state.last_steps.add(event.step, event.loss, event.learning_rate, loss_scale);
            state.train_seconds += event.seconds;
            self.step_seconds = event.seconds;
            told.each(|l| l.step(event))
        })
    }

    /// Evaluates and tells the listeners. If that ends training, [`Trainer::ended`] says why.
    fn evaluate(&mut self, told: &mut Told<'_, '_>, last_of_epoch: bool) -> Result<(), TrainError> {
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
            Err(e) => return Err(train_error(e, step)),
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
    fn restore(&mut self, reason: StopReason) -> Result<Option<EvalEvent>, TrainError> {
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
    fn test(
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
            Err(e) => Err(train_error(e, step)),
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

pub(super) fn train_error(e: EvalError, step: u64) -> TrainError {
    match e {
        EvalError::Data(e) => e.into(),
        EvalError::Engine(e) => e.into(),
        EvalError::Metrics(source) => TrainError::Metrics { step, source },
        EvalError::Sink(e) => TrainError::Listener(e),
        EvalError::Interrupted => TrainError::Interrupted,
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
