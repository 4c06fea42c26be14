//! Which rank has which tables.
//!
//! Tables of one column are placed together: greedily, the column with most work first, each to the
//! rank with least so far (Graham 1969, doi:10.1137/0117039: longest processing time first). Work is
//! what an owner moves of memory a sample: rows forward, read and written back in the update, and the
//! pooled vector both ways.
//!
//! Where it is asked for, rows of a column that is more work than a rank's mean, or more bytes than
//! one may take, are dealt out to several ([`Share`]): to twice as many, and again, until a share is
//! half the mean or vectors, of which every share has its own, would cost more than rows. And where
//! it is asked for, all ranks have small tables, for which sums of gradients by row are less to send
//! than vectors.

use super::{Share, SumOrder, rows_of};
use crate::{
    engine::EngineConfig,
    model::{ModelSpec, Pooling, Trick},
    optim::LossScaleSpec,
};
use serde::{Deserialize, Serialize};

/// What one rank has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Categorical columns whose tables it has, or some rows of them.
    pub columns: Vec<usize>,
    /// Of these columns those whose rows it shares, and with how many ranks in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<(usize, usize)>,
    /// Rows of these tables.
    pub rows: u64,
    /// Bytes of them and of the optimizer state beside them.
    pub bytes: u64,
    /// Bytes of memory that they move a sample.
    pub work: u64,
    /// Bytes that it sends in the two exchanges of a step of `max_batch` samples.
    pub sent: u64,
}

/// Tables and ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The ranks that have each categorical column's tables: if several, rows are dealt out to them; if
    /// none, all ranks have them.
    pub owners: Vec<Vec<usize>>,
    /// Columns whose tables all ranks have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub everywhere: Vec<usize>,
    /// One entry a rank.
    pub loads: Vec<Load>,
}

/// Ranks whose memory cannot hold the tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {column}: its tables take {bytes} bytes with their optimizer state, and no rank of {ranks} has so much left of {memory}; give more ranks or memory"
)]
pub struct NoRoom {
    /// The first column without a place.
    pub column: usize,
    /// What it takes.
    pub bytes: u64,
    /// Ranks.
    pub ranks: usize,
    /// Bytes that each may take.
    pub memory: u64,
}

/// How many times more bytes a second a rank's memory moves than its link: 7 inside a host of H100s, 67
/// between such hosts, some 25 for two cores and 10 Gbit/s. Only how far columns are cut goes by it.
const SLOWER: f64 = 32.0;

/// What the tables of a column take and do.
#[derive(Clone, Copy, Default)]
struct Column {
    number: usize,
    rows: u64,
    bytes: u64,
    /// Bytes that move a sample for its rows, and for its pooled vectors.
    row_work: u64,
    vector_work: u64,
    /// Elements of its pooled vectors.
    width: u64,
    /// How many they are.
    tables: u64,
    /// Ranks that have a part of its rows each.
    shares: usize,
}

impl Column {
    fn work(&self) -> u64 {
        self.row_work + self.vector_work
    }

    /// Whether sums of gradients by row are at most half of what its vectors and their gradients are
    /// that a rank would send.
    fn is_small(&self, batch: usize, ranks: usize) -> bool {
        ranks > 1 && 2 * ranks as u64 * self.rows_of_one() <= batch as u64
    }

    /// Rows of one of its tables, of which all have as many.
    fn rows_of_one(&self) -> u64 {
        self.rows / self.tables
    }

    /// Bytes that a rank sends to have its gradients summed by row, if all ranks have it.
    fn sums(&self, ranks: usize) -> u64 {
        let all = 4 * self.rows_of_one() * (self.width + 1);
        2 * all * (ranks as u64 - 1) / ranks as u64
    }

    /// A part of its rows, as many as each of `shares` ranks has at most.
    fn part(&self, shares: usize) -> Column {
        let of = |all: u64| all.div_ceil(shares as u64);
        let Column { rows, bytes, row_work, .. } = *self;
        Column { rows: of(rows), bytes: of(bytes), row_work: of(row_work), shares, ..*self }
    }

    /// Into how many parts it is cut.
    fn shares(&self, ranks: usize, mean: u64, memory: Option<u64>) -> usize {
        let most = (ranks as u64).min(self.rows) as usize;
        let busy = self.work() > mean;
        // Rows take w / n, and the vectors of each rank's samples v n / R, times what a link is slower
        // than memory: least where n is the root of R w / (v times that).
        let best = ranks as f64 * self.row_work as f64 / (SLOWER * self.vector_work.max(1) as f64);
        let worth = (best.sqrt().ceil() as usize).clamp(2.min(most), most);
        let mut shares = 1;
        loop {
            let now = self.part(shares);
            let full = memory.is_some_and(|memory| now.bytes > memory);
            let most = if full { most } else { worth };
            let next = self.part((2 * shares).min(most));
            let saves = 4 * next.work() <= 3 * now.work();
            if shares >= most || !(full || busy && 2 * now.work() > mean && saves) {
                return shares;
            }
            shares = next.shares;
        }
    }
}

/// Whether the tables of a column are on all ranks.
pub fn is_everywhere(owners: &[usize]) -> bool {
    owners.is_empty()
}

