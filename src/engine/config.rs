//! What an engine is made from.

use super::SumOrder;
use crate::{
    backend::Precision,
    batch::{BatchLimits, Derived},
    embedding::{RowKind, cached::CachedSpec, hashed::HashedSpec},
    model::{DeepFmSpec, DlrmSpec, LossSpec, ModelSpec, Part},
    optim::{LossScaleSpec, OptimizerConfig},
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Everything an engine needs to make its buffers once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EngineConfig {
    /// The model.
    pub model: ModelSpec,
    /// The loss.
    pub loss: LossSpec,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Largest batch of training or evaluation, in samples.
    pub max_batch: usize,
    /// Samples of a micro-batch: larger batches are computed in parts of so many, the last one
    /// maybe shorter, whose gradients are summed before the update. `None` = as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Of the parts of a batch the last one alone has gradients, those of the mean over its own
    /// samples; the others have a loss and are thrown away (quirk `fb.grad-accum-drops`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_part_only: bool,
    /// Ranks that train together. Each computes the layers for its part of a batch.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// In which order gradients of dense parameters are summed.
    #[serde(default, skip_serializing_if = "SumOrder::is_rank")]
    pub sum_order: SumOrder,
    /// Whether rows of one table may be on several ranks ([`super::ranks::place`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split_rows: bool,
    /// Whether all ranks have small tables ([`super::ranks::place`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replicate_small: bool,
    /// Gradients of tables are as many times too large as there are ranks (quirk
    /// `fb.table-gradients-by-ranks`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tables_by_ranks: bool,
    /// The most ids one sample can hold, per table.
    pub max_hotness: Vec<usize>,
    /// Threads of the fused engine's pool, at least 1.
    pub threads: usize,
    /// Pin pool threads to cores.
    pub pin_threads: bool,
    /// Rounding of the operands of the fused engine's matrix products.
    pub precision: Precision,
    /// Keep what meets in a DLRM's interaction, and what comes of it, in f32 where a GPU would keep
    /// it as products round it. The interaction is `dot` or `cat`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fp32_interaction: bool,
    /// Scaling of the fused engine's gradients.
    pub loss_scale: LossScaleSpec,
    /// In what form embedding rows are kept (`fused` only; candle keeps f32).
    pub embedding_rows: RowKind,
    /// Tables that grow: `model` has their rows, and here is for how many keys. `None` = a table has
    /// a row for each id.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub hashed: Option<HashedSpec>,
    /// Tables larger than memory: how many of the model's rows are in it. `None` = all.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub cached: Option<CachedSpec>,
    /// Where rows stand for some of larger tables' rows: the rows of those, one number a table.
    /// Empty = they stand for themselves.
    #[serde(skip)]
    pub stand_for: Vec<usize>,
    /// Seed of dropout masks and of stochastic rounding.
    pub seed: u64,
}

fn one() -> usize {
    1
}

fn is_one(ranks: &usize) -> bool {
    *ranks == 1
}

/// Parts of `samples` samples with `part` of them each, but for the last one.
pub(super) fn parts(samples: usize, part: usize) -> impl Iterator<Item = Range<usize>> {
    (0..samples).step_by(part).map(move |first| first..samples.min(first + part))
}

impl EngineConfig {
    /// Samples that layers compute on at most: a micro-batch, or a whole batch.
    pub fn part(&self) -> usize {
        let part = self.micro_batch.map_or(self.max_batch, |n| n.clamp(1, self.max_batch));
        part.div_ceil(self.ranks)
    }

    /// Sizes that batches must fit.
    pub fn batch_limits(&self) -> BatchLimits {
        let dense = match &self.model {
            ModelSpec::Dlrm(m) => m.dense,
            ModelSpec::DeepFm(m) => m.dense,
        };
        BatchLimits {
            ids: self.stand_for.clone(),
            ..BatchLimits::new(
                self.max_batch,
                dense,
                self.model.tables().to_vec(),
                self.max_hotness.clone(),
            )
        }
    }

    /// The model with a row for each id: what initial values are drawn for.
    pub fn whole_model(&self) -> ModelSpec {
        let mut model = self.model.clone();
        if let Some(spec) = &self.hashed {
            *tables_mut(&mut model) = spec.columns.iter().map(|c| c.ids).collect();
        }
        model
    }

    /// Room for batches as tables read them, if some stand in for others; `limits` are those of
    /// [`EngineConfig::batch_limits`].
    pub fn derived(&self, limits: &BatchLimits) -> Option<Derived> {
        let (reads, specs) = (self.model.reads(), self.model.table_specs());
        let plain = |(k, read): (usize, &(usize, Part))| *read == (k, Part::Whole);
        if reads.iter().enumerate().all(plain) {
            return None;
        }
        let tables = self.model.table_sets().into_iter().flat_map(|set| set.tables);
        let rows = tables.map(|t| match limits.rows[specs[t].column] {
            // Another rank has them.
            0 => 0,
            _ => specs[t].rows,
        });
        Some(Derived::new(limits, reads, rows.collect()))
    }

    /// Whether rows of tables move that a batch does not touch: the rule, or a regularisation of
    /// all rows, asks for it.
    pub fn moves_all_rows(&self) -> bool {
        self.optimizer.rule.state().moves_all_rows
            || matches!(&self.model, ModelSpec::DeepFm(m) if m.embedding_l2 > 0.0)
    }
}

/// The rows of a model's columns.
pub(super) fn tables_mut(model: &mut ModelSpec) -> &mut Vec<usize> {
    let (ModelSpec::Dlrm(DlrmSpec { tables, .. }) | ModelSpec::DeepFm(DeepFmSpec { tables, .. })) =
        model;
    tables
}
