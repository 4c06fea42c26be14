//! What a training writes into a checkpoint, and how it goes on from one.

use super::{
    TrainError,
    contents::{Contents, Item, Touched, tensor},
    events::{CheckpointEvent, EvalEvent, StopReason},
    snapshot::{Of, Snapshot},
};
use crate::{
    batch::Bags,
    checkpoint::{
        About, Base, CheckpointConfig, CheckpointError, Checkpoints, Group, Kind, Loaded, Saved,
        SavedRows, Tensor, keys,
    },
    embedding::{
        RowKind,
        hashed::{HashedTable, SavedTable},
    },
    engine::{Engine, EngineConfig, EngineError, EnginePosition, Phase, StateSpec},
    model::{ModelSpec, ParamSpec},
    optim::schedule::ScheduleState,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// Numbers that go to a device at once.
const PART: usize = 1 << 20;

/// Everything of a training that is no tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub steps: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Epoch, from 0, that has begun and not ended.
    pub epoch: Option<u64>,
    /// The engine's counters and loss scale.
    pub engine: EnginePosition,
    /// The kind of the update rule; `None` in checkpoints of programs that did not say.
    #[serde(default)]
    pub rule: Option<String>,
    /// What the learning rate follows from, beside the number of the step.
    pub schedule: ScheduleState,
    /// The best evaluation.
    pub best: Option<BestSaved>,
    /// An evaluation that was begun and not completed: the run goes on with it.
    pub evaluation_due: Option<EvaluationDue>,
    /// Why training was over: the run goes on to its end.
    pub ended: Option<StopReason>,
    /// The last evaluation.
    pub last_eval: Option<EvalEvent>,
    /// Best AUC so far.
    pub best_auc: f64,
    /// Seconds of training steps.
    pub train_seconds: f64,
    /// Seconds from `init_start` to `run_start`.
    pub init_seconds: f64,
    /// When the run began, in milliseconds since 1970, UTC.
    pub run_start_ms: u64,
    /// Seconds of steps by phase, if the engine keeps a clock.
    pub phases: Option<Vec<(Phase, f64)>>,
    /// Seconds that checkpoints took so far, this one not included.
    pub checkpoint_seconds: f64,
    /// Where the run was taken up before this checkpoint: the steps done then.
    pub resumed_at: Vec<u64>,
    /// What the listeners go on from, by their names.
    pub listeners: BTreeMap<String, Value>,
}

/// An evaluation that listeners have heard the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationDue {
    /// Whether the epoch ends after it.
    pub last_of_epoch: bool,
}

/// The best evaluation so far. Its parameters, if they are to be restored, are tensors called
/// `best.` and the parameter's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestSaved {
    /// The monitored metric.
    pub monitored: f64,
    /// The evaluation.
    pub event: EvalEvent,
    /// Evaluations since then.
    pub age: u32,
    /// Whether its parameters are there.
    pub parameters: bool,
}

impl Progress {
    /// That of a checkpoint.
    ///
    /// # Errors
    /// If it is none of a training.
    pub fn of(loaded: &Loaded) -> Result<Self, CheckpointError> {
        Progress::deserialize(&loaded.progress).map_err(|e| CheckpointError::Damaged {
            path: loaded.path.clone(),
            what: format!("progress.json: {e}"),
        })
    }
}

/// When a checkpoint is due, and what was written.
pub(super) struct Saver<'a> {
    checkpoints: &'a Checkpoints,
    config: &'a CheckpointConfig,
    workload: String,
    last: Instant,
    /// Of the newest one.
    step: Option<u64>,
    /// Seconds that training stood still for all of them.
    pub seconds: f64,
    /// What is being written while training goes on.
    writing: Option<Writing>,
    /// What has changed since the last whole one, if changes are written.
    changes: Option<Changes>,
}

/// A checkpoint on its way, and for how long training has stood still for it.
struct Writing {
    snapshot: Snapshot,
    pauses: Pauses,
}

/// The times for which training stands still.
#[derive(Debug, Clone, Copy, Default)]
struct Pauses {
    seconds: f64,
    longest: f64,
}

impl Pauses {
    fn add(&mut self, seconds: f64) {
        self.seconds += seconds;
        self.longest = self.longest.max(seconds);
    }
}

