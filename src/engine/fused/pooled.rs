//! The vectors of a DLRM's tables on their way into `T`.

use super::{
    Pass,
    embedding::{Embedding, Of, PooledMut},
    projected::Projected,
    remainders::Remainders,
    store::Layout,
};
use crate::{
    backend::{Backend, Held, Result, Window},
    model::{DlrmSpec, QrOperation, Trick},
};

/// All tables of a DLRM.
pub(crate) enum Pooled<B: Backend> {
    /// Vectors are pooled into `T` itself, where those of remainders may change them.
    Straight(Embedding, Option<Remainders<B>>),
    /// Vectors are pooled beside it, since they are not all as wide.
    Projected(Projected<B>),
}

impl<B: Backend> Pooled<B> {
    /// Makes the buffers, held as `T` is, and finds the parameters; `t` are its columns.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        model: &DlrmSpec,
        t: Window,
        room: (Held, usize),
    ) -> Result<Self> {
        let d = model.vectors().d;
        let window = t.columns(d, model.tables.len() * d);
        let straight = Embedding { set: 0, window, l2: 0.0 };
        Ok(match model.trick {
            Trick::Md(_) => Pooled::Projected(Projected::new(backend, layout, model, t, room.1)?),
            // One behind the other, both lie in `T` as they are pooled.
            Trick::Qr(qr) if qr.operation == QrOperation::Concat => {
                Pooled::Straight(straight, None)
            }
            Trick::Qr(qr) if qr.columns(&model.tables).next().is_some() => {
                let remainders = Remainders::new(backend, model, qr, t, room)?;
                Pooled::Straight(straight, Some(remainders))
            }
            Trick::Qr(_) | Trick::None => Pooled::Straight(straight, None),
        })
    }

    /// Pools the bags of all tables.
    pub fn pool(&mut self, pass: &mut Pass<'_, B>, t: &mut B::Floats) -> Result<()> {
        match self {
            Pooled::Projected(projected) => projected.pool(pass),
            Pooled::Straight(straight, remainders) => {
                straight.forward(pass, t)?;
                remainders.as_mut().map_or(Ok(()), |r| r.pool(pass))
            }
        }
    }

    /// From pooled vectors to all of `T` but the first.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, t: &mut B::Floats) -> Result<()> {
        match self {
            Pooled::Projected(projected) => projected.forward(pass, t),
            Pooled::Straight(_, remainders) => {
                remainders.as_mut().map_or(Ok(()), |r| r.forward(pass, t))
            }
        }
    }

    /// Calls `f` for each set of tables with its pooled vectors, or with their gradients, some of
    /// them in `t`.
    pub fn pooled_mut(
        &mut self,
        of: Of,
        t: &mut B::Floats,
        f: &mut PooledMut<'_, B>,
    ) -> Result<()> {
        match self {
            Pooled::Projected(projected) => projected.pooled_mut(of, f),
            Pooled::Straight(straight, remainders) => {
                f(*straight, t)?;
                remainders.as_mut().map_or(Ok(()), |r| r.pooled_mut(of, f))
            }
        }
    }

    /// From the gradient of `T` to those of the pooled vectors, some of them in its place.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, dt: &mut B::Floats) -> Result<()> {
        match self {
            Pooled::Projected(projected) => projected.backward(pass, dt),
            Pooled::Straight(_, remainders) => {
                remainders.as_mut().map_or(Ok(()), |r| r.backward(pass, dt))
            }
        }
    }

    /// Calls `f` for each set of tables with the gradient of its pooled vectors, some of them in
    /// `dt`.
    pub fn sparse(
        &self,
        dt: &B::Floats,
        mut f: impl FnMut(Embedding, &B::Floats) -> Result<()>,
    ) -> Result<()> {
        match self {
            Pooled::Projected(projected) => projected.sparse().try_for_each(|(e, g)| f(e, g)),
            Pooled::Straight(straight, remainders) => {
                f(*straight, dt)?;
                remainders.iter().map(Remainders::sparse).try_for_each(|(e, g)| f(e, g))
            }
        }
    }
}
