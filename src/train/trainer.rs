//! Training, step by step: what each begins with and what follows it.

use super::{
    TrainError,
    checkpoint::{EvaluationDue, Progress, Saver, rows},
    diagnosis::{Diagnosis, Origin, SAMPLES, diagnose},
    evaluate::EvalSplit,
    events::{RunFacts, StopReason},
    feed::{Ahead, Feed, StepInput},
    judging::Best,
    run::Job,
    snapshot,
    step_clock::{StepClock, failed_step},
    told::{State, Told},
};
use crate::{
    backend::{Device, StepContext},
    batch::Schema,
    checkpoint::{Kind, Loaded},
    data::ranges::Range,
    embedding::{RowKind, TableUse},
    engine::{Engine, EngineConfig, EngineKind, Phase, PhaseClock},
    optim::schedule::Schedule,
    workload::EvalEvery,
};
use std::{collections::VecDeque, sync::atomic::Ordering, time::Instant};

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

/// What a trainer is made from.
pub(super) struct Parts<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) facts: &'a RunFacts,
    pub(super) schema: &'a Schema,
    pub(super) config: &'a EngineConfig,
    pub(super) engine: &'a mut dyn Engine,
    pub(super) eval: EvalSplit,
    pub(super) feed: Feed,
    /// Seconds from `init_start` to `run_start`.
    pub(super) init_seconds: f64,
}

impl<'a> Trainer<'a> {
    /// At its first step, or where a checkpoint was left.
    pub(super) fn new(
        parts: Parts<'a>,
        resumed: Option<&(&Loaded, Progress)>,
        state: &State,
    ) -> Result<Self, TrainError> {
        let Parts { job, facts, schema, config, engine, eval, feed, init_seconds } = parts;
        let w = job.workload;
        let mut schedule = Schedule::new(&w.schedule, w.optimizer.learning_rate)?;
        let (mut best, mut epoch_open, mut evaluation_due, mut ended) = (None, None, None, None);
        if let Some((from, progress)) = resumed {
            schedule.go_on(progress.schedule);
            (epoch_open, evaluation_due) = (progress.epoch, progress.evaluation_due);
            ended = progress.ended;
            best = Best::saved(&*engine, from, progress)?;
        }
        let every = match w.eval.every {
            EvalEvery::Steps(n) => n.max(1),
            EvalEvery::Epochs(f) => ((facts.steps_per_epoch as f64 * f) as u64).max(1),
            EvalEvery::AtEnd | EvalEvery::Never => u64::MAX,
        };
        let mut saver = job
            .checkpoints
            .filter(|_| w.checkpoint.is_on())
            .map(|to| Saver::new(to, &w.checkpoint, w.sha256(), state.checkpoint_seconds));
        if let Some(saver) = &mut saver {
            saver.follow_changes(&*engine, config, job.from)?;
        }
        Ok(Trainer {
            facts,
            schema,
            eval,
            feed: Ahead::of(feed),
            announced: false,
            schedule,
            every,
            best,
            begun: state.steps,
            in_flight: VecDeque::with_capacity(IN_FLIGHT),
            clock: StepClock::new(),
            epoch_open,
            rows: rows(config, engine.name()),
            // Row by row candle's GPU hands out too slowly.
            beside: job.ranks.is_none()
                && (w.engine.device == Device::Cpu || w.engine.kind == EngineKind::Fused)
                && snapshot::possible(config),
            step_seconds: 0.0,
            config,
            init_seconds,
            phases: resumed.and_then(|(_, p)| p.phases.clone()),
            saver,
            evaluation_due,
            ended,
            engine,
            job,
        })
    }

    /// Trains until something ends it.
    pub(super) fn steps(&mut self, told: &mut Told<'_, '_>) -> Result<StopReason, TrainError> {
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
    pub(super) fn tables(&self) -> Vec<TableUse> {
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
    pub(super) fn tell(&mut self, told: &mut Told<'_, '_>, wait: bool) -> Result<(), TrainError> {
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

    /// What training has left as it was.
    pub(super) fn diagnose(&mut self, origin: Origin<'_>) -> Result<Diagnosis, TrainError> {
        let samples = self.eval.len().min(self.config.max_batch as u64) as usize;
        let batch = self.eval.part(0, samples.min(SAMPLES))?;
        diagnose(self.engine, self.config, self.rows, origin, &batch)
    }
}