/// A checkpoint that takes more than this share of a whole one is a whole one.
const MOST_CHANGED: f64 = 0.5;

/// What has changed since the last whole checkpoint.
struct Changes {
    touched: Touched,
    /// The last whole checkpoint, once there is one.
    base: Option<Base>,
    /// What had been touched before the whole one that is being written was begun.
    before: Option<Touched>,
}

impl Changes {
    /// What goes into a checkpoint of the newest kind: the changes, if there is something that they
    /// are the changes of and they are not most of the rows.
    fn contents(
        &mut self,
        engine: &dyn Engine,
        rows: RowKind,
        name: &str,
        to: &Checkpoints,
    ) -> Contents {
        let base = self.base.as_ref().filter(|base| base.name != name && to.has(base));
        if let Some(base) = base.filter(|_| self.touched.share() <= MOST_CHANGED) {
            return Contents::changed(engine, rows, &self.touched, base);
        }
        self.before = Some(self.touched.take());
        Contents::whole(engine, rows)
    }

    /// What became of the checkpoint.
    fn written(&mut self, saved: &Result<Saved, CheckpointError>) {
        let Some(before) = self.before.take() else { return };
        match saved.as_ref().ok().and_then(|saved| Base::of(&saved.path).ok()) {
            Some(base) => self.base = Some(base),
            None => self.touched.add_all(&before),
        }
    }
}

/// Parameters of the best evaluation, one after another.
pub(super) type Parameters = [Vec<f32>];

/// What became of a checkpoint of `step` steps.
pub(super) struct Written {
    pub step: u64,
    pub result: Result<CheckpointEvent, CheckpointError>,
}

impl<'a> Saver<'a> {
    /// Nothing is written yet, or `seconds` have gone to what a run before this one wrote.
    pub fn new(
        checkpoints: &'a Checkpoints,
        config: &'a CheckpointConfig,
        workload: String,
        seconds: f64,
    ) -> Self {
        let (last, step, writing) = (Instant::now(), None, None);
        Saver { checkpoints, config, workload, last, step, seconds, writing, changes: None }
    }

    /// Writes changes from now on, if the workload wants that: of rows that are touched after what
    /// `from` has, the checkpoint that the engine's parameters are of.
    ///
    /// # Errors
    /// If `from` is gone.
    pub fn follow_changes(
        &mut self,
        engine: &dyn Engine,
        config: &EngineConfig,
        from: Option<&Loaded>,
    ) -> Result<(), CheckpointError> {
        if self.config.incremental != Some(true) {
            return Ok(());
        }
        let mut touched = Touched::none(engine, config);
        let base = match from {
            None => None,
            Some(from) => {
                touched.add_changed(engine, from);
                Some(match &from.manifest.base {
                    Some(base) => base.clone(),
                    None => Base::of(&from.path).map_err(|source| CheckpointError::Read {
                        path: from.path.clone(),
                        source,
                    })?,
                })
            }
        };
        self.changes = Some(Changes { touched, base, before: None });
        Ok(())
    }

    /// What goes into a checkpoint.
    fn contents(&mut self, kind: Kind, step: u64, engine: &dyn Engine, rows: RowKind) -> Contents {
        match &mut self.changes {
            // The best one is for who takes it away.
            Some(changes) if kind == Kind::Newest => {
                changes.contents(engine, rows, &kind.name(step), self.checkpoints)
            }
            _ => Contents::whole(engine, rows),
        }
    }

    /// Whether it wants to know the ids of the next step ([`Saver::before_step`]).
    pub fn wants_ids(&self) -> bool {
        self.changes.is_some() || self.is_writing()
    }

    /// Whether one is due before the first step.
    pub fn due_at_start(&self) -> bool {
        self.config.initial == Some(true)
    }

    /// Whether one is due after `step` steps, after which there was an evaluation or not.
    pub fn due(&self, step: u64, evaluated: bool) -> bool {
        let config = self.config;
        config.every_steps.is_some_and(|n| step.is_multiple_of(n))
            || config.every_minutes.is_some_and(|m| self.last.elapsed().as_secs_f64() >= 60.0 * m)
            || (evaluated && config.at_eval == Some(true))
    }

