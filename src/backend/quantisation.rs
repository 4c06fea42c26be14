//! In what numbers a model is kept that only predicts.

use crate::embedding::QuantisedRows;
use serde::Serialize;

/// Error of a training step on a model that is kept so.
pub const ONLY_PREDICTS: &str = "a quantised model predicts and does not train";

/// Weights of fully connected layers, to predict with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuantisedLayers {
    /// Whole numbers of 8 bits with one scale a layer. The inputs of a layer are rounded to 7 bits
    /// between the least and the greatest of the whole batch, and products are of whole numbers.
    /// This is the dynamic quantisation of PyTorch with its engine fbgemm.
    Int8,
    /// f16; inputs, products and sums are f32.
    Fp16,
}

impl QuantisedLayers {
    /// Every kind.
    pub const ALL: [QuantisedLayers; 2] = [QuantisedLayers::Int8, QuantisedLayers::Fp16];

    /// `int8` or `fp16`.
    pub fn name(self) -> &'static str {
        match self {
            QuantisedLayers::Int8 => "int8",
            QuantisedLayers::Fp16 => "fp16",
        }
    }
}

/// What of a model is quantised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Quantisation {
    /// Embedding rows; `None` = they are kept as in training.
    pub rows: Option<QuantisedRows>,
    /// Weights of fully connected layers; `None` = they are f32, and products are as in training.
    pub layers: Option<QuantisedLayers>,
}

impl Quantisation {
    /// The kind that rows of `dim` elements are quantised to, if they are: those that would not
    /// become smaller stay as they are.
    pub fn of_rows(self, dim: usize) -> Option<QuantisedRows> {
        self.rows.filter(|kind| kind.smaller(dim))
    }

    /// Whether nothing is.
    pub fn is_none(self) -> bool {
        self == Quantisation::default()
    }
}
