//! The matrix products of fully connected layers: forward, data gradient, weight gradient. Matrices
//! are f32; on their way into a product they may be rounded to bf16 or f16 ([`Precision`]).
//!
//! A layer is `Y = act(X W^T + b)` with `X [B, in]`, `W [out, in]` (torch's `nn.Linear` layout), `b
//! [out]`, `Y [B, out]`; with `dZ [B, out]` the gradient of the loss by the layer's pre-activation,
//! `dX = dZ W`, `dW = dZ^T X`, `db = sum_b dZ`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod format;
mod gradient;
mod kernel;
mod pack;
mod plan;
mod portable;
mod product;
mod scratch;
mod shared_gradient;
mod simd;
mod sums;
mod thin;
mod tile;
mod vectors;
mod weighted;

use crate::host::Isa;
use crate::{
    backend::{Precision, Result},
    host::pool::{Pool, SharedMut},
};
use kernel::{Finish, kernels};
use product::Target;
use scratch::Scratch;
use weighted::Order;

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
#[derive(Debug, Clone, Copy, Default)]
pub struct After<'a> {
    /// `max(z, 0)`.
    pub relu: bool,
    /// Dropout, last.
    pub dropout: Option<Mask<'a>>,
}

/// Which elements of a result stay: bit `j % 8` of byte `r * stride + j / 8` for element `(r, j)`.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// The bits; rows are whole words of 16.
    pub bits: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// What elements that stay are multiplied by.
    pub factor: f32,
}

/// The ReLU, and the dropout behind it, that a gradient passes on its way back.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// Their output: the gradient is zero wherever this is not positive.
    pub activation: Rows<'a>,
    /// What the dropout multiplied by; 1 without one.
    pub factor: f32,
}

/// What becomes of the gradient of a layer's input.
#[derive(Debug, Clone, Copy)]
pub enum Onto<'a> {
    /// It takes the place of what is there.
    Set,
    /// It is added to what is there.
    Add,
    /// It passes a ReLU first, then takes the place of what is there.
    Gate(Gate<'a>),
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

/// A matrix to write: row `r` starts at `data[r * stride]`; what lies between the rows is left
/// alone.
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
    assert!(
        stride >= width || rows <= 1,
        "{what}: rows of {width} overlap at a stride of {stride}"
    );
    let needed = if rows == 0 { 0 } else { (rows - 1) * stride + width };
    assert!(
        len >= needed,
        "{what}: {rows} rows of {width} at a stride of {stride} need {needed} elements, there are {len}"
    );
}

/// Instruction set, precision and scratch space of the matrix products, made once for the largest
/// shapes; no call allocates.
///
/// Results depend on the shape, the instruction set and the precision, never on the number of
/// threads.
#[derive(Debug)]
pub struct Gemm {
    isa: Isa,
    precision: Precision,
    scratch: Scratch,
}

/// Calls a function of the kernels of the instruction set and precision in use.
macro_rules! with_kernel {
    ($gemm:expr, $function:path, $($argument:expr),*) => {{
        use $function as function;
        use Precision::*;
        match ($gemm.isa, $gemm.precision) {
            (Isa::Portable, Fp32 | Tf32) => function::<kernels::PortableF32>($($argument),*),
            (Isa::Portable, Bf16) => function::<kernels::PortableBf16>($($argument),*),
            (Isa::Portable, Fp16) => function::<kernels::PortableF16>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Fp32 | Tf32) => function::<kernels::Avx2F32>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Bf16) => function::<kernels::Avx2Bf16>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Fp16) => function::<kernels::Avx2F16>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, Fp32 | Tf32) => function::<kernels::Avx512F32>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Bf16) => function::<kernels::Avx512Bf16>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Bf16) => function::<kernels::Avx512Bf16Pairs>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, Fp16) => function::<kernels::Avx512F16>($($argument),*),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("refused when made"),
        }
    }};
}

impl Gemm {
    /// For pools of at most `threads` threads and for every layer of `shapes` at its `batch` or
    /// less.
    ///
    /// # Errors
    /// If the system refuses the memory.
    ///
    /// # Panics
    /// If this machine does not have the instruction set; [`Isa::detect`] gives one that it has.
    pub fn new(
        isa: Isa,
        precision: Precision,
        threads: usize,
        shapes: &[LinearShape],
    ) -> Result<Self> {
        assert!(isa.available(), "this machine has no {}", isa.name());
        Ok(Gemm { isa, precision, scratch: Scratch::new(threads, shapes)? })
    }

