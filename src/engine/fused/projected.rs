//! Mixed dimensions (Ginart et al. 2019, arXiv:1909.11810): narrow tables, whose pooled vectors a
//! matrix makes as wide as all others.

use super::{
    Pass,
    embedding::{Embedding, Of, PooledMut},
    mlp::window,
    store::Layout,
};
use crate::{
    backend::{After, Backend, Linear, Onto, Result, Window},
    model::{DlrmSpec, ModelSpec},
};

/// Tables of several widths, and what becomes of their vectors.
pub(crate) struct Projected<B: Backend> {
    sets: Vec<Embedding>,
    /// Of each table its columns in `T`, those of its pooled vectors, and the matrix between them.
    vectors: Vec<(Window, Window, Option<Linear>)>,
    /// Pooled vectors, in f32: narrow ones begin where products do not like it.
    p: B::Floats,
    /// Their gradient.
    dp: B::Floats,
}

impl<B: Backend> Projected<B> {
    /// Makes the buffers and finds the parameters; `t` are the columns of `T`.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        model: &DlrmSpec,
        t: Window,
        max_batch: usize,
    ) -> Result<Self> {
        let all = ModelSpec::Dlrm(model.clone());
        let (specs, d, p) = (all.table_specs(), model.dim, window(model.apart()));
        let (mut sets, mut vectors, mut at) = (Vec::new(), Vec::new(), 0);
        for (number, set) in all.table_sets().into_iter().enumerate() {
            let columns = p.columns(at, set.tables.len() * set.dim);
            sets.push(Embedding { set: number, window: columns, l2: 0.0 });
            for table in set.tables {
                let column = specs[table].column;
                let linear = (set.dim < d).then(|| Linear {
                    weight: layout.offset(&format!("emb_l.{column}.proj.weight")),
                    bias: None,
                    inputs: set.dim,
                    outputs: d,
                });
                linear.map_or(Ok(()), |layer| backend.plan_linear(layer, max_batch))?;
                vectors.push((t.columns((column + 1) * d, d), p.columns(at, set.dim), linear));
                at += set.dim;
            }
        }
        let mut buffer = |what| backend.zeros(max_batch * p.stride, what);
        let (p, dp) = (buffer("pooled vectors")?, buffer("gradient of the pooled vectors")?);
        Ok(Projected { sets, vectors, p, dp })
    }

    /// Pools the bags of all tables.
    pub fn pool(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        let Projected { sets, p, .. } = self;
        sets.iter().try_for_each(|set| set.forward(pass, p))
    }

    /// `T_k = W_k p_k`, or `p_k` itself where that is as wide.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, t: &mut B::Floats) -> Result<()> {
        let Projected { vectors, p, .. } = self;
        for &(of_t, own, linear) in vectors.iter() {
            let (x, y) = (pass.of(own, p), pass.of_mut(of_t, t));
            let params = &pass.store.params;
            match linear {
                Some(w) => pass.backend.linear_forward(x, params, w, After::default(), y)?,
                None => pass.backend.copy(x, y)?,
            }
        }
        Ok(())
    }

    /// From the gradient of `T` to those of the pooled vectors and of the matrices.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, dt: &B::Floats) -> Result<()> {
        let Projected { vectors, p, dp, .. } = self;
        for &(of_t, own, linear) in vectors.iter() {
            let (g, x, dx) = (pass.of(of_t, dt), pass.of(own, p), pass.of_mut(own, dp));
            let store = &mut *pass.store;
            match linear {
                Some(w) => {
                    pass.backend.linear_backward_weight(g, x, w, &mut store.grads)?;
                    pass.backend.linear_backward_data(g, &store.params, w, Onto::Set, dx)?;
                }
                None => pass.backend.copy(g, dx)?,
            }
        }
        Ok(())
    }

    /// Calls `f` for each set of tables with its pooled vectors, or with their gradients.
    pub fn pooled_mut(&mut self, of: Of, f: &mut PooledMut<'_, B>) -> Result<()> {
        let buffer = match of {
            Of::Vectors => &mut self.p,
            Of::Gradients => &mut self.dp,
        };
        self.sets.iter().try_for_each(|&set| f(set, buffer))
    }

    /// Sets of tables with the gradients of their pooled vectors.
    pub fn sparse(&self) -> impl Iterator<Item = (Embedding, &B::Floats)> {
        self.sets.iter().map(|&set| (set, &self.dp))
    }
}
