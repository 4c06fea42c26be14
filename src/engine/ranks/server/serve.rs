//! A server: hands its parameters out, and applies gradients as they come.

use super::{
    Link,
    homes::{Holding, Homes},
    message::{Pieces, Request, put, room},
};
use crate::{
    backend::{StepStart, StepSums},
    comm::{What, first, words_text},
    engine::{
        EngineConfig, EngineError, EnginePosition, TensorId,
        fused::{Pushed, Shard},
        ranks::message::{Command, HEAD},
    },
    model::init::Initializer,
};

/// What a worker has pulled last.
#[derive(Debug, Clone, Default)]
struct Pulled {
    /// Updates before it.
    version: u64,
    /// Rows of each list of bags, in the order of the share.
    rows: Vec<Vec<u32>>,
}

/// A server, with its part of the model.
pub(super) struct Server {
    link: Link,
    shard: Shard,
    share: Holding,
    /// By rank.
    pulled: Vec<Pulled>,
    /// All other ranks, in the order in which they are looked at.
    others: Vec<usize>,
}

impl Server {
    /// Makes this rank's part of the model, filled by `init`, or zeros without it.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if there is not enough.
    pub fn new(
        link: Link,
        config: &EngineConfig,
        homes: &Homes,
        init: Option<&mut Initializer>,
    ) -> Result<Self, EngineError> {
        let (rank, ranks) = (link.comm.rank(), link.comm.size());
        let owned: Vec<bool> = (0..homes.of.len()).map(|i| homes.rank(i) == rank).collect();
        Ok(Server {
            shard: Shard::new(config, &owned, init)?,
            share: Holding::all(config, homes).swap_remove(rank - 1),
            pulled: vec![Pulled::default(); ranks],
            others: std::iter::once(0).chain(homes.servers + 1..ranks).collect(),
            link,
        })
    }

    /// Serves until rank 0 says that it is over; `false` if this rank may leave.
    ///
    /// # Errors
    /// Whatever keeps it from going on.
    pub fn serve(mut self) -> Result<bool, EngineError> {
        loop {
            let Link { comm, patience } = &self.link;
            let Some(rank) = first(&**comm, What::Command, &self.others, *patience)? else {
                let waited = self.link.waited();
                self.link.late(0, What::Command, HEAD, waited)?;
                continue;
            };
            // Rank 0 first, then whoever has waited for longest.
            let others = &mut self.others[1..];
            if let Some(at) = others.iter().position(|&other| other == rank) {
                others[at..].rotate_left(1);
            }
            let head = self.link.get(rank, What::Command, HEAD)?;
            if rank == 0 {
                match self.obey(&head)? {
                    Some(stays) => return Ok(stays),
                    None => continue,
                }
            }
            let (request, words) = Request::read(&head).ok_or_else(unknown)?;
            let content = match words {
                0 => Vec::new(),
                _ => self.link.get(rank, What::Content, words)?,
            };
            match request {
                Request::Pull { dense } => self.hand_out(rank, dense, &content)?,
                Request::Push(start, sums) => self.apply(rank, (start, sums), &content)?,
            }
        }
    }

    /// Does what rank 0 says; `Some` if that was the last of it, with whether this rank stays.
    fn obey(&mut self, head: &[u32]) -> Result<Option<bool>, EngineError> {
        let (command, words) = Command::read(head).ok_or_else(unknown)?;
        let content = match words {
            0 => Vec::new(),
            _ => self.link.get(0, What::Content, words)?,
        };
        match command {
            Command::Close => return Ok(Some(true)),
            Command::Exit => return Ok(Some(false)),
            Command::Read(of, numbers) => {
                let mut values = Vec::new();
                self.shard.read(of, numbers.first, room(&mut values, numbers.len))?;
                self.link.send(0, What::Values, values)?;
            }
            Command::Write(of, numbers) => {
                self.shard.write(of, numbers.first, bytemuck::cast_slice(&content))?;
            }
            Command::GoOn => {
                let from: EnginePosition =
                    serde_json::from_str(&words_text(&content)).map_err(|e| {
                        EngineError::Unsupported(format!("rank 0's place is not understood: {e}"))
                    })?;
                self.shard.go_on(from)?;
            }
            _ => return Err(unknown()),
        }
        Ok(None)
    }

    /// Hands a worker dense parameters, if it wants them, and the rows that it names.
    fn hand_out(&mut self, rank: usize, dense: bool, content: &[u32]) -> Result<(), EngineError> {
        let Server { shard, share, pulled, .. } = self;
        let pulled = &mut pulled[rank];
        pulled.version = shard.version()?;
        pulled.rows.resize_with(share.reads.len(), Vec::new);
        let mut pieces = Pieces(content);
        let mut counts = vec![0; share.reads.iter().map(|r| r.number + 1).max().unwrap_or(0)];
        for (rows, read) in pulled.rows.iter_mut().zip(&share.reads) {
            let n = pieces.take(1)?[0] as usize;
            rows.clear();
            rows.extend_from_slice(pieces.take(n)?);
            counts[read.number] = n;
        }
        let mut out = Vec::with_capacity(share.pulled(dense, |number| counts[number]));
        out.resize(2, 0);
        put(&mut out, pulled.version);
        if dense {
            for &(param, len) in share.dense.iter().chain(&share.running) {
                shard.read(TensorId::Parameter(param), 0, room(&mut out, len))?;
            }
        }
        for (rows, read) in pulled.rows.iter().zip(&share.reads) {
            for table in &read.tables {
                shard.read_rows(table.param, rows, room(&mut out, rows.len() * table.width))?;
                if let Some((weights, _)) = table.weights {
                    shard.read_rows(weights, rows, room(&mut out, rows.len()))?;
                }
            }
        }
        Ok(self.link.send(rank, What::Pulled, out)?)
    }

    /// Applies a worker's gradients, and tells it the version that it had pulled and that they were
    /// applied to.
    fn apply(
        &mut self,
        rank: usize,
        (start, sums): (StepStart, StepSums),
        content: &[u32],
    ) -> Result<(), EngineError> {
        let Server { shard, share, pulled, .. } = self;
        let Pulled { version, rows } = &pulled[rank];
        let mut pieces = Pieces(content);
        let mut pushed = Pushed { dense: Vec::new(), running: Vec::new(), rows: Vec::new() };
        for &(param, len) in &share.dense {
            pushed.dense.push((param, pieces.numbers(len)?));
        }
        for &(param, len) in &share.running {
            pushed.running.push((param, pieces.numbers(len)?, pieces.numbers(len)?));
        }
        for (rows, read) in rows.iter().zip(&share.reads) {
            for table in &read.tables {
                let gradients = pieces.numbers(rows.len() * table.width)?;
                pushed.rows.push((table.param, rows, gradients));
                if let Some((weights, true)) = table.weights {
                    pushed.rows.push((weights, rows, pieces.numbers(rows.len())?));
                }
            }
        }
        let found = shard.version()?;
        shard.apply(start, sums, &pushed)?;
        let mut receipt = vec![0; 4];
        put(&mut receipt, *version);
        put(&mut receipt[2..], found);
        Ok(self.link.send(rank, What::Applied, receipt)?)
    }
}

/// The error of a message of another kind.
pub(super) fn unknown() -> EngineError {
    EngineError::Unsupported("a rank says what this program does not know".into())
}