/// What keeps this model's tables from being anything but whole, at one rank each, where more is
/// asked for.
pub(super) fn refusal(config: &EngineConfig) -> Option<&'static str> {
    let EngineConfig { split_rows, replicate_small, .. } = *config;
    let (pooling, derived) = match &config.model {
        ModelSpec::Dlrm(m) => (m.pooling, m.trick != Trick::None),
        ModelSpec::DeepFm(_) => (Pooling::Sum, false),
    };
    if !split_rows && !replicate_small {
        return None;
    }
    if derived {
        return Some(
            "comm.split_rows and comm.replicate_small: model.trick has tables whose rows are not a column's ids; leave them out",
        );
    }
    if config.moves_all_rows() {
        return Some(
            "comm.split_rows and comm.replicate_small: optimizer.rows = \"dense\" or model.embedding_l2 moves all rows in each step; leave them out",
        );
    }
    if split_rows && pooling == Pooling::Mean {
        return Some(
            "comm.split_rows: model.pooling = \"mean\" divides by the ids of whole bags; leave it out",
        );
    }
    if replicate_small && pooling == Pooling::WeightedLearned {
        return Some(
            "comm.replicate_small: weights of rows are learned at one rank; leave it out, or take another model.pooling",
        );
    }
    let scaled = config.loss_scale != LossScaleSpec::Off;
    if replicate_small && (scaled || config.optimizer.clip_norm.is_some()) {
        return Some(
            "comm.replicate_small: optimizer.clip_norm and loss scaling judge gradients where they are summed; leave it out",
        );
    }
    if replicate_small && config.sum_order == SumOrder::Tree {
        return Some(
            "comm.replicate_small: with comm.sum = \"tree\" tables have the bits of one rank, and sums by row do not; leave one out",
        );
    }
    None
}

/// All columns of a model.
fn columns(config: &EngineConfig) -> Vec<Column> {
    const F32: u64 = 4;
    let (specs, params) = (config.model.table_specs(), config.model.params());
    let row = config.embedding_rows.bytes() as u64;
    let state = config.optimizer_state();
    let mut all: Vec<Column> = (0..config.max_hotness.len())
        .map(|number| Column { number, shares: 1, ..Column::default() })
        .collect();
    for spec in specs {
        let (rows, dim) = (spec.rows as u64, spec.dim as u64);
        let param = params.iter().position(|p| p.name == spec.name);
        let beside = state.iter().filter(|s| Some(s.param) == param).map(|s| s.len() as u64);
        let column = &mut all[spec.column];
        column.rows += rows;
        column.bytes += rows * dim * row + beside.sum::<u64>() * F32;
        let hotness = config.max_hotness[spec.column] as u64;
        column.row_work += 3 * hotness * dim * row;
        column.vector_work += 2 * dim * F32;
        column.width += dim;
        column.tables += 1;
    }
    all
}

/// Places the tables of a model on `ranks` ranks with `memory` bytes each for tables, if that is
/// limited.
///
/// # Errors
/// Names the first column that no rank has room for.
pub fn place(
    config: &EngineConfig,
    ranks: usize,
    memory: Option<u64>,
) -> Result<Placement, NoRoom> {
    let mut columns = columns(config);
    let everywhere: Vec<usize> = columns
        .iter()
        .filter(|column| config.replicate_small && column.is_small(config.max_batch, ranks))
        .map(|column| column.number)
        .collect();
    let mut on_all = Load::default();
    columns.retain(|column| {
        let placed = !everywhere.contains(&column.number);
        if !placed {
            on_all.rows += column.rows;
            on_all.bytes += column.bytes;
            on_all.work += column.work().div_ceil(ranks as u64);
            on_all.sent += column.sums(ranks);
        }
        placed
    });
    if config.split_rows {
        let mean = columns.iter().map(Column::work).sum::<u64>() / ranks as u64;
        columns.iter_mut().for_each(|c| *c = c.part(c.shares(ranks, mean, memory)));
    }
    columns.sort_by_key(|c| (std::cmp::Reverse((c.work(), c.bytes)), c.number));
    let mut owners = vec![Vec::new(); config.max_hotness.len()];
    let mut loads = vec![on_all; ranks];
    let mut widths = vec![0; ranks];
    for column in &columns {
        let Column { number, rows, bytes, width, shares, .. } = *column;
        for _ in 0..shares {
            let fits = |load: &Load| memory.is_none_or(|most| load.bytes + bytes <= most);
            let least = (0..ranks).filter(|&r| fits(&loads[r]) && !owners[number].contains(&r));
            let Some(rank) = least.min_by_key(|&r| (loads[r].work, loads[r].bytes, r)) else {
                let memory = memory.unwrap_or(0);
                return Err(NoRoom { column: number, bytes, ranks, memory });
            };
            owners[number].push(rank);
            widths[rank] += width;
            let load = &mut loads[rank];
            load.columns.push(number);
            if shares > 1 {
                load.cut.push((number, shares));
            }
            (load.rows, load.bytes, load.work) =
                (load.rows + rows, load.bytes + bytes, load.work + column.work());
        }
    }
    let (batch, all): (usize, u64) = (config.max_batch, widths.iter().sum());
    for (rank, load) in loads.iter_mut().enumerate() {
        load.columns.sort_unstable();
        load.cut.sort_unstable();
        let own = rows_of(rank, ranks, batch).len() as u64;
        let others = batch as u64 - own;
        // Its tables' vectors of others' samples, gradients of others' tables for its own.
        load.sent += 4 * (widths[rank] * others + (all - widths[rank]) * own);
    }
    Ok(Placement { owners, everywhere, loads })
}

impl Placement {
    /// What a rank has of a column's tables.
    pub fn share(&self, column: usize, rank: usize) -> Option<Share> {
        Share::of(&self.owners[column], rank)
    }

    /// How much more the busiest rank moves than the mean.
    pub fn imbalance(&self) -> f64 {
        let works = self.loads.iter().map(|l| l.work);
        let (most, all) = (works.clone().max().unwrap_or(0), works.sum::<u64>());
        match all {
            0 => 1.0,
            _ => most as f64 * self.loads.len() as f64 / all as f64,
        }
    }
}
