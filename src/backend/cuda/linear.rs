//! Fully connected layers: products by cuBLASLt with bias, ReLU, the ReLU's gradient and the bias's
//! gradient at their ends; those of a single output by kernels of our own ([`super::thin`]). In
//! 16-bit precisions both operands are rounded on their way into the product, as on the CPU, unless
//! a product before has left them so.
//!
//! cuBLASLt thinks in columns: a matrix `[rows, cols]` of ours with rows `stride` apart is a `cols
//! x rows` matrix of its, columns `stride` apart.

use super::{
    driver::{
        Address, Driver,
        gemm::{BitMask, Compute, Epilogue, Gemm, Number, Operand},
    },
    elementwise,
    memory::Place,
    scratch::{Purpose, Scratch},
    thin,
};
use crate::backend::{BackendError, Precision, Result};

/// Elements that rows of 16-bit operands are padded to: 16 bytes.
const PAD: usize = 8;

/// A layer's parameters, or their gradients: weight `[outputs, inputs]` and, if there is one, bias
/// `[outputs]`, in f32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Params {
    pub weight: Address,
    pub bias: Option<Address>,
    pub inputs: usize,
    pub outputs: usize,
}

impl Params {
    fn matrix(self) -> Place {
        let (inputs, outputs) = (self.inputs as u32, self.outputs as u32);
        Place { at: self.weight, stride: inputs, rows: outputs, cols: inputs, number: Number::F32 }
    }

    fn bias(self) -> Option<Place> {
        let cols = self.outputs as u32;
        self.bias.map(|at| Place { at, stride: cols, rows: 1, cols, number: Number::F32 })
    }
}

/// The numbers that operands of products are rounded to.
pub(super) fn operands(precision: Precision) -> Number {
    match precision {
        Precision::Fp32 | Precision::Tf32 => Number::F32,
        Precision::Bf16 => Number::Bf16,
        Precision::Fp16 => Number::F16,
    }
}

/// What products need beside their operands.
pub(super) struct Products<'a> {
    pub driver: &'a dyn Driver,
    pub scratch: &'a mut Scratch,
    pub precision: Precision,
}

/// The ReLU that a gradient passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate {
    /// What it let pass, and a dropout behind it.
    pub activation: Place,
    /// The dropout's.
    pub factor: f32,
    /// Which elements are above zero, if the forward product has left that.
    pub mask: Option<BitMask>,
}

/// What becomes of the gradient of a layer's input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Onto {
    /// It takes the place of what is there.
    Set,
    /// It is added to what is there.
    Add,
    /// It passes a ReLU first, then takes the place of what is there.
    Gate(Gate),
}

