//! DLRM (Naumov et al. 2019): bottom MLP, embedding bags, interaction, top MLP.

use super::{
    interaction::Interaction,
    layers::{self, Mode, Part},
    lookup::Lookup,
};
use crate::model::{DlrmSpec, Pooling, Qr, QrOperation, TableSpec, Trick};
use candle_core::{Device, Result, Tensor};

/// What of a DLRM does not change.
pub(super) struct Dlrm {
    spec: DlrmSpec,
    tables: Vec<TableSpec>,
    /// Columns whose vectors a matrix widens; the matrices come before the bottom MLP.
    projections: Vec<usize>,
    /// Number of the first parameter of the bottom MLP, of the interaction and of the top MLP.
    mlps: [usize; 3],
    interaction: Interaction,
    device: Device,
}

impl Dlrm {
    pub fn new(spec: &DlrmSpec, device: &Device) -> Result<Self> {
        let tables = spec.table_specs();
        let weights = if weighted(spec.pooling) { tables.len() } else { 0 };
        let projections: Vec<usize> = spec.projections().into_iter().map(|(k, _)| k).collect();
        let first = tables.len() + weights + projections.len();
        let bottom = first + if spec.batch_norm { 6 } else { 2 } * spec.bottom.len();
        let top = bottom + spec.interaction.params(spec.vectors()).len();
        Ok(Dlrm {
            mlps: [first, bottom, top],
            interaction: Interaction::new(spec, device)?,
            tables,
            projections,
            spec: spec.clone(),
            device: device.clone(),
        })
    }

    /// The pooled vectors of each table, `[B, d]`.
    pub fn pool(&self, values: &[Tensor], lookups: &[Lookup]) -> Result<Vec<Tensor>> {
        let (pooling, tables) = (self.spec.pooling, self.tables.len());
        let weights = |k: usize| weighted(pooling).then(|| &values[tables + k]);
        (0..tables).map(|k| lookups[k].pool(&values[k], weights(k), pooling)).collect()
    }

    /// Logits `[B]` of samples with these pooled vectors.
    pub fn forward(
        &self,
        values: &[Tensor],
        part: &Part<'_>,
        pooled: &[Tensor],
        mode: &mut Mode,
    ) -> Result<Tensor> {
        let spec = &self.spec;
        let dense = part.dense(spec.bottom_input(), &self.device)?;
        let mut features = vec![self.bottom(dense, values, mode)?];
        for column in 0..spec.tables.len() {
            let of_column = (0..self.tables.len()).filter(|&k| self.tables[k].column == column);
            let mut vector = self.one_vector(of_column.map(|k| pooled[k].clone()).collect())?;
            if let Some(at) = self.projections.iter().position(|&k| k == column) {
                let matrix = &values[self.mlps[0] - self.projections.len() + at];
                vector = vector.matmul(&matrix.t()?)?;
            }
            features.push(vector);
        }
        let met = self.interaction.forward(&features, &values[self.mlps[1]..self.mlps[2]])?;
        self.top(met, &values[self.mlps[2]..])?.flatten_all()
    }

    /// Layers of linear, ReLU and maybe batch normalisation.
    fn bottom(&self, mut x: Tensor, values: &[Tensor], mode: &mut Mode) -> Result<Tensor> {
        let (first, end) = (self.mlps[0], self.mlps[1]);
        if !self.spec.batch_norm {
            return layers::mlp(x, &values[first..end], true);
        }
        let norm = (&layers::TENSORFLOW, self.spec.quirks.batch_stats_in_eval);
        for at in (first..end).step_by(6) {
            x = layers::linear_relu(&x, &values[at], &values[at + 1])?;
            x = layers::batch_norm(&x, &values[at + 2..at + 6], at + 2, norm, mode)?;
        }
        Ok(x)
    }

    /// The top MLP, as DeepRec's loop writes it with [`crate::model::DlrmQuirks::dead_top`]: `net`
    /// is made anew of the input in each turn.
    fn top(&self, x: Tensor, values: &[Tensor]) -> Result<Tensor> {
        if !self.spec.quirks.dead_top {
            return layers::mlp(x, values, false);
        }
        let (hidden, logit) = values.split_at(values.len() - 2);
        let mut net = x.clone();
        for layer in hidden.chunks_exact(2) {
            net = layers::linear_relu(&x, &layer[0], &layer[1])?;
        }
        layers::linear(&net, &logit[0], &logit[1])
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
