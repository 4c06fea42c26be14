//! Which rank has which tables.
//!
//! Tables are placed whole, those of one column together: greedily, the column with most work first,
//! each to the rank with least so far (Graham 1969, doi:10.1137/0117039: longest processing time
//! first). Work is what an owner moves of memory a sample: rows forward, read and written back in the
//! update, and the pooled vector both ways.

use super::rows_of;
use crate::engine::EngineConfig;
use serde::{Deserialize, Serialize};

/// What one rank has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Categorical columns whose tables it has.
    pub columns: Vec<usize>,
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
    /// The rank that has each categorical column's tables.
    pub owners: Vec<usize>,
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

/// What the tables of a column take and do.
struct Column {
    number: usize,
    rows: u64,
    bytes: u64,
    work: u64,
    /// Elements of its pooled vectors.
    width: u64,
}

/// All columns of a model.
fn columns(config: &EngineConfig) -> Vec<Column> {
    const F32: u64 = 4;
    let (specs, params) = (config.model.table_specs(), config.model.params());
    let row = config.embedding_rows.bytes() as u64;
    let state = config.optimizer_state();
    let mut all: Vec<Column> = (0..config.max_hotness.len())
        .map(|number| Column { number, rows: 0, bytes: 0, work: 0, width: 0 })
        .collect();
    for spec in specs {
        let (rows, dim) = (spec.rows as u64, spec.dim as u64);
        let param = params.iter().position(|p| p.name == spec.name);
        let beside = state.iter().filter(|s| Some(s.param) == param).map(|s| s.len() as u64);
        let column = &mut all[spec.column];
        column.rows += rows;
        column.bytes += rows * dim * row + beside.sum::<u64>() * F32;
        let hotness = config.max_hotness[spec.column] as u64;
        column.work += 3 * hotness * dim * row + 2 * dim * F32;
        column.width += dim;
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
    columns.sort_by_key(|c| (std::cmp::Reverse((c.work, c.bytes)), c.number));
    let mut owners = vec![0; columns.len()];
    let mut loads = vec![Load::default(); ranks];
    let mut widths = vec![0; ranks];
    for column in &columns {
        let Column { number, rows, bytes, work, width } = *column;
        let fits = |load: &Load| memory.is_none_or(|most| load.bytes + bytes <= most);
        let least = (0..ranks).filter(|&r| fits(&loads[r]));
        let Some(rank) = least.min_by_key(|&r| (loads[r].work, loads[r].bytes, r)) else {
            let memory = memory.unwrap_or(0);
            return Err(NoRoom { column: number, bytes, ranks, memory });
        };
        owners[number] = rank;
        widths[rank] += width;
        let load = &mut loads[rank];
        load.columns.push(number);
        (load.rows, load.bytes, load.work) =
            (load.rows + rows, load.bytes + bytes, load.work + work);
    }
    let (batch, all): (usize, u64) = (config.max_batch, widths.iter().sum());
    for (rank, load) in loads.iter_mut().enumerate() {
        load.columns.sort_unstable();
        let own = rows_of(rank, ranks, batch).len() as u64;
        let others = batch as u64 - own;
        // Its tables' vectors of others' samples, gradients of others' tables for its own.
        load.sent = 4 * (widths[rank] * others + (all - widths[rank]) * own);
    }
    Ok(Placement { owners, loads })
}

impl Placement {
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
