//! From a workload to an outcome.

use super::{
    TrainError,
    evaluate::{EvalError, EvalSplit},
    events::{EvalEvent, Listener, Outcome, RunFacts, StopReason},
    feed::{self, Feed, StepInput},
    memory::{check_device, check_memory, memory_plan},
    step_clock::StepClock,
};
use crate::{
    backend::StepContext,
    batch::{GeneratedSplit, Schema},
    data::{DataError, Dataset, Facts, Source, loader::Plan, source::prepared::News},
    engine::{self, Engine, EngineConfig, Phase, PhaseClock},
    metrics::Quality,
    model::init::{InitSource, Initializer},
    optim::{LossScale, schedule::Schedule},
    random::numpy::RandomState,
    system,
    workload::{
        DataConfig, EvalCache, EvalEvery, InitRng, Monitor, PlantedConfig, Workload, WorkloadError,
    },
};
use std::{
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// What to run.
pub struct Job<'a> {
    /// The workload, resolved.
    pub workload: &'a Workload,
    /// Set from outside (Ctrl-C) to end the run soon.
    pub stop: &'a AtomicBool,
}

/// Data opened and model made.
pub struct Prepared {
    /// Columns of the data.
    pub schema: Schema,
    /// What is known of the data.
    pub data_facts: Facts,
    /// What the engine was made from.
    pub config: EngineConfig,
    /// The model at its initial parameters.
    pub engine: Box<dyn Engine>,
    /// Numbers that the listeners are told.
    pub facts: RunFacts,
    plan: Plan,
    train: Box<dyn Source>,
    /// How the device makes the training samples itself, if it does.
    generated: Option<GeneratedSplit>,
    eval: EvalSplit,
    test: Option<EvalSplit>,
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
}

/// Opens the data and makes the model.
///
/// # Errors
/// If the data cannot be opened, do not fit the workload, or the memory does not suffice.
pub fn prepare(workload: &Workload) -> Result<Prepared, TrainError> {
    prepare_until(workload, &AtomicBool::new(false), &mut |_| ())
}

/// [`prepare`], given up when `stop` is set. `tell` hears of data that are prepared first.
fn prepare_until(
    workload: &Workload,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&News<'_>),
) -> Result<Prepared, TrainError> {
    if matches!(&workload.data, DataConfig::Planted(PlantedConfig { fit_memory: true, .. })) {
        let what = "is still to be followed; call train::fit_memory before the run".to_owned();
        return Err(WorkloadError::Unfit { key: "data.fit_memory", what }.into());
    }
    // Before anything is read: what is known without. Then again with all sizes, before the model
    // is made.
    let sizes =
        workload.data_schema()?.map(|schema| workload.engine_config(&schema)).transpose()?;
    if let Some(sizes) = &sizes {
        check_device(workload, sizes)?;
    }
    check_memory(&memory_plan(workload, sizes.as_ref()))?;
    let Dataset { train, eval, test, facts: mut data_facts, numpy } =
        workload.open_data_until(stop, tell)?.ok_or(TrainError::Interrupted)?;
    let schema = train.schema().clone();
    let config = workload.engine_config(&schema)?;
    if sizes.is_none() {
        check_memory(&memory_plan(workload, Some(&config)))?;
    }
    check_device(workload, &config)?;
    let plan = workload.loader_plan();
    let train_samples = train.len().unwrap_or(u64::MAX);
    check_steps(workload, &plan, train_samples)?;
    let (mut eval, test) = check_splits(workload, eval, test, stop)?;
    let seed = workload.train.seed;
    let init = match workload.model.init_rng() {
        InitRng::Philox => InitSource::Philox { seed },
        InitRng::Numpy => InitSource::Numpy {
            state: numpy.unwrap_or_else(|| RandomState::new(seed as u32)),
            seed,
        },
    };
    let mut initializer = Initializer::new(&config.model, init).until(stop);
    let mut engine =
        engine::build(workload.engine.kind, workload.engine.device, &config, &mut initializer)?;
    if stop.load(Ordering::Relaxed) {
        return Err(TrainError::Interrupted);
    }
    let t = &workload.train;
    let steps_per_epoch = plan.batches_per_epoch(train_samples);
    let max_steps = steps_per_epoch.saturating_mul(t.epochs).min(t.max_steps.unwrap_or(u64::MAX));
    let eval_samples = eval.len();
    if let Some(what) = workload.closed_data_refusal(&schema, train_samples, eval_samples) {
        return Err(WorkloadError::Unfit { key: "mlperf.division", what }.into());
    }
    let [generated, eval_generated] =
        feed::attach_generator(&mut *engine, [&*train, eval.source()])?;
    // Room for the predictions is taken now; without it they are judged on the host, which then
    // needs the samples' labels too.
    let keeps = engine.begin_scores(eval_samples)?;
    eval.make_on_device(eval_generated.filter(|_| keeps));
    if generated.is_some() {
        data_facts.notes.push(format!("training samples are made on {}", workload.engine.device));
    }
    let facts = RunFacts {
        train_samples,
        eval_samples,
        steps_per_epoch,
        max_steps,
        target_auc: workload.target.resolve(data_facts.best_auc)?,
        target_accuracy: workload.target.accuracy,
        best_auc: data_facts.best_auc,
    };
    Ok(Prepared { schema, data_facts, config, engine, facts, plan, train, generated, eval, test })
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
    told.each(|l| l.init_start())?;
    // Who does not listen does not end it; what follows would.
    let mut tell = |news: &News<'_>| told.all(|l| l.preparing(news));
    let mut prepared = prepare_until(job.workload, job.stop, &mut tell)?;
    let init_seconds = began.elapsed().as_secs_f64();
    told.each(|l| l.params_ready(prepared.engine.params()))?;
    told.each(|l| l.model_ready(&*prepared.engine))?;
    told.each(|l| l.configured(&prepared.config, &prepared.schema))?;
    told.state.clock = Some(Instant::now());
    told.each(|l| l.run_start(&prepared.facts))?;
    let feed = Feed::start(prepared.train, prepared.plan, prepared.generated)?;
    let schedule = Schedule::new(&job.workload.schedule, job.workload.optimizer.learning_rate)?;
    let every = match job.workload.eval.every {
        EvalEvery::Steps(n) => n.max(1),
        EvalEvery::Epochs(f) => ((prepared.facts.steps_per_epoch as f64 * f) as u64).max(1),
        EvalEvery::AtEnd | EvalEvery::Never => u64::MAX,
    };
    let mut trainer = Trainer {
        job,
        facts: &prepared.facts,
        engine: &mut *prepared.engine,
        eval: prepared.eval,
        feed,
        schedule,
        every,
        best: None,
        begun: 0,
        clock: StepClock::new(),
    };
    let reason = trainer.steps(told).inspect_err(|_| {
        // What is done is told of, whatever else went wrong.
        let _ = trainer.tell(told, true);
    })?;
    let phases =
        trainer.engine.phases().map(|c| Phase::ALL.iter().map(|&p| (p, c.seconds(p))).collect());
    prepared.data_facts.notes.extend(trainer.engine.notes());
    told.state.restored = trainer.restore(reason)?;
    told.state.test = trainer.test(prepared.test, reason, told.state.steps)?;
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
    })
}

