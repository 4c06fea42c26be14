//! Fully connected layers one after another: `x -> [linear -> (batch norm) -> ReLU -> (dropout)]
//! ... -> y`; the batch norm may stand behind the ReLU instead.

use super::{
    Pass,
    batch_norm::{self, BatchNorm},
    dropout,
    look::Look,
    store::{ALIGN, Layout},
};
use crate::backend::{After, Backend, Gate, Held, Linear, Mat, MatMut, Onto, Result, Window};
use std::ops::Range;

/// What an MLP is made of.
pub(crate) struct MlpSpec<'a> {
    /// Width of the input.
    pub input: usize,
    /// Width of each layer's output.
    pub widths: &'a [usize],
    /// Name of layer `i`'s parameters without `.weight` and `.bias`.
    pub name: &'a dyn Fn(usize) -> String,
    /// ReLU after the last layer too.
    pub last_relu: bool,
    /// Batch normalisation of each layer with a ReLU.
    pub batch_norm: Option<batch_norm::Form>,
    /// Dropout after each hidden ReLU; 0 is off. None behind a batch normalisation that stands
    /// behind its ReLU.
    pub dropout: f32,
    /// How what is between layers is held ([`held`]).
    pub held: Held,
}

/// How hidden layers can be held: as products round them where they are nothing but products with
/// bias and ReLU, for then only products read what is between them.
pub(crate) fn held(batch_norm: bool, dropout: f32) -> Held {
    if batch_norm || dropout > 0.0 { Held::F32 } else { Held::Operands }
}

struct Layer<B: Backend> {
    name: String,
    linear: Linear,
    relu: bool,
    norm: Option<BatchNorm<B>>,
    /// The layer's output `[max_batch, outputs]`; the last layer writes where the caller says.
    output: Option<B::Floats>,
}

impl<B: Backend> Layer<B> {
    /// Whether what comes out has just passed a ReLU, or a dropout behind one.
    fn gated(&self) -> bool {
        self.relu && !self.norm.as_ref().is_some_and(BatchNorm::behind_relu)
    }
}

/// Fully connected layers with the activations that backward needs.
pub(crate) struct Mlp<B: Backend> {
    layers: Vec<Layer<B>>,
    dropout: f32,
}

/// A gradient that is asked for, and what becomes of what is there.
pub(crate) type Wanted<'a, F> = (MatMut<'a, F>, Onto<'a, F>);

/// The last layer's output and its gradient.
pub(crate) struct End<'a, F> {
    /// The output.
    pub y: Mat<'a, F>,
    /// The gradient.
    pub dy: MatMut<'a, F>,
}

/// Two buffers in which gradients of activations take turns, shared by all MLPs of a model.
pub(crate) struct Scratch<B: Backend> {
    buffers: [B::Floats; 2],
}

impl<B: Backend> Scratch<B> {
    /// For hidden layers up to `widest`, held as those of all MLPs.
    pub fn new(backend: &mut B, max_batch: usize, widest: usize, held: Held) -> Result<Self> {
        let mut buffer =
            || backend.buffer(held, max_batch * row(widest), "gradients of activations");
        Ok(Scratch { buffers: [buffer()?, buffer()?] })
    }
}

/// Elements from one row of activations to the next: whole cache lines.
fn row(cols: usize) -> usize {
    cols.next_multiple_of(16)
}

/// A buffer of activations with `cols` columns.
pub(crate) fn window(cols: usize) -> Window {
    Window { at: 0, stride: row(cols), cols }
}

impl<B: Backend> Mlp<B> {
    /// Makes the buffers and finds the parameters.
    pub fn new(
        backend: &mut B,
        layout: &Layout,
        max_batch: usize,
        spec: &MlpSpec<'_>,
    ) -> Result<Self> {
        let mut inputs = spec.input;
        let mut layers = Vec::with_capacity(spec.widths.len());
        for (i, &outputs) in spec.widths.iter().enumerate() {
            let name = (spec.name)(i);
            let linear = Linear {
                weight: layout.offset(&format!("{name}.weight")),
                bias: Some(layout.offset(&format!("{name}.bias"))),
                inputs,
                outputs,
            };
            backend.plan_linear(linear, max_batch)?;
            let last = i + 1 == spec.widths.len();
            if spec.dropout > 0.0 && !last {
                backend.plan_dropout(outputs, max_batch)?;
            }
            let relu = !last || spec.last_relu;
            let norm = match spec.batch_norm {
                Some(form) if relu => {
                    let form = (form, window(outputs));
                    Some(BatchNorm::new(backend, layout, &name, max_batch, form)?)
                }
                _ => None,
            };
            let what = format!("activations of {name}");
            let output = if last {
                None
            } else {
                Some(backend.buffer(spec.held, max_batch * row(outputs), &what)?)
            };
            layers.push(Layer { name, linear, relu, norm, output });
            inputs = outputs;
        }
        Ok(Mlp { layers, dropout: spec.dropout })
    }

