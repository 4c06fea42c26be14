//! How a DLRM's features meet: the one place that says how wide an interaction is, which parameters
//! it has, and what it costs. Engines, costs and memory plans ask here.
//!
//! `T = stack[x, e_1..e_F]`, `[B, n, d]` with `n = F + 1`: the bottom MLP's output, then one pooled
//! vector a table.

use super::{ParamSpec, pad_to};
use serde::Serialize;

/// How a DLRM lets its features meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Interaction {
    /// `concat[x, <T_i, T_j> for i > j]` (`i >= j` with `itself`), pairs in row-major order of the
    /// lower triangle, then zeros up to a multiple of `pad_to`.
    Dot {
        /// Keep the diagonal.
        itself: bool,
        /// Pad the output width to a multiple of this (1 = no padding).
        pad_to: usize,
    },
    /// `concat[x, e_1..e_F]`.
    Cat,
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

    /// Pairs of two different vectors, and of each with itself if `itself`.
    pub fn pairs(self, itself: bool) -> usize {
        self.n * (self.n - 1) / 2 + if itself { self.n } else { 0 }
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
            Interaction::Dot { itself, .. } => t.d + t.pairs(*itself),
            Interaction::Cat => t.width(),
        }
    }

    /// Width of the output.
    pub fn output(&self, t: Vectors) -> usize {
        match self {
            Interaction::Dot { pad_to: p, .. } => pad_to(self.width(t), *p),
            _ => self.width(t),
        }
    }

    /// Parameters, in the order in which they are initialised.
    pub fn params(&self, _t: Vectors) -> Vec<ParamSpec> {
        match self {
            Interaction::Dot { .. } | Interaction::Cat => Vec::new(),
        }
    }

    /// Operations of a sample, forward and backward, beside the products with
    /// [`Interaction::params`]. `dot` of `p` pairs: `2 p d` forward and twice that backward.
    pub fn flops(&self, t: Vectors) -> usize {
        match self {
            Interaction::Dot { itself, .. } => 6 * t.pairs(*itself) * t.d,
            Interaction::Cat => 0,
        }
    }

    /// What is kept of a sample between forward and backward.
    pub fn kept(&self, t: Vectors) -> Kept {
        let operands = match self {
            Interaction::Dot { .. } => vec![self.output(t); 2],
            // The output is `T` itself.
            Interaction::Cat => Vec::new(),
        };
        Kept { operands, gated: Vec::new() }
    }

    /// Width of the widest layer of the MLPs inside; 0 without any.
    pub fn widest(&self) -> usize {
        match self {
            Interaction::Dot { .. } | Interaction::Cat => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The widths of docs and papers for Criteo's 26 tables at 128 elements.
    #[test]
    fn widths_of_criteo() {
        let t = Vectors { n: 27, d: 128 };
        let dot = |itself, pad_to| Interaction::Dot { itself, pad_to };
        for (interaction, width, output) in [
            (dot(false, 1), 479, 479),
            (dot(false, 8), 479, 480),
            (dot(true, 1), 506, 506),
            (dot(true, 8), 506, 512),
            (Interaction::Cat, 3456, 3456),
        ] {
            assert_eq!((interaction.width(t), interaction.output(t)), (width, output));
        }
    }
}