/// The listeners, and what has happened so far.
struct Told<'a, 'b> {
    listeners: &'a mut [&'b mut dyn Listener],
    state: State,
}

impl Told<'_, '_> {
    fn each(
        &mut self,
        mut tell: impl FnMut(&mut dyn Listener) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        self.listeners.iter_mut().try_for_each(|l| tell(&mut **l))
    }

    /// Tells all of them, whichever fails: another error, which most likely has the same cause, is
    /// the one to report.
    fn all(&mut self, mut tell: impl FnMut(&mut dyn Listener) -> std::io::Result<()>) {
        for listener in self.listeners.iter_mut() {
            let _ = tell(&mut **listener);
        }
    }
}

#[derive(Default)]
struct State {
    clock: Option<Instant>,
    steps: u64,
    samples: u64,
    train_seconds: f64,
    loss_scale: Option<LossScale>,
    last_eval: Option<EvalEvent>,
    best_auc: f64,
    restored: Option<EvalEvent>,
    test: Option<Quality>,
}

impl State {
    fn elapsed(&self) -> f64 {
        self.clock.map_or(0.0, |c| c.elapsed().as_secs_f64())
    }

    fn outcome(&self, reason: StopReason, success: bool) -> Outcome {
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
        }
    }
}

struct Trainer<'a> {
    job: &'a Job<'a>,
    facts: &'a RunFacts,
    engine: &'a mut dyn Engine,
    eval: EvalSplit,
    feed: Feed,
    schedule: Schedule,
    /// Steps between evaluations.
    every: u64,
    best: Option<Best>,
    /// Steps begun.
    begun: u64,
    clock: StepClock,
}

/// The best evaluation so far.
struct Best {
    monitored: f64,
    event: EvalEvent,
    /// Evaluations since then.
    age: u32,
    /// Its parameters, if they are to be restored.
    parameters: Option<Vec<Vec<f32>>>,
}