    /// Writes the last layer's output to `y`; keeps those of the others.
    pub fn forward(
        &mut self,
        pass: &mut Pass<'_, B>,
        x: Mat<'_, B::Floats>,
        mut y: MatMut<'_, B::Floats>,
    ) -> Result<()> {
        let rows = pass.rows;
        for i in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(i);
            let Layer { linear, relu, norm, output, .. } = &mut rest[0];
            let input = match before.last() {
                Some(Layer { linear, output: Some(buffer), .. }) => {
                    window(linear.outputs).of(buffer, rows)
                }
                _ => x,
            };
            let hidden = output.is_some();
            let mut out = match output {
                Some(buffer) => window(linear.outputs).of_mut(buffer, rows),
                None => y.reborrow(),
            };
            let dropout = if hidden { dropout::forward(pass, self.dropout, i) } else { None };
            if let Some(norm) = norm {
                pass.backend.linear_forward(
                    input,
                    &pass.store.params,
                    *linear,
                    After { relu: norm.behind_relu(), dropout: None },
                    norm.input(rows),
                )?;
                norm.forward(pass, out.reborrow())?;
                if let Some(dropout) = dropout {
                    pass.backend.dropout(dropout, out)?;
                }
            } else {
                pass.backend.linear_forward(
                    input,
                    &pass.store.params,
                    *linear,
                    After { relu: *relu, dropout },
                    out,
                )?;
            }
            pass.progress();
        }
        Ok(())
    }

    /// Hands out what the layers gave, the last one `y`.
    pub fn look(
        &self,
        pass: &Pass<'_, B>,
        y: Mat<'_, B::Floats>,
        look: &mut Look<'_>,
    ) -> Result<()> {
        self.layers.iter().try_for_each(|layer| {
            let hidden = window(layer.linear.outputs);
            let output = layer.output.as_ref().map_or(y, |buffer| hidden.of(buffer, pass.rows));
            look.at(pass.backend, (&layer.name, layer.gated()), output)
        })
    }

    /// From the gradient of the last layer's output to the gradients of all parameters and, where
    /// asked for, of the input `x`. The gradient passes a last ReLU in place.
    pub fn backward(
        &mut self,
        pass: &mut Pass<'_, B>,
        scratch: &mut Scratch<B>,
        x: Mat<'_, B::Floats>,
        End { y, mut dy }: End<'_, B::Floats>,
        mut dx: Option<Wanted<'_, B::Floats>>,
    ) -> Result<()> {
        let rows = pass.rows;
        if self.layers.last().is_some_and(Layer::gated) {
            pass.backend.relu_backward(y, dy.reborrow())?;
        }
        let [mut here, mut there] = scratch.buffers.each_mut();
        for i in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at_mut(i);
            let Layer { linear, norm, output, .. } = &mut rest[0];
            let hidden = window(linear.outputs);
            let mut dz = match output {
                Some(_) => hidden.of_mut(here, rows),
                None => dy.reborrow(),
            };
            if let Some(norm) = norm {
                norm.backward(pass, dz.reborrow())?;
            }
            let dz = dz.as_mat();
            let input = match before.last() {
                Some(Layer { linear, output: Some(buffer), .. }) => {
                    window(linear.outputs).of(buffer, rows)
                }
                _ => x,
            };
            pass.backend.linear_backward_weight(dz, input, *linear, &mut pass.store.grads)?;
            pass.progress();
            if i > 0 {
                // Where a hidden layer ends in a ReLU and dropout struck, its output is zero as well.
                let gate = Gate { activation: input, factor: dropout::backward(self.dropout) };
                let gated = before.last().is_some_and(Layer::gated);
                let onto = if gated { Onto::Gate(gate) } else { Onto::Set };
                let d_input = window(linear.inputs).of_mut(there, rows);
                pass.backend.linear_backward_data(
                    dz,
                    &pass.store.params,
                    *linear,
                    onto,
                    d_input,
                )?;
                pass.progress();
                std::mem::swap(&mut here, &mut there);
            } else if let Some((dx, onto)) = dx.take() {
                pass.backend.linear_backward_data(dz, &pass.store.params, *linear, onto, dx)?;
            }
        }
        Ok(())
    }

    /// Where the gradients of its parameters are, those of all layers one behind the other.
    pub fn range(&self, layout: &Layout) -> Range<usize> {
        let linears = || self.layers.iter().map(|layer| &layer.linear);
        let start = linears().map(|linear| linear.weight).min().unwrap_or(0);
        let weight = |linear: &Linear| linear.weight + linear.inputs * linear.outputs;
        let bias = |linear: &Linear| linear.bias.map_or(0, |at| at + linear.outputs);
        let ends = linears().map(|linear| weight(linear).max(bias(linear)));
        start..ends.max().unwrap_or(0).next_multiple_of(ALIGN).min(layout.dense)
    }

    /// The part of a rank that has no samples in the statistics of a batch: forward, or backward.
    pub fn idle(&mut self, pass: &mut Pass<'_, B>, back: bool) -> Result<()> {
        let norms = self.layers.iter_mut().filter_map(|layer| layer.norm.as_mut());
        match back {
            false => norms.into_iter().try_for_each(|norm| norm.idle_forward(pass)),
            true => norms.rev().try_for_each(|norm| norm.idle_backward(pass)),
        }
    }
}
