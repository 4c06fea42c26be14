//! How a DLRM's features meet. `T [B, n, d]` holds the bottom MLP's output in slot 0 and the pooled
//! embeddings behind it.

use super::Pass;
use crate::{
    backend::{Backend, Mat, MatMut, Result, Window},
    model::{DlrmSpec, Interaction as Kind},
};

/// `dot` has an output of its own; `cat` needs none, since `T` itself, read as `[B, n * d]`, is the
/// concatenation.
pub(crate) struct Interaction<B: Backend> {
    /// `T` as a matrix.
    t: Window,
    /// Slot 0 of it.
    x: Window,
    dot: Option<Dot<B>>,
}

struct Dot<B: Backend> {
    window: Window,
    output: B::Floats,
    d_output: B::Floats,
}

impl<B: Backend> Interaction<B> {
    /// Makes the buffers.
    pub fn new(backend: &mut B, model: &DlrmSpec, max_batch: usize) -> Result<Self> {
        let t = Window::whole(model.features() * model.dim);
        let dot = match model.interaction {
            Kind::Cat => None,
            Kind::Dot { .. } => {
                let cols = model.top_input();
                let stride = cols.next_multiple_of(16);
                Some(Dot {
                    window: Window { at: 0, stride, cols },
                    output: backend.operands(max_batch * stride, "interaction")?,
                    d_output: backend
                        .operands(max_batch * stride, "gradient of the interaction")?,
                })
            }
        };
        Ok(Interaction { t, x: t.columns(0, model.dim), dot })
    }

    /// Computes the interaction's output from `T`.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, t: &B::Floats) -> Result<()> {
        let Some(dot) = &mut self.dot else { return Ok(()) };
        pass.backend
            .dot_forward(self.t.of(t, pass.rows), dot.window.of_mut(&mut dot.output, pass.rows))
    }

    /// The output after [`Interaction::forward`], and where its gradient goes: `dt` itself for
    /// `cat`.
    pub fn output<'a>(
        &'a mut self,
        rows: usize,
        t: &'a B::Floats,
        dt: &'a mut B::Floats,
    ) -> (Mat<'a, B::Floats>, MatMut<'a, B::Floats>) {
        match &mut self.dot {
            None => (self.t.of(t, rows), self.t.of_mut(dt, rows)),
            Some(dot) => {
                (dot.window.of(&dot.output, rows), dot.window.of_mut(&mut dot.d_output, rows))
            }
        }
    }

    /// Gradient of `T`, with the bottom MLP's last ReLU applied to slot 0.
    pub fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        t: &B::Floats,
        dt: &mut B::Floats,
    ) -> Result<()> {
        let rows = pass.rows;
        if let Some(dot) = &self.dot {
            pass.backend.dot_backward(
                self.t.of(t, rows),
                dot.window.of(&dot.d_output, rows),
                self.t.of_mut(dt, rows),
            )?;
        }
        pass.backend.relu_backward(self.x.of(t, rows), self.x.of_mut(dt, rows))
    }
}
