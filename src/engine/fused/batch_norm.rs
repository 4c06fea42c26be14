//! Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), before a ReLU or behind it.

use super::{Pass, store::Layout};
use crate::backend::{Backend, Mat, MatMut, Norm, Result, Window};

/// Where a batch normalisation stands, and its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    /// Behind the ReLU, not before it.
    pub behind_relu: bool,
    /// Added to the variance.
    eps: f32,
    /// Weight of a new batch in the running statistics.
    momentum: f32,
    /// Whether the running variance is of unbiased ones.
    unbiased: bool,
    /// An evaluation goes by each batch's own statistics too, and running ones never move.
    by_batch: bool,
}

impl Form {
    /// Before the ReLU, as torch.nn.BatchNorm1d.
    pub const TORCH: Form =
        Form { behind_relu: false, eps: 1e-5, momentum: 0.1, unbiased: true, by_batch: false };

    /// Behind the ReLU, as `tf.layers.batch_normalization` of TensorFlow 1.15 (momentum 0.99,
    /// epsilon 1e-3, moments of the batch as they are).
    pub const fn tensorflow(by_batch: bool) -> Form {
        let momentum = if by_batch { 0.0 } else { 0.01 };
        Form { behind_relu: true, eps: 1e-3, momentum, unbiased: false, by_batch }
    }
}

/// The layer with what its backward needs: its input and the batch's statistics.
pub(crate) struct BatchNorm<B: Backend> {
    form: Form,
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
        (form, window): (Form, Window),
    ) -> Result<Self> {
        let norm = Norm {
            scale: layout.offset(&format!("{name}.bn.scale")),
            shift: layout.offset(&format!("{name}.bn.shift")),
            mean: layout.offset(&format!("{name}.bn.running_mean")),
            var: layout.offset(&format!("{name}.bn.running_var")),
            cols: window.cols,
            eps: form.eps,
            momentum: form.momentum,
            unbiased: form.unbiased,
            relu: !form.behind_relu,
        };
        backend.plan_norm(window.cols, max_batch)?;
        let input =
            backend.zeros(max_batch * window.stride, &format!("batch normalisation of {name}"))?;
        let stats = backend.zeros(2 * window.cols, &format!("batch statistics of {name}"))?;
        Ok(BatchNorm { form, norm, window, input, stats })
    }

    /// Whether the ReLU stands before it, so that what comes out has passed none.
    pub fn behind_relu(&self) -> bool {
        self.form.behind_relu
    }

    /// Where the layer before writes, its ReLU included where the normalisation stands behind it.
    pub fn input(&mut self, rows: usize) -> MatMut<'_, B::Floats> {
        self.window.of_mut(&mut self.input, rows)
    }

    /// Normalised, scaled, shifted, and through the ReLU if that is still to come.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, y: MatMut<'_, B::Floats>) -> Result<()> {
        let z = self.window.of(&self.input, pass.rows);
        let (store, stats) = (&mut *pass.store, &mut self.stats);
        let (params, running) = (&store.params, &mut store.running);
        if pass.training || self.form.by_batch {
            pass.backend.batch_norm_train(z, params, self.norm, running, stats, y)
        } else {
            pass.backend.batch_norm_eval(z, params, self.norm, running, stats, y)
        }
    }

    /// From the gradient of the output, before the ReLU behind it, to that of the linear layer's
    /// output, in place.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, mut g: MatMut<'_, B::Floats>) -> Result<()> {
        let z: Mat<'_, B::Floats> = self.window.of(&self.input, pass.rows);
        let store = &mut *pass.store;
        let (params, grads, stats) = (&store.params, &mut store.grads, &self.stats);
        pass.backend.batch_norm_backward(z, params, self.norm, stats, g.reborrow(), grads)?;
        if self.form.behind_relu { pass.backend.relu_backward(z, g) } else { Ok(()) }
    }

    /// The part in [`BatchNorm::forward`] of a rank that has no samples of a batch which ranks share.
    pub fn idle_forward(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        let mut none = pass.backend.zeros(0, "no samples")?;
        self.forward(&mut pass.part(0..0), self.window.of_mut(&mut none, 0))
    }

    /// Its part in [`BatchNorm::backward`].
    pub fn idle_backward(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        let mut none = pass.backend.zeros(0, "no samples")?;
        self.backward(&mut pass.part(0..0), self.window.of_mut(&mut none, 0))
    }
}
