//! A model that only predicts, in fewer bits: weights of fully connected layers that the device
//! keeps itself, and bags of quantised rows.

pub mod bags;
pub mod int8;

use super::{
    elementwise::for_rows,
    gemm::{After, Gemm, LinearShape, Rows, RowsMut},
};
use crate::{
    backend::{Linear, QuantisedLayers, Result},
    embedding::{
        QuantisedTable,
        sixteen::{from_f16, to_f16},
    },
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
};
use std::collections::BTreeMap;

/// Outputs of a layer whose f16 weights are widened at a time.
const WIDENED: usize = 64;
/// The largest f16.
const F16_MOST: f32 = 65_504.0;

/// The weights of a model's fully connected layers, by their numbers.
#[derive(Debug)]
pub struct Layers {
    kind: QuantisedLayers,
    weights: BTreeMap<usize, Weight>,
    inputs: int8::Inputs,
    /// f16 weights as f32.
    wide: Vec<f32>,
}

#[derive(Debug)]
enum Weight {
    Int8(int8::Weight),
    Fp16(Vec<u16>),
}

impl QuantisedLayers {
    /// Bytes of a weight `[outputs, inputs]`.
    pub fn bytes(self, [outputs, inputs]: [usize; 2]) -> usize {
        match self {
            QuantisedLayers::Int8 => int8::Weight::bytes(outputs, inputs),
            QuantisedLayers::Fp16 => outputs * inputs * size_of::<u16>(),
        }
    }

    /// Bytes that layers of these sizes take beside their weights for batches of so many samples.
    pub fn scratch(self, batch: usize, inputs: usize) -> usize {
        match self {
            QuantisedLayers::Int8 => batch * inputs.next_multiple_of(32),
            QuantisedLayers::Fp16 => WIDENED * inputs * size_of::<f32>(),
        }
    }
}

impl Layers {
    /// No layers yet.
    pub fn new(kind: QuantisedLayers) -> Self {
        let (weights, inputs) = (BTreeMap::new(), int8::Inputs::default());
        Layers { kind, weights, inputs, wide: Vec::new() }
    }

    /// Adds a weight of zeros.
    ///
    /// # Errors
    /// If memory cannot be had, or the layer is too wide for int8.
    pub fn add(&mut self, number: usize, [outputs, inputs]: [usize; 2]) -> Result<()> {
        let weight = match self.kind {
            QuantisedLayers::Int8 => Weight::Int8(int8::Weight::zeros(outputs, inputs)?),
            QuantisedLayers::Fp16 => Weight::Fp16(int8::zeros(outputs * inputs, "f16 weights")?),
        };
        self.weights.insert(number, weight);
        Ok(())
    }

    /// Lets `f` change a weight, given its present elements.
    pub fn edit(&mut self, number: usize, f: &mut dyn FnMut(&mut [f32])) {
        let Some(weight) = self.weights.get_mut(&number) else { return };
        let mut values = vec![0.0; weight.len()];
        weight.read(0, &mut values);
        f(&mut values);
        match weight {
            Weight::Int8(w) => w.quantise(&values),
            Weight::Fp16(w) => {
                for (w, &v) in w.iter_mut().zip(&values) {
                    // Saturated as PyTorch does it; but what is not finite stays so.
                    *w = to_f16(if v.is_finite() { v.clamp(-F16_MOST, F16_MOST) } else { v });
                }
            }
        }
    }

    /// Copies elements of a weight out, as products see them.
    pub fn read(&self, number: usize, first: usize, out: &mut [f32]) {
        if let Some(weight) = self.weights.get(&number) {
            weight.read(first, out);
        }
    }

    /// Makes ready for a layer.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn plan(&mut self, gemm: &mut Gemm, s: LinearShape) -> Result<()> {
        match self.kind {
            QuantisedLayers::Int8 => self.inputs.plan(s.batch, s.input),
            QuantisedLayers::Fp16 => {
                let output = s.output.min(WIDENED);
                if self.wide.len() < output * s.input {
                    self.wide = int8::zeros(output * s.input, "f16 weights as f32")?;
                }
                gemm.plan(LinearShape { output, ..s })?;
                match s.output % WIDENED {
                    0 => Ok(()),
                    output => gemm.plan(LinearShape { output, ..s }),
                }
            }
        }
    }

    /// `Y = X W^T + b`, then the ReLU if there is one.
    ///
    /// # Panics
    /// If there is no such weight, shapes do not fit, or the layer was not planned for.
    pub fn forward(
        &mut self,
        (pool, isa, gemm): (&Pool, Isa, &mut Gemm),
        layer: Linear,
        x: (Rows<'_>, usize),
        (bias, relu): (Option<&[f32]>, bool),
        y: RowsMut<'_>,
    ) {
        let (x, batch) = x;
        let s = LinearShape { batch, input: layer.inputs, output: layer.outputs };
        let Layers { weights, inputs, wide, .. } = self;
        match weights.get(&layer.weight).expect("a weight that was added") {
            Weight::Int8(w) => int8::forward((pool, isa), inputs, s, x, w, (bias, relu), y),
            Weight::Fp16(w) => {
                let after = || After { relu, dropout: None };
                for first in (0..s.output).step_by(WIDENED) {
                    let s = LinearShape { output: WIDENED.min(s.output - first), ..s };
                    let narrow = &w[first * s.input..][..s.output * s.input];
                    let wide = &mut wide[..narrow.len()];
                    wide.iter_mut().zip(narrow).for_each(|(to, &w)| *to = from_f16(w));
                    let bias = bias.map(|b| &b[first..][..s.output]);
                    let y = RowsMut::new(&mut y.data[first..], y.stride);
                    gemm.linear_forward(pool, s, x, wide, bias, after(), y);
                }
            }
        }
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.weights.values().map(Weight::bytes).sum()
    }
}

/// Lets `f` set all rows of a table: `f(first element, part, pool)` for consecutive parts of whole
/// rows, about `len` elements each, through one part's worth of memory. Zeros stand for what is
/// there.
pub fn edit_table(
    pool: &Pool,
    table: &mut QuantisedTable,
    len: usize,
    f: &mut dyn FnMut(usize, &mut [f32], &Pool),
) {
    let (kind, dim, rows) = (table.kind(), table.dim(), table.rows());
    let (step, width) = ((len / dim).max(1), kind.row_bytes(dim));
    let mut part = vec![0.0; step.min(rows) * dim];
    for first in (0..rows).step_by(step) {
        let n = step.min(rows - first);
        let part = &mut part[..n * dim];
        part.fill(0.0);
        f(first * dim, part, pool);
        let to = SharedMut::new(table.rows_mut(first, n));
        let part = &*part;
        for_rows(pool, n, dim, |rows| {
            for r in rows {
                // SAFETY: each row belongs to one chunk.
                kind.quantise(&part[r * dim..][..dim], unsafe { to.slice(r * width, width) });
            }
        });
    }
}

impl Weight {
    fn len(&self) -> usize {
        match self {
            Weight::Int8(w) => w.numbers(),
            Weight::Fp16(w) => w.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Weight::Int8(w) => w.held(),
            Weight::Fp16(w) => size_of_val(&w[..]),
        }
    }

    fn read(&self, first: usize, out: &mut [f32]) {
        match self {
            Weight::Int8(w) => w.read(first, out),
            Weight::Fp16(w) => {
                out.iter_mut().zip(&w[first..]).for_each(|(o, &w)| *o = from_f16(w));
            }
        }
    }
}
