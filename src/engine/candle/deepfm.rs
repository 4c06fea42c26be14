//! DeepFM (Guo et al. 2017): a linear part, a factorisation machine and a DNN over the same field
//! vectors, added up.

use super::{
    layers::{self, Mode, Part},
    lookup::Lookup,
};
use crate::model::{DeepFmSpec, Pooling};
use candle_core::{Result, Tensor};

/// What of a DeepFM does not change.
pub(super) struct DeepFm {
    spec: DeepFmSpec,
    /// Number of the DNN's first parameter.
    dnn: usize,
}

impl DeepFm {
    pub fn new(spec: &DeepFmSpec) -> Self {
        DeepFm {
            dnn: 2 * spec.tables.len() + if spec.dense > 0 { 2 } else { 0 },
            spec: spec.clone(),
        }
    }

    /// The pooled vectors of each table, `[B, dim]`, then the pooled scalars, `[B, 1]`.
    pub fn pool(&self, values: &[Tensor], lookups: &[Lookup]) -> Result<Vec<Tensor>> {
        let of = |k: usize| lookups[k % lookups.len()].pool(&values[k], None, Pooling::Sum);
        (0..2 * lookups.len()).map(of).collect()
    }

    /// Logits `[B]` of samples with these pooled vectors and scalars.
    pub fn forward(
        &self,
        values: &[Tensor],
        part: &Part<'_>,
        pooled: &[Tensor],
        mode: &mut Mode,
    ) -> Result<Tensor> {
        let (tables, columns) = (self.spec.tables.len(), self.spec.dense);
        let mut fields = Vec::with_capacity(self.spec.fields());
        let mut linear = Vec::with_capacity(tables + 1);
        if columns > 0 {
            let x = part.dense(columns, values[0].device())?;
            for i in 0..columns {
                // The column's value times the field's vector: an outer product.
                fields.push(
                    x.narrow(1, i, 1)?
                        .contiguous()?
                        .matmul(&values[2 * tables].narrow(0, i, 1)?)?,
                );
            }
            linear.push(x.matmul(&values[2 * tables + 1])?);
        }
        fields.extend_from_slice(&pooled[..tables]);
        linear.extend_from_slice(&pooled[tables..]);
        let all = Tensor::cat(&fields, 1)?;
        let fm = ((sum(&fields)?.sqr()?.sum_keepdim(1)? - all.sqr()?.sum_keepdim(1)?)? * 0.5)?;
        let deep = self.dnn(all, values, mode)?;
        ((sum(&linear)? + fm)? + deep)?.flatten_all()
    }

    /// `[B, fields * dim]` to `[B, 1]`: hidden layers of linear, batch normalisation, ReLU,
    /// dropout, then one to a single output.
    fn dnn(&self, mut x: Tensor, values: &[Tensor], mode: &mut Mode) -> Result<Tensor> {
        let mut at = self.dnn;
        for layer in 0..self.spec.hidden.len() {
            let (weight, bias) = (&values[at], &values[at + 1]);
            x = if self.spec.batch_norm {
                let z = layers::linear(&x, weight, bias)?;
                let norm = (&layers::TORCH, false);
                layers::batch_norm(&z, &values[at + 2..at + 6], at + 2, norm, mode)?
                    .affine(1.0, layers::BELOW_ZERO)?
                    .relu()?
            } else {
                layers::linear_relu(&x, weight, bias)?
            };
            x = layers::dropout(x, self.spec.dropout, layer as u16, mode)?;
            at += if self.spec.batch_norm { 6 } else { 2 };
        }
        layers::linear(&x, &values[at], &values[at + 1])
    }
}

/// Sum of tensors of one shape.
fn sum(terms: &[Tensor]) -> Result<Tensor> {
    let mut total = terms[0].clone();
    for term in &terms[1..] {
        total = (total + term)?;
    }
    Ok(total)
}
