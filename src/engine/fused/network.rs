//! The networks, step by step: what is computed between the batch and the gradients.

use super::{
    Pass,
    deepfm::DeepFm,
    dlrm::Dlrm,
    embedding::{Embedding, Of, PooledMut},
    look::Look,
    loss::Loss,
    store::Layout,
};
use crate::{
    backend::{Backend, Result},
    engine::PhaseClock,
};
use std::ops::Range;

/// A network with its activations.
pub(super) enum Network<B: Backend> {
    Dlrm(Dlrm<B>),
    DeepFm(DeepFm<B>),
}

impl<B: Backend> Network<B> {
    /// From the whole batch to the pooled vectors of tables.
    pub(super) fn pool(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.pool(pass),
            Network::DeepFm(n) => n.pool(pass),
        }
    }

    /// Calls `f` for each set of tables with its pooled vectors, or with their gradients.
    pub(super) fn pooled_mut(&mut self, of: Of, f: &mut PooledMut<'_, B>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.pooled_mut(of, f),
            Network::DeepFm(n) => n.pooled_mut(of, f),
        }
    }

    /// From the dense features of a part of the batch to what needs no vectors of tables.
    pub(super) fn before(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.before(pass, clock),
            Network::DeepFm(_) => Ok(()),
        }
    }

    /// From pooled vectors, and the dense features, to what layers read.
    pub(super) fn gather(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.gather(pass, clock),
            Network::DeepFm(n) => n.gather(pass, clock),
        }
    }

    /// From there, and from [`Network::before`], to the logits of a part of the batch.
    pub(super) fn forward(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.forward(pass, clock),
            Network::DeepFm(n) => n.forward(pass, clock),
        }
    }

    /// Where the gradients are that [`Network::backward_top`] sets.
    pub(super) fn top(&self, layout: &Layout) -> Range<usize> {
        match self {
            Network::Dlrm(n) => n.top(layout),
            Network::DeepFm(n) => n.top(layout),
        }
    }

    /// From the gradient of these logits back through the layers behind the interaction; sets the
    /// gradients of their parameters.
    pub(super) fn backward_top(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward_top(pass, clock),
            Network::DeepFm(n) => n.backward_top(pass, clock),
        }
    }

    /// From there to the gradients of what [`Network::gather`] left; sets those of the interaction's
    /// parameters.
    pub(super) fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward(pass, clock),
            Network::DeepFm(n) => n.backward(pass, clock),
        }
    }

    /// From there to the gradients of the parameters of [`Network::before`].
    pub(super) fn backward_before(
        &mut self,
        pass: &mut Pass<'_, B>,
        clock: &mut PhaseClock,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.backward_before(pass, clock),
            Network::DeepFm(_) => Ok(()),
        }
    }

    /// The part of a rank without samples in what [`Network::forward`] and [`Network::backward`] of a
    /// step gather from all ranks.
    pub(super) fn idle(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.idle(pass),
            Network::DeepFm(n) => n.idle(pass),
        }
    }

    /// From there, for the whole batch, to the gradients of pooled vectors and of the dense
    /// parameters of [`Network::gather`].
    pub(super) fn scatter(&mut self, pass: &mut Pass<'_, B>, clock: &mut PhaseClock) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.scatter(pass, clock),
            Network::DeepFm(n) => n.scatter(pass, clock),
        }
    }

    /// Hands out what layers gave for a part of the batch.
    pub(super) fn look(&mut self, pass: &mut Pass<'_, B>, look: &mut Look<'_>) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.look(pass, look),
            Network::DeepFm(n) => n.look(pass, look),
        }
    }

    pub(super) fn loss(&mut self) -> &mut Loss<B> {
        match self {
            Network::Dlrm(n) => &mut n.loss,
            Network::DeepFm(n) => &mut n.loss,
        }
    }

    /// Calls `f` for each set of tables with the gradient of its pooled vectors.
    pub(super) fn sparse(
        &self,
        mut f: impl FnMut(Embedding, &B::Floats) -> Result<()>,
    ) -> Result<()> {
        match self {
            Network::Dlrm(n) => n.sparse(f),
            Network::DeepFm(n) => n.sparse().into_iter().try_for_each(|(e, g)| f(e, g)),
        }
    }
}
