//! How much memory an engine will take, before it takes any. Counted from the shapes as the engines
//! allocate them; the small change (plans, pool, code) is left out.

use super::{EngineConfig, EngineKind, SLICES, SumOrder};
use crate::{
    backend::{PART, Precision, cuda::MOVING_BYTES},
    embedding::{
        RowKind,
        cached::{CachedColumn, SLOT_BYTES},
        hashed::{self, Bloom, FilterConfig},
    },
    model::{DeepFmSpec, DlrmSpec, ModelSpec, ParamKind, Part},
};

/// Bytes of an f32.
const F32: u64 = 4;
/// Candle keeps the input and the output of every operation until the gradients are made, and those
/// beside them. Measured on a DLRM and a DeepFM (tests/memory_plan.rs): 4 to 6 times what the fused
/// engine keeps.
const CANDLE_COPIES: u64 = 6;

/// Bytes by purpose, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    /// Purpose and bytes; nothing is 0.
    pub items: Vec<(&'static str, u64)>,
}

impl MemoryPlan {
    /// Adds `bytes` for `what`, if any.
    pub fn add(&mut self, what: &'static str, bytes: u64) {
        if bytes > 0 {
            self.items.push((what, bytes));
        }
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Purposes of what a quantised model has less of.
pub(super) const TABLES: &str = "embedding tables";
/// Purpose of tables of a GPU that have some of the rows.
pub const SLOTS: &str = "rows of embedding tables that are cached";
/// Purpose of what the rule keeps of each row.
pub const TABLE_STATE: &str = "optimizer state of tables";
pub(super) const TABLE_PART: &str = "a part of a table in f32, while tables are made";
pub(super) const DENSE: &str = "dense parameters";

/// What an engine of `kind` takes for `config`.
pub fn plan(kind: EngineKind, config: &EngineConfig) -> MemoryPlan {
    let whole = config;
    let config = &config.behind();
    let state = config.optimizer.rule.state();
    let Parameters { tables, table_state, dense } = parameters(config);
    let batch = config.max_batch as u64;
    let ids = ids(config);
    let mut plan = MemoryPlan::default();
    plan.add(TABLES, tables);
    if config.embedding_rows != RowKind::Fp32 {
        let largest = config
            .model
            .params()
            .iter()
            .filter(|p| p.kind == ParamKind::Table)
            .map(|p| p.len())
            .max()
            .unwrap_or(0);
        plan.add(TABLE_PART, largest.min(PART) as u64 * F32);
    }
    plan.add(TABLE_STATE, table_state);
    plan.add(KEYS, keys(config));
    plan.add(PLACES, places(whole));
    plan.add(MOVING, moving(whole));
    plan.add(DENSE, dense);
    plan.add(
        "gradients and optimizer state of dense parameters",
        dense * (1 + state.dense().count() as u64),
    );
    plan.add(SUMS, sums(config, dense));
    let (of_batch, of_part) = (per_sample(config).batch.all(), per_sample(config).part.all());
    let part = config.part() as u64;
    let activations = (batch * of_batch + part * of_part) * F32;
    let (columns, width) = dense_columns(&config.model);
    match kind {
        EngineKind::Fused => {
            plan.add("activations and their gradients", activations);
            // The loader's batch is read in place unless its rows are too narrow.
            let padded = if width > columns { width } else { 0 };
            plan.add("dense features in wider rows", batch * padded as u64 * F32);
            // Each id with its sample, twice over for sorting.
            plan.add("a batch's ids sorted by row", batch * ids * 16);
            plan.add(DERIVED, derived(config));
        }
        EngineKind::Candle => {
            let kept = part * (of_batch + of_part + row(width) as u64) * F32;
            // What tables give, and its gradient, is kept for the whole batch beside its parts.
            let whole = if part < batch { 2 * batch * of_batch * F32 } else { 0 };
            plan.add("activations and their gradients", CANDLE_COPIES * kept + whole);
            // Gradients of whole tables and the new values beside the old ones, where untouched
            // rows move too.
            let whole = config.moves_all_rows();
            plan.add(
                "gradients and updates of whole tables",
                if whole { 2 * tables + table_state } else { 0 },
            );
        }
    }
    plan
}

/// Purpose of [`keys`].
pub const KEYS: &str = "keys of tables that grow, and which rows they have";

/// Bytes of the host's memory for the keys of tables that grow, once they are full, and for what a
/// filter counts.
pub fn keys(config: &EngineConfig) -> u64 {
    let Some(spec) = &config.hashed else { return 0 };
    let growing = || spec.columns.iter().filter(|c| !c.resident);
    let rows: u64 = growing().map(|c| c.capacity as u64).sum();
    let filter: u64 = match spec.config.filter {
        FilterConfig::None => 0,
        FilterConfig::Counter { .. } => {
            // Every id may wait for a row.
            let waiting = growing().map(|c| c.ids.saturating_sub(c.capacity) as u64).sum::<u64>();
            2 * 25 * waiting
        }
        FilterConfig::Bloom { keys, false_positive, counter_bits, .. } => {
            let each = Bloom::counters(keys, false_positive) * u64::from(counter_bits) / 8;
            each * growing().count() as u64
        }
    };
    rows * hashed::KEY_BYTES as u64 + filter
}

/// Purpose of [`places`].
const PLACES: &str = "which rows are in memory, and where the others are";

/// Bytes for where rows are of tables that are not all in memory.
fn places(config: &EngineConfig) -> u64 {
    let columns = config.cached.iter().flat_map(|spec| &spec.columns);
    let of = |c: &CachedColumn| (c.rows * 4 + c.slots * SLOT_BYTES) as u64;
    columns.filter(|c| !c.fits()).map(of).sum()
}

/// What the host has of tables whose rows a GPU caches.
pub fn behind_gpu(config: &EngineConfig) -> MemoryPlan {
    let mut plan = MemoryPlan::default();
    plan.add(PLACES, places(config));
    let outside = config.cached.iter().filter(|spec| spec.columns.iter().any(|c| !c.fits()));
    plan.add("rows behind the GPU's", outside.filter_map(|spec| spec.host).sum());
    plan.add(MOVING, moving(config) + if config.cached.is_some() { MOVING_BYTES } else { 0 });
    plan
}

/// Purpose of [`moving`].
const MOVING: &str = "rows on their way to the file and from it";

/// Bytes for rows of two batches on their way, packed and as numbers, and for pieces of the file.
fn moving(config: &EngineConfig) -> u64 {
    const PIECES: u64 = 10 << 20;
    let outside = config.cached.iter().flat_map(|spec| &spec.columns).filter(|c| !c.fits());
    if outside.count() == 0 {
        return 0;
    }
    let dims = config.model.table_specs().iter().map(|t| t.dim as u64).max().unwrap_or(0);
    let numbers = dims + config.optimizer.rule.state().row_len(dims as usize) as u64;
    PIECES + 4 * config.max_batch as u64 * ids(config) * numbers * F32
}

/// Purpose of [`sums`].
const SUMS: &str = "sums of micro-batches' gradients";

/// Bytes of the dense gradients of the parts, or slices, before the present one, where batches are
/// cut.
fn sums(config: &EngineConfig, dense: u64) -> u64 {
    let levels = match config.sum_order {
        SumOrder::Rank => 0,
        SumOrder::Tree => u64::from(SLICES.ilog2()),
    };
    dense * (u64::from(config.micro_batch.is_some()) + levels)
}

/// Purpose of [`derived`].
pub const DERIVED: &str = "ids as tables read them";

/// Most ids of a sample that tables are read by.
fn ids(config: &EngineConfig) -> u64 {
    config.model.reads().iter().map(|(column, _)| config.max_hotness[*column] as u64).sum()
}

/// Bytes of the host's memory for a batch that is made of another ([`EngineConfig::derived`]).
pub fn derived(config: &EngineConfig) -> u64 {
    let reads = config.model.reads();
    if reads.iter().enumerate().all(|(k, read)| *read == (k, Part::Whole)) {
        return 0;
    }
    let words = dense_columns(&config.model).0 as u64 + 1 + ids(config) + reads.len() as u64;
    config.max_batch as u64 * words * F32
}

/// Bytes of parameters and of the state beside them.
struct Parameters {
    tables: u64,
    table_state: u64,
    dense: u64,
}

fn parameters(config: &EngineConfig) -> Parameters {
    let mut all = Parameters { tables: 0, table_state: 0, dense: 0 };
    let state = config.optimizer.rule.state();
    for p in config.model.params() {
        let bytes = p.len() as u64 * F32;
        match p.kind {
            ParamKind::Table | ParamKind::RowWeight => {
                let kept = if p.kind == ParamKind::Table {
                    config.embedding_rows.bytes() as u64
                } else {
                    F32
                };
                all.tables += p.len() as u64 * kept;
                let width = p.shape[1].max(1);
                all.table_state += bytes / width as u64 * state.row_len(width) as u64;
            }
            _ => all.dense += bytes,
        }
    }
    all
}

/// What the fused engine takes of a GPU's memory for `config`.
pub fn gpu_plan(kind: EngineKind, config: &EngineConfig) -> MemoryPlan {
    let config = &config.behind();
    if kind == EngineKind::Candle {
        return plan(kind, config);
    }
    let state = config.optimizer.rule.state();
    let Parameters { tables, table_state, dense } = parameters(config);
    let (batch, model) = (config.max_batch as u64, &config.model);
    let (ids, tables_read) = (batch * ids(config), model.reads().len());
    let (dim, columns, widest) = match model {
        ModelSpec::Dlrm(m) => (m.dim, m.bottom_input(), m.widest_layer().max(m.top_input())),
        ModelSpec::DeepFm(m) => {
            (m.dim, m.dense, m.hidden.iter().copied().max().unwrap_or(0).max(m.fields() * m.dim))
        }
    };
    let mut plan = MemoryPlan::default();
    plan.add(if config.stand_for.is_empty() { TABLES } else { SLOTS }, tables);
    plan.add(TABLE_STATE, table_state);
    plan.add(TABLE_PART, PART as u64 * F32);
    plan.add(DENSE, dense);
    plan.add(
        "gradients and optimizer state of dense parameters",
        dense * (1 + state.dense().count() as u64),
    );
    plan.add(SUMS, sums(config, dense));
    let PerSample { batch: of_batch, part: of_part } = per_sample(config);
    let part = config.part() as u64;
    let sixteen = matches!(config.precision, Precision::Bf16 | Precision::Fp16);
    let number = if sixteen { 2 } else { F32 };
    let bytes = |e: Elements| e.floats * F32 + e.operands * number + e.gated.div_ceil(8);
    plan.add(
        "activations and their gradients",
        batch * bytes(of_batch) + part * (bytes(of_part) + row(columns) as u64 * F32),
    );
    // One is computed on while the next one comes. With slots there is what they stand for.
    let words = if config.stand_for.is_empty() { ids } else { 2 * ids };
    plan.add("two batches", 2 * F32 * (batch * (columns + 1 + tables_read) as u64 + words));
    // Each id's row and sample, twice over, and a sum for the rows that cross one of the spans of
    // 32.
    plan.add(
        "ids sorted by row and sums of their gradients",
        4 * F32 * ids + ids.div_ceil(32) * 2 * dim as u64 * F32,
    );
    if sixteen {
        // What is not kept in them is copied for each product: weights, dense features and whatever
        // is in a model with batch normalisation or dropout.
        let copied = match model {
            ModelSpec::Dlrm(m) if m.batch_norm => columns + 2 * widest,
            ModelSpec::Dlrm(m) if config.fp32_interaction => {
                columns + m.top_input() + m.vectors().width()
            }
            ModelSpec::Dlrm(_) => columns,
            ModelSpec::DeepFm(_) => 2 * widest,
        };
        plan.add(
            "operands of matrix products in 16 bits",
            2 * (part * copied as u64 + dense / F32),
        );
    }
    plan.add("work space of matrix products", 32 << 20);
    plan.add("rows on their way", if config.stand_for.is_empty() { 0 } else { MOVING_BYTES });
    plan
}

/// What the fused engine keeps for a sample of activations and their gradients.
struct PerSample {
    /// For each of a batch: what tables give and take, logits.
    batch: Elements,
    /// For each of a micro-batch: all between.
    part: Elements,
}

/// Elements of buffers.
#[derive(Clone, Copy)]
struct Elements {
    /// Always in f32.
    floats: u64,
    /// In the numbers that products read ([`crate::backend::Backend::operands`]).
    operands: u64,
    /// Those of them that have a bit beside them, which says whether a ReLU let them pass.
    gated: u64,
}

impl Elements {
    fn all(&self) -> u64 {
        self.floats + self.operands
    }
}

/// Dense columns of a batch, and of the rows that the model reads.
fn dense_columns(model: &ModelSpec) -> (usize, usize) {
    match model {
        ModelSpec::Dlrm(m) => (m.dense, m.bottom_input()),
        ModelSpec::DeepFm(m) => (m.dense, m.dense),
    }
}

fn per_sample(config: &EngineConfig) -> PerSample {
    match &config.model {
        ModelSpec::Dlrm(m) => dlrm(m, config.fp32_interaction),
        ModelSpec::DeepFm(m) => deepfm(m),
    }
}

/// Rows of activations are whole cache lines.
fn row(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// Outputs of all layers but the last.
fn hidden(widths: &[usize]) -> usize {
    widths.iter().rev().skip(1).map(|&w| row(w)).sum()
}

fn dlrm(m: &DlrmSpec, fp32_interaction: bool) -> PerSample {
    let met = m.interaction.kept(m.vectors());
    let rows = |widths: &[usize]| widths.iter().map(|&w| row(w)).sum::<usize>();
    let hidden = hidden(&m.bottom) + hidden(&m.top[m.dead_layers()..]);
    let gated = hidden + rows(&met.gated);
    // `T` and what goes into it, and what comes of it.
    let (meeting, met) = (2 * m.vectors().width() + rows(&m.trick_keeps()), rows(&met.operands));
    let layers = hidden + 2 * row(m.widest_layer());
    // What only f32 will do for: with batch normalisation everything, its input on top.
    let of = |elements: usize, in_f32: bool, more: usize| Elements {
        floats: (more + if in_f32 { elements } else { 0 }) as u64,
        operands: if in_f32 { 0 } else { elements as u64 },
        gated: 0,
    };
    let in_f32 = m.batch_norm || fp32_interaction;
    // Logits and pooled vectors that are kept apart, with their gradients.
    let batch = of(meeting, in_f32, 2 + 2 * row(m.apart()));
    let normalised = if m.batch_norm { rows(&m.bottom) } else { 0 };
    let (met, layers) = (of(met, in_f32, 0), of(layers, m.batch_norm, normalised));
    let part = Elements {
        floats: met.floats + layers.floats,
        operands: met.operands + layers.operands,
        gated: if m.batch_norm { 0 } else { gated as u64 },
    };
    PerSample { batch, part }
}

fn deepfm(m: &DeepFmSpec) -> PerSample {
    let widest = m.hidden.iter().copied().max().unwrap_or(0);
    let layers: usize = m.hidden.iter().map(|&w| row(w)).sum();
    let norm = if m.batch_norm { layers } else { 0 };
    let fields = 2 * m.fields() * (m.dim + 1) + 2;
    let dnn = layers + 2 * row(widest);
    // Only products read what is between layers without dropout and normalisation.
    let plain = !m.batch_norm && m.dropout == 0.0;
    let (operands, gated) = if plain { (dnn, layers) } else { (0, 0) };
    PerSample {
        batch: Elements { floats: fields as u64, operands: 0, gated: 0 },
        part: Elements {
            floats: (norm + dnn - operands) as u64,
            operands: operands as u64,
            gated: gated as u64,
        },
    }
}
