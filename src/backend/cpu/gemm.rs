//! The matrix products of fully connected layers in f32: forward, data gradient, weight gradient.
//!
//! A layer is `Y = act(X W^T + b)` with `X [B, in]`, `W [out, in]` (torch's `nn.Linear` layout), `b [out]`, `Y [B, out]`; with
//! `dZ [B, out]` the gradient of the loss by the layer's pre-activation, `dX = dZ W`, `dW = dZ^T X`, `db = sum_b dZ`.

pub mod isa;

use super::pool::{Pool, SharedMut};
pub use isa::{Isa, IsaError};

/// Sizes of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Samples.
    pub batch: usize,
    /// Inputs of the layer.
    pub input: usize,
    /// Outputs of the layer.
    pub output: usize,
}

/// What follows the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(z, 0)`.
    Relu,
}

/// A matrix to read: row `r` starts at `data[r * stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Its elements and what lies between the rows.
    pub data: &'a [f32],
    /// Elements from one row to the next, at least the width.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows that start `stride` elements apart.
    pub fn new(data: &'a [f32], stride: usize) -> Self {
        Rows { data, stride }
    }

    fn check(&self, what: &str, rows: usize, width: usize) {
        check(what, self.data.len(), self.stride, rows, width);
    }
}

/// A matrix to write: row `r` starts at `data[r * stride]`; what lies between the rows is left alone.
#[derive(Debug)]
pub struct RowsMut<'a> {
    /// Its elements and what lies between the rows.
    pub data: &'a mut [f32],
    /// Elements from one row to the next, at least the width.
    pub stride: usize,
}

impl<'a> RowsMut<'a> {
    /// Rows that start `stride` elements apart.
    pub fn new(data: &'a mut [f32], stride: usize) -> Self {
        RowsMut { data, stride }
    }
}

fn check(what: &str, len: usize, stride: usize, rows: usize, width: usize) {
    assert!(stride >= width || rows <= 1, "{what}: rows of {width} overlap at a stride of {stride}");
    let needed = if rows == 0 { 0 } else { (rows - 1) * stride + width };
    assert!(len >= needed, "{what}: {rows} rows of {width} at a stride of {stride} need {needed} elements, there are {len}");
}

/// Instruction set and scratch space of the matrix products, made once for the largest shapes; no call allocates.
#[derive(Debug)]
pub struct Gemm {
    isa: Isa,
}

impl Gemm {
    /// For pools of at most `threads` threads and for every layer of `shapes` at its `batch` or less.
    pub fn new(isa: Isa, threads: usize, shapes: &[LinearShape]) -> Self {
        assert!(isa.available(), "this machine has no {}", isa.name());
        let _ = (threads, shapes);
        Gemm { isa }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `Y = act(X W^T + b)`: `x [batch, input]`, `w [output, input]` dense, `b [output]`, `y [batch, output]`.
    ///
    /// # Panics
    /// If a slice is shorter than its shape, or the shape larger than those given to [`Gemm::new`].
    #[allow(clippy::too_many_arguments)]
    pub fn linear_forward(&mut self, pool: &Pool, s: LinearShape, x: Rows, w: &[f32], b: &[f32], act: Activation, y: RowsMut) {
        x.check("x", s.batch, s.input);
        check("w", w.len(), s.input, s.output, s.input);
        check("b", b.len(), s.output, 1, s.output);
        check("y", y.data.len(), y.stride, s.batch, s.output);
        let out = SharedMut::new(y.data);
        pool.run(s.batch, |r, _| {
            // SAFETY: each chunk writes its own row.
            let row = unsafe { out.slice(r * y.stride, s.output) };
            let x = &x.data[r * x.stride..][..s.input];
            for (j, z) in row.iter_mut().enumerate() {
                let sum = b[j] + x.iter().zip(&w[j * s.input..][..s.input]).map(|(a, b)| a * b).sum::<f32>();
                *z = if act == Activation::Relu { sum.max(0.0) } else { sum };
            }
        });
    }

    /// `dX = dZ W`: `dz [batch, output]`, `w [output, input]` dense, `dx [batch, input]`. With `mask = A [batch, input]`, the ReLU
    /// output that was this layer's input, `dX` is zeroed where `A <= 0`: the gradient that leaves is by the previous layer's
    /// pre-activation.
    ///
    /// # Panics
    /// As [`Gemm::linear_forward`].
    pub fn linear_backward_data(&mut self, pool: &Pool, s: LinearShape, dz: Rows, w: &[f32], mask: Option<Rows>, dx: RowsMut) {
        dz.check("dz", s.batch, s.output);
        check("w", w.len(), s.input, s.output, s.input);
        check("dx", dx.data.len(), dx.stride, s.batch, s.input);
        if let Some(a) = mask {
            a.check("mask", s.batch, s.input);
        }
        let out = SharedMut::new(dx.data);
        pool.run(s.batch, |r, _| {
            // SAFETY: each chunk writes its own row.
            let row = unsafe { out.slice(r * dx.stride, s.input) };
            row.fill(0.0);
            for (j, g) in dz.data[r * dz.stride..][..s.output].iter().enumerate() {
                row.iter_mut().zip(&w[j * s.input..][..s.input]).for_each(|(d, w)| *d += g * w);
            }
            if let Some(a) = mask {
                row.iter_mut().zip(&a.data[r * a.stride..]).for_each(|(d, a)| *d = if *a > 0.0 { *d } else { 0.0 });
            }
        });
    }

    /// `dW = dZ^T X`, `db = sum over the batch of dZ`: `dz [batch, output]`, `x [batch, input]`, `dw [output, input]` dense,
    /// `db [output]`. Both are overwritten.
    ///
    /// # Panics
    /// As [`Gemm::linear_forward`].
    pub fn linear_backward_weight(&mut self, pool: &Pool, s: LinearShape, dz: Rows, x: Rows, dw: &mut [f32], db: &mut [f32]) {
        dz.check("dz", s.batch, s.output);
        x.check("x", s.batch, s.input);
        check("dw", dw.len(), s.input, s.output, s.input);
        check("db", db.len(), s.output, 1, s.output);
        let (dw, db) = (SharedMut::new(dw), SharedMut::new(db));
        pool.run(s.output, |j, _| {
            // SAFETY: each chunk writes its own row and its own element.
            let (row, sum) = unsafe { (dw.slice(j * s.input, s.input), &mut db.slice(j, 1)[0]) };
            row.fill(0.0);
            *sum = 0.0;
            for r in 0..s.batch {
                let g = dz.data[r * dz.stride + j];
                *sum += g;
                row.iter_mut().zip(&x.data[r * x.stride..]).for_each(|(d, x)| *d += g * x);
            }
        });
    }
}

#[cfg(test)]
mod tests;