impl Trainer<'_> {
    fn steps(&mut self, told: &mut Told<'_, '_>) -> Result<StopReason, TrainError> {
        let mut epoch_open = None;
        let mut reason = loop {
            if self.job.stop.load(Ordering::Relaxed) {
                break StopReason::Interrupted;
            }
            self.clock.restart(self.engine);
            let began = Instant::now();
            let Some(input) = self.feed.next()? else { break StopReason::Budget };
            let data_wait = began.elapsed().as_secs_f64();
            let epoch = input.epoch();
            if epoch_open != Some(epoch) {
                told.each(|l| l.epoch_start(epoch))?;
                epoch_open = Some(epoch);
            }
            let last_of_epoch = input.last_of_epoch();
            self.begin(input, data_wait, told)?;
            let evaluates = self.begun.is_multiple_of(self.every);
            self.tell(told, evaluates || last_of_epoch)?;
            let ended = if evaluates { self.evaluate(told)? } else { None };
            if last_of_epoch || ended.is_some() {
                told.each(|l| l.epoch_stop(epoch))?;
                epoch_open = None;
            }
            if let Some(reason) = ended {
                break reason;
            }
        };
        self.tell(told, true)?;
        let evaluated = told.state.last_eval.as_ref().map(|e| e.step);
        if reason == StopReason::Budget
            && self.job.workload.eval.every != EvalEvery::Never
            && self.job.workload.eval.at_end != Some(false)
            && evaluated != Some(told.state.steps)
            && let Some(r) = self.evaluate(told)?
        {
            reason = r;
        }
        if let Some(epoch) = epoch_open {
            told.each(|l| l.epoch_stop(epoch))?;
        }
        Ok(reason)
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
        let context = StepContext { learning_rate, epoch: input.epoch(), data_wait };
        self.engine.begin_step(input.samples(), context)?;
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
            state.train_seconds += event.seconds;
            told.each(|l| l.step(event))
        })
    }

    /// Evaluates, tells the listeners, and says whether training is over.
    fn evaluate(&mut self, told: &mut Told<'_, '_>) -> Result<Option<StopReason>, TrainError> {
        let step = told.state.steps;
        let progress = self.progress(step, told.state.samples);
        told.each(|l| l.eval_start(progress))?;
        let began = Instant::now();
        let quality = match self.eval.evaluate(self.engine, self.job.stop) {
            Ok(q) => q,
            Err(EvalError::Interrupted) => return Ok(Some(StopReason::Interrupted)),
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
        };
        state.last_eval = Some(event.clone());
        told.each(|l| l.eval_stop(&event))?;
        if self.facts.reached(&quality) {
            return Ok(Some(StopReason::Target));
        }
        self.judge(event)
    }

    /// Keeps the best evaluation and applies the patience.
    fn judge(&mut self, event: EvalEvent) -> Result<Option<StopReason>, TrainError> {
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
                return Ok(e
                    .patience
                    .is_some_and(|p| best.age >= p)
                    .then_some(StopReason::Patience));
            }
            _ => {}
        }
        let old = self.best.take().and_then(|b| b.parameters);
        let parameters = if e.restore_best { Some(snapshot(self.engine, old)?) } else { None };
        self.best = Some(Best { monitored, event, age: 0, parameters });
        Ok(None)
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
        test: Option<EvalSplit>,
        reason: StopReason,
        step: u64,
    ) -> Result<Option<Quality>, TrainError> {
        let Some(mut test) = test.filter(|_| reason != StopReason::Interrupted) else {
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

/// Refuses a run without a step.
fn check_steps(workload: &Workload, plan: &Plan, samples: u64) -> Result<(), TrainError> {
    let batch = workload.train.batch_size;
    if samples == 0 {
        return Err(DataError::Invalid("the training split holds no sample".into()).into());
    }
    if plan.batches_per_epoch(samples) > 0 {
        return Ok(());
    }
    let what = format!(
        "the training split holds {samples} samples, fewer than train.batch_size, {batch}, and train.drop_last leaves them out; give a smaller batch, or remove drop_last"
    );
    Err(DataError::Invalid(what).into())
}

/// The splits that will be judged, which can be.
fn check_splits(
    workload: &Workload,
    eval: Box<dyn Source>,
    test: Option<Box<dyn Source>>,
    stop: &AtomicBool,
) -> Result<(EvalSplit, Option<EvalSplit>), TrainError> {
    const EVALUATION: &str = "evaluation";
    let batch = workload.eval.batch_size;
    let keep = workload.eval.cache.unwrap_or(EvalCache::Auto);
    let checked = |source, name: &str| {
        let mut split = EvalSplit::new(source, batch, keep);
        if let Some(samples) = workload.eval.samples.filter(|_| name == EVALUATION) {
            split.limit(samples)?;
        }
        match split.check(name, stop) {
            Ok(()) => Ok(split),
            Err(EvalError::Interrupted) => Err(TrainError::Interrupted),
            Err(e) => Err(train_error(e, 0)),
        }
    };
    let eval = match workload.eval.every {
        EvalEvery::Never => EvalSplit::new(eval, batch, keep),
        _ => checked(eval, EVALUATION)?,
    };
    Ok((eval, test.map(|test| checked(test, "test")).transpose()?))
}

fn train_error(e: EvalError, step: u64) -> TrainError {
    match e {
        EvalError::Data(e) => e.into(),
        EvalError::Engine(e) => e.into(),
        EvalError::Metrics(source) => TrainError::Metrics { step, source },
        EvalError::Interrupted => unreachable!("an interruption ends the run without an error"),
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
