//! What a training writes into a checkpoint, and how it goes on from one.

use super::{
    TrainError,
    events::{CheckpointEvent, EvalEvent, StopReason},
    snapshot::{About, Snapshot},
};
use crate::{
    batch::Samples,
    checkpoint::{
        CheckpointConfig, CheckpointError, Checkpoints, Form, Group, Kind, Loaded, Saved, Tensor,
    },
    embedding::RowKind,
    engine::{Engine, EngineConfig, EnginePosition, Phase, StateSpec},
    model::{ModelSpec, ParamKind, ParamSpec},
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
}

/// A checkpoint on its way, and the seconds that training has stood still for it.
struct Writing {
    snapshot: Snapshot,
    seconds: f64,
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
        Saver { checkpoints, config, workload, last, step, seconds, writing }
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

    /// Whether the best evaluation's is wanted.
    pub fn wants_best(&self) -> bool {
        self.config.best == Some(true)
    }

    /// Whether the newest one is of `step` steps.
    pub fn has(&self, step: u64) -> bool {
        self.step == Some(step)
    }

    /// Begins one that is written while training goes on ([`Snapshot`]). None is being written, and
    /// no step is in flight.
    pub fn begin(
        &mut self,
        kind: Kind,
        engine: &dyn Engine,
        (config, rows): (&EngineConfig, RowKind),
        progress: &Progress,
    ) -> Result<(), TrainError> {
        let began = Instant::now();
        let about = About {
            kind,
            step: progress.steps,
            workload: self.workload.clone(),
            progress: json(progress)?,
        };
        let tensors = (model(engine, rows), state(engine));
        let snapshot = Snapshot::begin(engine, config, self.checkpoints, tensors, about)?;
        let seconds = began.elapsed().as_secs_f64();
        self.seconds += seconds;
        self.writing = Some(Writing { snapshot, seconds });
        self.last = Instant::now();
        Ok(())
    }

    /// Keeps what a step on these samples will change of the model that is being written. What it
    /// takes.
    pub fn before_step(
        &mut self,
        engine: &dyn Engine,
        samples: Samples<'_>,
    ) -> Result<Duration, TrainError> {
        let (Some(writing), Some(batch)) = (&mut self.writing, samples.host()) else {
            return Ok(Duration::ZERO);
        };
        let began = Instant::now();
        writing.snapshot.before_step(engine, &batch.bags)?;
        let took = began.elapsed();
        writing.seconds += took.as_secs_f64();
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
            writing.seconds += took;
            self.seconds += took;
            self.writing = Some(writing);
            return Ok(None);
        }
        let Writing { snapshot, seconds } = writing;
        let (kind, step) = (snapshot.kind, snapshot.step);
        let saved = snapshot.finish(engine)?;
        let took = began.elapsed().as_secs_f64();
        self.seconds += took;
        Ok(Some(self.written((kind, step), saved, seconds + took)))
    }

    /// Writes one while training stands still. None is being written, and no step is in flight.
    pub fn save(
        &mut self,
        kind: Kind,
        engine: &dyn Engine,
        rows: RowKind,
        best: Option<&Parameters>,
        progress: &Progress,
    ) -> Written {
        let began = Instant::now();
        let saved = self.save_now(kind, engine, rows, best, progress);
        self.last = Instant::now();
        let took = began.elapsed().as_secs_f64();
        self.seconds += took;
        self.written((kind, progress.steps), saved, took)
    }

    fn written(
        &mut self,
        (kind, step): (Kind, u64),
        saved: Result<Saved, CheckpointError>,
        seconds: f64,
    ) -> Written {
        if kind == Kind::Newest && saved.is_ok() {
            self.step = Some(step);
        }
        let best = kind == Kind::Best;
        let event = |saved: Saved| CheckpointEvent {
            step,
            best,
            path: saved.path,
            bytes: saved.bytes,
            seconds,
        };
        Written { step, result: saved.map(event) }
    }

    fn save_now(
        &self,
        kind: Kind,
        engine: &dyn Engine,
        rows: RowKind,
        best: Option<&Parameters>,
        progress: &Progress,
    ) -> Result<Saved, CheckpointError> {
        let (model, optimizer) = (model(engine, rows), state(engine));
        let kept: Vec<Tensor> = engine
            .params()
            .iter()
            .filter(|_| best.is_some())
            .map(|p| Tensor { name: format!("best.{}", p.name), ..tensor(p, rows) })
            .collect();
        let mut read_model = |i: usize, first: usize, out: &mut [f32]| {
            engine.read_from(i, first, out).map_err(io::Error::other)
        };
        let mut read_state = |i: usize, first: usize, out: &mut [f32]| {
            engine.read_state(i, first, out).map_err(io::Error::other)
        };
        let mut read_best = |i: usize, first: usize, out: &mut [f32]| {
            out.copy_from_slice(&best.unwrap_or_default()[i][first..][..out.len()]);
            Ok(())
        };
        let mut groups = vec![Group { stem: "model", tensors: &model, read: &mut read_model }];
        if !optimizer.is_empty() {
            groups.push(Group { stem: "optimizer", tensors: &optimizer, read: &mut read_state });
        }
        if best.is_some() {
            groups.push(Group { stem: "best", tensors: &kept, read: &mut read_best });
        }
        let about = (progress.steps, self.workload.as_str());
        self.checkpoints.save(kind, about, &mut groups, &json(progress)?)
    }
}

