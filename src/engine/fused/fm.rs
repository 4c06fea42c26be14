//! The wide half of a DeepFM: linear terms and the factorisation machine (Rendle 2010), over all
//! fields.

use super::Pass;
use crate::backend::{Backend, Mat, MatMut, Result, Window};

/// Windows of the fields' vectors `V [B, fields, dim]` and scalars `[B, fields]`; their buffers are
/// the network's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fm {
    /// Elements of a vector.
    pub dim: usize,
    /// `V` as a matrix.
    pub vectors: Window,
    /// The linear terms.
    pub linear: Window,
}

impl Fm {
    /// Adds the linear terms and the sum of all pairs' products to the logits.
    pub fn forward<B: Backend>(
        &self,
        pass: &mut Pass<'_, B>,
        v: &B::Floats,
        linear: &B::Floats,
        logits: MatMut<'_, B::Floats>,
    ) -> Result<()> {
        pass.backend.fm_forward(
            self.vectors.of(v, pass.rows),
            self.dim,
            self.linear.of(linear, pass.rows),
            logits,
        )
    }

    /// Adds to the gradient of `V`, sets that of the linear terms.
    pub fn backward<B: Backend>(
        &self,
        pass: &mut Pass<'_, B>,
        v: &B::Floats,
        d_logits: Mat<'_, B::Floats>,
        dv: &mut B::Floats,
        d_linear: &mut B::Floats,
    ) -> Result<()> {
        let (dv, d_linear) =
            (self.vectors.of_mut(dv, pass.rows), self.linear.of_mut(d_linear, pass.rows));
        pass.backend.fm_backward(self.vectors.of(v, pass.rows), self.dim, d_logits, dv, d_linear)
    }
}
