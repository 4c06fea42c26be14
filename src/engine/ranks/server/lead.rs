//! Rank 0: an engine whose parameters are on servers, and whose steps are workers'.

use super::{
    Link, Served, ServerConfig, Setup, homes::Homes, message::get, queue::WorkQueue, refusal,
    work::end_words,
};
use crate::{
    backend::{StepEnd, StepStart},
    batch::BatchLimits,
    comm::{self, Comm, CommError, Patience, What, first, text_words},
    engine::{
        EngineConfig, EngineError, StateSpec, TensorId,
        ranks::{
            follow::SetupInit,
            message::{Command, Numbers},
        },
        writing::write_initial,
    },
    model::{ParamSpec, init::Initializer},
    optim::LossScale,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

/// What workers have come to.
pub(super) struct Work {
    pub queue: WorkQueue,
    /// Results that nobody has taken, in the order in which they came.
    pub ended: VecDeque<StepEnd>,
    /// The first step whose loss is no number, and that.
    pub failed: Option<(StepStart, f32)>,
    pub served: Served,
    /// Updates so far.
    pub updates: u64,
    /// Of each worker whether its dense parameters are the servers'.
    pub fresh: Vec<bool>,
    /// For each step that has ended: its number, and for each server the versions that it had pulled
    /// and was applied to.
    #[cfg(test)]
    trace: Vec<(u64, Vec<(u64, u64)>)>,
}

/// An engine that servers and workers make up. Only rank 0 has this one.
pub struct ServedEngine {
    pub(super) link: Link,
    pub(super) config: ServerConfig,
    pub(super) homes: Homes,
    pub(super) limits: BatchLimits,
    pub(super) params: Vec<ParamSpec>,
    pub(super) state: Vec<StateSpec>,
    pub(super) work: RefCell<Work>,
    /// Batches handed out.
    pub(super) batches: u64,
    pub(super) notes: Vec<String>,
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
        "trained by a parameter server on {size} ranks by {}: {} and {}, {}",
        link.comm.library(),
        counted(server.servers, "server"),
        counted(workers, "worker"),
        match server.bound {
            Some(most) => format!("gradients are at most {most} updates late"),
            None => "gradients are as late as they come".into(),
        }
    );
    let mut engine = ServedEngine {
        link,
        config: server,
        homes,
        limits: config.batch_limits(),
        params: config.model.params(),
        state: config.optimizer_state(),
        work: RefCell::new(Work::new(server, workers)),
        batches: 0,
        notes: vec![note],
        broken: Cell::new(false),
    };
    if by_counter.is_none() {
        write_initial(&mut engine, init)?;
    }
    Ok(engine)
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl ServedEngine {
    /// The rank of a worker.
    pub(super) fn rank(&self, worker: usize) -> usize {
        1 + self.config.servers + worker
    }

    /// Notes that ranks do not hear each other any more, and at which step.
    pub(super) fn heard<T>(&self, done: Result<T, CommError>) -> Result<T, EngineError> {
        done.map_err(|source| {
            self.broken.set(true);
            let oldest = self.work.borrow().queue.waiting().first().map(|(_, b)| b.start.number);
            match oldest {
                Some(step) => EngineError::RanksInStep { step, source },
                None => EngineError::Ranks(source),
            }
        })
    }

    /// Takes what has come of a batch, if something has; with `wait` waits for one, if one is in
    /// flight.
    pub(super) fn collect(&self, wait: bool) -> Result<bool, EngineError> {
        let waiting = self.work.borrow().queue.waiting();
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
    pub(super) fn settle(&self) -> Result<(), EngineError> {
        while self.collect(true)? {}
        Ok(())
    }

    pub(super) fn read_tensor(
        &self,
        of: TensorId,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
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

    pub(super) fn write_tensor(
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
    pub(super) fn failure(&self) -> Result<(), EngineError> {
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
    /// Of workers that have done nothing.
    fn new(server: ServerConfig, workers: usize) -> Self {
        let ServerConfig { servers, bound, .. } = server;
        let batches = vec![0; workers];
        Work {
            queue: WorkQueue::new(workers, bound),
            ended: VecDeque::new(),
            failed: None,
            served: Served { servers, workers, bound, staleness: Vec::new(), batches },
            updates: 0,
            fresh: vec![false; workers],
            #[cfg(test)]
            trace: Vec::new(),
        }
    }

    /// Notes what a worker says of its batch.
    fn end(&mut self, worker: usize, words: &[u32]) {
        let Some(busy) = self.queue.end(worker) else { return };
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