    /// Whether rows that are in a row file are left there, and referred to.
    pub fn links(&self) -> bool {
        self.config.linked == Some(true)
    }

    /// Whether the best evaluation's is wanted.
    pub fn wants_best(&self) -> bool {
        self.config.best == Some(true)
    }

    /// Whether the newest one is of this moment, after `step` steps.
    pub fn has(&self, step: u64) -> bool {
        self.step == Some(step)
    }

    /// The newest one is not of this moment any more: there was an evaluation.
    pub fn outdate(&mut self) {
        self.step = None;
    }

    /// Begins one that is written while training goes on ([`Snapshot`]). None is being written, and
    /// no step is in flight. `saved` rows are in files already; since `began` training stands still.
    pub fn begin(
        &mut self,
        kind: Kind,
        engine: &dyn Engine,
        (config, rows): (&EngineConfig, RowKind),
        (progress, saved): (&Progress, Option<SavedRows>),
        began: Instant,
    ) -> Result<(), TrainError> {
        let of = Of {
            kind,
            step: progress.steps,
            workload: self.workload.clone(),
            progress: json(progress)?,
        };
        let contents = self.contents(kind, progress.steps, engine, rows).beside(saved);
        let snapshot = Snapshot::begin(engine, config, self.checkpoints, contents, of)?;
        let mut pauses = Pauses::default();
        pauses.add(began.elapsed().as_secs_f64());
        self.seconds += pauses.seconds;
        self.writing = Some(Writing { snapshot, pauses });
        self.last = Instant::now();
        Ok(())
    }

    /// Whether one is being written while training goes on.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Keeps what a step on samples with these ids will change of the model that is being written,
    /// and notes which rows it changes. What it takes, since `began`.
    pub fn before_step(
        &mut self,
        engine: &dyn Engine,
        bags: &[Bags],
        began: Instant,
    ) -> Result<Duration, TrainError> {
        if let Some(changes) = &mut self.changes {
            changes.touched.add(bags);
        }
        if let Some(writing) = &mut self.writing {
            writing.snapshot.before_step(engine, bags)?;
            writing.pauses.add(began.elapsed().as_secs_f64());
        }
        let took = began.elapsed();
        self.seconds += took.as_secs_f64();
        Ok(took)
    }

    /// Goes on with what is being written, for a share of a step's seconds; all of it with `wait`.
    /// What became of it, once it is over.
    pub fn advance(
        &mut self,
        engine: &dyn Engine,
        step: f64,
        wait: bool,
    ) -> Result<Option<Written>, TrainError> {
        let Some(mut writing) = self.writing.take() else { return Ok(None) };
        let began = Instant::now();
        if !wait && !writing.snapshot.advance(engine, step)? {
            let took = began.elapsed().as_secs_f64();
            writing.pauses.add(took);
            self.seconds += took;
            self.writing = Some(writing);
            return Ok(None);
        }
        let Writing { snapshot, mut pauses } = writing;
        let (kind, step) = (snapshot.kind, snapshot.step);
        let saved = snapshot.finish(engine)?;
        let took = began.elapsed().as_secs_f64();
        pauses.add(took);
        self.seconds += took;
        Ok(Some(self.written((kind, step), saved, pauses)))
    }

    /// Writes one while training stands still, as it does since `began`. None is being written, and
    /// no step is in flight. `saved` rows are in files already.
    pub fn save(
        &mut self,
        kind: Kind,
        engine: &dyn Engine,
        rows: RowKind,
        best: Option<&Parameters>,
        (progress, saved): (&Progress, Option<SavedRows>),
        began: Instant,
    ) -> Written {
        let contents = self.contents(kind, progress.steps, engine, rows).beside(saved);
        let saved = self.save_now(kind, (engine, rows), contents, best, progress);
        self.last = Instant::now();
        let mut pauses = Pauses::default();
        pauses.add(began.elapsed().as_secs_f64());
        self.seconds += pauses.seconds;
        self.written((kind, progress.steps), saved, pauses)
    }

