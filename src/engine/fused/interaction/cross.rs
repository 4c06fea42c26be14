//! Cross layers of DCN v2 (Wang et al. 2021, arXiv:2008.13535): `x_{l+1} = x_0 * (W_l h_l + b_l) +
//! x_l` with `x_0 = T`, where `h_l = V_l x_l` is of low rank, or `x_l` itself.

use super::{Interaction, window};
use crate::{
    backend::{After, Backend, Held, Join, Linear, Mat, MatMut, Onto, Result, Window},
    engine::fused::{Pass, mlp::Scratch, store::Layout},
    model::Vectors,
};

/// All cross layers.
pub(super) struct Cross<B: Backend> {
    layers: Vec<Layer<B>>,
    /// `T` as a matrix.
    t: Window,
    /// All else of that width.
    wide: Window,
    /// What is of the rank's width.
    low: Window,
    /// Gradient of `x_{l+1}`, then of `x_l`.
    dx: B::Floats,
    /// Gradient of `y_l`.
    dy: B::Floats,
    /// Gradient of `h_l`, if the rank is low.
    dh: Option<B::Floats>,
}

/// One layer with its activations.
struct Layer<B: Backend> {
    /// `V_l` and `h_l`, if the rank is low.
    low: Option<(Linear, B::Floats)>,
    /// `W_l` and `b_l`.
    w: Linear,
    /// `y_l = W_l h_l + b_l`.
    y: B::Floats,
    /// `x_{l+1}`.
    x: B::Floats,
}

impl<B: Backend> Cross<B> {
    /// Makes the buffers of `layers` layers and finds the parameters.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        t: Vectors,
        (layers, rank): (usize, Option<usize>),
        (held, max_batch): (Held, usize),
    ) -> Result<Self> {
        let d = t.width();
        let (wide, low) = (window(d), window(rank.unwrap_or(0)));
        let at = |name: &str, l: usize| layout.offset(&format!("inter_arch.crossnet.{name}.{l}"));
        let mut all = Vec::with_capacity(layers);
        for l in 0..layers {
            let of = |name: &str, inputs, outputs| {
                let bias = (outputs == d && name != "V_kernels").then(|| at("bias", l));
                Linear { weight: at(name, l), bias, inputs, outputs }
            };
            let (v, w) = match rank {
                Some(r) => (Some(of("V_kernels", d, r)), of("W_kernels", r, d)),
                None => (None, of("kernels", d, d)),
            };
            v.iter().chain([&w]).try_for_each(|&layer| backend.plan_linear(layer, max_batch))?;
            let mut buffer = |w: Window| backend.buffer(held, max_batch * w.stride, "cross layers");
            let low = match v {
                Some(v) => Some((v, buffer(low)?)),
                None => None,
            };
            all.push(Layer { low, w, y: buffer(wide)?, x: buffer(wide)? });
        }
        let what = "gradients of cross layers";
        let mut buffer = |w: Window| backend.buffer(held, max_batch * w.stride, what);
        let (dx, dy, dh) = (buffer(wide)?, buffer(wide)?, rank.map(|_| buffer(low)).transpose()?);
        Ok(Cross { layers: all, t: Window::whole(d), wide, low, dx, dy, dh })
    }
}

impl<B: Backend> Interaction<B> for Cross<B> {
    fn forward(&mut self, pass: &mut Pass<'_, B>, t: &B::Floats) -> Result<()> {
        let (rows, wide, x0) = (pass.rows, self.wide, pass.of(self.t, t));
        for l in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(l);
            let Layer { low, w, y, x } = &mut rest[0];
            let input = before.last().map_or(x0, |layer| wide.of(&layer.x, rows));
            let params = &pass.store.params;
            let h = match low {
                None => input,
                Some((v, h)) => {
                    let out = self.low.of_mut(h, rows);
                    pass.backend.linear_forward(input, params, *v, After::default(), out)?;
                    self.low.of(h, rows)
                }
            };
            let out = wide.of_mut(y, rows);
            pass.backend.linear_forward(h, params, *w, After::default(), out)?;
            let y = wide.of(y, rows);
            pass.backend.multiply_add(x0, y, Some(input), wide.of_mut(x, rows))?;
        }
        Ok(())
    }

    fn output<'a>(
        &'a mut self,
        pass: &Pass<'_, B>,
        t: &'a B::Floats,
        _: &'a mut B::Floats,
    ) -> (Mat<'a, B::Floats>, MatMut<'a, B::Floats>) {
        let rows = pass.rows;
        let x = self.layers.last().map_or(pass.of(self.t, t), |l| self.wide.of(&l.x, rows));
        (x, self.wide.of_mut(&mut self.dx, rows))
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        _: &mut Scratch<B>,
        t: &B::Floats,
        dt: &mut B::Floats,
    ) -> Result<()> {
        let (rows, wide, x0) = (pass.rows, self.wide, pass.of(self.t, t));
        for l in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at(l);
            let Layer { low, w, y, .. } = &rest[0];
            let input = before.last().map_or(x0, |layer| wide.of(&layer.x, rows));
            // `dt` gathers what comes of the factor x_0; the first layer's x_l is x_0 as well.
            let join = Join { there: rest.len() > 1, sum: l == 0 };
            let (dx, dy) = (wide.of(&self.dx, rows), wide.of_mut(&mut self.dy, rows));
            let factors = [x0, wide.of(y, rows)];
            let dx0 = pass.of_mut(self.t, dt);
            pass.backend.multiply_add_backward(factors, dx, (dx0, join), dy)?;
            let dx = match l {
                0 => pass.of_mut(self.t, dt),
                _ => wide.of_mut(&mut self.dx, rows),
            };
            let (dy, params, grads) =
                (wide.of(&self.dy, rows), &pass.store.params, &mut pass.store.grads);
            match (low, &mut self.dh) {
                (Some((v, h)), Some(dh)) => {
                    pass.backend.linear_backward_weight(dy, self.low.of(h, rows), *w, grads)?;
                    let out = self.low.of_mut(dh, rows);
                    pass.backend.linear_backward_data(dy, params, *w, Onto::Set, out)?;
                    let dh = self.low.of(dh, rows);
                    pass.backend.linear_backward_weight(dh, input, *v, grads)?;
                    pass.backend.linear_backward_data(dh, params, *v, Onto::Add, dx)?;
                }
                _ => {
                    pass.backend.linear_backward_weight(dy, input, *w, grads)?;
                    pass.backend.linear_backward_data(dy, params, *w, Onto::Add, dx)?;
                }
            }
        }
        Ok(())
    }
}
