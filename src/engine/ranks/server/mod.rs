//! A parameter server: servers have the parameters, workers compute, and nobody waits for all.
//!
//! Rank 0 leads ([`lead`]): it reads the data and hands each batch to a worker that has nothing to
//! do. The worker pulls the dense parameters and the rows of its batch from the servers, computes loss
//! and gradients, and pushes those; a server applies them as they come, each push an update of its
//! own. So a gradient may be applied to parameters that others have changed since it was computed: its
//! staleness is how many updates lie between (asynchronous SGD; Dean et al. 2012, "Large Scale
//! Distributed Deep Networks"). With a bound no batch is handed out that could pass it (stale
//! synchronous parallel; Ho et al. 2013).
//!
//! Rank 0 leads, ranks 1 to `servers` are servers, all others workers. Tables are whole on one server,
//! those of one column together, placed as tables of ranks are ([`super::place`]); dense parameters
//! likewise whole, the largest first, each to the server with the fewest numbers so far.

mod engine;
mod homes;
mod lead;
mod message;
mod queue;
mod serve;
mod work;

use super::{follow::SetupInit, place};
use crate::{
    comm::{Comm, CommError, Parcel, Patience, What, all_gather, words_text},
    engine::{EngineConfig, EngineError, SumOrder},
    model::{
        ModelSpec,
        init::{InitSource, Initializer},
    },
    optim::LossScaleSpec,
};
use serde::{Deserialize, Serialize};
use std::{rc::Rc, time::Duration};

pub use homes::Homes;
pub use lead::{ServedEngine, lead};

/// Who computes with parameters of whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommMode {
    /// All ranks work on one batch, and one update follows it.
    #[default]
    Synchronous,
    /// Each worker works on a batch of its own.
    ParameterServer,
}

impl CommMode {
    /// Whether it is the default.
    pub fn is_synchronous(&self) -> bool {
        *self == CommMode::Synchronous
    }
}

/// How a parameter server works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    /// Servers.
    pub servers: usize,
    /// The most updates that may lie between the parameters a gradient is of and those it is applied
    /// to.
    pub bound: Option<u64>,
    /// How long one rank waits for another.
    pub timeout: Duration,
}

/// What servers and workers did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Servers.
    pub servers: usize,
    /// Workers.
    pub workers: usize,
    /// The most staleness that was allowed; `None` = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<u64>,
    /// Pushes by staleness, 0 first: updates of a server between a pull and the push that followed,
    /// where there are several servers of the one with most.
    pub staleness: Vec<u64>,
    /// Batches that each worker has computed.
    pub batches: Vec<u64>,
}

impl Served {
    /// Mean staleness of a push; `None` without a push.
    pub fn mean_staleness(&self) -> Option<f64> {
        let all: u64 = self.staleness.iter().sum();
        let sum: f64 = self.staleness.iter().zip(0u64..).map(|(n, s)| (n * s) as f64).sum();
        (all > 0).then(|| sum / all as f64)
    }
}

/// How many times longer than the first rank the others wait: it is the one to say who is late.
const LONGER: u32 = 10;

/// What other ranks make their part from.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Setup {
    config: EngineConfig,
    homes: Homes,
    timeout_ms: u64,
    init: SetupInit,
}

/// What a parameter server on so many ranks cannot do; `None` if it can train this model.
pub fn refusal(config: &EngineConfig, server: ServerConfig, ranks: usize) -> Option<String> {
    let least = server.servers + 2;
    if ranks < least {
        return Some(format!(
            "comm.mode = \"parameter_server\" with comm.servers = {} takes at least {least} ranks (one that leads, the servers, a worker), and there {} {ranks}; start them with mpirun -n {least}",
            server.servers,
            if ranks == 1 { "is" } else { "are" }
        ));
    }
    what_it_cannot(config).map(Into::into)
}