    fn written(
        &mut self,
        (kind, step): (Kind, u64),
        saved: Result<Saved, CheckpointError>,
        Pauses { seconds, longest }: Pauses,
    ) -> Written {
        if let Some(changes) = self.changes.as_mut().filter(|_| kind == Kind::Newest) {
            changes.written(&saved);
        }
        if kind == Kind::Newest && saved.is_ok() {
            self.step = Some(step);
        }
        let best = kind == Kind::Best;
        let event = |saved: Saved| CheckpointEvent {
            step,
            best,
            path: saved.path,
            bytes: saved.bytes,
            incremental: saved.incremental,
            seconds,
            longest_pause: longest,
        };
        Written { step, result: saved.map(event) }
    }

    fn save_now(
        &self,
        kind: Kind,
        (engine, rows): (&dyn Engine, RowKind),
        Contents { model, optimizer, base, saved }: Contents,
        best: Option<&Parameters>,
        progress: &Progress,
    ) -> Result<Saved, CheckpointError> {
        let tensors = |items: &[Item]| items.iter().map(|i| i.tensor.clone()).collect::<Vec<_>>();
        let kept: Vec<Tensor> = engine
            .params()
            .iter()
            .filter(|_| best.is_some())
            .map(|p| Tensor { name: format!("best.{}", p.name), ..tensor(p, rows) })
            .collect();
        let mut read_model = |i: usize, first: usize, out: &mut [f32]| {
            model[i].read(engine, first, out).map_err(io::Error::other)
        };
        let mut read_state = |i: usize, first: usize, out: &mut [f32]| {
            optimizer[i].read(engine, first, out).map_err(io::Error::other)
        };
        let mut read_best = |i: usize, first: usize, out: &mut [f32]| {
            out.copy_from_slice(&best.unwrap_or_default()[i][first..][..out.len()]);
            Ok(())
        };
        let (of_model, of_optimizer) = (tensors(&model), tensors(&optimizer));
        let mut groups = vec![Group { stem: "model", tensors: &of_model, read: &mut read_model }];
        if !optimizer.is_empty() {
            groups.push(Group { stem: "optimizer", tensors: &of_optimizer, read: &mut read_state });
        }
        if best.is_some() {
            groups.push(Group { stem: "best", tensors: &kept, read: &mut read_best });
        }
        let keys = keys(engine)?;
        let progress_json = json(progress)?;
        let about = About {
            step: progress.steps,
            workload: &self.workload,
            base: base.as_ref(),
            keys: keys.as_deref(),
            rows: saved.as_ref(),
            progress: &progress_json,
        };
        self.checkpoints.save(kind, about, &mut groups)
    }
}

fn json(progress: &Progress) -> Result<Value, CheckpointError> {
    serde_json::to_value(progress)
        .map_err(|e| CheckpointError::Write { path: "progress.json".into(), source: e.into() })
}

/// The keys of its tables, where they grow.
fn keys(engine: &dyn Engine) -> Result<Option<Vec<u8>>, CheckpointError> {
    let saved: Vec<SavedTable> = engine.hashed().iter().map(HashedTable::save).collect();
    (!saved.is_empty()).then(|| keys::encode(&saved)).transpose()
}

/// Gives an engine the parameters of a checkpoint of `model`. Weights that stay 1, as they are from
/// the start, may be missing.
pub(super) fn restore_parameters(
    engine: &mut dyn Engine,
    loaded: &Loaded,
    model: &ModelSpec,
) -> Result<(), TrainError> {
    restore_others(engine, loaded, model, &|_| false)
}

/// The same but for those that the engine has.
fn restore_others(
    engine: &mut dyn Engine,
    loaded: &Loaded,
    model: &ModelSpec,
    has: &dyn Fn(&str) -> bool,
) -> Result<(), TrainError> {
    let columns = engine.hashed().len();
    if columns > 0 {
        let unfit = |what| CheckpointError::Unfit { path: loaded.path.clone(), what };
        let restored = engine.restore_keys(&loaded.keys(columns)?);
        restored.map_err(|e| match e {
            EngineError::Shape(what) => TrainError::from(unfit(what)),
            e => e.into(),
        })?;
    }
    let params: Vec<ParamSpec> = engine.params().to_vec();
    for (i, param) in params.iter().enumerate() {
        if model.stays_one(param) && loaded.tensors.get(&param.name).is_none() {
            engine.write_with(i, &mut |_, part| part.fill(1.0))?;
            continue;
        }
        let view = loaded.tensor(&param.name, &param.shape)?;
        if !has(&param.name) {
            engine.write_with(i, &mut |first, part| view.copy(first, part))?;
        }
    }
    Ok(())
}

