//! What a DLRM or a DeepFM *is*: layers, sizes, parameter names and shapes, initialisers. No
//! arithmetic.

pub mod init;
mod interaction;
mod loss;
pub mod params;
mod tables;

use serde::{Deserialize, Serialize};

pub use interaction::{Interaction, Kept, Vectors, projected, projection_layer};
pub use loss::{KERAS_EPSILON, LossKind, LossSpec};
pub use params::{ParamKind, ParamSpec, top_layer};
pub use tables::{Md, Part, Qr, QrOperation, SetSpec, TableSpec, Trick};

/// A model, its sizes resolved against the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelSpec {
    /// Naumov et al. 2019, arXiv:1906.00091.
    Dlrm(DlrmSpec),
    /// Guo et al. 2017, arXiv:1703.04247.
    #[serde(rename = "deepfm")]
    DeepFm(DeepFmSpec),
}

/// DLRM: bottom MLP over dense features, embedding bags, feature interaction, top MLP to one logit.
/// ReLU follows every layer of both MLPs but the top's last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DlrmSpec {
    /// Dense features of the data.
    pub dense: usize,
    /// Zero columns appended to the dense input up to a multiple of this (1 = none; OneFlow pads 13
    /// to 16).
    pub dense_pad_to: usize,
    /// Ids of each categorical column: rows of its embedding table, unless `trick` says otherwise.
    pub tables: Vec<usize>,
    /// Embedding dimension `d`.
    pub dim: usize,
    /// Widths of the bottom MLP without its input; the last one equals [`Vectors::d`].
    pub bottom: Vec<usize>,
    /// Widths of the top MLP without its input; the last one is 1.
    pub top: Vec<usize>,
    /// Batch normalisation behind each ReLU of the bottom MLP, with TensorFlow's constants
    /// (DeepRec-AI/DeepRec: modelzoo/dlrm/train.py).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
    /// How features meet.
    pub interaction: Interaction,
    /// How a bag becomes one vector.
    pub pooling: Pooling,
    /// What stands in for larger tables.
    #[serde(default, skip_serializing_if = "Trick::is_none")]
    pub trick: Trick,
    /// Initialiser of MLP weights and biases.
    pub mlp_init: MlpInit,
    /// Initialiser of embedding tables.
    pub embedding_init: EmbeddingInit,
    /// Surprises of DeepRec's program that are reproduced.
    #[serde(default, skip_serializing_if = "DlrmQuirks::is_empty")]
    pub quirks: DlrmQuirks,
}

/// Surprises of DeepRec's DLRM (DeepRec-AI/DeepRec: modelzoo/dlrm/train.py); none by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DlrmQuirks {
    /// Each hidden layer of the top MLP is given the interaction's output and what it makes of it
    /// is thrown away, but for the last hidden layer: the others are neither used nor trained.
    pub dead_top: bool,
    /// Batch normalisation judges a batch of an evaluation by that batch's own statistics, and the
    /// running ones never move.
    pub batch_stats_in_eval: bool,
}

impl DlrmQuirks {
    /// Whether none is reproduced.
    pub fn is_empty(&self) -> bool {
        *self == DlrmQuirks::default()
    }
}

/// How the rows of a bag become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Sum of rows.
    Sum,
    /// Mean of rows (an empty bag gives zeros).
    Mean,
    /// Sum of rows, each times its own scalar, which stays 1 (facebook's
    /// `--weighted-pooling=fixed`).
    WeightedFixed,
    /// The same with scalars that are trained.
    WeightedLearned,
}

/// DeepFM: `logit = sum_i w_i[id_i] + sum_{i<j} <v_i, v_j> + DNN(concat v)`; no global bias (the
/// DNN's last bias serves).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeepFmSpec {
    /// Rows of each table: a `dim`-wide and a 1-wide one a column.
    pub tables: Vec<usize>,
    /// Dense features of the data. Each is a field of its own: value times a learned `dim`-wide
    /// vector and a learned scalar (`dense_emb` `[dense, dim]` and `dense_linear` `[dense, 1]`).
    /// Dense fields come before the categorical ones in the DNN's input.
    pub dense: usize,
    /// Embedding dimension.
    pub dim: usize,
    /// Hidden widths of the DNN; a last layer to 1 is added.
    pub hidden: Vec<usize>,
    /// Batch normalisation between each hidden layer and its ReLU.
    pub batch_norm: bool,
    /// Dropout probability after each hidden ReLU.
    pub dropout: f32,
    /// `loss += l2/2 * (||E||^2 + ||w||^2)` over all rows of all tables (`dim`-wide and 1-wide),
    /// touched or not.
    pub embedding_l2: f32,
    /// Initialiser of DNN weights and biases.
    pub mlp_init: MlpInit,
    /// Initialiser of both kinds of tables.
    pub embedding_init: EmbeddingInit,
}

/// Initialiser of MLP weights `[m, n]` and biases `[m]` (m = fan out, n = fan in).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpInit {
    /// Weights N(0, sqrt(2/(m+n))), biases N(0, sqrt(1/m)) (facebook, OneFlow DLRM).
    Facebook,
    /// Both U(0, 1) (facebook's README transcript).
    Uniform01,
    /// Weights N(0, sqrt(2/(m+n))), biases 0 (`xavier_normal_`; OneFlow DeepFM, FuxiCTR).
    XavierNormal,
    /// Weights U(+-sqrt(6/(m+n))), biases 0 (TensorFlow's `glorot_uniform`; DeepRec).
    GlorotUniform,
    /// Both U(+-sqrt(1/n)) (torch's `nn.Linear`; TorchRec).
    TorchLinear,
}

/// Initialiser of an embedding table with N rows of dimension d.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EmbeddingInit {
    /// U(-sqrt(1/N), sqrt(1/N)).
    UniformSqrtInvRows,
    /// N(0, std).
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// N(0, 1/sqrt(d)) cut at two standard deviations (TensorFlow's `embedding_column`).
    TruncatedNormal,
}

/// Rounds `n` up to a multiple of `to` (`to` >= 1).
pub fn pad_to(n: usize, to: usize) -> usize {
    n.div_ceil(to) * to
}

impl DlrmSpec {
    /// Width of the bottom MLP's input after padding.
    pub fn bottom_input(&self) -> usize {
        pad_to(self.dense, self.dense_pad_to)
    }

    /// What meets: the bottom MLP's output and the pooled vectors of all tables.
    pub fn vectors(&self) -> Vectors {
        Vectors { n: self.tables.len() + 1, d: self.trick.vector(self.dim) }
    }

    /// Width of the widest layer of all MLPs.
    pub fn widest_layer(&self) -> usize {
        let widths = self.bottom.iter().chain(&self.top).copied();
        widths.max().unwrap_or(0).max(self.interaction.widest())
    }

    /// Width of the top MLP's input.
    pub fn top_input(&self) -> usize {
        self.interaction.output(self.vectors())
    }

    /// Layers at the beginning of the top MLP that nothing is computed with
    /// ([`DlrmQuirks::dead_top`]).
    pub fn dead_layers(&self) -> usize {
        if self.quirks.dead_top { self.top.len().saturating_sub(2) } else { 0 }
    }
}

impl DeepFmSpec {
    /// Fields: every dense and every categorical column.
    pub fn fields(&self) -> usize {
        self.dense + self.tables.len()
    }
}
