//! How a DLRM's features meet: one file an interaction, forward and backward side by side. `T [B, n,
//! d]` holds the bottom MLP's output in slot 0 and the pooled embeddings behind it.

mod cat;
mod cross;
mod dot;
mod projection;

use super::{
    Pass,
    mlp::{Scratch, window},
    store::Layout,
};
use crate::{
    backend::{Backend, Held, Mat, MatMut, Result, Window},
    model::{DlrmSpec, Interaction as Kind},
};

/// An interaction with the activations that its backward needs.
pub(crate) trait Interaction<B: Backend> {
    /// Computes the output from `T`, whose buffer has the rows of the whole batch.
    fn forward(&mut self, pass: &mut Pass<'_, B>, t: &B::Floats) -> Result<()>;

    /// The output after [`Interaction::forward`], and where its gradient goes before
    /// [`Interaction::backward`].
    fn output<'a>(
        &'a mut self,
        pass: &Pass<'_, B>,
        t: &'a B::Floats,
        dt: &'a mut B::Floats,
    ) -> (Mat<'a, B::Floats>, MatMut<'a, B::Floats>);

    /// From the gradient of the output to those of `T`, overwritten in `dt`, and of the parameters.
    fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        scratch: &mut Scratch<B>,
        t: &B::Floats,
        dt: &mut B::Floats,
    ) -> Result<()>;
}

/// The interaction of a model, with its buffers, held as `T` is.
pub(crate) fn new<B: Backend>(
    backend: &mut B,
    layout: &Layout,
    model: &DlrmSpec,
    held: Held,
    max_batch: usize,
) -> Result<Box<dyn Interaction<B>>> {
    let t = Window::whole(model.vectors().width());
    Ok(match &model.interaction {
        Kind::Cat => Box::new(cat::Cat { t }),
        Kind::Cross { layers, rank } => {
            let shape = (*layers, *rank);
            let room = (held, max_batch);
            Box::new(cross::Cross::new(backend, layout, model.vectors(), shape, room)?)
        }
        Kind::Projection { branches } => {
            let t = model.vectors();
            let room = (held, max_batch);
            Box::new(projection::Projection::new(backend, layout, t, branches, room)?)
        }
        Kind::Dot { self_interaction, .. } => Box::new(dot::Dot::new(
            backend,
            model.vectors(),
            *self_interaction,
            model.top_input(),
            (held, max_batch),
        )?),
    })
}

/// A matrix with its gradient, rows of whole cache lines.
struct Activation<B: Backend> {
    window: Window,
    value: B::Floats,
    gradient: B::Floats,
}

impl<B: Backend> Activation<B> {
    /// `cols` columns for products to read; `what` names them should memory run out.
    fn new(
        backend: &mut B,
        cols: usize,
        (held, max_batch): (Held, usize),
        what: &str,
    ) -> Result<Self> {
        let window = window(cols);
        let len = max_batch * window.stride;
        Ok(Activation {
            window,
            value: backend.buffer(held, len, what)?,
            gradient: backend.buffer(held, len, &format!("gradient of the {what}"))?,
        })
    }

    /// The matrix, and its gradient to write.
    fn both(&mut self, rows: usize) -> (Mat<'_, B::Floats>, MatMut<'_, B::Floats>) {
        (self.window.of(&self.value, rows), self.window.of_mut(&mut self.gradient, rows))
    }
}
