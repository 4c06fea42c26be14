//! Fully connected layers: products by cuBLASLt with bias, ReLU and bias gradient at their ends; those of a single output by kernels of our
//! own. In 16-bit precisions both operands are rounded on their way into the product, as on the CPU.
//!
//! cuBLASLt thinks in columns: a matrix `[rows, cols]` of ours with rows `stride` apart is a `cols x rows` matrix of its, columns `stride` apart.

use super::{
    driver::{
        Address, Driver, Launch, Source,
        gemm::{Compute, Epilogue, Gemm, Number, Operand},
    },
    elementwise,
    launch::{SUM_ROWS, launch},
    memory::Place,
    scratch::{Purpose, Scratch},
};
use crate::backend::{BackendError, Precision, Result};

pub(super) static SOURCE: Source =
    Source { name: "linear", parts: &[include_str!("common/common.cuh"), include_str!("linear.cu")] };

/// Elements that rows of 16-bit operands are padded to: 16 bytes.
const PAD: usize = 8;

/// A layer's parameters, or their gradients: weight `[outputs, inputs]` and bias `[outputs]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Params {
    pub weight: Address,
    pub bias: Address,
    pub inputs: usize,
    pub outputs: usize,
}

impl Params {
    fn matrix(self) -> Place {
        let (inputs, outputs) = (self.inputs as u32, self.outputs as u32);
        Place { at: self.weight, stride: inputs, rows: outputs, cols: inputs }
    }
}

/// What products need beside their operands.
pub(super) struct Products<'a> {
    pub driver: &'a dyn Driver,
    pub scratch: &'a mut Scratch,
    pub precision: Precision,
}

/// The ReLU that a gradient passes, and the factor of a dropout behind it.
pub(super) type Gate = Option<(Place, f32)>;

