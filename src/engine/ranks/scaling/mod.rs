//! How long a step takes on so many ranks: work over what a rank does a second, and messages by
//! latency and bandwidth (the alpha-beta model; Hockney 1994, doi:10.1016/S0167-8191(06)80021-9).
//!
//! With a batch of `B` on `R` ranks a step takes
//!
//! ```text
//! T(R) = fixed + moved / m                    dense parameters, which every rank updates
//!      + max_r(n_r c / f + W_r B / m)         layers, and memory that a rank's tables move
//!      + 2 a + sent / b                       pooled vectors, and their gradients
//!      + 3 a + 2 (R - 1) / R G / b            dense gradients in two halves, and a few numbers
//! ```
//!
//! where a sample takes `c` operations and rank `r` computes `n_r` of them, about `B / R`; `f` are
//! operations a second, `m` bytes of memory a second, `a` and `b` latency and bandwidth of links,
//! and `W_r` and `sent` those of the [`Placement`]. Parts follow each other: nothing is computed
//! while messages are on their way.

mod noise;
#[cfg(test)]
mod tests;
use super::{Placement, rows_of};
use crate::engine::{
    EngineConfig,
    cost::{ColumnIds, cost},
};
use serde::Serialize;

pub use noise::Noise;

/// Bytes of a number as placements count what is sent.
const F32: f64 = 4.0;

/// Messages on their way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// Seconds that a message takes at least.
    pub latency: f64,
    /// Bytes a second that a rank can send.
    pub bandwidth: f64,
}

/// What ranks can do, and what joins them. All rates are those that are reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// Floating-point operations a second of a rank.
    pub flops: f64,
    /// Bytes of memory that a rank moves a second, by rows and from end to end.
    pub memory: f64,
    /// Seconds of a step that do not depend on ranks or batch.
    pub fixed: f64,
    /// Ranks of a host.
    pub per_host: usize,
    /// Between ranks of one host.
    pub inside: Link,
    /// Between ranks of several hosts; each rank has as much.
    pub between: Link,
    /// Bytes of a number in a message.
    pub element: u64,
}

/// What is known of a [`Cluster`] before anything is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// [`Cluster::flops`].
    pub flops: f64,
    /// [`Cluster::memory`].
    pub memory: f64,
    /// [`Cluster::fixed`].
    pub fixed: f64,
    /// [`Cluster::per_host`].
    pub per_host: Option<usize>,
    /// [`Cluster::inside`].
    pub inside: Option<Link>,
    /// [`Cluster::between`].
    pub between: Option<Link>,
}

/// How ranks share tables and sum dense gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Tables whole, as placed; each rank sends to each other. So does this program.
    Placed,
    /// Tables cut so that each rank has as much to do and to send; dense gradients are summed
    /// within hosts first, then between them, as NCCL's programs do. An ideal of these.
    Split,
}

/// Work of a step that no placement knows of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Work {
    /// Floating-point operations a sample, forward and backward.
    pub flops: f64,
    /// Bytes that an update of the dense parameters moves.
    pub dense_moved: f64,
    /// Bytes of dense parameters, their gradients and their state.
    pub dense_resident: u64,
    /// Bytes of dense gradients in f32.
    pub dense_gradients: u64,
}

/// Seconds of a step, part by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Parts {
    /// What does not depend on ranks: the update of dense parameters, and what a cluster has so.
    pub fixed: f64,
    /// Layers of the slowest rank.
    pub dense: f64,
    /// Rows of the slowest rank.
    pub rows: f64,
    /// Pooled vectors, and their gradients.
    pub exchanges: f64,
    /// Sums of dense gradients, and the small message beside them.
    pub sums: f64,
}

/// What a step would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// Ranks.
    pub ranks: usize,
    /// Samples of the step.
    pub batch: usize,
    /// Parts of it, without jitter.
    pub parts: Parts,
    /// Seconds that jitter adds on average.
    pub jitter: f64,
    /// Seconds of the step.
    pub seconds: f64,
    /// Samples a second.
    pub samples_per_second: f64,
    /// Bytes of tables, dense parameters and their state at the rank that has most.
    pub memory: u64,
}

/// Why a model's steps are not predicted.
pub const WHOLE_TABLES: &str = "all rows of the tables move in each step (optimizer.rows = \"dense\", or model.embedding_l2), which the scaling model does not count";

impl Work {
    /// That of a model with `ids[k]` ids a sample in table `k`.
    ///
    /// # Errors
    /// If all rows move in each step.
    ///
    /// # Panics
    /// If there are not as many `ids` as tables.
    pub fn of(config: &EngineConfig, ids: &[f64]) -> Result<Self, &'static str> {
        use crate::model::ParamKind::{RowWeight, Table};
        if config.moves_all_rows() {
            return Err(WHOLE_TABLES);
        }
        let ids: Vec<_> = ids.iter().map(|&mean| ColumnIds::some(mean)).collect();
        let cost = cost(config, 1, &ids);
        let (dense_moved, dense_resident) =
            cost.streams.iter().fold((0.0, 0), |(m, r), s| (m + s.moved, r + s.resident));
        let params = config.model.params();
        let dense = params.iter().filter(|p| !matches!(p.kind, Table | RowWeight));
        Ok(Work {
            flops: cost.mlp_flops + cost.interaction_products + cost.interaction_flops,
            dense_moved,
            dense_resident,
            dense_gradients: 4 * dense.map(|p| p.len() as u64).sum::<u64>(),
        })
    }
}