fn json(progress: &Progress) -> Result<Value, CheckpointError> {
    serde_json::to_value(progress)
        .map_err(|e| CheckpointError::Write { path: "progress.json".into(), source: e.into() })
}

/// The tensors of an engine's parameters.
fn model(engine: &dyn Engine, rows: RowKind) -> Vec<Tensor> {
    engine.params().iter().map(|p| tensor(p, rows)).collect()
}

/// Those of its optimizer's state.
fn state(engine: &dyn Engine) -> Vec<Tensor> {
    let tensor =
        |s: &StateSpec| Tensor { name: s.name.clone(), form: Form::F32, shape: s.shape.clone() };
    engine.optimizer_state().iter().map(tensor).collect()
}

/// A parameter as it is written: in 16 bits where its rows are kept so.
fn tensor(param: &ParamSpec, rows: RowKind) -> Tensor {
    let form = match (param.kind, rows) {
        (ParamKind::Table, RowKind::Bf16) => Form::Bf16,
        (ParamKind::Table, RowKind::Fp16) => Form::F16,
        _ => Form::F32,
    };
    Tensor { name: param.name.clone(), form, shape: param.shape.clone() }
}

/// Gives an engine the parameters of a checkpoint of `model`. Weights that stay 1, as they are from
/// the start, may be missing.
pub(super) fn restore_parameters(
    engine: &mut dyn Engine,
    loaded: &Loaded,
    model: &ModelSpec,
) -> Result<(), TrainError> {
    let params: Vec<ParamSpec> = engine.params().to_vec();
    for (i, param) in params.iter().enumerate() {
        if model.stays_one(param) && loaded.tensors.get(&param.name).is_none() {
            engine.write_with(i, &mut |_, part| part.fill(1.0))?;
            continue;
        }
        let view = loaded.tensor(&param.name, &param.shape)?;
        engine.write_with(i, &mut |first, part| view.copy(first, part))?;
    }
    Ok(())
}

/// Gives an engine the parameters, the state and the counters of a checkpoint.
pub(super) fn restore(
    engine: &mut dyn Engine,
    (loaded, model): (&Loaded, &ModelSpec),
    position: EnginePosition,
) -> Result<(), TrainError> {
    restore_parameters(engine, loaded, model)?;
    restore_state(engine, loaded)?;
    Ok(engine.go_on(position)?)
}

/// Gives an engine the optimizer's state of a checkpoint.
fn restore_state(engine: &mut dyn Engine, loaded: &Loaded) -> Result<(), TrainError> {
    let mut values = Vec::new();
    for (i, state) in engine.optimizer_state().to_vec().iter().enumerate() {
        let view = loaded.tensor(&state.name, &state.shape)?;
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
            restore_state(engine, loaded)?;
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
