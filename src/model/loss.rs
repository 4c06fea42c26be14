//! What is minimised.

use serde::{Deserialize, Serialize};

/// Loss over the model's logit `z`, `p = sigmoid(z)`; always the mean over the batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossSpec {
    /// Which loss.
    #[serde(flatten)]
    pub kind: LossKind,
    /// If in (0, 1): `p` is clamped to `[clamp, 1 - clamp]` before the loss, and the gradient is
    /// zero outside (facebook's `--loss-threshold`). 0 is off.
    pub clamp: f32,
    /// `bce` and `wbce` of the probability in f32, as torch computes them (`binary_cross_entropy`
    /// in aten/src/ATen/native/Loss.cpp): beyond logits of 16 or so `1 - p` has no digits left, and
    /// the gradient none at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_probability: bool,
}

/// keras' `epsilon()`.
pub const KERAS_EPSILON: f64 = 1e-7;

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossKind {
    /// `-mean(y ln p + (1 - y) ln(1 - p))`, computed from the logit. With `clamp`, from the clamped
    /// probability. Differs from torch's BCELoss only where |z| is large
    /// ([`LossSpec::of_probability`]).
    Bce,
    /// `mean(w[y] * bce)`, `w = weights[round(y)]` for the label's class.
    Wbce {
        /// Weights of class 0 and 1.
        weights: [f32; 2],
    },
    /// `mean((p - y)^2)`.
    Mse,
    /// `-mean(y ln(p + e) + (1 - y) ln(1 - p + e))`, `e =` [`KERAS_EPSILON`], with `p` clamped to `[e,
    /// 1 - e]`: `tf.keras.losses.BinaryCrossentropy` on probabilities (tensorflow/tensorflow 1.15:
    /// python/keras/backend.py, `binary_crossentropy`), which DeepRec trains on.
    KerasBce,
}
