//! DLRM (Naumov et al. 2019): bottom MLP, embedding bags, interaction, top MLP.

use super::{layers, lookup::Lookup};
use crate::{
    batch::Batch,
    model::{DlrmSpec, Interaction, Pooling},
};
use candle_core::{DType, Device, Result, Tensor};

/// What of a DLRM does not change.
pub(super) struct Dlrm {
    spec: DlrmSpec,
    /// Number of the bottom MLP's first parameter, and of the top's.
    mlps: [usize; 2],
    /// Positions in a flattened `[n, n]` matrix of the pairs that are kept; `None` without pairs.
    pairs: Option<Tensor>,
    device: Device,
}

impl Dlrm {
    pub fn new(spec: &DlrmSpec, device: &Device) -> Result<Self> {
        let tables = spec.tables.len() * if weighted(spec.pooling) { 2 } else { 1 };
        let n = spec.features() as u32;
        let pairs: Vec<u32> = match spec.interaction {
            Interaction::Dot { itself, .. } => {
                (0..n).flat_map(|i| (0..i + u32::from(itself)).map(move |j| i * n + j)).collect()
            }
            Interaction::Cat => vec![],
        };
        let len = pairs.len();
        Ok(Dlrm {
            spec: spec.clone(),
            mlps: [tables, tables + 2 * spec.bottom.len()],
            pairs: (len > 0).then(|| Tensor::from_vec(pairs, len, device)).transpose()?,
            device: device.clone(),
        })
    }

    /// Logits `[B]`.
    pub fn forward(&self, values: &[Tensor], batch: &Batch, lookups: &[Lookup]) -> Result<Tensor> {
        let spec = &self.spec;
        let tables = spec.tables.len();
        let dense = layers::dense_input(batch, spec.bottom_input(), &self.device)?;
        let mut features = vec![layers::mlp(dense, &values[self.mlps[0]..self.mlps[1]], true)?];
        for (k, lookup) in lookups.iter().enumerate() {
            let weights = weighted(spec.pooling).then(|| &values[tables + k]);
            features.push(lookup.pool(&values[k], weights, spec.pooling)?);
        }
        let met = self.interact(&features, batch.len)?;
        layers::mlp(met, &values[self.mlps[1]..], false)?.flatten_all()
    }

    /// Lets the features `n x [B, d]` meet: `[B, top_input]`.
    fn interact(&self, features: &[Tensor], batch: usize) -> Result<Tensor> {
        let all = Tensor::cat(features, 1)?;
        let Interaction::Dot { .. } = self.spec.interaction else { return Ok(all) };
        let mut parts = vec![features[0].clone()];
        if let Some(pairs) = &self.pairs {
            let n = features.len();
            let t = all.reshape((batch, n, self.spec.dim))?;
            let products = t.matmul(&t.t()?)?.reshape((batch, n * n))?;
            parts.push(products.index_select(pairs, 1)?);
        }
        let padding = self.spec.top_input() - self.spec.interaction_width();
        if padding > 0 {
            parts.push(Tensor::zeros((batch, padding), DType::F32, &self.device)?);
        }
        Tensor::cat(&parts, 1)
    }
}

fn weighted(pooling: Pooling) -> bool {
    matches!(pooling, Pooling::WeightedFixed | Pooling::WeightedLearned)
}
