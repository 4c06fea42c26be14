//! The loss over the logits, with its gradient in the same pass.

use super::{Pass, mlp::End};
use crate::{
    backend::{Backend, Mat, MatMut, Result, Window},
    model::LossSpec,
};

/// Logits `[B, 1]` and their gradient.
pub(crate) struct Loss<B: Backend> {
    spec: LossSpec,
    logits: B::Floats,
    d_logits: B::Floats,
}

impl<B: Backend> Loss<B> {
    /// Makes the buffers.
    pub fn new(backend: &mut B, spec: LossSpec, max_batch: usize) -> Result<Self> {
        let logits = backend.zeros(max_batch, "logits")?;
        Ok(Loss { spec, logits, d_logits: backend.zeros(max_batch, "gradient of the logits")? })
    }

    /// Where the network writes its logits.
    pub fn logits_mut(&mut self, rows: usize) -> MatMut<'_, B::Floats> {
        Window::whole(1).of_mut(&mut self.logits, rows)
    }

    /// The logits.
    pub fn logits(&self, rows: usize) -> Mat<'_, B::Floats> {
        Window::whole(1).of(&self.logits, rows)
    }

    /// Both, for the network's backward.
    pub fn end(&mut self, rows: usize) -> End<'_, B::Floats> {
        let column = Window::whole(1);
        End { y: column.of(&self.logits, rows), dy: column.of_mut(&mut self.d_logits, rows) }
    }

    /// Their gradient, after [`Loss::forward_backward`].
    pub fn gradient(&self, rows: usize) -> Mat<'_, B::Floats> {
        Window::whole(1).of(&self.d_logits, rows)
    }

    /// The mean loss of the batch, which the step ends with; leaves the gradient of the logits,
    /// times the loss scale.
    pub fn forward_backward(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        let column = Window::whole(1);
        let d = column.of_mut(&mut self.d_logits, pass.rows);
        pass.backend.loss(&self.spec, column.of(&self.logits, pass.rows), pass.batch, d)
    }
}