impl Products<'_> {
    /// `y = x W^T + b` (without a bias `x W^T`), then `max(y, 0)` if `relu`. `true` if the bits of the elements above zero
    /// are now at `mask`.
    pub(super) fn forward(
        &mut self,
        x: Place,
        params: Params,
        relu: bool,
        y: Place,
        mask: Option<BitMask>,
    ) -> Result<bool> {
        assert!(
            x.rows == y.rows
                && x.cols as usize == params.inputs
                && y.cols as usize == params.outputs,
            "shapes of a layer"
        );
        if params.outputs == 1 {
            thin::forward(self.driver, x, params, relu, y)?;
            return Ok(false);
        }
        let gemm = self.product((params.matrix(), true), (x, false), y)?;
        let bias = match (params.bias(), y.number) {
            (Some(bias), Number::F32) => Some(bias.at),
            (Some(bias), number) => Some(self.round(bias, Purpose::Bias, number)?.at),
            (None, _) => None,
        };
        if let (Some(bias), true, Some(mask)) = (bias, relu, mask)
            && self.multiply(&gemm, Epilogue::BiasReluMask(bias, mask))?
        {
            return Ok(true);
        }
        let done = match (bias, relu) {
            (Some(bias), true) => self.multiply(&gemm, Epilogue::BiasRelu(bias))?,
            (Some(bias), false) => self.multiply(&gemm, Epilogue::Bias(bias))?,
            (None, true) => false,
            (None, false) => self.multiply(&gemm, Epilogue::None)?,
        };
        if !done {
            let z = self.in_f32(&gemm, y)?;
            elementwise::bias_relu(self.driver, z, params.bias, relu, y)?;
        }
        Ok(false)
    }

    /// `dx = dy W`, gated, or `dx += dy W`.
    pub(super) fn backward_data(
        &mut self,
        dy: Place,
        params: Params,
        onto: Onto,
        dx: Place,
    ) -> Result<()> {
        assert!(
            dx.rows == dy.rows
                && dx.cols as usize == params.inputs
                && dy.cols as usize == params.outputs,
            "shapes of a layer"
        );
        if params.outputs == 1 {
            return thin::backward_data(self.driver, dy, params, onto, dx);
        }
        let gemm = self.product((params.matrix(), false), (dy, false), dx)?;
        let gemm = Gemm { add: matches!(onto, Onto::Add), ..gemm };
        if let Onto::Gate(Gate { factor: 1.0, mask: Some(mask), .. }) = onto
            && self.multiply(&gemm, Epilogue::ReluGradient(mask))?
        {
            return Ok(());
        }
        self.multiply(&gemm, Epilogue::None)?;
        match onto {
            Onto::Set | Onto::Add => Ok(()),
            Onto::Gate(g) => elementwise::gate(self.driver, g.activation, g.factor, dx),
        }
    }

    /// `dW = dy^T x`, and with a bias `db = sum of dy`.
    pub(super) fn backward_weight(&mut self, dy: Place, x: Place, grads: Params) -> Result<()> {
        assert!(
            x.rows == dy.rows
                && x.cols as usize == grads.inputs
                && dy.cols as usize == grads.outputs,
            "shapes of a layer"
        );
        if grads.outputs == 1 {
            return thin::backward_weight(self.driver, self.scratch, dy, x, grads);
        }
        let gemm = self.product((x, false), (dy, true), grads.matrix())?;
        let Some(bias) = grads.bias else {
            return self.multiply(&gemm, Epilogue::None).map(|_| ());
        };
        if !self.multiply(&gemm, Epilogue::SumsOfB(bias))? {
            self.multiply(&gemm, Epilogue::None)?;
            elementwise::column_sums(self.driver, self.scratch, dy, bias)?;
        }
        Ok(())
    }

    /// `D = op(A) op(B)` in cuBLASLt's view of our matrices, each given with whether that view is
    /// transposed; `d` has the columns of op(A)'s rows. Operands are in their numbers after this.
    fn product(&mut self, a: (Place, bool), b: (Place, bool), d: Place) -> Result<Gemm> {
        let (m, n) = (d.cols as usize, d.rows as usize);
        let k = if b.1 { b.0.rows } else { b.0.cols } as usize;
        Ok(Gemm {
            m,
            n,
            k,
            a: self.operand(a, Purpose::Left)?,
            b: self.operand(b, Purpose::Right)?,
            number: operands(self.precision),
            d: Operand { at: d.at, stride: d.stride as usize, transposed: false },
            result: d.number,
            compute: if self.precision == Precision::Tf32 { Compute::Tf32 } else { Compute::Plain },
            epilogue: Epilogue::None,
            add: false,
        })
    }

    /// Computes it; `false` if the library has no such end, and nothing was done.
    fn multiply(&self, gemm: &Gemm, epilogue: Epilogue) -> Result<bool> {
        let gemm = Gemm { epilogue, ..*gemm };
        // SAFETY: places have been checked against their buffers, shapes by the callers.
        let done = unsafe { self.driver.gemm(&gemm) }?;
        if !done && epilogue == Epilogue::None {
            let Gemm { m, n, k, .. } = gemm;
            return Err(BackendError::Device(format!(
                "cuBLASLt has no product of {m} x {k} by {k} x {n}"
            )));
        }
        Ok(done)
    }

    /// The product in f32, wherever there is room: it is rounded once, after what follows it.
    fn in_f32(&mut self, gemm: &Gemm, d: Place) -> Result<Place> {
        let mut z = d;
        if d.number != Number::F32 {
            let at = self
                .scratch
                .get(Purpose::Product, d.rows as usize * d.cols as usize * size_of::<f32>())?;
            z = Place { at, stride: d.cols, number: Number::F32, ..d };
        }
        let place = Operand { at: z.at, stride: z.stride as usize, transposed: false };
        self.multiply(&Gemm { d: place, result: Number::F32, ..*gemm }, Epilogue::None)?;
        Ok(z)
    }

    /// The operand itself if it has its numbers already, or a copy.
    fn operand(&mut self, (x, transposed): (Place, bool), purpose: Purpose) -> Result<Operand> {
        let number = operands(self.precision);
        let x = if x.number == number { x } else { self.round(x, purpose, number)? };
        Ok(Operand { at: x.at, stride: x.stride as usize, transposed })
    }

    /// A copy in 16-bit numbers.
    fn round(&mut self, x: Place, purpose: Purpose, number: Number) -> Result<Place> {
        assert!(x.number == Number::F32 && number != Number::F32, "operands of one precision");
        let padded = (x.cols as usize).next_multiple_of(PAD);
        let at = self.scratch.get(purpose, x.rows as usize * padded * number.bytes())?;
        elementwise::round16(self.driver, x, at, padded, number)?;
        Ok(Place { at, stride: padded as u32, number, ..x })
    }
}
