//! A checkpoint that is written while training goes on. The model is that of the step at which it
//! was begun: what is small is copied then, and of tables each row that a step is about to change,
//! unless it has been handed over already. So training stands still for no longer than a part of
//! a table takes to copy, and memory is that of the rows touched meanwhile.
//!
//! All reading of the model is done by the training's own thread, between steps. The thread that
//! writes asks for the parts of tables that it wants next.

use super::{
    TrainError,
    contents::{Content, Contents, Item, RowNumbers, copy_numbers, read_rows, reads},
};
use crate::{
    batch::Bags,
    checkpoint::{About, CheckpointError, Checkpoints, Group, Kind, Saved},
    engine::{Engine, EngineConfig, TensorId},
    model::Part,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    io,
    sync::Arc,
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

/// A tensor of which a step changes the rows of its ids.
struct Rows {
    from: TensorId,
    /// The ids' column, and what of them.
    read: (usize, Part),
    /// The rows that are written, ascending; `None` = all.
    which: Option<RowNumbers>,
    rows: usize,
    cols: usize,
    /// Rows that are written and have been handed over, from the first on.
    done: usize,
    /// A bit a row: whether it need not be kept any more, for it is, or is not written.
    kept: Vec<u64>,
    /// Where in `values` those are that are kept.
    places: HashMap<u32, usize>,
    values: Vec<f32>,
}

impl Rows {
    fn new(
        from: TensorId,
        read: (usize, Part),
        which: Option<RowNumbers>,
        shape: &[usize],
    ) -> Self {
        let rows = shape[0];
        let mut kept = vec![if which.is_some() { !0 } else { 0 }; rows.div_ceil(64)];
        for &row in which.iter().flat_map(|which| which.iter()) {
            kept[row as usize / 64] &= !(1 << (row % 64));
        }
        Rows {
            from,
            read,
            which,
            rows,
            cols: shape[1..].iter().product(),
            done: 0,
            kept,
            places: HashMap::new(),
            values: Vec::new(),
        }
    }

    /// Rows that are written.
    fn written(&self) -> usize {
        self.which.as_ref().map_or(self.rows, |which| which.len())
    }

    /// The row that is written in place `k`.
    fn at(&self, k: usize) -> usize {
        self.which.as_ref().map_or(k, |which| which[k] as usize)
    }

    fn is_kept(&self, row: usize) -> bool {
        self.kept[row / 64] >> (row % 64) & 1 == 1
    }

    /// Keeps the rows of these ids as they are.
    fn keep(&mut self, engine: &dyn Engine, bags: &Bags) -> Result<(), TrainError> {
        if self.done == self.written() {
            return Ok(());
        }
        let (next, at) = (self.at(self.done), self.values.len());
        let mut wanted = Vec::new();
        for &id in &bags.indices {
            let row = self.read.1.of(id) as usize;
            // An id without a row is for the step to refuse.
            if row >= self.rows || row < next || self.is_kept(row) {
                continue;
            }
            self.kept[row / 64] |= 1 << (row % 64);
            self.places.insert(row as u32, at + wanted.len() * self.cols);
            wanted.push(row as u32);
        }
        self.values.resize(at + wanted.len() * self.cols, 0.0);
        Ok(engine.read_rows(self.from, &wanted, &mut self.values[at..])?)
    }

    /// Reads a part of what is written as it was when the checkpoint was begun.
    fn part(
        &mut self,
        engine: &dyn Engine,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), TrainError> {
        match &self.which {
            None => self.from.read(engine, first, out)?,
            Some(which) => read_rows(engine, self.from, which, first, out)?,
        }
        let end = first + out.len();
        for k in first / self.cols..end.div_ceil(self.cols) {
            let row = self.at(k);
            let kept = self.places.get(&(row as u32)).filter(|_| self.is_kept(row));
            let Some(&at) = kept else { continue };
            // It may reach over either end of the part.
            let start = k * self.cols;
            let (from, to) = (start.max(first), (start + self.cols).min(end));
            out[from - first..to - first]
                .copy_from_slice(&self.values[at + from - start..at + to - start]);
        }
        self.done = end / self.cols;
        if self.done == self.written() {
            (self.places, self.values, self.kept) = Default::default();
        }
        Ok(())
    }
}

/// Where the writer has a tensor from.
enum Held {
    /// It was copied.
    Copy(Vec<f32>),
    /// They are the numbers of rows.
    Numbers(RowNumbers),
    /// It is asked for: the number among [`Snapshot::rows`].
    Asked(usize),
}

/// What a checkpoint is of that is written.
pub(super) struct Of {
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
/// must follow from the ids of its batch, which are the numbers of its rows.
pub(super) fn possible(config: &EngineConfig) -> bool {
    !config.moves_all_rows() && config.hashed.is_none()
}

impl Snapshot {
    /// Begins: copies all but tables and their state, and starts to write.
    pub fn begin(
        engine: &dyn Engine,
        config: &EngineConfig,
        checkpoints: &Checkpoints,
        contents: Contents,
        of: Of,
    ) -> Result<Self, TrainError> {
        let reads = reads(engine, config);
        let Contents { model, optimizer, base, saved } = contents;
        let mut rows = Vec::new();
        let mut hold = |item: &Item| -> Result<Held, TrainError> {
            let (from, which) = match &item.content {
                Content::Numbers(rows) => return Ok(Held::Numbers(Arc::clone(rows))),
                Content::Whole(from) => (*from, None),
                Content::Rows(from, which) => (*from, Some(Arc::clone(which))),
            };
            let Some(read) = reads[item.param] else {
                let mut copy = vec![0.0; item.tensor.len()];
                from.read(engine, 0, &mut copy)?;
                return Ok(Held::Copy(copy));
            };
            let shape = from.shape(engine);
            rows.push(Rows::new(from, read, which, shape));
            Ok(Held::Asked(rows.len() - 1))
        };
        let params = model.iter().map(&mut hold).collect::<Result<Vec<_>, _>>()?;
        let state = optimizer.iter().map(hold).collect::<Result<Vec<_>, _>>()?;
        let tensors = |items: Vec<Item>| items.into_iter().map(|i| i.tensor).collect::<Vec<_>>();
        let (model, optimizer) = (tensors(model), tensors(optimizer));
        let (ask, requests) = sync_channel(1);
        let (answers, answered) = sync_channel(1);
        let (checkpoints, kind, step) = (checkpoints.clone(), of.kind, of.step);
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
            let Of { kind, step, workload, progress } = &of;
            let (base, rows) = (base.as_ref(), saved.as_ref());
            let about = About { step: *step, workload, base, keys: None, rows, progress };
            checkpoints.save(*kind, about, &mut groups)
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
            Held::Numbers(rows) => {
                copy_numbers(rows, first, out);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::StepContext,
        batch::Samples,
        checkpoint::{Base, Loaded},
        data::{Source, ranges::Range},
        train::{self, checkpoint::rows, contents::Touched, failure::samples_of},
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

    fn of(step: u64) -> Of {
        Of { kind: Kind::Newest, step, workload: "w".to_owned(), progress: Value::Null }
    }

    /// Whenever parts are asked for, and whatever steps come between: what is written is the model
    /// of the beginning, whole or as what has changed since one before. Tables of some 300,000
    /// rows take several parts each.
    #[test]
    fn what_is_written_is_the_model_of_the_beginning() {
        for (k, more) in [
            &["model.dim=7", "model.bottom=[16,7]"][..],
            &["engine.embedding_rows=bf16", "optimizer.kind=rowwise_adagrad"],
            &["model.trick=qr", "model.qr_collisions=3", "optimizer.kind=sgd"],
            &["model.pooling=weighted_learned", "engine.kind=candle", "data.max_rows=20000"],
        ]
        .into_iter()
        .enumerate()
        {
            let mut p = prepared(300_000, 20_000, more);
            check(&mut *p.engine, &p.config, &mut *p.train, k);
        }
    }

    /// The same on a GPU, emulated where there is none, as many steps ahead as it takes.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_gpu_writes_is_the_model_of_the_beginning() {
        use crate::{
            backend::cuda::testing::devices,
            engine::FusedEngine,
            model::init::{InitSource, Initializer},
        };
        for (k, more) in [
            &["optimizer.kind=adam", "optimizer.rows=lazy"][..],
            &["engine.embedding_rows=bf16-split", "model.pooling=weighted_learned"],
        ]
        .into_iter()
        .enumerate()
        {
            for driver in devices() {
                let mut p = prepared(3000, 6000, more);
                let mut init = Initializer::new(&p.config.model, InitSource::Philox { seed: 5 });
                let mut engine = FusedEngine::on_driver(&driver, &p.config, &mut init).unwrap();
                check(&mut engine, &p.config, &mut *p.train, k);
            }
        }
    }

    /// A small run with tables of so many rows at most.
    fn prepared(rows: u64, samples: u64, more: &[&str]) -> train::Prepared {
        let plain = ["data.eval_samples=500", "model.dim=8", "model.bottom=[16,8]"];
        let sizes = [format!("data.max_rows={rows}"), format!("data.train_samples={samples}")];
        let set = plain.iter().chain(&["model.top=[16,1]"]).chain(more).map(|s| (*s).to_owned());
        let set: Vec<String> = sizes.into_iter().chain(set).collect();
        let workload = workload::load(Path::new("quickstart"), &set).unwrap().workload;
        train::prepare(&workload).unwrap()
    }

    fn check(engine: &mut dyn Engine, config: &EngineConfig, train: &mut dyn Source, k: usize) {
        assert!(possible(config));
        let kept = rows(config, engine.name());
        let mut touched = Touched::none(engine, config);
        let mut step = |engine: &mut dyn Engine,
                        touched: &mut Touched,
                        snapshot: Option<&mut Snapshot>,
                        n: u64| {
            let range = Range { epoch: 0, start: 100 * n, n: 100, last_of_epoch: false };
            let batch = samples_of(train, range).unwrap();
            touched.add(&batch.bags);
            if let Some(snapshot) = snapshot {
                snapshot.before_step(engine, &batch.bags).unwrap();
            }
            engine.begin_step(Samples::Host(&batch), StepContext::at_rate(0.1)).unwrap();
            while engine.finished(false).unwrap().is_some() {}
        };
        (0..3).for_each(|n| step(engine, &mut touched, None, n));
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        let (mut next, mut base) = (3, None);
        // A whole one, and two of what has changed since.
        for steps in [27, 1, 30] {
            let want = all(engine);
            let contents = match &base {
                None => {
                    let _ = touched.take();
                    Contents::whole(engine, kept)
                }
                Some(base) => Contents::changed(engine, kept, &touched, base),
            };
            let mut snapshot =
                Snapshot::begin(engine, config, &checkpoints, contents, of(next)).unwrap();
            for n in next..next + steps {
                step(engine, &mut touched, Some(&mut snapshot), n);
                // Sometimes nothing, sometimes a few parts.
                let share = [0.0, 0.0, 1e-3, 0.02][(n as usize + k) % 4];
                let _ = snapshot.advance(engine, share).unwrap();
            }
            next += steps;
            let saved = snapshot.finish(engine).unwrap().unwrap();
            assert_eq!(saved.incremental, base.is_some());
            let loaded = Loaded::open(&saved.path).unwrap();
            assert_eq!(loaded.tensors.names().count(), want.len());
            for (name, want) in want {
                let view = loaded.tensors.get(&name).unwrap();
                let mut got = vec![0.0; want.len()];
                view.copy(0, &mut got);
                assert!(got == want, "{k} {name}");
                // In parts that end within rows, too.
                let middle = want.len() / 3;
                view.copy(0, &mut got[..middle]);
                view.copy(middle, &mut got[middle..]);
                assert!(got == want, "{k} {name}");
            }
            base = base.or_else(|| Base::of(&saved.path).ok());
        }
        assert_eq!(checkpoints.newest().unwrap().0.manifest.base, base);
        // Training may as well stand still, and the rows are those that have moved.
        let want = all(engine);
        let contents = Contents::changed(engine, kept, &touched, base.as_ref().unwrap());
        for item in contents.model.iter().chain(&contents.optimizer) {
            let (Content::Rows(_, numbers), Some(name)) =
                (&item.content, item.tensor.name.strip_suffix(".changed"))
            else {
                continue;
            };
            let (_, want) = want.iter().find(|(n, _)| n == name).unwrap();
            let cols = item.tensor.len() / numbers.len();
            let want: Vec<f32> = numbers
                .iter()
                .flat_map(|&row| want[row as usize * cols..][..cols].to_vec())
                .collect();
            let mut got = vec![0.0; want.len()];
            let middle = want.len() / 3;
            item.read(engine, 0, &mut got[..middle]).unwrap();
            item.read(engine, middle, &mut got[middle..]).unwrap();
            assert!(got == want, "{k} {name}");
        }
    }

    /// A training that ends leaves nothing half written.
    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let p = prepared(100, 1000, &[]);
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 1);
        let contents = Contents::whole(&*p.engine, rows(&p.config, p.engine.name()));
        let snapshot =
            Snapshot::begin(&*p.engine, &p.config, &checkpoints, contents, of(3)).unwrap();
        let Snapshot { requests, answers, thread, .. } = snapshot;
        drop((requests, answers));
        assert!(thread.join().unwrap().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
