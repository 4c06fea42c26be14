//! DLRM (Naumov et al. 2019, arXiv:1906.00091) put together from its layers.

use super::{
    Pass, batch_norm,
    embedding::Embedding,
    interaction::{self, Interaction},
    loss::Loss,
    mlp::{End, Mlp, MlpSpec, Scratch, held},
    pooled::Pooled,
    store::Layout,
};
use crate::{
    backend::{Backend, Held, Onto, Result, Window},
    engine::{Phase, PhaseClock},
    model::{DlrmSpec, LossSpec, top_layer},
};

/// The network with its activations.
pub(crate) struct Dlrm<B: Backend> {
    bottom: Mlp<B>,
    pooled: Pooled<B>,
    interaction: Box<dyn Interaction<B>>,
    top: Mlp<B>,
    pub loss: Loss<B>,
    scratch: Scratch<B>,
    /// Columns of the bottom MLP's output in `t`.
    x: Window,
    /// `T [B, n, d]`: the bottom MLP's output, then one pooled vector a table.
    t: B::Floats,
    /// Its gradient.
    dt: B::Floats,
}

impl<B: Backend> Dlrm<B> {
    /// Makes the buffers and finds the parameters.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        model: &DlrmSpec,
        loss: LossSpec,
        (max_batch, fp32_interaction): (usize, bool),
    ) -> Result<Self> {
        let held = held(model.batch_norm, 0.0);
        let meeting = if fp32_interaction { Held::F32 } else { held };
        let by_batch = model.quirks.batch_stats_in_eval;
        let spec = MlpSpec {
            input: model.bottom_input(),
            widths: &model.bottom,
            name: &|i| format!("bot_l.{}", 2 * i),
            last_relu: true,
            batch_norm: model.batch_norm.then(|| batch_norm::Form::tensorflow(by_batch)),
            dropout: 0.0,
            held,
        };
        let bottom = Mlp::new(backend, layout, max_batch, &spec)?;
        let dead = model.dead_layers();
        let spec = MlpSpec {
            input: model.top_input(),
            widths: &model.top[dead..],
            name: &|i| top_layer(dead + i),
            last_relu: false,
            batch_norm: None,
            ..spec
        };
        let top = Mlp::new(backend, layout, max_batch, &spec)?;
        let t = Window::whole(model.vectors().width());
        Ok(Dlrm {
            bottom,
            pooled: Pooled::new(backend, layout, model, t, (meeting, max_batch))?,
            interaction: interaction::new(backend, layout, model, meeting, max_batch)?,
            top,
            loss: Loss::new(backend, loss, max_batch)?,
            scratch: Scratch::new(backend, max_batch, model.widest_layer(), held)?,
            x: t.columns(0, model.vectors().d),
            t: backend.buffer(meeting, max_batch * t.stride, "features")?,
            dt: backend.buffer(meeting, max_batch * t.stride, "gradient of the features")?,
        })
    }

    /// From the batch to the logits.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let rows = pass.rows;
        self.pooled.forward(pass, &mut self.t)?;
        clock.lap(Phase::Embedding);
        let dense = pass.backend.dense(pass.batch);
        self.bottom.forward(pass, dense, self.x.of_mut(&mut self.t, rows))?;
        clock.lap(Phase::Mlp);
        self.interaction.forward(pass, &self.t)?;
        clock.lap(Phase::Interaction);
        let (top_input, _) = self.interaction.output(rows, &self.t, &mut self.dt);
        self.top.forward(pass, top_input, self.loss.logits_mut(rows))?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// From the gradient of the logits to those of dense parameters and pooled embeddings.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let rows = pass.rows;
        let (top_input, d_top_input) = self.interaction.output(rows, &self.t, &mut self.dt);
        let end = self.loss.end(rows);
        self.top.backward(
            pass,
            &mut self.scratch,
            top_input,
            end,
            Some((d_top_input, Onto::Set)),
        )?;
        clock.lap(Phase::Mlp);
        self.interaction.backward(pass, &mut self.scratch, &self.t, &mut self.dt)?;
        clock.lap(Phase::Interaction);
        self.pooled.backward(pass, &mut self.dt)?;
        clock.lap(Phase::Embedding);
        let dense = pass.backend.dense(pass.batch);
        let x = End { y: self.x.of(&self.t, rows), dy: self.x.of_mut(&mut self.dt, rows) };
        self.bottom.backward(pass, &mut self.scratch, dense, x, None)?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// Calls `f` for each set of tables with the gradient of its pooled vectors.
    pub fn sparse(&self, f: impl FnMut(Embedding, &B::Floats) -> Result<()>) -> Result<()> {
        self.pooled.sparse(&self.dt, f)
    }
}
