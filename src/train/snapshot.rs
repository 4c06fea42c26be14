//! A checkpoint that is written while training goes on. The model is that of the step at which it
//! was begun: what is small is copied then, and of tables each row that a step is about to change,
//! unless it has been handed over already. So training stands still for no longer than a part of
//! a table takes to copy, and memory is that of the rows touched meanwhile.
//!
//! All reading of the model is done by the training's own thread, between steps. The thread that
//! writes asks for the parts of tables that it wants next.

use super::TrainError;
use crate::{
    batch::Bags,
    checkpoint::{CheckpointError, Checkpoints, Group, Kind, Saved, Tensor},
    engine::{Engine, EngineConfig},
    model::{ParamKind, Part},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Share of the time of a step that goes to copying.
const SHARE: f64 = 0.2;

/// A part that the writer wants: numbers `first..` of a tensor, as many as there is room for.
struct Request {
    tensor: usize,
    first: usize,
    values: Vec<f32>,
}

/// Where numbers are read from.
#[derive(Debug, Clone, Copy)]
enum From {
    Parameter(usize),
    State(usize),
}

impl From {
    fn read(self, engine: &dyn Engine, first: usize, out: &mut [f32]) -> Result<(), TrainError> {
        match self {
            From::Parameter(i) => engine.read_from(i, first, out)?,
            From::State(i) => engine.read_state(i, first, out)?,
        }
        Ok(())
    }
}

/// A tensor of which a step changes the rows of its ids.
struct Rows {
    from: From,
    /// The ids' column, and what of them.
    read: (usize, Part),
    rows: usize,
    cols: usize,
    /// Numbers that have been handed over, from the first on.
    done: usize,
    /// A bit a row: whether it is kept.
    kept: Vec<u64>,
    /// Where in `values` those are.
    places: HashMap<u32, usize>,
    values: Vec<f32>,
}

impl Rows {
    fn is_kept(&self, row: usize) -> bool {
        self.kept[row / 64] >> (row % 64) & 1 == 1
    }

    /// Keeps the rows of these ids as they are.
    fn keep(&mut self, engine: &dyn Engine, bags: &Bags) -> Result<(), TrainError> {
        if self.done == self.rows * self.cols {
            return Ok(());
        }
        for &id in &bags.indices {
            let row = self.read.1.of(id) as usize;
            // An id without a row is for the step to refuse.
            if row >= self.rows || (row + 1) * self.cols <= self.done || self.is_kept(row) {
                continue;
            }
            let at = self.values.len();
            self.values.resize(at + self.cols, 0.0);
            self.from.read(engine, row * self.cols, &mut self.values[at..])?;
            self.kept[row / 64] |= 1 << (row % 64);
            self.places.insert(row as u32, at);
        }
        Ok(())
    }

    /// Reads a part as it was when the checkpoint was begun.
    fn part(
        &mut self,
        engine: &dyn Engine,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), TrainError> {
        self.from.read(engine, first, out)?;
        let end = first + out.len();
        for row in first / self.cols..end.div_ceil(self.cols) {
            if !self.is_kept(row) {
                continue;
            }
            let Some(&at) = self.places.get(&(row as u32)) else { continue };
            // It may reach over either end of the part.
            let (start, stop) = (row * self.cols, (row + 1) * self.cols);
            let (from, to) = (start.max(first), stop.min(end));
            out[from - first..to - first]
                .copy_from_slice(&self.values[at + from - start..at + to - start]);
        }
        self.done = end;
        if end == self.rows * self.cols {
            (self.places, self.values, self.kept) = Default::default();
        }
        Ok(())
    }
}

/// Where the writer has a tensor from.
enum Held {
    /// It was copied.
    Copy(Vec<f32>),
    /// It is asked for: the number among [`Snapshot::rows`].
    Asked(usize),
}

/// What is written, and about what.
pub(super) struct About {
    pub kind: Kind,
    pub step: u64,
    pub workload: String,
    pub progress: Value,
}

/// A checkpoint on its way to the disk.
pub(super) struct Snapshot {
    pub kind: Kind,
    pub step: u64,
    rows: Vec<Rows>,
    requests: Receiver<Request>,
    answers: SyncSender<Vec<f32>>,
    thread: JoinHandle<Result<Saved, CheckpointError>>,
}

/// Whether checkpoints of such a model can be written beside its training: what a step changes
/// must follow from the ids of its batch.
pub(super) fn possible(config: &EngineConfig) -> bool {
    !config.moves_all_rows()
}

impl Snapshot {
    /// Begins: copies all but tables and their state, and starts to write. `model` and `optimizer`
    /// are the tensors of the two files, in the engine's order.
    pub fn begin(
        engine: &dyn Engine,
        config: &EngineConfig,
        checkpoints: &Checkpoints,
        (model, optimizer): (Vec<Tensor>, Vec<Tensor>),
        about: About,
    ) -> Result<Self, TrainError> {
        let reads = reads(engine, config);
        let mut rows = Vec::new();
        let mut hold = |from: From, param: usize, shape: &[usize]| -> Result<Held, TrainError> {
            let len = shape.iter().product();
            let Some(read) = reads[param] else {
                let mut copy = vec![0.0; len];
                from.read(engine, 0, &mut copy)?;
                return Ok(Held::Copy(copy));
            };
            rows.push(Rows {
                from,
                read,
                rows: shape[0],
                cols: len / shape[0],
                done: 0,
                kept: vec![0; shape[0].div_ceil(64)],
                places: HashMap::new(),
                values: Vec::new(),
            });
            Ok(Held::Asked(rows.len() - 1))
        };
        let params = engine.params().iter().enumerate();
        let params = params.map(|(i, p)| hold(From::Parameter(i), i, &p.shape));
        let params = params.collect::<Result<Vec<_>, _>>()?;
        let state = engine.optimizer_state().iter().enumerate();
        let state = state.map(|(i, s)| hold(From::State(i), s.param, &s.shape));
        let state = state.collect::<Result<Vec<_>, _>>()?;
        let (ask, requests) = sync_channel(1);
        let (answers, answered) = sync_channel(1);
        let (checkpoints, kind, step) = (checkpoints.clone(), about.kind, about.step);
        let write = move || {
            let asking = Asking { ask, answered };
            let mut read_model =
                |i: usize, first: usize, out: &mut [f32]| asking.read(&params[i], first, out);
            let mut read_state =
                |i: usize, first: usize, out: &mut [f32]| asking.read(&state[i], first, out);
            let mut groups = vec![Group { stem: "model", tensors: &model, read: &mut read_model }];
            if !optimizer.is_empty() {
                let tensors = &optimizer;
                groups.push(Group { stem: "optimizer", tensors, read: &mut read_state });
            }
            let of = (about.step, about.workload.as_str());
            checkpoints.save(about.kind, of, &mut groups, &about.progress)
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(write);
        let thread = thread.map_err(|source| CheckpointError::Write {
            path: "checkpoint thread".into(),
            source,
        })?;
        Ok(Snapshot { kind, step, rows, requests, answers, thread })
    }

    /// Keeps what a step on these ids will change.
    pub fn before_step(&mut self, engine: &dyn Engine, bags: &[Bags]) -> Result<(), TrainError> {
        self.rows.iter_mut().try_for_each(|rows| rows.keep(engine, &bags[rows.read.0]))
    }

    /// Hands over what the writer wants, for a share of a step's seconds. Whether it has all.
    pub fn advance(&mut self, engine: &dyn Engine, step: f64) -> Result<bool, TrainError> {
        let end = Instant::now() + Duration::from_secs_f64(step * SHARE);
        while !self.thread.is_finished() {
            let left = end.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(left) {
                Ok(request) => self.answer(engine, request)?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(true)
    }

    /// Hands over all that is left, and waits until it is on the disk.
    pub fn finish(
        mut self,
        engine: &dyn Engine,
    ) -> Result<Result<Saved, CheckpointError>, TrainError> {
        while let Ok(request) = self.requests.recv() {
            self.answer(engine, request)?;
        }
        let Snapshot { answers, thread, .. } = self;
        drop(answers);
        Ok(thread.join().unwrap_or_else(|_| {
            Err(CheckpointError::Write {
                path: "checkpoint thread".into(),
                source: io::Error::other("panicked"),
            })
        }))
    }

    fn answer(&mut self, engine: &dyn Engine, request: Request) -> Result<(), TrainError> {
        let Request { tensor, first, mut values } = request;
        self.rows[tensor].part(engine, first, &mut values)?;
        // A writer that has failed wants nothing more, and says why when it is joined.
        let _ = self.answers.send(values);
        Ok(())
    }
}

/// The writer's end.
struct Asking {
    ask: SyncSender<Request>,
    answered: Receiver<Vec<f32>>,
}

impl Asking {
    fn read(&self, held: &Held, first: usize, out: &mut [f32]) -> io::Result<()> {
        let tensor = match held {
            Held::Copy(values) => {
                out.copy_from_slice(&values[first..][..out.len()]);
                return Ok(());
            }
            Held::Asked(tensor) => *tensor,
        };
        // Who trains may have given up.
        let gone = || io::Error::other("the training has ended");
        let request = Request { tensor, first, values: vec![0.0; out.len()] };
        self.ask.send(request).map_err(|_| gone())?;
        let values = self.answered.recv().map_err(|_| gone())?;
        out.copy_from_slice(&values);
        Ok(())
    }
}

/// By what ids the rows of each parameter are changed; `None` if they are changed by each step.
fn reads(engine: &dyn Engine, config: &EngineConfig) -> Vec<Option<(usize, Part)>> {
    let specs = config.model.table_specs();
    let mut weights = specs.iter();
    let of = |p: &crate::model::ParamSpec| match p.kind {
        ParamKind::Table => specs.iter().find(|t| t.name == p.name),
        // One for each table, in their order.
        ParamKind::RowWeight => weights.next(),
        _ => None,
    };
    engine.params().iter().map(of).map(|t| t.map(|t| (t.column, t.part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Form,
        data::ranges::Range,
        train::{self, failure::samples_of},
        workload,
    };
    use std::path::Path;

    fn all(engine: &dyn Engine) -> Vec<(String, Vec<f32>)> {
        let mut all = Vec::new();
        for (i, p) in engine.params().iter().enumerate() {
            let mut values = vec![0.0; p.len()];
            engine.read(i, &mut values).unwrap();
            all.push((p.name.clone(), values));
        }
        for (i, s) in engine.optimizer_state().iter().enumerate() {
            let mut values = vec![0.0; s.len()];
            engine.read_state(i, 0, &mut values).unwrap();
            all.push((s.name.clone(), values));
        }
        all
    }

    /// Whenever parts are asked for, and whatever steps come between: what is written is the model
    /// of the beginning. Tables of some 300,000 rows take several parts each.
    #[test]
    fn what_is_written_is_the_model_of_the_beginning() {
        for (k, more) in [
            &[][..],
            &["engine.embedding_rows=bf16", "optimizer.kind=rowwise_adagrad"],
            &["model.trick=qr", "model.qr_collisions=3", "optimizer.kind=sgd"],
            &["model.pooling=weighted_learned", "engine.kind=candle", "data.max_rows=20000"],
        ]
        .into_iter()
        .enumerate()
        {
            let plain = [
                "data.max_rows=300000",
                "data.train_samples=20000",
                "data.eval_samples=500",
                "model.dim=8",
                "model.bottom=[16,8]",
                "model.top=[16,1]",
            ];
            let set: Vec<String> = plain.iter().chain(more).map(|s| (*s).to_owned()).collect();
            let workload = workload::load(Path::new("quickstart"), &set).unwrap().workload;
            let mut p = train::prepare(&workload).unwrap();
            assert!(possible(&p.config));
            let engine = &mut *p.engine;
            let mut step = |engine: &mut dyn Engine, snapshot: Option<&mut Snapshot>, n: u64| {
                let range = Range { epoch: 0, start: 100 * n, n: 100, last_of_epoch: false };
                let batch = samples_of(&mut *p.train, range).unwrap();
                if let Some(snapshot) = snapshot {
                    snapshot.before_step(engine, &batch.bags).unwrap();
                }
                engine.train_step(&batch, 0.1).unwrap();
            };
            (0..3).for_each(|n| step(engine, None, n));
            let want = all(engine);
            let dir = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::new(dir.path().to_owned(), 1);
            let form = |name: &str, shape: &[usize]| Tensor {
                name: name.to_owned(),
                form: Form::F32,
                shape: shape.to_vec(),
            };
            let model = engine.params().iter().map(|p| form(&p.name, &p.shape)).collect();
            let state = engine.optimizer_state().iter().map(|s| form(&s.name, &s.shape)).collect();
            let about = About {
                kind: Kind::Newest,
                step: 3,
                workload: "w".to_owned(),
                progress: Value::Null,
            };
            let mut snapshot =
                Snapshot::begin(engine, &p.config, &checkpoints, (model, state), about).unwrap();
            for n in 3..30 {
                step(engine, Some(&mut snapshot), n);
                // Sometimes nothing, sometimes a few parts.
                let share = [0.0, 0.0, 1e-3, 0.02][(n as usize + k) % 4];
                let _ = snapshot.advance(engine, share).unwrap();
            }
            let saved = snapshot.finish(engine).unwrap().unwrap();
            let loaded = crate::checkpoint::Loaded::open(&saved.path).unwrap();
            for (name, want) in want {
                let mut got = vec![0.0; want.len()];
                loaded.tensors.get(&name).unwrap().copy(0, &mut got);
                assert!(got == want, "{more:?} {name}");
            }
        }
    }

    /// A training that ends leaves nothing half written.
    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let set = ["data.max_rows=100".to_owned(), "data.train_samples=1000".to_owned()];
        let workload = workload::load(Path::new("quickstart"), &set).unwrap().workload;
        let p = train::prepare(&workload).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 1);
        let model = p.engine.params().iter().map(|p| Tensor {
            name: p.name.clone(),
            form: Form::F32,
            shape: p.shape.clone(),
        });
        let about =
            About { kind: Kind::Newest, step: 3, workload: String::new(), progress: Value::Null };
        let tensors = (model.collect(), Vec::new());
        let snapshot =
            Snapshot::begin(&*p.engine, &p.config, &checkpoints, tensors, about).unwrap();
        let Snapshot { requests, answers, thread, .. } = snapshot;
        drop((requests, answers));
        assert!(thread.join().unwrap().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
