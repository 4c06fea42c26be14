//! A workload meets its data: sizes that only the data knows.

use super::{
    InitRng, ModelConfig, Quirk, TargetSection, TrainSection, Workload, parse::WorkloadError,
};
use crate::{
    batch::Schema,
    embedding::{StoreConfig, hashed::HashedSpec},
    engine::EngineConfig,
    model::{DeepFmSpec, DlrmSpec, ModelSpec, Qr, QrOperation, Trick},
};

impl TargetSection {
    /// The AUC to reach on data whose best reachable AUC is `best`, if known.
    ///
    /// # Errors
    /// If a share of an unknown best is asked for.
    pub fn resolve(&self, best: Option<f64>) -> Result<Option<f64>, WorkloadError> {
        match (self.share_of_best, best) {
            (None, _) => Ok(self.auc),
            (Some(share), Some(best)) => Ok(Some(0.5 + share * (best - 0.5))),
            (Some(_), None) => {
                let what = "needs data whose best reachable AUC is known, data.source = \"planted\"; use target.auc".to_owned();
                Err(WorkloadError::Unfit { key: "target.share_of_best", what })
            }
        }
    }
}

/// What the samples of a micro-batch are a multiple of, if there are enough of them: rows of
/// matrices then begin at whole cache lines, whatever their numbers.
const WHOLE_ROWS: usize = 32;

impl TrainSection {
    /// How many parts come of a batch that is cut into [`TrainSection::micro_batches`] of one size,
    /// the last one maybe shorter: so many, unless their size cannot be had.
    pub fn possible_micro_batches(&self) -> usize {
        let part = self.batch_size.div_ceil(self.micro_batches.max(1)).max(1);
        self.batch_size.div_ceil(part)
    }

    /// Samples of a micro-batch; `None` if a batch is computed as a whole.
    pub fn micro_batch(&self) -> Option<usize> {
        let part = self.batch_size.div_ceil(self.micro_batches.max(1));
        let rounded = part.next_multiple_of(WHOLE_ROWS);
        let as_many = self.batch_size.div_ceil(rounded) == self.micro_batches;
        (self.micro_batches > 1).then_some(if as_many { rounded } else { part })
    }
}

impl ModelConfig {
    /// Which generator fills the parameters.
    pub fn init_rng(&self) -> InitRng {
        match self {
            ModelConfig::Dlrm { init_rng, .. } | ModelConfig::DeepFm { init_rng, .. } => *init_rng,
        }
    }

    /// The model for data of `schema`.
    ///
    /// # Errors
    /// Where the two do not fit.
    pub fn resolve(&self, schema: &Schema) -> Result<ModelSpec, WorkloadError> {
        let tables: Vec<usize> = schema.tables.iter().map(|t| t.rows).collect();
        match self {
            ModelConfig::Dlrm {
                dim,
                bottom,
                top,
                batch_norm,
                quirks,
                interaction,
                pooling,
                trick,
                dense_pad_to,
                mlp_init,
                embedding_init,
                ..
            } => {
                if schema.dense == 0 {
                    let what = "a DLRM's bottom MLP needs at least 1 dense column, but the data has none; use model.kind = \"deepfm\"";
                    return Err(WorkloadError::Unfit { key: "model.kind", what: what.to_owned() });
                }
                trick.check(schema)?;
                Ok(ModelSpec::Dlrm(DlrmSpec {
                    dense: schema.dense,
                    dense_pad_to: *dense_pad_to,
                    tables,
                    dim: *dim,
                    bottom: bottom.clone(),
                    top: top.clone(),
                    batch_norm: *batch_norm,
                    quirks: *quirks,
                    interaction: interaction.clone(),
                    pooling: *pooling,
                    trick: *trick,
                    mlp_init: *mlp_init,
                    embedding_init: *embedding_init,
                }))
            }
            ModelConfig::DeepFm {
                dim,
                hidden,
                batch_norm,
                dropout,
                embedding_l2,
                mlp_init,
                embedding_init,
                ..
            } => {
                if schema.dense == 0 && tables.is_empty() {
                    let what = "the data has no columns but the label; a DeepFM needs at least one"
                        .to_owned();
                    return Err(WorkloadError::Unfit { key: "model.kind", what });
                }
                Ok(ModelSpec::DeepFm(DeepFmSpec {
                    tables,
                    dense: schema.dense,
                    dim: *dim,
                    hidden: hidden.clone(),
                    batch_norm: *batch_norm,
                    dropout: *dropout,
                    embedding_l2: *embedding_l2,
                    mlp_init: *mlp_init,
                    embedding_init: *embedding_init,
                }))
            }
        }
    }
}

