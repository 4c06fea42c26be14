//! Concatenation: `T` itself, read as `[B, n * d]`, so that nothing is computed or kept.

use super::Interaction;
use crate::{
    backend::{Backend, Mat, MatMut, Result, Window},
    engine::fused::{Pass, mlp::Scratch},
};

/// The concatenation of all vectors.
pub(super) struct Cat {
    /// `T` as a matrix.
    pub t: Window,
}

impl<B: Backend> Interaction<B> for Cat {
    fn forward(&mut self, _: &mut Pass<'_, B>, _: &B::Floats) -> Result<()> {
        Ok(())
    }

    fn output<'a>(
        &'a mut self,
        pass: &Pass<'_, B>,
        t: &'a B::Floats,
        dt: &'a mut B::Floats,
    ) -> (Mat<'a, B::Floats>, MatMut<'a, B::Floats>) {
        (pass.of(self.t, t), pass.of_mut(self.t, dt))
    }

    fn backward(
        &mut self,
        _: &mut Pass<'_, B>,
        _: &mut Scratch<B>,
        _: &B::Floats,
        _: &mut B::Floats,
    ) -> Result<()> {
        Ok(())
    }
}