impl Parts {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.fixed + self.dense + self.rows + self.exchanges + self.sums
    }
}

impl Cluster {
    /// Seconds until a rank of `ranks` has sent `bytes` to the others, evenly; links of both kinds
    /// carry their share at the same time. With one rank there is nobody to send to.
    fn sends(&self, bytes: f64, messages: f64, ranks: usize) -> f64 {
        if ranks < 2 {
            return 0.0;
        }
        let here = (self.per_host.min(ranks) - 1) as f64 / (ranks - 1) as f64;
        let inside = here * bytes / self.inside.bandwidth;
        if ranks <= self.per_host {
            return messages * self.inside.latency + inside;
        }
        let between = (1.0 - here) * bytes / self.between.bandwidth;
        let latency = self.inside.latency.max(self.between.latency);
        messages * latency + inside.max(between)
    }

    /// Seconds in which two halves, scatter and gather, sum `bytes` over `ranks` that `link` joins.
    fn sums(link: Link, bytes: f64, ranks: usize) -> f64 {
        match ranks {
            0 | 1 => 0.0,
            _ => {
                let share = (ranks - 1) as f64 / ranks as f64;
                2.0 * (link.latency + share * bytes / link.bandwidth)
            }
        }
    }

    /// Seconds of the exchanges and of the sums of a step.
    pub fn messages(&self, placement: &Placement, dense_gradients: u64, way: Way) -> (f64, f64) {
        let ranks = placement.loads.len();
        let wide = self.element as f64 / F32;
        let sent = |most: f64| self.sends(most * wide, 2.0, ranks);
        let all = dense_gradients as f64 * wide;
        let word = self.sends(0.0, 1.0, ranks);
        match way {
            Way::Placed => {
                let most = placement.loads.iter().map(|l| l.sent).max().unwrap_or(0);
                let both = 2.0 * (ranks.max(1) - 1) as f64 / ranks.max(1) as f64 * all;
                (sent(most as f64), self.sends(both, 2.0, ranks) + word)
            }
            Way::Split => {
                let sum: u64 = placement.loads.iter().map(|l| l.sent).sum();
                let here = self.per_host.min(ranks).max(1);
                let hosts = ranks.div_ceil(here);
                let inside = Cluster::sums(self.inside, all, here);
                let between = Cluster::sums(self.between, all / here as f64, hosts);
                (sent(sum as f64 / ranks as f64), inside + between + word)
            }
        }
    }

    /// A step of `batch` samples, for which `placement` was made.
    pub fn step(
        &self,
        work: &Work,
        placement: &Placement,
        batch: usize,
        (way, noise): (Way, Noise),
    ) -> Prediction {
        let ranks = placement.loads.len();
        let (exchanges, sums) = self.messages(placement, work.dense_gradients, way);
        let works = placement.loads.iter().map(|l| l.work as f64);
        let mean = works.clone().sum::<f64>() / ranks as f64;
        let rows =
            |work: f64| if way == Way::Split { mean } else { work } * batch as f64 / self.memory;
        let layers = |rank| rows_of(rank, ranks, batch).len() as f64 * work.flops / self.flops;
        let each: Vec<(f64, f64)> =
            works.enumerate().map(|(rank, work)| (layers(rank), rows(work))).collect();
        let slowest = each.iter().copied().max_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)));
        let (dense, rows) = slowest.unwrap_or_default();
        let fixed = self.fixed + work.dense_moved / self.memory;
        let own: Vec<f64> = each.iter().map(|(dense, rows)| fixed + dense + rows).collect();
        let parts = Parts { fixed, dense, rows, exchanges, sums };
        let jitter = noise.adds(&own);
        let seconds = parts.total() + jitter;
        let bytes = placement.loads.iter().map(|l| l.bytes);
        let tables = match way {
            Way::Placed => bytes.max().unwrap_or(0),
            Way::Split => bytes.sum::<u64>().div_ceil(ranks as u64),
        };
        Prediction {
            ranks,
            batch,
            parts,
            jitter,
            seconds,
            samples_per_second: batch as f64 / seconds,
            memory: tables + work.dense_resident,
        }
    }
}

/// What share of the rate of `first`, per rank, `this` has.
pub fn efficiency(first: &Prediction, this: &Prediction) -> f64 {
    let each = |p: &Prediction| p.samples_per_second / p.ranks as f64;
    each(this) / each(first)
}
