//! DLRM (Naumov et al. 2019, arXiv:1906.00091) put together from its layers.

use super::{
    Pass, batch_norm,
    embedding::{Embedding, Of, PooledMut},
    interaction::{self, Interaction},
    look::Look,
    loss::Loss,
    micro_batch::Room,
    mlp::{End, Mlp, MlpSpec, Scratch, held},
    pooled::Pooled,
    store::Layout,
};
use crate::{
    backend::{Backend, Held, Onto, Result, Window},
    engine::{Phase, PhaseClock},
    model::{DlrmSpec, LossSpec, top_layer},
};
use std::ops::Range;

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
        (room, fp32_interaction): (Room, bool),
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
        let bottom = Mlp::new(backend, layout, room.part, &spec)?;
        let dead = model.dead_layers();
        let spec = MlpSpec {
            input: model.top_input(),
            widths: &model.top[dead..],
            name: &|i| top_layer(dead + i),
            last_relu: false,
            batch_norm: None,
            ..spec
        };
        let top = Mlp::new(backend, layout, room.part, &spec)?;
        let t = Window::whole(model.vectors().width());
        Ok(Dlrm {
            bottom,
            pooled: Pooled::new(backend, layout, model, t, (meeting, room.batch))?,
            interaction: interaction::new(backend, layout, model, meeting, room.part)?,
            top,
            loss: Loss::new(backend, loss, room.batch)?,
            scratch: Scratch::new(backend, room.part, model.widest_layer(), held)?,
            x: t.columns(0, model.vectors().d),
            t: backend.buffer(meeting, room.batch * t.stride, "features")?,
            dt: backend.buffer(meeting, room.batch * t.stride, "gradient of the features")?,
        })
    }

    /// From the whole batch to pooled vectors.
    pub fn pool(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        self.pooled.pool(pass, &mut self.t)
    }

    /// From these to all vectors of `T` but the first.
    pub fn gather(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        self.pooled.forward(pass, &mut self.t)?;
        clock.lap(Phase::Embedding);
        Ok(())
    }

    /// From the dense features to the first vector of `T`.
    pub fn before(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let (dense, x) = (pass.dense(), pass.of_mut(self.x, &mut self.t));
        self.bottom.forward(pass, dense, x)?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// From all vectors to the logits.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        self.interaction.forward(pass, &self.t)?;
        clock.lap(Phase::Interaction);
        let (top_input, _) = self.interaction.output(pass, &self.t, &mut self.dt);
        let logits = self.loss.logits_mut(pass);
        self.top.forward(pass, top_input, logits)?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// Where the gradients of the last layers' parameters are.
    pub fn top(&self, layout: &Layout) -> Range<usize> {
        self.top.range(layout)
    }

    /// From the gradient of the logits to those of the top MLP and of its input.
    pub fn backward_top(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        let (top_input, d_top_input) = self.interaction.output(pass, &self.t, &mut self.dt);
        let end = self.loss.end(pass);
        self.top.backward(
            pass,
            &mut self.scratch,
            top_input,
            end,
            Some((d_top_input, Onto::Set)),
        )?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// From there to the gradients of `T` and of the interaction's parameters.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        self.interaction.backward(pass, &mut self.scratch, &self.t, &mut self.dt)?;
        pass.progress();
        clock.lap(Phase::Interaction);
        Ok(())
    }

    /// From the gradient of the first vector to those of the bottom MLP.
    pub fn backward_before(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        let dense = pass.dense();
        let x = End { y: pass.of(self.x, &self.t), dy: pass.of_mut(self.x, &mut self.dt) };
        self.bottom.backward(pass, &mut self.scratch, dense, x, None)?;
        clock.lap(Phase::Mlp);
        Ok(())
    }

    /// The part of a rank without samples in what layers gather from all ranks.
    pub fn idle(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        [false, true].into_iter().try_for_each(|back| self.bottom.idle(pass, back))
    }

    /// From the gradient of all of `T` to those of the pooled vectors.
    pub fn scatter(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        self.pooled.backward(pass, &mut self.dt)?;
        clock.lap(Phase::Embedding);
        Ok(())
    }

    /// Hands out what layers gave for a part of the batch, the vectors of tables included.
    pub fn look(&mut self, pass: &mut Pass<'_, B>, look: &mut Look<'_>) -> Result<()> {
        let d = self.x.cols;
        self.bottom.look(pass, pass.of(self.x, &self.t), look)?;
        for (slot, name) in (1..self.x.stride / d).map(|slot| (slot, format!("emb_l.{}", slot - 1)))
        {
            let vector = Window { at: slot * d, ..self.x };
            look.at(pass.backend, (&name, false), pass.of(vector, &self.t))?;
        }
        let (output, _) = self.interaction.output(pass, &self.t, &mut self.dt);
        look.at(pass.backend, ("interaction", false), output)?;
        self.top.look(pass, self.loss.end(pass).y, look)
    }

    /// Calls `f` for each set of tables with its pooled vectors, or with their gradients.
    pub fn pooled_mut(&mut self, of: Of, f: &mut PooledMut<'_, B>) -> Result<()> {
        let t = match of {
            Of::Vectors => &mut self.t,
            Of::Gradients => &mut self.dt,
        };
        self.pooled.pooled_mut(of, t, f)
    }

    /// Calls `f` for each set of tables with the gradient of its pooled vectors.
    pub fn sparse(&self, f: impl FnMut(Embedding, &B::Floats) -> Result<()>) -> Result<()> {
        self.pooled.sparse(&self.dt, f)
    }
}
