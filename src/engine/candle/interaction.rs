//! How a DLRM's features meet, in plain tensor operations.

use super::layers;
use crate::model::{DlrmSpec, Interaction as Kind};
use candle_core::{DType, Device, Result, Tensor};

/// What of an interaction does not change.
pub(super) enum Interaction {
    /// `concat[x, <T_i, T_j>, zeros]`.
    Dot {
        /// Positions in a flattened `[n, n]` matrix of the pairs that are kept; `None` without
        /// pairs.
        pairs: Option<Tensor>,
        /// Columns of zeros.
        padding: usize,
    },
    /// `concat[x, e_1..e_F]`.
    Cat,
    /// Layers of a cross network over that.
    Cross {
        /// How many.
        layers: usize,
        /// Whether weights are `W_l V_l`.
        low_rank: bool,
    },
    /// Two MLPs over that, multiplied.
    Projection {
        /// Layers of the first.
        layers: usize,
    },
}

impl Interaction {
    pub fn new(spec: &DlrmSpec, device: &Device) -> Result<Self> {
        let t = spec.vectors();
        Ok(match &spec.interaction {
            Kind::Cat => Interaction::Cat,
            Kind::Cross { layers, rank } => {
                Interaction::Cross { layers: *layers, low_rank: rank.is_some() }
            }
            Kind::Projection { branches } => Interaction::Projection { layers: branches[0].len() },
            Kind::Dot { self_interaction, .. } => {
                let (n, self_interaction) = (t.n as u32, u32::from(*self_interaction));
                let pairs: Vec<u32> = (0..n)
                    .flat_map(|i| (0..i + self_interaction).map(move |j| i * n + j))
                    .collect();
                let len = pairs.len();
                Interaction::Dot {
                    pairs: (len > 0).then(|| Tensor::from_vec(pairs, len, device)).transpose()?,
                    padding: spec.top_input() - spec.interaction.width(t),
                }
            }
        })
    }

    /// Lets the features `n x [B, d]` meet: `[B, top_input]`. `values` are the interaction's
    /// parameters.
    pub fn forward(&self, features: &[Tensor], values: &[Tensor]) -> Result<Tensor> {
        let all = Tensor::cat(features, 1)?;
        match self {
            Interaction::Cat => Ok(all),
            Interaction::Cross { layers, low_rank } => {
                let (ws, rest) = values.split_at(*layers);
                let (vs, biases) = rest.split_at(if *low_rank { *layers } else { 0 });
                let mut x = all.clone();
                for (l, (w, b)) in ws.iter().zip(biases).enumerate() {
                    let h = vs.get(l).map_or_else(|| Ok(x.clone()), |v| x.matmul(&v.t()?))?;
                    x = ((&all * layers::linear(&h, w, b)?)? + x)?;
                }
                Ok(x)
            }
            Interaction::Projection { layers } => {
                let (batch, d) = features[0].dims2()?;
                let (first, second) = values.split_at(2 * layers);
                let p = layers::mlp(all.clone(), first, true)?;
                let q = layers::mlp(all, second, true)?;
                let (left, right) = (p.dim(1)? / d, q.dim(1)? / d);
                let p = p.reshape((batch, left, d))?;
                let products = p.matmul(&q.reshape((batch, d, right))?)?;
                Tensor::cat(&[&features[0], &products.reshape((batch, left * right))?], 1)
            }
            Interaction::Dot { pairs, padding } => {
                let (batch, dim) = features[0].dims2()?;
                let mut parts = vec![features[0].clone()];
                if let Some(pairs) = pairs {
                    let n = features.len();
                    let t = all.reshape((batch, n, dim))?;
                    let products = t.matmul(&t.t()?)?.reshape((batch, n * n))?;
                    parts.push(products.index_select(pairs, 1)?);
                }
                if *padding > 0 {
                    parts.push(Tensor::zeros((batch, *padding), DType::F32, all.device())?);
                }
                Tensor::cat(&parts, 1)
            }
        }
    }
}