/// Gives an engine the parameters, the state and the counters of a checkpoint.
pub(super) fn restore(
    engine: &mut dyn Engine,
    (loaded, model): (&Loaded, &ModelSpec),
    position: EnginePosition,
) -> Result<(), TrainError> {
    // Rows in a file stay in it, where the engine has such a file.
    let adopted = match loaded.tensors.referred() {
        Some(rows) => engine.adopt_rows(rows)?,
        None => false,
    };
    let in_file: Vec<&str> =
        loaded.tensors.referred().into_iter().flat_map(|r| r.names()).collect();
    let has = |name: &str| adopted && in_file.contains(&name);
    restore_others(engine, loaded, model, &has)?;
    restore_state(engine, loaded, &has)?;
    Ok(engine.go_on(position)?)
}

/// Gives an engine the optimizer's state of a checkpoint, but for what it has.
fn restore_state(
    engine: &mut dyn Engine,
    loaded: &Loaded,
    has: &dyn Fn(&str) -> bool,
) -> Result<(), TrainError> {
    let mut values = Vec::new();
    for (i, state) in engine.optimizer_state().to_vec().iter().enumerate() {
        let view = loaded.tensor(&state.name, &state.shape)?;
        if has(&state.name) {
            continue;
        }
        for first in (0..state.len()).step_by(PART) {
            values.resize(PART.min(state.len() - first), 0.0);
            view.copy(first, &mut values);
            engine.write_state(i, first, &values)?;
        }
    }
    Ok(())
}

/// Gives an engine the parameters of a model that a training begins with, and the optimizer's state
/// with its count of updates if it is of this rule and all there; a sentence about what was taken.
pub(super) fn start_from(
    engine: &mut dyn Engine,
    (loaded, model): (&Loaded, &ModelSpec),
    rule: &str,
) -> Result<String, TrainError> {
    restore_parameters(engine, loaded, model)?;
    let path = loaded.path.display();
    let wanted = engine.optimizer_state().to_vec();
    let has = |s: &StateSpec| loaded.tensors.get(&s.name).is_some_and(|v| v.shape == s.shape);
    let why = match loaded.rule() {
        Some((of, updates)) if of == rule && wanted.iter().all(has) => {
            restore_state(engine, loaded, &|_| false)?;
            let mut position = engine.position()?;
            position.device.updates = updates;
            engine.go_on(position)?;
            return Ok(format!(
                "parameters and optimizer state are those of {path}, after {updates} updates"
            ));
        }
        Some((of, _)) if of != rule => format!("which is of {of}"),
        Some(_) => "of which tensors are missing".to_owned(),
        None if wanted.iter().any(has) => "whose rule the file does not say".to_owned(),
        None => "of which there is none".to_owned(),
    };
    Ok(format!("parameters are those of {path}, but not the optimizer's state, {why}"))
}

/// The parameters of the best evaluation.
pub(super) fn best_parameters(
    engine: &dyn Engine,
    loaded: &Loaded,
) -> Result<Vec<Vec<f32>>, CheckpointError> {
    let of = |param: &ParamSpec| {
        let name = format!("best.{}", param.name);
        let view = loaded.tensors.get(&name).filter(|view| view.shape == param.shape);
        let view = view.ok_or_else(|| CheckpointError::Damaged {
            path: loaded.path.clone(),
            what: format!("has no tensor {name} of shape {:?}", param.shape),
        })?;
        let mut values = vec![0.0; param.len()];
        view.copy(0, &mut values);
        Ok(values)
    };
    engine.params().iter().map(of).collect()
}

/// In what form an engine keeps its rows.
pub(super) fn rows(config: &EngineConfig, engine: &str) -> RowKind {
    // candle keeps f32, whatever is asked for.
    if engine == "candle" { RowKind::Fp32 } else { config.embedding_rows }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

/// What has passed since then.
pub(super) fn since_ms(ms: u64) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(ms))
}
