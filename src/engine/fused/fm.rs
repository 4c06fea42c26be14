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
        let (v, linear) = (pass.of(self.vectors, v), pass.of(self.linear, linear));
        pass.backend.fm_forward(v, self.dim, linear, logits)
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
        let (v, dv) = (pass.of(self.vectors, v), pass.of_mut(self.vectors, dv));
        let d_linear = pass.of_mut(self.linear, d_linear);
        pass.backend.fm_backward(v, self.dim, d_logits, dv, d_linear)
    }
}
