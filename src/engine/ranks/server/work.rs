//! A worker: pulls what a batch needs, computes, and pushes gradients.

use super::{
    Link,
    homes::{Holding, Homes},
    message::{Pieces, Request, get, room, unpack},
    serve::unknown,
};
use crate::{
    backend::{StepContext, StepStart, StepSums},
    batch::{Bags, Batch, BatchLimits, Derived},
    comm::{Parcel, What},
    engine::{
        Engine, EngineConfig, EngineError, FusedEngine,
        fused::Gradient,
        ranks::message::{Command, HEAD},
    },
    host::pool::Pool,
    model::ModelSpec,
    optim::OptimizerSpec,
};

/// Words of what a worker says at the end of a step: its loss, then for each server the version
/// that it had pulled and the one that its gradients were applied to.
pub(super) fn end_words(servers: usize) -> usize {
    1 + 4 * servers
}

/// A worker, with room for a batch and its rows.
pub(super) struct Worker {
    link: Link,
    engine: FusedEngine,
    limits: BatchLimits,
    /// What tables read, where some stand in for others.
    derived: Option<Derived>,
    pool: Pool,
    shares: Vec<Holding>,
    /// The batch with ids, and as the engine reads it.
    batch: Batch,
    slots: Batch,
    /// Rows of the batch by list of bags, ascending, none twice.
    rows: Vec<Vec<u32>>,
    /// How many the engine has room for.
    room: Vec<usize>,
    /// Numbers from 0 on.
    numbers: Vec<u32>,
    /// What each server has handed out last.
    pulled: Vec<Parcel>,
    /// Room for gradients of a table's rows and their weights.
    of_rows: (Vec<f32>, Vec<f32>),
}

/// What a worker computes with: nothing is updated, and regularisation of rows is the servers'.
fn plain(config: &EngineConfig) -> EngineConfig {
    let mut config = config.clone();
    config.optimizer.rule = OptimizerSpec::SGD;
    if let ModelSpec::DeepFm(m) = &mut config.model {
        m.embedding_l2 = 0.0;
    }
    config
}

