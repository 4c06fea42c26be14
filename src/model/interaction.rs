//! How a DLRM's features meet: the one place that says how wide an interaction is, which parameters
//! it has, and what it costs. Engines, costs and memory plans ask here.
//!
//! `T = stack[x, e_1..e_F]`, `[B, n, d]` with `n = F + 1`: the bottom MLP's output, then one pooled
//! vector a table.

use super::{MlpInit, ParamKind, ParamSpec, pad_to, params::mlp};
use serde::{Deserialize, Serialize};

/// How a DLRM lets its features meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Interaction {
    /// `concat[x, <T_i, T_j> for i > j]` (`i >= j` with `self_interaction`), pairs in row-major order of the
    /// lower triangle, then zeros up to a multiple of `pad_to`.
    Dot {
        /// Keep the diagonal. Records call it `itself`.
        #[serde(rename = "itself")]
        self_interaction: bool,
        /// Pad the output width to a multiple of this (1 = no padding).
        pad_to: usize,
    },
    /// `concat[x, e_1..e_F]`.
    Cat,
    /// Cross layers of DCN v2 (Wang et al. 2021, arXiv:2008.13535) over `x_0 = concat[x,
    /// e_1..e_F]`: `x_{l+1} = x_0 * (W_l V_l x_l + b_l) + x_l`, `V_l [r, n d]`, `W_l [n d, r]`;
    /// without a rank `W_l x_l`, `W_l [n d, n d]`.
    Cross {
        /// Layers, at least 1.
        layers: usize,
        /// `r`; `None` = full.
        rank: Option<usize>,
    },
    /// `concat[x, P Q]` (TorchRec's `DLRM_Projection`): two MLPs over `concat[x, e_1..e_F]`, ReLU
    /// after every layer, whose outputs are taken for `P [p, d]` and `Q [d, q]`.
    Projection {
        /// Widths of both MLPs without their input; the last ones are `p d` and `d q`.
        branches: [Vec<usize>; 2],
    },
}

/// Shape of what meets: `T` is `[B, n, d]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vectors {
    /// Vectors: the bottom MLP's output and one a table.
    pub n: usize,
    /// Elements of each.
    pub d: usize,
}

impl Vectors {
    /// Elements of all vectors of a sample.
    pub fn width(self) -> usize {
        self.n * self.d
    }

    /// Pairs of two different vectors, and of each with itself with `self_interaction`.
    pub fn pairs(self, self_interaction: bool) -> usize {
        self.n * (self.n - 1) / 2 + if self_interaction { self.n } else { 0 }
    }
}

/// Elements that an interaction keeps of a sample between forward and backward, those of their
/// gradients included and `T` left out. All of them are operands of products
/// ([`crate::backend::Backend::operands`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Width of each matrix.
    pub operands: Vec<usize>,
    /// Widths of those among them that have a bit beside each element, which says whether a ReLU
    /// let it pass.
    pub gated: Vec<usize>,
}

impl Interaction {
    /// Width of the output before padding.
    pub fn width(&self, t: Vectors) -> usize {
        match self {
            Interaction::Dot { self_interaction, .. } => t.d + t.pairs(*self_interaction),
            Interaction::Cat | Interaction::Cross { .. } => t.width(),
            Interaction::Projection { branches } => {
                let [p, q] = projected(branches, t.d);
                t.d + p * q
            }
        }
    }

    /// Width of the output.
    pub fn output(&self, t: Vectors) -> usize {
        match self {
            Interaction::Dot { pad_to: p, .. } => pad_to(self.width(t), *p),
            _ => self.width(t),
        }
    }

    /// Parameters, in the order in which they are initialised. Names and order are TorchRec's.
    pub fn params(&self, t: Vectors) -> Vec<ParamSpec> {
        match self {
            Interaction::Dot { .. } | Interaction::Cat => Vec::new(),
            Interaction::Cross { layers, rank } => cross(t.width(), *layers, *rank),
            Interaction::Projection { branches } => {
                let mut specs = Vec::new();
                for (k, widths) in branches.iter().enumerate() {
                    mlp(&mut specs, |i| projection_layer(k, i), t.width(), widths);
                }
                specs
            }
        }
    }

    /// Operations of a sample, forward and backward, beside the products with
    /// [`Interaction::params`]. `dot` of `p` pairs: `2 p d` forward and twice that backward.
    pub fn flops(&self, t: Vectors) -> usize {
        match self {
            Interaction::Dot { self_interaction, .. } => 6 * t.pairs(*self_interaction) * t.d,
            Interaction::Cat => 0,
            // A product and a sum forward; two products and two sums backward.
            Interaction::Cross { layers, .. } => 6 * layers * t.width(),
            // As `dot`, with `p q` products.
            Interaction::Projection { branches } => {
                let [p, q] = projected(branches, t.d);
                6 * p * q * t.d
            }
        }
    }