fn what_it_cannot(config: &EngineConfig) -> Option<&'static str> {
    let l2 = matches!(&config.model, ModelSpec::DeepFm(m) if m.embedding_l2 > 0.0);
    let by_batch = matches!(&config.model, ModelSpec::Dlrm(m) if m.quirks.batch_stats_in_eval);
    if config.hashed.is_some() || config.cached.is_some() {
        return Some("embedding.store: tables of a parameter server are \"resident\"");
    }
    if config.split_rows || config.replicate_small {
        return Some(
            "comm.split_rows and comm.replicate_small: a parameter server has its tables whole, on one server each; leave them out",
        );
    }
    if config.sum_order == SumOrder::Tree {
        return Some(
            "comm.sum = \"tree\": with comm.mode = \"parameter_server\" nothing is summed over ranks; remove it",
        );
    }
    if config.loss_scale != LossScaleSpec::Off {
        return Some(
            "engine.loss_scale: with comm.mode = \"parameter_server\" gradients are computed at other scales than they are applied at; use \"off\"",
        );
    }
    if config.optimizer.clip_norm.is_some() && l2 {
        return Some(
            "optimizer.clip_norm: with comm.mode = \"parameter_server\" no worker knows all rows, which model.embedding_l2 has a gradient of; remove one of them",
        );
    }
    if by_batch {
        return Some("workload.quirks: dr.bn-batch-stats-in-eval is a quirk of one rank");
    }
    if config.last_part_only {
        return Some("workload.quirks: fb.grad-accum-drops is a quirk of one rank");
    }
    if config.tables_by_ranks {
        return Some(
            "workload.quirks: fb.table-gradients-by-ranks is one of ranks that sum gradients; remove it, or comm.mode",
        );
    }
    None
}

/// Works as a server or a worker until rank 0 says that the model is not needed any more; `false` if
/// this rank may leave.
///
/// # Errors
/// Whatever keeps this rank from going on.
pub(super) fn follow(comm: &Rc<dyn Comm>, content: &[u32]) -> Result<bool, EngineError> {
    let setup: Setup = serde_json::from_str(&words_text(content)).map_err(|e| {
        EngineError::Unsupported(format!("the model of rank 0 is not understood: {e}"))
    })?;
    let Setup { config, homes, timeout_ms, init } = setup;
    let patience = Patience::For(Duration::from_millis(timeout_ms) * LONGER);
    let link = Link { comm: Rc::clone(comm), patience };
    let met = || all_gather(&**comm, What::Greeting, Patience::Unlimited, &[1]).map(drop);
    let rank = comm.rank();
    if rank > homes.servers {
        let worker = work::Worker::new(link, &config, &homes)?;
        met()?;
        return worker.work();
    }
    let server = match init {
        SetupInit::Philox { seed } => {
            let mut init = Initializer::new(&config.model, InitSource::Philox { seed });
            serve::Server::new(link, &config, &homes, Some(&mut init))?
        }
        SetupInit::Sent => serve::Server::new(link, &config, &homes, None)?,
    };
    met()?;
    server.serve()
}

/// The way to other ranks.
#[derive(Clone)]
struct Link {
    comm: Rc<dyn Comm>,
    patience: Patience,
}

impl Link {
    /// Sends one rank some words.
    fn send(&self, rank: usize, what: What, words: Vec<u32>) -> Result<(), CommError> {
        let mut parcel = vec![Parcel { rank, words }];
        self.comm.transfer(what, self.patience, &mut parcel, &mut Vec::new())
    }

    /// Sends a head and the content behind it, if there is some.
    fn tell(&self, rank: usize, head: Vec<u32>, content: Vec<u32>) -> Result<(), CommError> {
        self.send(rank, What::Command, head)?;
        if content.is_empty() { Ok(()) } else { self.send(rank, What::Content, content) }
    }

    /// Receives so many words.
    fn get(&self, rank: usize, what: What, words: usize) -> Result<Vec<u32>, CommError> {
        let mut parcel = vec![Parcel { rank, words: vec![0; words] }];
        self.comm.transfer(what, self.patience, &mut Vec::new(), &mut parcel)?;
        Ok(parcel.swap_remove(0).words)
    }

    /// How long it waits.
    fn waited(&self) -> Duration {
        match self.patience {
            Patience::For(time) => time,
            Patience::Unlimited => Duration::MAX,
        }
    }

    /// Receives words that have been waited for since `waited`, now or never.
    fn late(
        &self,
        rank: usize,
        what: What,
        words: usize,
        waited: Duration,
    ) -> Result<Vec<u32>, CommError> {
        let now = Link { comm: Rc::clone(&self.comm), patience: Patience::For(Duration::ZERO) };
        now.get(rank, what, words).map_err(|e| match e {
            CommError::Late { rank, host, what, sends, .. } => {
                CommError::Late { rank, host, what, sends, seconds: waited.as_secs() }
            }
            e => e,
        })
    }
}
