//! The quotient-remainder trick (Shi et al. 2019, arXiv:1909.02107): a vector of `T`, pooled by
//! quotients, times one that is pooled by remainders, or plus it.

use super::{
    Pass,
    embedding::{Embedding, Of, PooledMut},
    mlp::window,
};
use crate::{
    backend::{Backend, Held, Result, Window},
    model::{DlrmSpec, Qr, QrOperation},
};

/// Tables of remainders, and what becomes of their vectors.
pub(crate) struct Remainders<B: Backend> {
    tables: Embedding,
    /// Of each table the columns in `T` that its vectors change, and its own.
    pairs: Vec<(Window, Window)>,
    /// Vectors of remainders.
    r: B::Floats,
    /// Their gradient.
    dr: B::Floats,
    /// Vectors of quotients, for the gradient of a product; then what was that of `T`.
    q: Option<B::Floats>,
}

impl<B: Backend> Remainders<B> {
    /// Makes the buffers; `t` are the columns of `T`.
    pub fn new(
        backend: &mut B,
        model: &DlrmSpec,
        qr: Qr,
        t: Window,
        (held, max_batch): (Held, usize),
    ) -> Result<Self> {
        let d = model.dim;
        let columns: Vec<usize> = qr.columns(&model.tables).collect();
        let own = window(columns.len() * d);
        let pair = |(j, k): (usize, &usize)| (t.columns((k + 1) * d, d), own.columns(j * d, d));
        let mut buffer = |what| backend.buffer(held, max_batch * own.stride, what);
        Ok(Remainders {
            tables: Embedding { set: 1, window: own, l2: 0.0 },
            pairs: columns.iter().enumerate().map(pair).collect(),
            r: buffer("vectors of remainders")?,
            dr: buffer("gradient of the vectors of remainders")?,
            q: match qr.operation {
                QrOperation::Mult => Some(buffer("vectors of quotients")?),
                QrOperation::Add | QrOperation::Concat => None,
            },
        })
    }

    /// Pools the bags of the tables.
    pub fn pool(&mut self, pass: &mut Pass<'_, B>) -> Result<()> {
        self.tables.forward(pass, &mut self.r)
    }

    /// `T_k = q * r` or `T_k = q + r`, where `T_k` is `q`.
    pub fn forward(&mut self, pass: &mut Pass<'_, B>, t: &mut B::Floats) -> Result<()> {
        let (rows, first, backend) = (pass.rows, pass.first, &mut *pass.backend);
        for (of_t, own) in
            self.pairs.iter().map(|(t, own)| (t.from_row(first), own.from_row(first)))
        {
            match &mut self.q {
                None => backend.add(own.of(&self.r, rows), of_t.of_mut(t, rows))?,
                Some(q) => {
                    backend.copy(of_t.of(t, rows), own.of_mut(q, rows))?;
                    let factors = (own.of(q, rows), own.of(&self.r, rows));
                    backend.multiply_add(factors.0, factors.1, None, of_t.of_mut(t, rows))?;
                }
            }
        }
        Ok(())
    }

    /// From `g`, the gradient of `T_k`: `dr = q * g` and, in the place of `g`, `dq = r * g`; both
    /// are `g` where the two were added.
    pub fn backward(&mut self, pass: &mut Pass<'_, B>, dt: &mut B::Floats) -> Result<()> {
        let (rows, first, backend) = (pass.rows, pass.first, &mut *pass.backend);
        for (of_t, own) in
            self.pairs.iter().map(|(t, own)| (t.from_row(first), own.from_row(first)))
        {
            match &mut self.q {
                None => backend.copy(of_t.of(dt, rows), own.of_mut(&mut self.dr, rows))?,
                Some(q) => {
                    let factors = (own.of(q, rows), of_t.of(dt, rows));
                    let dr = own.of_mut(&mut self.dr, rows);
                    backend.multiply_add(factors.0, factors.1, None, dr)?;
                    backend.copy(of_t.of(dt, rows), own.of_mut(q, rows))?;
                    let factors = (own.of(q, rows), own.of(&self.r, rows));
                    backend.multiply_add(factors.0, factors.1, None, of_t.of_mut(dt, rows))?;
                }
            }
        }
        Ok(())
    }

    /// Calls `f` for the tables with their pooled vectors, or with the gradients of these.
    pub fn pooled_mut(&mut self, of: Of, f: &mut PooledMut<'_, B>) -> Result<()> {
        match of {
            Of::Vectors => f(self.tables, &mut self.r),
            Of::Gradients => f(self.tables, &mut self.dr),
        }
    }

    /// The tables with the gradient of their pooled vectors.
    pub fn sparse(&self) -> (Embedding, &B::Floats) {
        (self.tables, &self.dr)
    }
}
