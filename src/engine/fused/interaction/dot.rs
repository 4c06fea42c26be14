//! Products of all pairs of vectors, behind the bottom MLP's output.

use super::{Activation, Interaction};
use crate::{
    backend::{Backend, DotShape, Held, Mat, MatMut, Result, Window},
    engine::fused::{Pass, mlp::Scratch},
    model::Vectors,
};

/// `R = concat[T_0, <T_i, T_j> for i > j]`, zeros in the columns that remain.
pub(super) struct Dot<B: Backend> {
    /// `T` as a matrix.
    t: Window,
    plan: B::Dot,
    output: Activation<B>,
}

impl<B: Backend> Dot<B> {
    /// Makes the buffers for `cols` columns of output.
    pub fn new(
        backend: &mut B,
        t: Vectors,
        self_interaction: bool,
        cols: usize,
        room: (Held, usize),
    ) -> Result<Self> {
        let shape = DotShape { features: t.n, dim: t.d, self_interaction };
        let plan = backend.plan_dot(shape, room.0)?;
        let output = Activation::new(backend, cols, room, "interaction")?;
        Ok(Dot { t: Window::whole(t.width()), plan, output })
    }
}

impl<B: Backend> Interaction<B> for Dot<B> {
    fn forward(&mut self, pass: &mut Pass<'_, B>, t: &B::Floats) -> Result<()> {
        let out = self.output.window.of_mut(&mut self.output.value, pass.rows);
        let t = pass.of(self.t, t);
        pass.backend.dot_forward(&mut self.plan, t, out)
    }

    fn output<'a>(
        &'a mut self,
        pass: &Pass<'_, B>,
        _: &'a B::Floats,
        _: &'a mut B::Floats,
    ) -> (Mat<'a, B::Floats>, MatMut<'a, B::Floats>) {
        self.output.both(pass.rows)
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        _: &mut Scratch<B>,
        t: &B::Floats,
        dt: &mut B::Floats,
    ) -> Result<()> {
        let dout = self.output.window.of(&self.output.gradient, pass.rows);
        let (t, dt) = (pass.of(self.t, t), pass.of_mut(self.t, dt));
        pass.backend.dot_backward(&mut self.plan, t, dout, dt)
    }
}
