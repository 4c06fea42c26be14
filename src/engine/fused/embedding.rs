//! Embedding bags: all tables of a set at once, pooled into the columns of a wider buffer.

use super::Pass;
use crate::backend::{Backend, Mat, MatMut, Result, SparseGradient, Window};

/// Which of a set's two buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// That of pooled vectors.
    Vectors,
    /// That of their gradients.
    Gradients,
}

/// Reads or changes a set's columns of a buffer.
pub(crate) type PooledMut<'a, B> =
    dyn FnMut(Embedding, &mut <B as Backend>::Floats) -> Result<()> + 'a;

/// A set of tables in a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Embedding {
    /// Which set.
    pub set: usize,
    /// Columns of its pooled vectors, and of their gradients, in the buffers given.
    pub window: Window,
    /// L2 regularisation of all rows.
    pub l2: f32,
}

impl Embedding {
    /// Pools all bags into the layer's columns of `out`.
    pub fn forward<B: Backend>(&self, pass: &mut Pass<'_, B>, out: &mut B::Floats) -> Result<()> {
        let out: MatMut<'_, B::Floats> = self.window.of_mut(out, pass.rows);
        pass.backend.bags_forward(&pass.store.tables[self.set], pass.batch, out)
    }

    /// The gradient, from that of the pooled vectors.
    pub fn gradient<'a, B: Backend>(
        &self,
        rows: usize,
        dout: &'a B::Floats,
    ) -> SparseGradient<'a, B::Floats> {
        let pooled: Mat<'a, B::Floats> = self.window.of(dout, rows);
        SparseGradient { pooled, l2: self.l2 }
    }

    /// Adds the squared norm of the tables' gradient to that of the step. There is no other
    /// backward: [`Embedding::update`] reads the pooled gradients.
    pub fn add_squares<B: Backend>(&self, pass: &mut Pass<'_, B>, dout: &B::Floats) -> Result<()> {
        pass.backend.add_sparse_squares(
            &pass.store.tables[self.set],
            pass.batch,
            self.gradient::<B>(pass.rows, dout),
        )
    }

    /// Updates the rows from the gradient of the pooled vectors.
    pub fn update<B: Backend>(&self, pass: &mut Pass<'_, B>, dout: &B::Floats) -> Result<()> {
        let gradient = self.gradient::<B>(pass.rows, dout);
        pass.backend.sparse_update(&mut pass.store.tables[self.set], pass.batch, gradient)
    }
}
