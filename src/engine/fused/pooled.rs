//! The vectors of a DLRM's tables on their way into `T`.

use super::{Pass, embedding::Embedding, remainders::Remainders};
use crate::{
    backend::{Backend, Held, Result, Window},
    model::{DlrmSpec, QrOperation, Trick},
};

/// All tables of a DLRM.
pub(crate) struct Pooled<B: Backend> {
    /// Those whose vectors are pooled into `T` itself.
    straight: Embedding,
    /// Those of remainders, which change what has been pooled into `T`.
    remainders: Option<Remainders<B>>,
}

impl<B: Backend> Pooled<B> {
    /// Makes the buffers, held as `T` is; `t` are its columns.
    pub fn new(backend: &mut B, model: &DlrmSpec, t: Window, room: (Held, usize)) -> Result<Self> {
        let d = model.vectors().d;
        let remainders = match model.trick {
            // One behind the other, both lie in `T` as they are pooled.
            Trick::Qr(qr) if qr.operation == QrOperation::Concat => None,
            Trick::Qr(qr) if qr.columns(&model.tables).next().is_some() => {
                Some(Remainders::new(backend, model, qr, t, room)?)
            }
            Trick::Qr(_) | Trick::None => None,
        };
        let window = t.columns(d, model.tables.len() * d);
        Ok(Pooled { straight: Embedding { set: 0, window, l2: 0.0 }, remainders })
    }

    /// Writes all vectors of `T` but the first.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, t: &mut B::Floats) -> Result<()> {
        self.straight.forward(pass, t)?;
        self.remainders.as_mut().map_or(Ok(()), |r| r.forward(pass, t))
    }

    /// From the gradient of `T` to those of the pooled vectors, some of them in its place.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, dt: &mut B::Floats) -> Result<()> {
        self.remainders.as_mut().map_or(Ok(()), |r| r.backward(pass, dt))
    }

    /// Sets of tables with the gradients of their pooled vectors, some of them in `dt`.
    pub fn sparse<'a>(
        &'a self,
        dt: &'a B::Floats,
    ) -> impl Iterator<Item = (Embedding, &'a B::Floats)> {
        std::iter::once((self.straight, dt)).chain(self.remainders.iter().map(Remainders::sparse))
    }
}
