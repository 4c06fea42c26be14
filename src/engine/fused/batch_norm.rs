//! Batch normalisation with the ReLU behind it (Ioffe & Szegedy 2015, arXiv:1502.03167; constants
//! of torch.nn.BatchNorm1d).

use super::{Pass, store::Layout};
use crate::backend::{Backend, MatMut, Norm, Result, Window};

/// Added to the variance.
const EPS: f32 = 1e-5;
/// Weight of a new batch in the running statistics.
const MOMENTUM: f32 = 0.1;

/// The layer with what its backward needs: its input and the batch's statistics.
pub(crate) struct BatchNorm<B: Backend> {
    norm: Norm,
    window: Window,
    input: B::Floats,
    stats: B::Floats,
}

impl<B: Backend> BatchNorm<B> {
    /// Normalises the outputs of the linear layer `name`.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        name: &str,
        max_batch: usize,
        window: Window,
    ) -> Result<Self> {
        let norm = Norm {
            scale: layout.offset(&format!("{name}.bn.scale")),
            shift: layout.offset(&format!("{name}.bn.shift")),
            mean: layout.offset(&format!("{name}.bn.running_mean")),
            var: layout.offset(&format!("{name}.bn.running_var")),
            cols: window.cols,
            eps: EPS,
            momentum: MOMENTUM,
        };
        backend.plan_norm(window.cols, max_batch)?;
        let input =
            backend.zeros(max_batch * window.stride, &format!("batch normalisation of {name}"))?;
        let stats = backend.zeros(2 * window.cols, &format!("batch statistics of {name}"))?;
        Ok(BatchNorm { norm, window, input, stats })
    }

    /// Where the layer before writes.
    pub fn input(&mut self, rows: usize) -> MatMut<'_, B::Floats> {
        self.window.of_mut(&mut self.input, rows)
    }

    /// Normalised, scaled, shifted, ReLU.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, y: MatMut<'_, B::Floats>) -> Result<()> {
        let z = self.window.of(&self.input, pass.rows);
        let store = &mut *pass.store;
        if pass.training {
            pass.backend.batch_norm_train(
                z,
                &store.params,
                self.norm,
                &mut store.running,
                &mut self.stats,
                y,
            )
        } else {
            pass.backend.batch_norm_eval(
                z,
                &store.params,
                self.norm,
                &store.running,
                &mut self.stats,
                y,
            )
        }
    }

    /// From the gradient before the ReLU to that of the input, in place.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, g: MatMut<'_, B::Floats>) -> Result<()> {
        let z = self.window.of(&self.input, pass.rows);
        let store = &mut *pass.store;
        pass.backend.batch_norm_backward(
            z,
            &store.params,
            self.norm,
            &self.stats,
            g,
            &mut store.grads,
        )
    }
}
