//! Our own engine: explicit forward and backward over buffers made once, no autograd, no allocation
//! inside a step. One file a layer, forward and backward side by side; `dlrm` and `deepfm` put them
//! together. Nothing here knows a device: all arithmetic is behind [`crate::backend::Backend`].

mod batch_norm;
mod deepfm;
mod dlrm;
mod dropout;
mod embedding;
mod engine;
mod fields;
mod fm;
mod gradients;
mod interaction;
mod loss;
mod mlp;
mod pooled;
mod projected;
mod remainders;
mod samples;
mod store;

#[cfg(test)]
mod tests;

pub use engine::FusedEngine;

use crate::backend::Backend;
use store::Store;

/// What all layers of one pass share.
pub(crate) struct Pass<'a, B: Backend> {
    /// The device.
    pub backend: &'a mut B,
    /// Parameters and their gradients.
    pub store: &'a mut Store<B>,
    /// The batch.
    pub batch: &'a B::Batch<'a>,
    /// Samples of the batch.
    pub rows: usize,
    /// Whether this is a training step: batch statistics, dropout.
    pub training: bool,
}