impl Trick {
    /// Refuses columns that it cannot make a DLRM of.
    fn check(&self, schema: &Schema) -> Result<(), WorkloadError> {
        let Trick::Qr(Qr { operation, threshold, .. }) = *self else { return Ok(()) };
        let small = schema.tables.iter().find(|t| t.rows <= threshold);
        match (operation, small) {
            (QrOperation::Concat, Some(t)) => {
                let what = format!(
                    "\"concat\" makes vectors twice as wide, so that no column may keep a table of its own, but column {} has {} ids, not more than model.qr_threshold = {threshold}; lower that, or use \"mult\" or \"add\"",
                    t.name, t.rows
                );
                Err(WorkloadError::Unfit { key: "model.qr_operation", what })
            }
            _ => Ok(()),
        }
    }
}

impl Workload {
    /// What an engine needs to make its buffers for data of `schema`.
    ///
    /// # Errors
    /// If the data do not fit the model, or a batch has more ids than positions have bits for.
    pub fn engine_config(&self, schema: &Schema) -> Result<EngineConfig, WorkloadError> {
        let max_batch = self.train.batch_size.max(self.eval.batch_size);
        // Positions in a batch's ids are 32-bit.
        if let Some(column) = schema
            .tables
            .iter()
            .find(|t| max_batch.saturating_mul(t.max_hotness) > u32::MAX as usize)
        {
            let (key, most) = match self.train.batch_size >= self.eval.batch_size {
                true => ("train.batch_size", u32::MAX as usize / column.max_hotness),
                false => ("eval.batch_size", u32::MAX as usize / column.max_hotness),
            };
            let what = format!(
                "is {max_batch}; must be at most {most}, since column {} holds up to {} ids a sample",
                column.name, column.max_hotness
            );
            return Err(WorkloadError::Unfit { key, what });
        }
        let mut model = self.model.resolve(schema)?;
        let hashed = match &self.embedding {
            StoreConfig::Resident | StoreConfig::Cached(_) | StoreConfig::Auto(_) => None,
            StoreConfig::Hashed(store) => {
                let spec = HashedSpec::new(store, schema, max_batch, self.data.has_keys());
                let unfit = |(key, what)| WorkloadError::Unfit { key, what };
                Some(spec.map_err(unfit)?)
            }
        };
        if let Some(spec) = &hashed {
            let (ModelSpec::Dlrm(DlrmSpec { tables, .. })
            | ModelSpec::DeepFm(DeepFmSpec { tables, .. })) = &mut model;
            *tables = spec.columns.iter().map(|c| c.rows).collect();
        }
        let mut config = EngineConfig {
            model,
            hashed,
            loss: self.train.loss,
            optimizer: self.optimizer,
            max_batch,
            micro_batch: self.train.micro_batch(),
            last_part_only: self.workload.quirks.contains(&Quirk::FbGradAccumDrops),
            ranks: 1,
            sum_order: self.comm.sum,
            split_rows: self.comm.split_rows,
            replicate_small: self.comm.replicate_small,
            tables_by_ranks: self.workload.quirks.contains(&Quirk::FbTableGradientsByRanks),
            max_hotness: schema.tables.iter().map(|t| t.max_hotness).collect(),
            threads: self.engine.threads,
            pin_threads: self.engine.pin_threads,
            precision: self.engine.precision,
            fp32_interaction: self.engine.fp32_interaction,
            embedding_rows: self.engine.embedding_rows,
            loss_scale: self.engine.loss_scale,
            cached: None,
            stand_for: Vec::new(),
            seed: self.train.seed,
        };
        if let Some(store) = self.embedding.file() {
            let together = self.train.batch_size + max_batch;
            let tables = config.hashed.as_ref().map(|spec| spec.tables(schema));
            let schema = tables.as_ref().unwrap_or(schema);
            let sized = config.cache(self.engine.kind, &store, schema, together);
            sized.map_err(|(key, what)| WorkloadError::Unfit { key, what })?;
        }
        Ok(config)
    }
}