    /// Makes ready for one more layer at its `batch` or less.
    ///
    /// # Errors
    /// If the system refuses the memory.
    pub fn plan(&mut self, shape: LinearShape) -> Result<()> {
        self.scratch.plan(shape)
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `Y = after(X W^T + b)`: `x [batch, input]`, `w [output, input]` dense, `b [output]` (zeros if
    /// there is none), `y [batch, output]`.
    ///
    /// # Panics
    /// If a slice is shorter than its shape, or the layer or the pool larger than those given to
    /// [`Gemm::new`] and [`Gemm::plan`]; if a layer with one output has a dropout, which the caller can do better.
    #[allow(clippy::too_many_arguments)]
    pub fn linear_forward(
        &mut self,
        pool: &Pool,
        s: LinearShape,
        x: Rows,
        w: &[f32],
        b: Option<&[f32]>,
        after: After,
        y: RowsMut,
    ) {
        x.check("x", s.batch, s.input);
        check("w", w.len(), s.input, s.output, s.input);
        if let Some(b) = b {
            check("b", b.len(), s.output, 1, s.output);
        }
        check("y", y.data.len(), y.stride, s.batch, s.output);
        self.scratch.check(pool, s);
        if s.batch == 0 {
            return;
        }
        let y = Target { to: SharedMut::new(y.data), stride: y.stride };
        if s.output == 1 {
            assert!(after.dropout.is_none(), "no dropout behind a single output");
            let b = b.map_or(0.0, |b| b[0]);
            return with_kernel!(self, thin::forward, pool, s, x, w, b, after.relu, y);
        }
        let (bits, stride, factor) = after.dropout.map_or((std::ptr::null(), 0, 1.0), |m| {
            let width = s.output.div_ceil(16) * 2;
            assert!(
                m.stride >= width && m.bits.len() >= (s.batch - 1) * m.stride + width,
                "a bit for each element"
            );
            (m.bits.as_ptr(), m.stride, m.factor)
        });
        let finish = match b {
            None if !after.relu && after.dropout.is_none() => Finish::Store,
            _ => {
                let bias = b.map_or(std::ptr::null(), <[f32]>::as_ptr);
                Finish::Bias { bias, relu: after.relu, bits, stride, factor }
            }
        };
        let w = (&w[..s.output * s.input], Order::Transposed);
        let end = (finish, false);
        with_kernel!(self, weighted::run, &mut self.scratch, pool, s, x, w, end, y);
    }

    /// `dX = dZ W`, or `dX += dZ W`: `dz [batch, output]`, `w [output, input]` dense, `dx [batch,
    /// input]`. With a gate, whose `activation [batch, input]` was this layer's input, the gradient that leaves is
    /// by the previous layer's pre-activation.
    ///
    /// # Panics
    /// As [`Gemm::linear_forward`].
    pub fn linear_backward_data(
        &mut self,
        pool: &Pool,
        s: LinearShape,
        dz: Rows,
        w: &[f32],
        onto: Onto,
        dx: RowsMut,
    ) {
        dz.check("dz", s.batch, s.output);
        check("w", w.len(), s.input, s.output, s.input);
        check("dx", dx.data.len(), dx.stride, s.batch, s.input);
        if let Onto::Gate(g) = onto {
            g.activation.check("gate", s.batch, s.input);
        }
        self.scratch.check(pool, s);
        if s.batch == 0 {
            return;
        }
        let dx = Target { to: SharedMut::new(dx.data), stride: dx.stride };
        if s.output == 1 {
            return with_kernel!(self, thin::data_gradient, pool, s, dz, w, onto, dx);
        }
        let end = match onto {
            Onto::Set => (Finish::Store, false),
            Onto::Add => (Finish::Store, true),
            Onto::Gate(Gate { activation: Rows { data, stride }, factor }) => {
                (Finish::Gate { gate: data.as_ptr(), stride, factor }, false)
            }
        };
        let w = (&w[..s.output * s.input], Order::Plain);
        with_kernel!(self, weighted::run, &mut self.scratch, pool, s, dz, w, end, dx);
    }

    /// `dW = dZ^T X`, `db = sum over the batch of dZ`: `dz [batch, output]`, `x [batch, input]`,
    /// `dw [output, input]` dense, `db [output]`, if there is a bias. Both are overwritten.
    ///
    /// # Panics
    /// As [`Gemm::linear_forward`].
    pub fn linear_backward_weight(
        &mut self,
        pool: &Pool,
        s: LinearShape,
        dz: Rows,
        x: Rows,
        dw: &mut [f32],
        mut db: Option<&mut [f32]>,
    ) {
        dz.check("dz", s.batch, s.output);
        x.check("x", s.batch, s.input);
        check("dw", dw.len(), s.input, s.output, s.input);
        if let Some(db) = &mut db {
            check("db", db.len(), s.output, 1, s.output);
            *db = &mut std::mem::take(db)[..s.output];
        }
        self.scratch.check(pool, s);
        let dw = &mut dw[..s.output * s.input];
        if s.batch == 0 {
            dw.fill(0.0);
            db.into_iter().for_each(|db| db.fill(0.0));
        } else if s.output == 1 {
            with_kernel!(self, thin::weight_gradient, &mut self.scratch, pool, s, dz, x, dw, db);
        } else {
            with_kernel!(self, gradient::run, &mut self.scratch, pool, s, dz, x, dw, db);
        }
    }
}

#[cfg(test)]
mod tests;
