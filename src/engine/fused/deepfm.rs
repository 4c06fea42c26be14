//! DeepFM (Guo et al. 2017, arXiv:1703.04247) put together from its layers.

use super::{
    Pass, batch_norm,
    embedding::{Embedding, Of, PooledMut},
    fields::Fields,
    fm::Fm,
    look::Look,
    loss::Loss,
    micro_batch::Room,
    mlp::{Mlp, MlpSpec, Scratch, held},
    store::Layout,
};
use crate::{
    backend::{Backend, Onto, Result, Window},
    engine::{Phase, PhaseClock},
    model::{DeepFmSpec, LossSpec},
};
use std::ops::Range;

/// The network with its activations.
pub(crate) struct DeepFm<B: Backend> {
    vectors: Embedding,
    scalars: Embedding,
    dense: Option<Fields>,
    fm: Fm,
    dnn: Mlp<B>,
    pub loss: Loss<B>,
    scratch: Scratch<B>,
    /// `V [B, fields, dim]`: dense fields, then tables. Also the DNN's input.
    v: B::Floats,
    /// Its gradient.
    dv: B::Floats,
    /// Linear terms `[B, fields]`.
    linear: B::Floats,
    /// Their gradient.
    d_linear: B::Floats,
}

impl<B: Backend> DeepFm<B> {
    /// Makes the buffers and finds the parameters.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        model: &DeepFmSpec,
        loss: LossSpec,
        room: Room,
    ) -> Result<Self> {
        let max_batch = room.batch;
        let (dim, fields, tables) = (model.dim, model.fields(), model.tables.len());
        let (v, linear) = (Window::whole(fields * dim), Window::whole(fields));
        let widths: Vec<usize> = model.hidden.iter().copied().chain([1]).collect();
        let spec = MlpSpec {
            input: v.cols,
            widths: &widths,
            name: &|i| format!("dnn.{i}"),
            last_relu: false,
            batch_norm: model.batch_norm.then_some(batch_norm::Form::TORCH),
            dropout: model.dropout,
            held: held(model.batch_norm, model.dropout),
        };
        let widest = model.hidden.iter().copied().max().unwrap_or(0);
        let l2 = model.embedding_l2;
        Ok(DeepFm {
            vectors: Embedding { set: 0, window: v.columns(model.dense * dim, tables * dim), l2 },
            scalars: Embedding { set: 1, window: linear.columns(model.dense, tables), l2 },
            dense: (model.dense > 0).then(|| Fields::new(layout, model, v, linear)),
            fm: Fm { dim, vectors: v, linear },
            dnn: Mlp::new(backend, layout, room.part, &spec)?,
            loss: Loss::new(backend, loss, max_batch)?,
            scratch: Scratch::new(backend, room.part, widest, spec.held)?,
            v: backend.zeros(max_batch * v.stride, "fields")?,
            dv: backend.zeros(max_batch * v.stride, "gradient of the fields")?,
            linear: backend.zeros(max_batch * linear.stride, "linear terms")?,
            d_linear: backend.zeros(max_batch * linear.stride, "gradient of the linear terms")?,
        })
    }

    /// From the whole batch to the fields of tables.
    pub fn pool(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        self.vectors.forward(pass, &mut self.v)?;
        self.scalars.forward(pass, &mut self.linear)
    }

    /// From the dense features to their fields.
    pub fn gather(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        if let Some(dense) = &self.dense {
            dense.forward(pass, &mut self.v, &mut self.linear)?;
        }
        clock.lap(Phase::Embedding);
        Ok(())
    }

    /// From the fields to the logits.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let (v, logits) = (pass.of(self.fm.vectors, &self.v), self.loss.logits_mut(pass));
        self.dnn.forward(pass, v, logits)?;
        clock.lap(Phase::Mlp);
        let logits = self.loss.logits_mut(pass);
        self.fm.forward(pass, &self.v, &self.linear, logits)?;
        clock.lap(Phase::Interaction);
        Ok(())
    }

    /// Where the gradients of the last layers' parameters are.
    pub fn top(&self, layout: &Layout) -> Range<usize> {
        self.dnn.range(layout)
    }

    /// From the gradient of the logits to those of the DNN and of its input.
    pub fn backward_top(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let vectors = self.fm.vectors;
        let (x, dx) = (pass.of(vectors, &self.v), pass.of_mut(vectors, &mut self.dv));
        let (dx, end) = (Some((dx, Onto::Set)), self.loss.end(pass));
        self.dnn.backward(pass, &mut self.scratch, x, end, dx)?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// From there to the gradients of the fields.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let d_logits = self.loss.gradient(pass);
        self.fm.backward(pass, &self.v, d_logits, &mut self.dv, &mut self.d_linear)?;
        clock.lap(Phase::Interaction);
        Ok(())
    }

    /// The part of a rank without samples in what layers gather from all ranks.
    pub fn idle(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        [false, true].into_iter().try_for_each(|back| self.dnn.idle(pass, back))
    }

    /// From the gradient of all fields to that of the dense ones' parameters.
    pub fn scatter(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        if let Some(dense) = &self.dense {
            dense.backward(pass, &self.dv, &self.d_linear)?;
            clock.lap(Phase::Embedding);
        }
        Ok(())
    }

    /// Hands out what layers gave for a part of the batch. The last layer's output is the logits,
    /// which the other terms have been added to.
    pub fn look(&mut self, pass: &mut Pass<'_, B>, look: &mut Look<'_>) -> Result<()> {
        let Fm { vectors, linear, .. } = self.fm;
        look.at(pass.backend, ("fields", false), pass.of(vectors, &self.v))?;
        look.at(pass.backend, ("linear terms", false), pass.of(linear, &self.linear))?;
        self.dnn.look(pass, self.loss.end(pass).y, look)
    }

    /// Calls `f` for each set of tables with its pooled vectors, or with their gradients.
    pub fn pooled_mut(&mut self, of: Of, f: &mut PooledMut<'_, B>) -> Result<()> {
        let (v, linear) = match of {
            Of::Vectors => (&mut self.v, &mut self.linear),
            Of::Gradients => (&mut self.dv, &mut self.d_linear),
        };
        f(self.vectors, v)?;
        f(self.scalars, linear)
    }

    /// Sets of tables with the gradients of their pooled vectors.
    pub fn sparse(&self) -> [(Embedding, &B::Floats); 2] {
        [(self.vectors, &self.dv), (self.scalars, &self.d_linear)]
    }
}
