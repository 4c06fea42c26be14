//! Rank 0: an engine whose parameters are on servers, and whose steps are workers'.

use super::{
    Link, Served, ServerConfig, Setup,
    flight::Flight,
    message::{get, pack, put},
    refusal,
    share::Homes,
    work::end_words,
};
use crate::{
    backend::{Position, StepContext, StepEnd, StepStart},
    batch::{Batch, BatchLimits, Samples},
    comm::{self, Comm, CommError, Patience, What, first, text_words},
    engine::{
        Engine, EngineConfig, EngineError, EnginePosition, FillPart, NO_LOG, PhaseClock, StateSpec,
        TensorId,
        ranks::{
            follow::SetupInit,
            message::{Command, Numbers},
            rows_of,
        },
    },
    host::pool::Pool,
    model::{ParamSpec, init::Initializer},
    optim::{LossScale, LossScaleSpec, LossScaler},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

/// Numbers of a table that are sent at once.
const PART: usize = 1 << 20;

/// What workers have come to.
struct Work {
    flight: Flight,
    /// Results that nobody has taken, in the order in which they came.
    ended: VecDeque<StepEnd>,
    /// The first step whose loss is no number, and that.
    failed: Option<(StepStart, f32)>,
    served: Served,
    /// Updates so far.
    updates: u64,
    /// Of each worker whether its dense parameters are the servers'.
    fresh: Vec<bool>,
    /// For each step that has ended: its number, and for each server the versions that it had pulled
    /// and was applied to.
    #[cfg(test)]
    trace: Vec<(u64, Vec<(u64, u64)>)>,
}

/// An engine that servers and workers make up. Only rank 0 has this one.
pub struct ServedEngine {
    link: Link,
    config: ServerConfig,
    homes: Homes,
    limits: BatchLimits,
    params: Vec<ParamSpec>,
    state: Vec<StateSpec>,
    work: RefCell<Work>,
    /// Batches handed out.
    batches: u64,
    notes: Vec<String>,
    /// Whether ranks do not hear each other any more.
    broken: Cell<bool>,
}

/// Makes the servers and workers. `init` is fresh, and of the whole model.
///
/// # Errors
/// If a parameter server cannot train this model, or a rank cannot make its part.
pub fn lead(
    comm: Rc<dyn Comm>,
    config: &EngineConfig,
    server: ServerConfig,
    homes: Homes,
    init: &mut Initializer,
) -> Result<ServedEngine, EngineError> {
    let size = comm.size();
    if let Some(what) = refusal(config, server, size) {
        return Err(EngineError::Unsupported(what));
    }
    // What every number of follows from those before can only be drawn in one place.
    let by_counter = init.seed();
    let setup = Setup {
        config: config.clone(),
        homes: homes.clone(),
        timeout_ms: server.timeout.as_millis() as u64,
        init: by_counter.map_or(SetupInit::Sent, |seed| SetupInit::Philox { seed }),
    };
    let setup = serde_json::to_string(&setup)
        .map_err(|e| EngineError::Unsupported(format!("cannot tell other ranks: {e}")))?;
    let link = Link { comm, patience: Patience::For(server.timeout) };
    let content = text_words(&setup);
    for rank in comm::others(&*link.comm) {
        link.tell(rank, Command::Serve.head(content.len()), content.clone())?;
    }
    // Nobody goes on before all are there.
    comm::all_gather(&*link.comm, What::Greeting, Patience::Unlimited, &[1])?;
    let workers = size - 1 - server.servers;
    let note = format!(
        "trained by a parameter server on {size} ranks by {}: {} and {}, gradients at most {} updates late",
        link.comm.library(),
        counted(server.servers, "server"),
        counted(workers, "worker"),
        server.bound.map_or("any number of".into(), |most| most.to_string())
    );
    let served = Served {
        servers: server.servers,
        workers,
        bound: server.bound,
        staleness: Vec::new(),
        batches: vec![0; workers],
    };
    let mut engine = ServedEngine {
        link,
        config: server,
        homes,
        limits: config.batch_limits(),
        params: config.model.params(),
        state: config.optimizer_state(),
        work: RefCell::new(Work {
            flight: Flight::new(workers, server.bound),
            ended: VecDeque::new(),
            failed: None,
            served,
            updates: 0,
            fresh: vec![false; workers],
            #[cfg(test)]
            trace: Vec::new(),
        }),
        batches: 0,
        notes: vec![note],
        broken: Cell::new(false),
    };
    if by_counter.is_none() {
        engine.send_initial(init)?;
    }
    Ok(engine)
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl ServedEngine {
    /// Sends all initial values that come from one stream of numbers.
    fn send_initial(&mut self, init: &mut Initializer) -> Result<(), EngineError> {
        let pool = Pool::new(1);
        for index in 0..self.params.len() {
            if init.stopped() {
                break;
            }
            let spec = self.params[index].clone();
            self.write_with(index, &mut |first, part| {
                init.fill_part(index, &spec, first, part, &pool);
            })?;
        }
        Ok(())
    }

    /// The rank of a worker.
    fn rank(&self, worker: usize) -> usize {
        1 + self.config.servers + worker
    }

    /// Notes that ranks do not hear each other any more, and at which step.
    fn heard<T>(&self, done: Result<T, CommError>) -> Result<T, EngineError> {
        done.map_err(|source| {
            self.broken.set(true);
            let oldest = self.work.borrow().flight.waiting().first().map(|(_, b)| b.start.number);
            match oldest {
                Some(step) => EngineError::RanksInStep { step, source },
                None => EngineError::Ranks(source),
            }
        })
    }

    /// Takes what has come of a batch, if something has; with `wait` waits for one, if one is in
    /// flight.
    fn collect(&self, wait: bool) -> Result<bool, EngineError> {
        let waiting = self.work.borrow().flight.waiting();
        let Some(&(oldest, busy)) = waiting.first() else { return Ok(false) };
        let ranks: Vec<usize> = waiting.iter().map(|(worker, _)| self.rank(*worker)).collect();
        let (comm, words) = (&*self.link.comm, end_words(self.config.servers));
        let get = || match wait {
            false => match comm.arrived(What::StepEnd, &ranks)? {
                Some(rank) => self.link.get(rank, What::StepEnd, words).map(|w| Some((rank, w))),
                None => Ok(None),
            },
            true => {
                let left = self.config.timeout.saturating_sub(busy.since.elapsed());
                match first(comm, What::StepEnd, &ranks, Patience::For(left))? {
                    Some(rank) => {
                        self.link.get(rank, What::StepEnd, words).map(|w| Some((rank, w)))
                    }
                    None => {
                        let (rank, waited) = (self.rank(oldest), busy.since.elapsed());
                        let late = self.link.late(rank, What::StepEnd, words, waited);
                        late.map(|w| Some((rank, w)))
                    }
                }
            }
        };
        let Some((rank, words)) = self.heard(get())? else { return Ok(false) };
        self.work.borrow_mut().end(rank - self.rank(0), &words);
        Ok(true)
    }

    /// Waits until nothing is in flight.
    fn settle(&self) -> Result<(), EngineError> {
        while self.collect(true)? {}
        Ok(())
    }

    fn read_tensor(&self, of: TensorId, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.settle()?;
        let rank = self.home(of);
        let read = || {
            let numbers = Numbers { first, len: out.len() };
            self.link.tell(rank, Command::Read(of, numbers).head(0), Vec::new())?;
            self.link.get(rank, What::Values, out.len())
        };
        let words = self.heard(read())?;
        out.copy_from_slice(bytemuck::cast_slice(&words));
        Ok(())
    }

    fn write_tensor(
        &mut self,
        of: TensorId,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.settle()?;
        self.work.get_mut().fresh.fill(false);
        let head = Command::Write(of, Numbers { first, len: values.len() }).head(values.len());
        let words = bytemuck::cast_slice(values).to_vec();
        self.heard(self.link.tell(self.home(of), head, words))
    }

    /// The rank that has a tensor.
    fn home(&self, of: TensorId) -> usize {
        self.homes.rank(match of {
            TensorId::Parameter(index) => index,
            TensorId::State(index) => self.state[index].param,
        })
    }

    /// The error of a loss that is no number, once all steps that may come with it have ended.
    fn failure(&self) -> Result<(), EngineError> {
        if self.work.borrow().failed.is_none() {
            return Ok(());
        }
        self.settle()?;
        let Some((start, loss)) = self.work.borrow_mut().failed.take() else { return Ok(()) };
        Err(EngineError::NotFinite {
            what: "the loss",
            value: loss.into(),
            step: start.number,
            learning_rate: start.context.learning_rate,
        })
    }

    /// For each step that has ended, in the order of their ends: its number, and for each server the
    /// versions that it had pulled and was applied to.
    #[cfg(test)]
    pub(in crate::engine) fn trace(&self) -> Vec<(u64, Vec<(u64, u64)>)> {
        self.work.borrow().trace.clone()
    }
}

impl Work {
    /// Notes what a worker says of its batch.
    fn end(&mut self, worker: usize, words: &[u32]) {
        let Some(busy) = self.flight.end(worker) else { return };
        let loss = f32::from_bits(words[0]);
        if !loss.is_finite() {
            self.failed.get_or_insert((busy.start, loss));
            return;
        }
        let versions = words[1..].chunks(4).map(|v| (get(v), get(&v[2..])));
        let late = versions.clone().map(|(pulled, found)| found - pulled).max().unwrap_or(0);
        #[cfg(test)]
        self.trace.push((busy.start.number, versions.collect()));
        let Served { staleness, batches, .. } = &mut self.served;
        staleness.resize(staleness.len().max(late as usize + 1), 0);
        staleness[late as usize] += 1;
        batches[worker] += 1;
        self.updates += 1;
        // Told of in the order in which they end.
        let start = StepStart { number: self.updates, ..busy.start };
        let loss_scale = LossScale { scale: 1.0, skipped_steps: 0 };
        self.ended.push_back(StepEnd { start, loss, loss_scale, updates: self.updates });
    }
}

impl Drop for ServedEngine {
    fn drop(&mut self) {
        if !self.broken.get() && self.settle().is_ok() {
            for rank in comm::others(&*self.link.comm) {
                // Whoever does not hear it is gone.
                let _ = self.link.tell(rank, Command::Close.head(0), Vec::new());
            }
        }
    }
}

impl Engine for ServedEngine {
    fn name(&self) -> &'static str {
        "fused"
    }

    fn params(&self) -> &[ParamSpec] {
        &self.params
    }

    fn read_from(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.read_tensor(TensorId::Parameter(index), first, out)
    }

    fn write_with(&mut self, index: usize, f: &mut FillPart<'_>) -> Result<(), EngineError> {
        let all = self.params[index].len();
        let mut values = Vec::new();
        for first in (0..all).step_by(PART) {
            values.clear();
            values.resize(PART.min(all - first), 0.0);
            f(first, &mut values);
            self.write_from(index, first, &values)?;
        }
        Ok(())
    }

    fn write_from(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.write_tensor(TensorId::Parameter(index), first, values)
    }

    fn optimizer_state(&self) -> &[StateSpec] {
        &self.state
    }

    fn read_state(&self, index: usize, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        self.read_tensor(TensorId::State(index), first, out)
    }

    fn write_state(
        &mut self,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<(), EngineError> {
        self.write_tensor(TensorId::State(index), first, values)
    }

    fn position(&mut self) -> Result<EnginePosition, EngineError> {
        self.settle()?;
        let loss_scale = LossScaler::new(LossScaleSpec::Off).position();
        let device = Position { updates: self.work.get_mut().updates, loss_scale };
        Ok(EnginePosition { batches: self.batches, device })
    }

    fn go_on(&mut self, from: EnginePosition) -> Result<(), EngineError> {
        self.settle()?;
        let text = serde_json::to_string(&from)
            .map_err(|e| EngineError::Unsupported(format!("cannot tell other ranks: {e}")))?;
        for rank in self.homes.ranks() {
            let content = text_words(&text);
            self.heard(self.link.tell(rank, Command::GoOn.head(content.len()), content))?;
        }
        self.batches = from.batches;
        self.work.get_mut().updates = from.device.updates;
        Ok(())
    }

    fn begin_step(
        &mut self,
        samples: Samples<'_>,
        context: StepContext,
    ) -> Result<(), EngineError> {
        let batch = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        self.limits.check(batch)?;
        let worker = loop {
            while self.collect(false)? {}
            self.failure()?;
            if let Some(worker) = self.work.get_mut().flight.next() {
                break worker;
            }
            self.collect(true)?;
        };
        let start = StepStart { number: self.batches + 1, samples: batch.len, context };
        let mut content = vec![0; 2];
        put(&mut content, start.number);
        pack(batch, 0..batch.len, &mut content);
        let work = self.work.get_mut();
        work.flight.begin(worker, start);
        work.fresh.fill(false);
        let head = Command::Step(context).head(content.len());
        self.heard(self.link.tell(self.rank(worker), head, content))?;
        self.batches += 1;
        Ok(())
    }

    fn in_flight(&mut self) -> usize {
        let work = self.work.get_mut();
        work.flight.len() + work.ended.len() + usize::from(work.failed.is_some())
    }

    fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
        while self.collect(false)? {}
        loop {
            let work = self.work.get_mut();
            if let Some(end) = work.ended.pop_front() {
                return Ok(Some(end));
            }
            if work.failed.is_some() && work.flight.len() == 0 {
                self.failure()?;
            }
            let failing = self.work.get_mut().failed.is_some();
            if !(wait || failing) || !self.collect(true)? {
                return Ok(None);
            }
        }
    }

    fn predict(&mut self, batch: &Batch, out: &mut [f32]) -> Result<(), EngineError> {
        self.limits.check(batch)?;
        if out.len() < batch.len {
            let (n, places) = (batch.len, out.len());
            let what = format!("{n} predictions do not fit {places} places");
            return Err(EngineError::Shape(what));
        }
        self.settle()?;
        let workers = self.work.get_mut().fresh.len();
        let parts = (0..workers).map(|w| (w, rows_of(w, workers, batch.len)));
        let parts: Vec<_> = parts.filter(|(_, rows)| !rows.is_empty()).collect();
        for (worker, rows) in &parts {
            let fresh = &mut self.work.get_mut().fresh[*worker];
            let mut content = vec![u32::from(!*fresh)];
            *fresh = true;
            pack(batch, rows.clone(), &mut content);
            let head = Command::Predict.head(content.len());
            self.heard(self.link.tell(self.rank(*worker), head, content))?;
        }
        for (worker, rows) in parts {
            let got = self.link.get(self.rank(worker), What::Predictions, rows.len());
            out[rows].copy_from_slice(bytemuck::cast_slice(&self.heard(got)?));
        }
        Ok(())
    }

    fn gradients(&mut self, _batch: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
        Err(EngineError::Unsupported("gradients are shown by one rank alone".into()))
    }

    fn served(&self) -> Option<Served> {
        Some(self.work.borrow().served.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn phases(&mut self) -> Option<&mut PhaseClock> {
        None
    }
}
