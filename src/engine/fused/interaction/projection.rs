//! Projection (TorchRec's `DLRM_Projection`): two MLPs over `T`, their outputs taken for matrices `P
//! [p, d]` and `Q [d, q]`, and `concat[T_0, P Q]`.

use super::{Activation, Interaction};
use crate::{
    backend::{Backend, Held, Mat, MatMut, Onto, ProductShape, Result, Window},
    engine::fused::{
        Pass,
        mlp::{End, Mlp, MlpSpec, Scratch},
        store::Layout,
    },
    model::{Vectors, projected, projection_layer},
};

/// Both branches and their product.
pub(super) struct Projection<B: Backend> {
    /// `T` as a matrix.
    t: Window,
    /// Slot 0 of it.
    x: Window,
    shape: ProductShape,
    branches: [(Mlp<B>, Activation<B>); 2],
    output: Activation<B>,
}

impl<B: Backend> Projection<B> {
    /// Makes the buffers and finds the parameters.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        t: Vectors,
        widths: &[Vec<usize>; 2],
        room: (Held, usize),
    ) -> Result<Self> {
        let [left, right] = projected(widths, t.d);
        let mut branch = |k: usize| -> Result<_> {
            let spec = MlpSpec {
                input: t.width(),
                widths: &widths[k],
                name: &|i| projection_layer(k, i),
                last_relu: true,
                batch_norm: None,
                dropout: 0.0,
                held: room.0,
            };
            let mlp = Mlp::new(backend, layout, room.1, &spec)?;
            let cols = [left * t.d, t.d * right][k];
            Ok((mlp, Activation::new(backend, cols, room, "projections")?))
        };
        let branches = [branch(0)?, branch(1)?];
        let output = Activation::new(backend, t.d + left * right, room, "interaction")?;
        let window = Window::whole(t.width());
        let shape = ProductShape { left, inner: t.d, right };
        Ok(Projection { t: window, x: window.columns(0, t.d), shape, branches, output })
    }
}

impl<B: Backend> Interaction<B> for Projection<B> {
    fn forward(&mut self, pass: &mut Pass<'_, B>, t: &B::Floats) -> Result<()> {
        let rows = pass.rows;
        for (mlp, end) in &mut self.branches {
            let t = pass.of(self.t, t);
            mlp.forward(pass, t, end.window.of_mut(&mut end.value, rows))?;
        }
        let factors = self.branches.each_ref().map(|(_, end)| end.window.of(&end.value, rows));
        let out = self.output.window.of_mut(&mut self.output.value, rows);
        let x = pass.of(self.x, t);
        pass.backend.products_forward(self.shape, x, factors, out)
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
        scratch: &mut Scratch<B>,
        t: &B::Floats,
        dt: &mut B::Floats,
    ) -> Result<()> {
        let rows = pass.rows;
        let dout = self.output.window.of(&self.output.gradient, rows);
        let [(_, p), (_, q)] = &mut self.branches;
        let ((p, dp), (q, dq)) = (p.both(rows), q.both(rows));
        pass.backend.products_backward(self.shape, [p, q], dout, [dp, dq])?;
        for ((mlp, end), onto) in self.branches.iter_mut().zip([Onto::Set, Onto::Add]) {
            let (y, dy) = end.both(rows);
            let (t, dx) = (pass.of(self.t, t), Some((pass.of_mut(self.t, dt), onto)));
            mlp.backward(pass, scratch, t, End { y, dy }, dx)?;
        }
        let direct = self.output.window.columns(0, self.x.cols);
        let dx = pass.of_mut(self.x, dt);
        pass.backend.add(direct.of(&self.output.gradient, rows), dx)
    }
}