impl Products<'_> {
    /// `y = x W^T + b`, then `max(y, 0)` if `relu`.
    pub(super) fn forward(&mut self, x: Place, params: Params, relu: bool, y: Place) -> Result<()> {
        assert!(x.rows == y.rows && x.cols as usize == params.inputs && y.cols as usize == params.outputs, "shapes of a layer");
        let Params { weight, bias, .. } = params;
        if params.outputs == 1 {
            let shape = Launch::lanes(x.rows as usize, 32);
            let relu = u32::from(relu);
            return launch!(
                self.driver,
                SOURCE,
                "thin_forward",
                shape,
                x.at,
                x.stride,
                x.rows,
                x.cols,
                weight,
                bias,
                relu,
                y.at,
                y.stride
            );
        }
        let end = if relu { Epilogue::BiasRelu(bias) } else { Epilogue::Bias(bias) };
        if !self.product((params.matrix(), true), (x, false), y, end)? {
            self.product((params.matrix(), true), (x, false), y, Epilogue::None)?;
            elementwise::bias_relu(self.driver, y, bias, relu)?;
        }
        Ok(())
    }

    /// `dx = dy W`, gated.
    pub(super) fn backward_data(&mut self, dy: Place, params: Params, gate: Gate, dx: Place) -> Result<()> {
        assert!(
            dx.rows == dy.rows && dx.cols as usize == params.inputs && dy.cols as usize == params.outputs,
            "shapes of a layer"
        );
        if params.outputs == 1 {
            let (activation, factor) = gate.unwrap_or((Place { at: 0, stride: 0, rows: 0, cols: 0 }, 1.0));
            let shape = Launch::rows(dx.rows as usize, dx.cols as usize);
            let (a, stride) = (activation.at, activation.stride);
            return launch!(
                self.driver,
                SOURCE,
                "thin_backward_data",
                shape,
                dy.at,
                dy.stride,
                dx.rows,
                dx.cols,
                params.weight,
                a,
                stride,
                factor,
                dx.at,
                dx.stride
            );
        }
        self.product((params.matrix(), false), (dy, false), dx, Epilogue::None)?;
        gate.map_or(Ok(()), |(x, factor)| elementwise::gate(self.driver, x, factor, dx))
    }

    /// `dW = dy^T x`, `db = sum of dy`.
    pub(super) fn backward_weight(&mut self, dy: Place, x: Place, grads: Params) -> Result<()> {
        assert!(x.rows == dy.rows && x.cols as usize == grads.inputs && dy.cols as usize == grads.outputs, "shapes of a layer");
        if grads.outputs == 1 {
            return self.thin_backward_weight(dy, x, grads);
        }
        if !self.product((x, false), (dy, true), grads.matrix(), Epilogue::SumsOfB(grads.bias))? {
            self.product((x, false), (dy, true), grads.matrix(), Epilogue::None)?;
            elementwise::column_sums(self.driver, self.scratch, dy, grads.bias)?;
        }
        Ok(())
    }

    fn thin_backward_weight(&mut self, dy: Place, x: Place, grads: Params) -> Result<()> {
        let (rows, cols) = (x.rows as usize, x.cols as usize + 1);
        let blocks = rows.div_ceil(SUM_ROWS);
        let partial = self.scratch.get(Purpose::Partials, blocks * cols * size_of::<f32>())?;
        let shape = Launch::columns(rows, cols);
        launch!(
            self.driver,
            SOURCE,
            "thin_backward_weight",
            shape,
            dy.at,
            dy.stride,
            x.at,
            x.stride,
            x.rows,
            x.cols,
            SUM_ROWS as u32,
            partial
        )?;
        let (shape, blocks) = (Launch::each(cols), blocks as u32);
        launch!(self.driver, SOURCE, "thin_backward_join", shape, partial, blocks, x.cols, grads.weight, grads.bias)
    }

    fn number(&self) -> Number {
        match self.precision {
            Precision::Fp32 | Precision::Tf32 => Number::F32,
            Precision::Bf16 => Number::Bf16,
            Precision::Fp16 => Number::F16,
        }
    }

    /// `D = op(A) op(B)` in cuBLASLt's view of our matrices, each given with whether that view is transposed; `d` has the columns of
    /// op(A)'s rows. `false` if the library has no such end.
    fn product(&mut self, a: (Place, bool), b: (Place, bool), d: Place, epilogue: Epilogue) -> Result<bool> {
        let (m, n) = (d.cols as usize, d.rows as usize);
        let k = if b.1 { b.0.rows } else { b.0.cols } as usize;
        let gemm = Gemm {
            m,
            n,
            k,
            a: self.operand(a, Purpose::Left)?,
            b: self.operand(b, Purpose::Right)?,
            number: self.number(),
            d: Operand { at: d.at, stride: d.stride as usize, transposed: false },
            compute: if self.precision == Precision::Tf32 { Compute::Tf32 } else { Compute::Plain },
            epilogue,
        };
        // SAFETY: places have been checked against their buffers, shapes by the callers.
        let done = unsafe { self.driver.gemm(&gemm) }?;
        if !done && epilogue == Epilogue::None {
            return Err(BackendError::Device(format!("cuBLASLt has no product of {m} x {k} by {k} x {n}")));
        }
        Ok(done)
    }

    /// The operand itself, or a copy in 16 bits.
    fn operand(&mut self, (x, transposed): (Place, bool), purpose: Purpose) -> Result<Operand> {
        let kind = match self.number() {
            Number::F32 => return Ok(Operand { at: x.at, stride: x.stride as usize, transposed }),
            Number::Bf16 => 1,
            Number::F16 => 2,
        };
        let padded = (x.cols as usize).next_multiple_of(PAD);
        let at = self.scratch.get(purpose, x.rows as usize * padded * size_of::<u16>())?;
        elementwise::round16(self.driver, x, at, padded, kind)?;
        Ok(Operand { at, stride: padded, transposed })
    }
}
