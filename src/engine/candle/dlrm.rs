//! DLRM (Naumov et al. 2019): bottom MLP, embedding bags, interaction, top MLP.

use super::{interaction::Interaction, layers, lookup::Lookup};
use crate::{
    batch::Batch,
    model::{DlrmSpec, Pooling, Qr, QrOperation, TableSpec, Trick},
};
use candle_core::{Device, Result, Tensor};

/// What of a DLRM does not change.
pub(super) struct Dlrm {
    spec: DlrmSpec,
    tables: Vec<TableSpec>,
    /// Number of the first parameter of the bottom MLP, of the interaction and of the top MLP.
    mlps: [usize; 3],
    interaction: Interaction,
    device: Device,
}

impl Dlrm {
    pub fn new(spec: &DlrmSpec, device: &Device) -> Result<Self> {
        let tables = spec.table_specs();
        let weights = if weighted(spec.pooling) { tables.len() } else { 0 };
        let first = tables.len() + weights;
        let bottom = first + 2 * spec.bottom.len();
        Ok(Dlrm {
            mlps: [first, bottom, bottom + spec.interaction.params(spec.vectors()).len()],
            interaction: Interaction::new(spec, device)?,
            tables,
            spec: spec.clone(),
            device: device.clone(),
        })
    }

    /// Logits `[B]`.
    pub fn forward(&self, values: &[Tensor], batch: &Batch, lookups: &[Lookup]) -> Result<Tensor> {
        let spec = &self.spec;
        let dense = layers::dense_input(batch, spec.bottom_input(), &self.device)?;
        let mut features = vec![layers::mlp(dense, &values[self.mlps[0]..self.mlps[1]], true)?];
        for column in 0..spec.tables.len() {
            let mut vectors = Vec::new();
            for k in (0..self.tables.len()).filter(|&k| self.tables[k].column == column) {
                let weights = weighted(spec.pooling).then(|| &values[self.tables.len() + k]);
                vectors.push(lookups[k].pool(&values[k], weights, spec.pooling)?);
            }
            features.push(self.one_vector(vectors)?);
        }
        let met = self.interaction.forward(&features, &values[self.mlps[1]..self.mlps[2]])?;
        layers::mlp(met, &values[self.mlps[2]..], false)?.flatten_all()
    }
}

impl Dlrm {
    /// The vector of a column `[B, d]`, from those of its tables.
    fn one_vector(&self, vectors: Vec<Tensor>) -> Result<Tensor> {
        match (self.spec.trick, &vectors[..]) {
            (_, [one]) => Ok(one.clone()),
            (Trick::Qr(Qr { operation: QrOperation::Mult, .. }), [q, r]) => q * r,
            (Trick::Qr(Qr { operation: QrOperation::Add, .. }), [q, r]) => q + r,
            _ => Tensor::cat(&vectors, 1),
        }
    }
}

fn weighted(pooling: Pooling) -> bool {
    matches!(pooling, Pooling::WeightedFixed | Pooling::WeightedLearned)
}
