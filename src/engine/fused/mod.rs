//! Our own engine: explicit forward and backward over buffers made once, no autograd, no allocation
//! inside a step. One file a layer, forward and backward side by side; `dlrm` and `deepfm` put them
//! together. Nothing here knows a device: all arithmetic is behind [`crate::backend::Backend`].

mod apart;
mod batch_norm;
mod build;
mod deepfm;
mod dlrm;
mod dropout;
mod embedding;
mod engine;
mod fields;
mod fm;
mod gradients;
mod interaction;
mod linked;
mod look;
mod loss;
mod micro_batch;
mod mlp;
mod network;
mod pooled;
mod projected;
mod ranks;
mod remainders;
mod replicas;
mod samples;
mod shard;
mod store;
mod sums;

#[cfg(test)]
mod tests;

pub(super) use apart::Gradient;
pub use engine::FusedEngine;
pub(super) use shard::{Pushed, Shard};

use crate::{
    backend::{Backend, Mat, MatMut, Window},
    comm::Comm,
};
use std::{ops::Range, rc::Rc};
use store::Store;

/// What all layers of one pass over a batch, or over a part of it, share.
pub(crate) struct Pass<'a, B: Backend> {
    /// The device.
    pub backend: &'a mut B,
    /// Parameters and their gradients.
    pub store: &'a mut Store<B>,
    /// The batch.
    pub batch: &'a B::Batch<'a>,
    /// The first sample of the batch that the pass is over.
    pub first: usize,
    /// Samples from there on.
    pub rows: usize,
    /// Whether this is a training step: batch statistics, dropout.
    pub training: bool,
    /// The way to other ranks, if messages are under way meanwhile.
    pub comm: Option<Rc<dyn Comm>>,
}

impl<'a, B: Backend> Pass<'a, B> {
    /// The same over some samples of the batch.
    pub fn part(&mut self, samples: Range<usize>) -> Pass<'_, B> {
        Pass {
            backend: self.backend,
            store: self.store,
            batch: B::borrow(self.batch),
            first: samples.start,
            rows: samples.len(),
            training: self.training,
            comm: self.comm.clone(),
        }
    }

    /// Lets messages to other ranks go on.
    pub fn progress(&self) {
        if let Some(comm) = &self.comm {
            comm.progress();
        }
    }

    /// The pass's rows of a buffer that has those of the whole batch, to read.
    pub fn of<'b>(&self, window: Window, buf: &'b B::Floats) -> Mat<'b, B::Floats> {
        window.from_row(self.first).of(buf, self.rows)
    }

    /// The same, to write.
    pub fn of_mut<'b>(&self, window: Window, buf: &'b mut B::Floats) -> MatMut<'b, B::Floats> {
        window.from_row(self.first).of_mut(buf, self.rows)
    }

    /// The dense features of the pass's samples.
    pub fn dense(&self) -> Mat<'a, B::Floats> {
        let Mat { buf, window, .. } = self.backend.dense(self.batch);
        self.of(window, buf)
    }
}