    /// What is kept of a sample between forward and backward.
    pub fn kept(&self, t: Vectors) -> Kept {
        let operands = match self {
            Interaction::Dot { .. } => vec![self.output(t); 2],
            // The output is `T` itself.
            Interaction::Cat => Vec::new(),
            // Of each layer `V x`, `W V x + b` and what comes out; the gradients of one of them.
            Interaction::Cross { layers, rank } => {
                let layer = [t.width(), t.width()].into_iter().chain(*rank);
                std::iter::repeat_n(layer, layers + 1).flatten().collect()
            }
            // What comes out of the branches' layers, the gradients of the last ones, and the output
            // with its own.
            Interaction::Projection { branches } => {
                let ends = branches.iter().filter_map(|widths| widths.last());
                let layers = branches.iter().flatten().chain(ends).copied();
                layers.chain([self.output(t); 2]).collect()
            }
        };
        let gated = match self {
            Interaction::Projection { branches } => branches.iter().flatten().copied().collect(),
            _ => Vec::new(),
        };
        Kept { operands, gated }
    }

    /// Width of the widest layer of the MLPs inside; 0 without any.
    pub fn widest(&self) -> usize {
        match self {
            Interaction::Dot { .. } | Interaction::Cat | Interaction::Cross { .. } => 0,
            Interaction::Projection { branches } => {
                branches.iter().flatten().copied().max().unwrap_or(0)
            }
        }
    }
}

/// `p` and `q` of a projection's `P [p, d]` and `Q [d, q]`.
pub fn projected(branches: &[Vec<usize>; 2], d: usize) -> [usize; 2] {
    branches.each_ref().map(|widths| widths.last().map_or(0, |w| w / d))
}

/// Name of layer `layer` of a projection's branch `branch`, both from 0, as TorchRec has it.
pub fn projection_layer(branch: usize, layer: usize) -> String {
    format!("inter_arch.interaction_branch{}.model._mlp.{layer}._linear", branch + 1)
}

/// Of all layers the weights, then the other weights, then the biases, as TorchRec makes them
/// (`LowRankCrossNet`, `CrossNet`): `xavier_normal_` and zeros.
fn cross(width: usize, layers: usize, rank: Option<usize>) -> Vec<ParamSpec> {
    let weights: &[(&str, [usize; 2])] = match rank {
        Some(r) => &[("W_kernels", [width, r]), ("V_kernels", [r, width])],
        None => &[("kernels", [width, width])],
    };
    let all = |name: &str, kind, shape: &[usize]| {
        let spec = |l: usize| ParamSpec {
            init: Some(MlpInit::XavierNormal),
            ..ParamSpec::new(format!("inter_arch.crossnet.{name}.{l}"), kind, shape)
        };
        (0..layers).map(spec).collect::<Vec<_>>()
    };
    let mut specs = Vec::new();
    for (name, shape) in weights {
        specs.extend(all(name, ParamKind::Weight, shape));
    }
    specs.extend(all("bias", ParamKind::Bias, &[width]));
    specs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The widths of docs and papers for Criteo's 26 tables at 128 elements.
    #[test]
    fn widths_of_criteo() {
        let t = Vectors { n: 27, d: 128 };
        let dot = |self_interaction, pad_to| Interaction::Dot { self_interaction, pad_to };
        for (interaction, width, output) in [
            (dot(false, 1), 479, 479),
            (dot(false, 8), 479, 480),
            (dot(true, 1), 506, 506),
            (dot(true, 8), 506, 512),
            (Interaction::Cat, 3456, 3456),
            (Interaction::Cross { layers: 3, rank: Some(512) }, 3456, 3456),
            (Interaction::Projection { branches: [vec![2048, 2048], vec![512, 1024]] }, 256, 256),
        ] {
            assert_eq!((interaction.width(t), interaction.output(t)), (width, output));
        }
    }

    /// Records of runs keep their field names.
    #[test]
    fn records_call_the_diagonal_itself() {
        let dot = Interaction::Dot { self_interaction: true, pad_to: 8 };
        let written = serde_json::to_value(dot).unwrap();
        assert_eq!(written, serde_json::json!({"op": "dot", "itself": true, "pad_to": 8}));
    }

    /// Parameters of MLPerf's DLRM-DCNv2: 3 layers of rank 512.
    #[test]
    fn cross_layers_have_torchrecs_names_and_shapes() {
        let specs =
            Interaction::Cross { layers: 3, rank: Some(512) }.params(Vectors { n: 27, d: 128 });
        let shapes: Vec<_> = specs.iter().map(|p| (p.name.as_str(), &p.shape[..])).collect();
        let name = |name: &str, l| format!("inter_arch.crossnet.{name}.{l}");
        for l in 0..3 {
            assert_eq!(shapes[l], (name("W_kernels", l).as_str(), &[3456, 512][..]));
            assert_eq!(shapes[3 + l], (name("V_kernels", l).as_str(), &[512, 3456][..]));
            assert_eq!(shapes[6 + l], (name("bias", l).as_str(), &[3456][..]));
        }
        let full = Interaction::Cross { layers: 1, rank: None }.params(Vectors { n: 3, d: 2 });
        assert_eq!(
            (full[0].name.as_str(), &full[0].shape[..]),
            (name("kernels", 0).as_str(), &[6, 6][..])
        );
        assert_eq!(full.len(), 2);
    }
}
