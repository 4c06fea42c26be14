//! Dense columns as fields of a DeepFM: a column's value times a learned vector, and times a
//! learned scalar.

use super::{Pass, store::Layout};
use crate::{
    backend::{Backend, Result, Window},
    model::DeepFmSpec,
};

/// All dense fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    dim: usize,
    /// Offset of `dense_emb [dense, dim]`.
    vectors: usize,
    /// Offset of `dense_linear [dense, 1]`.
    scalars: usize,
    /// Columns in `V`.
    v: Window,
    /// Columns in the linear terms.
    linear: Window,
}

impl Fields {
    /// The first `model.dense` fields of `v` and `linear`.
    pub fn new(layout: &Layout, model: &DeepFmSpec, v: Window, linear: Window) -> Self {
        Fields {
            dim: model.dim,
            vectors: layout.offset("dense_emb"),
            scalars: layout.offset("dense_linear"),
            v: v.columns(0, model.dense * model.dim),
            linear: linear.columns(0, model.dense),
        }
    }

    /// Writes the fields' columns.
    pub fn forward<B: Backend>(
        &self,
        pass: &mut Pass<'_, B>,
        v: &mut B::Floats,
        linear: &mut B::Floats,
    ) -> Result<()> {
        let (x, v, linear) =
            (pass.dense(), pass.of_mut(self.v, v), pass.of_mut(self.linear, linear));
        let params = &pass.store.params;
        pass.backend.fields_forward(x, params, self.vectors, self.dim, v)?;
        pass.backend.fields_forward(x, params, self.scalars, 1, linear)
    }

    /// Sets the gradients of vectors and scalars.
    pub fn backward<B: Backend>(
        &self,
        pass: &mut Pass<'_, B>,
        dv: &B::Floats,
        d_linear: &B::Floats,
    ) -> Result<()> {
        let (x, dv, d_linear) = (pass.dense(), pass.of(self.v, dv), pass.of(self.linear, d_linear));
        let grads = &mut pass.store.grads;
        pass.backend.fields_backward(x, dv, self.vectors, self.dim, grads)?;
        pass.backend.fields_backward(x, d_linear, self.scalars, 1, grads)
    }
}
