//! In what numbers matrix products are computed.

use serde::{Deserialize, Serialize};

/// How the operands of matrix products are rounded on their way into the product. Parameters,
/// activations and gradients are kept in f32, products are summed in f32: mixed precision with f32
/// master weights (Micikevicius et al. 2018, arXiv:1710.03740). Layers with a single output are not
/// rounded: they are bound by memory, so nothing would be gained. A GPU keeps activations and their
/// gradients as products round them (docs/cuda.md).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Not at all.
    #[default]
    Fp32,
    /// To bf16: 8 bits of exponent, 8 significant bits.
    Bf16,
    /// To TF32, by the tensor cores of a GPU: 8 bits of exponent, 11 significant bits. Of CUDA
    /// devices only.
    Tf32,
    /// To f16: 5 bits of exponent, 11 significant bits, nothing above 65,504. Small gradients
    /// vanish unless the loss is scaled.
    Fp16,
}

/// In what numbers a buffer between layers is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// In f32 ([`super::Backend::zeros`]).
    F32,
    /// In those that products round their operands to, where a backend keeps them so
    /// ([`super::Backend::operands`]).
    Operands,
}

impl Precision {
    /// Every precision that all devices have.
    pub const ALL: [Precision; 3] = [Precision::Fp32, Precision::Bf16, Precision::Fp16];

    /// `fp32`, `tf32`, `bf16` or `fp16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::Fp16 => "fp16",
        }
    }
}
