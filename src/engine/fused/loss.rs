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

    /// Where the network writes the logits of a pass.
    pub fn logits_mut(&mut self, pass: &Pass<'_, B>) -> MatMut<'_, B::Floats> {
        pass.of_mut(Window::whole(1), &mut self.logits)
    }

    /// The logits of the whole batch.
    pub fn logits(&self, rows: usize) -> Mat<'_, B::Floats> {
        Window::whole(1).of(&self.logits, rows)
    }

    /// Logits of a pass and their gradient, for the network's backward.
    pub fn end(&mut self, pass: &Pass<'_, B>) -> End<'_, B::Floats> {
        let column = Window::whole(1);
        End { y: pass.of(column, &self.logits), dy: pass.of_mut(column, &mut self.d_logits) }
    }

    /// Their gradient, after [`Loss::forward_backward`].
    pub fn gradient(&self, pass: &Pass<'_, B>) -> Mat<'_, B::Floats> {
        pass.of(Window::whole(1), &self.d_logits)
    }

    /// The losses of the pass's samples, of which the step ends with the mean over its batch;
    /// leaves the gradient by the logits of the mean over `over` samples, times the loss scale.
    pub fn forward_backward(&mut self, pass: &mut Pass<'_, B>, over: usize) -> Result<()> {
        let column = Window::whole(1);
        let logits = pass.of(column, &self.logits);
        let d = pass.of_mut(column, &mut self.d_logits);
        pass.backend.loss(&self.spec, logits, pass.batch, pass.first, over, d)
    }

    /// Makes the gradient zero.
    pub fn drop_gradient(&mut self, backend: &mut B) -> Result<()> {
        backend.fill(&mut self.d_logits, 0.0)
    }
}