impl Worker {
    /// Makes room.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub fn new(link: Link, config: &EngineConfig, homes: &Homes) -> Result<Self, EngineError> {
        let limits = config.batch_limits();
        let derived = config.derived(&limits);
        let read = derived.as_ref().map_or(&limits, Derived::limits);
        let room =
            |(rows, hotness): (&usize, &usize)| (*rows).min(config.max_batch * hotness).max(1);
        let room: Vec<usize> = read.rows.iter().zip(&read.hotness).map(room).collect();
        let most = room.iter().copied().max().unwrap_or(0);
        let shares = Holding::all(config, homes);
        let widths = |share: &Holding| {
            let tables = share.reads.iter().flat_map(|read| &read.tables);
            tables.map(|table| table.width).max().unwrap_or(0)
        };
        let widest = shares.iter().map(widths).max().unwrap_or(0);
        Ok(Worker {
            link,
            engine: FusedEngine::apart(&plain(config), &room)?,
            pool: Pool::new(1),
            slots: Batch { bags: vec![Bags::default(); room.len()], ..Batch::default() },
            rows: vec![Vec::new(); room.len()],
            numbers: (0..most as u32).collect(),
            pulled: homes.ranks().map(|rank| Parcel { rank, words: Vec::new() }).collect(),
            of_rows: (vec![0.0; most * widest], vec![0.0; most]),
            batch: Batch::default(),
            limits,
            derived,
            shares,
            room,
        })
    }

    /// Works until rank 0 says that it is over; `false` if this rank may leave.
    ///
    /// # Errors
    /// Whatever keeps it from going on.
    pub fn work(mut self) -> Result<bool, EngineError> {
        loop {
            let head = self.link.get(0, What::Command, HEAD)?;
            let (command, words) = Command::read(&head).ok_or_else(unknown)?;
            let content = match words {
                0 => Vec::new(),
                _ => self.link.get(0, What::Content, words)?,
            };
            match command {
                Command::Close => return Ok(true),
                Command::Exit => return Ok(false),
                Command::Step(context) => self.step(context, &content)?,
                Command::Predict => self.predict(&content)?,
                _ => return Err(unknown()),
            }
        }
    }

    /// Takes a batch off a message, and finds its rows.
    fn take(&mut self, pieces: &mut Pieces<'_>) -> Result<(), EngineError> {
        let Worker { limits, derived, pool, batch, slots, rows, .. } = self;
        unpack(pieces, (limits.rows.len(), limits.dense), batch)?;
        let checked = limits.check(batch)?;
        let read = match derived {
            Some(derived) => derived.fill(pool, checked),
            None => checked,
        };
        slots.len = read.len;
        for (to, from) in [(&mut slots.dense, &read.dense), (&mut slots.labels, &read.labels)] {
            to.clear();
            to.extend_from_slice(from);
        }
        for ((slots, from), rows) in slots.bags.iter_mut().zip(&read.bags).zip(rows) {
            number(from, rows, slots);
        }
        Ok(())
    }

    /// Pulls the rows of the batch, and dense parameters if they are wanted, from all servers into the
    /// engine.
    fn pull(&mut self, dense: bool) -> Result<(), EngineError> {
        let Worker { link, engine, shares, rows, numbers, pulled, .. } = self;
        let content = |share: &Holding| {
            let mut words = Vec::new();
            for read in &share.reads {
                words.push(rows[read.number].len() as u32);
                words.extend_from_slice(&rows[read.number]);
            }
            words
        };
        let contents: Vec<Vec<u32>> = shares.iter().map(content).collect();
        ask(link, |_| Request::Pull { dense }, contents)?;
        for (parcel, share) in pulled.iter_mut().zip(&*shares) {
            parcel.words.clear();
            parcel.words.resize(share.pulled(dense, |number| rows[number].len()), 0);
        }
        link.comm.transfer(What::Pulled, link.patience, &mut Vec::new(), pulled)?;
        for (parcel, share) in pulled.iter().zip(&*shares) {
            let mut pieces = Pieces(&parcel.words[2..]);
            if dense {
                for &(param, len) in share.dense.iter().chain(&share.running) {
                    engine.put_dense(param, pieces.numbers(len)?)?;
                }
            }
            for read in &share.reads {
                let n = rows[read.number].len();
                for table in &read.tables {
                    let values = pieces.numbers(n * table.width)?;
                    engine.put_rows(table.param, &numbers[..n], values)?;
                    if let Some((weights, _)) = table.weights {
                        engine.put_rows(weights, &numbers[..n], pieces.numbers(n)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Computes a batch's gradients and pushes them; tells rank 0 of its end.
    fn step(&mut self, context: StepContext, content: &[u32]) -> Result<(), EngineError> {
        let mut pieces = Pieces(content);
        let number = get(pieces.take(2)?);
        self.take(&mut pieces)?;
        self.pull(true)?;
        let start = StepStart { number, samples: self.slots.len, context };
        let mut contents = Vec::new();
        let Worker { engine, shares, rows, room, pulled, slots, of_rows, .. } = self;
        let done = engine.differentiate_apart(slots, start, &mut |mut gradient| {
            for (share, pulled) in shares.iter().zip(&*pulled) {
                contents.push(pack(&mut gradient, share, &pulled.words, (rows, room), of_rows)?);
            }
            Ok(())
        })?;
        let servers = self.shares.len();
        let mut end = vec![0; end_words(servers)];
        end[0] = done.loss.to_bits();
        if done.loss.is_finite() {
            let sums = StepSums { overflow: false, ..done.sums };
            ask(&self.link, |_| Request::Push(start, sums), contents)?;
            let receipt = |parcel: &Parcel| Parcel { rank: parcel.rank, words: vec![0; 4] };
            let mut receipts: Vec<Parcel> = self.pulled.iter().map(receipt).collect();
            let Link { comm, patience } = &self.link;
            comm.transfer(What::Applied, *patience, &mut Vec::new(), &mut receipts)?;
            for (to, receipt) in end[1..].chunks_mut(4).zip(receipts) {
                to.copy_from_slice(&receipt.words);
            }
        }
        Ok(self.link.send(0, What::StepEnd, end)?)
    }

    /// Predicts some samples, and sends rank 0 the predictions.
    fn predict(&mut self, content: &[u32]) -> Result<(), EngineError> {
        let mut pieces = Pieces(content);
        // Of what has not changed since the last prediction only rows are missing.
        let changed = pieces.take(1)?[0] != 0;
        self.take(&mut pieces)?;
        self.pull(changed)?;
        let mut predictions = Vec::new();
        let n = self.slots.len;
        self.engine.predict(&self.slots, room(&mut predictions, n))?;
        Ok(self.link.send(0, What::Predictions, predictions)?)
    }
}

/// Numbers the rows of some bags in ascending order.
fn number(from: &Bags, rows: &mut Vec<u32>, to: &mut Bags) {
    rows.clear();
    rows.extend_from_slice(&from.indices);
    rows.sort_unstable();
    rows.dedup();
    // All of them are there.
    let place = |row: &u32| rows.partition_point(|other| other < row) as u32;
    to.indices.clear();
    to.indices.extend(from.indices.iter().map(place));
    to.offsets.clear();
    to.offsets.extend_from_slice(&from.offsets);
}

/// Sends all servers a request each, with content where there is some.
fn ask(
    link: &Link,
    request: impl Fn(usize) -> Request,
    contents: Vec<Vec<u32>>,
) -> Result<(), EngineError> {
    let with_ranks = || (1..).zip(&contents);
    let head =
        |(rank, words): (usize, &Vec<u32>)| Parcel { rank, words: request(rank).head(words.len()) };
    let mut heads: Vec<Parcel> = with_ranks().map(head).collect();
    link.comm.transfer(What::Command, link.patience, &mut heads, &mut Vec::new())?;
    let parcels = (1..).zip(contents).map(|(rank, words)| Parcel { rank, words });
    let mut parcels: Vec<Parcel> = parcels.filter(|p| !p.words.is_empty()).collect();
    Ok(link.comm.transfer(What::Content, link.patience, &mut parcels, &mut Vec::new())?)
}

/// A server's gradients; `pulled` is what it handed out before.
fn pack(
    gradient: &mut Gradient<'_, '_>,
    share: &Holding,
    pulled: &[u32],
    (rows, places): (&[Vec<u32>], &[usize]),
    (of_rows, of_weights): &mut (Vec<f32>, Vec<f32>),
) -> Result<Vec<u32>, EngineError> {
    let mut out = Vec::with_capacity(share.pushed(|number| rows[number].len()));
    let mut pieces = Pieces(&pulled[2..]);
    for &(param, len) in &share.dense {
        pieces.take(len)?;
        gradient.dense(param, room(&mut out, len))?;
    }
    for &(param, len) in &share.running {
        out.extend_from_slice(pieces.take(len)?);
        gradient.dense(param, room(&mut out, len))?;
    }
    for read in &share.reads {
        let n = rows[read.number].len();
        for table in &read.tables {
            let places = places[read.number];
            let of_rows = &mut of_rows[..places * table.width];
            gradient.rows(table.param, of_rows, &mut of_weights[..places])?;
            room(&mut out, n * table.width).copy_from_slice(&of_rows[..n * table.width]);
            if let Some((_, true)) = table.weights {
                room(&mut out, n).copy_from_slice(&of_weights[..n]);
            }
        }
    }
    Ok(out)
}
