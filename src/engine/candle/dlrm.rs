//! DLRM (Naumov et al. 2019): bottom MLP, embedding bags, interaction, top MLP.

use super::{interaction::Interaction, layers, lookup::Lookup};
use crate::{
    batch::Batch,
    model::{DlrmSpec, Pooling},
};
use candle_core::{Device, Result, Tensor};

/// What of a DLRM does not change.
pub(super) struct Dlrm {
    spec: DlrmSpec,
    /// Number of the first parameter of the bottom MLP, of the interaction and of the top MLP.
    mlps: [usize; 3],
    interaction: Interaction,
    device: Device,
}

impl Dlrm {
    pub fn new(spec: &DlrmSpec, device: &Device) -> Result<Self> {
        let tables = spec.tables.len() * if weighted(spec.pooling) { 2 } else { 1 };
        let bottom = tables + 2 * spec.bottom.len();
        Ok(Dlrm {
            mlps: [tables, bottom, bottom + spec.interaction.params(spec.vectors()).len()],
            interaction: Interaction::new(spec, device)?,
            spec: spec.clone(),
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
        let met = self.interaction.forward(&features, &values[self.mlps[1]..self.mlps[2]])?;
        layers::mlp(met, &values[self.mlps[2]..], false)?.flatten_all()
    }
}

fn weighted(pooling: Pooling) -> bool {
    matches!(pooling, Pooling::WeightedFixed | Pooling::WeightedLearned)
}
