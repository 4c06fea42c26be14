//! One training on several ranks: rank 0 leads ([`lead`]), the others follow ([`follow()`]).
//!
//! Rank 0 reads the data, decides, evaluates and writes, as if it were alone. Its engine tells the
//! others what to do, step by step, and sends each of them what it needs of a batch: the ids of its
//! tables, dense features and labels of its samples. So only rank 0 needs the data, and nothing that
//! it decides by the clock (signals, checkpoints, patience) has to be decided alike elsewhere.

mod follow;
mod lead;
pub mod machines;
mod message;
mod place;
mod rank_engine;
pub mod scaling;
pub mod server;
mod share;
mod tensors;

use crate::{
    comm::{Comm, Patience},
    engine::EngineConfig,
};
use serde::{Deserialize, Serialize};
use std::{ops::Range, rc::Rc, time::Duration};

pub use follow::follow;
#[cfg(test)]
pub(crate) use follow::follow_by;
#[cfg(test)]
pub(crate) use lead::lead_by;
pub use lead::{RankedEngine, dismiss, lead};
pub use place::{Load, Placement, is_everywhere, place};
#[cfg(test)]
pub(crate) use rank_engine::Opened;
pub use rank_engine::{Exchange, Gpus, RankDevices};
pub use share::Share;

/// Slices of a batch whose gradients are summed as a tree; more ranks than that cannot share them.
pub const SLICES: usize = 16;

/// In which order gradients of dense parameters are summed over ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SumOrder {
    /// That of the ranks: the same bits for the same number of ranks.
    #[default]
    Rank,
    /// A binary tree over [`SLICES`] slices of the batch: the same bits for 1, 2, 4, 8 and 16 ranks.
    Tree,
}

impl SumOrder {
    /// Sums `ranks` vectors of `n` numbers, one behind the other, into the first one.
    pub fn sum(self, all: &mut [f32], n: usize) {
        for (to, from) in self.pairs(all.len() / n) {
            let (head, tail) = all.split_at_mut(from * n);
            for (to, x) in head[to * n..][..n].iter_mut().zip(&tail[..n]) {
                *to += x;
            }
        }
    }

    /// What is added to what, one after another, that the first of `ranks` holds the sum of all.
    pub fn pairs(self, ranks: usize) -> Vec<(usize, usize)> {
        match self {
            SumOrder::Rank => (1..ranks).map(|rank| (0, rank)).collect(),
            SumOrder::Tree => {
                let steps = (0..usize::BITS).map(|level| 1 << level);
                let level = |step: usize| {
                    (0..ranks - step).step_by(2 * step).map(move |rank| (rank, rank + step))
                };
                steps.take_while(|step| *step < ranks).flat_map(level).collect()
            }
        }
    }

    /// Whether it is the default.
    pub fn is_rank(&self) -> bool {
        *self == SumOrder::Rank
    }
}

/// Samples of a batch of `samples` whose layers rank `rank` of `ranks` computes; may be none.
pub fn rows_of(rank: usize, ranks: usize, samples: usize) -> Range<usize> {
    samples * rank / ranks..samples * (rank + 1) / ranks
}

/// What an engine knows of the other ranks.
#[derive(Clone)]
pub struct TableShare {
    /// The way to them.
    pub comm: Rc<dyn Comm>,
    /// Which ranks have the tables of each categorical column ([`Placement::owners`]).
    pub owners: Vec<Vec<usize>>,
    /// How long one waits for another.
    pub patience: Patience,
    /// Whether layers are computed while messages are under way.
    pub overlap: bool,
}

impl TableShare {
    /// What this rank has of a column's tables.
    pub fn own(&self, column: usize) -> Option<Share> {
        Share::of(&self.owners[column], self.comm.rank())
    }
}

/// How ranks work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RanksConfig {
    /// How long one waits for another.
    pub timeout: Duration,
    /// Whether layers are computed while messages are under way.
    pub overlap: bool,
    /// What they compute on.
    pub devices: RankDevices,
}

impl RanksConfig {
    /// Ranks on CPUs that wait so long for each other.
    pub const fn within(timeout: Duration) -> Self {
        RanksConfig { timeout, overlap: true, devices: RankDevices::CPU }
    }
}

/// Error of a quirk that has no meaning without other ranks.
pub const ALONE: &str = "workload.quirks: \"fb.table-gradients-by-ranks\" is one of several ranks, and there is one; start them with mpirun, or remove it";

/// What several ranks cannot do; `None` if they can train this model.
pub fn refusal(config: &EngineConfig, ranks: usize) -> Option<&'static str> {
    let (batch_norm, by_batch) = match &config.model {
        crate::model::ModelSpec::Dlrm(m) => (m.batch_norm, m.quirks.batch_stats_in_eval),
        crate::model::ModelSpec::DeepFm(m) => (m.batch_norm, false),
    };
    if batch_norm && config.sum_order == SumOrder::Tree {
        return Some(
            "model.batch_norm: with comm.sum = \"tree\" layers compute slice by slice, and a slice does not know the statistics of the whole batch; take \"rank\"",
        );
    }
    if batch_norm && ranks > 1 && config.micro_batch.is_some() {
        return Some(
            "train.micro_batches: with several ranks and model.batch_norm a batch is not cut, since the parts of ranks would not meet; take 1",
        );
    }
    if by_batch && ranks > 1 {
        return Some("workload.quirks: dr.bn-batch-stats-in-eval is a quirk of one rank");
    }
    if config.hashed.is_some() || config.cached.is_some() {
        return Some("embedding.store: with several ranks tables are \"resident\"");
    }
    if ranks > 1
        && let Some(why) = place::refusal(config)
    {
        return Some(why);
    }
    if config.last_part_only {
        return Some("workload.quirks: fb.grad-accum-drops is a quirk of one rank");
    }
    if config.tables_by_ranks && ranks == 1 {
        return Some(ALONE);
    }
    if config.sum_order == SumOrder::Tree && (!ranks.is_power_of_two() || ranks > SLICES) {
        return Some("comm.sum = \"tree\" takes 1, 2, 4, 8 or 16 ranks");
    }
    None
}
