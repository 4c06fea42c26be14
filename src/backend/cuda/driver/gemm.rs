//! Matrix products as cuBLASLt describes them: column by column, `D [m, n] = op(A) op(B)`, with
//! what follows in the same pass.

use super::Address;

/// In what numbers a matrix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// f32.
    F32,
    /// bf16.
    Bf16,
    /// f16.
    F16,
}

impl Number {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Number::F32 => 4,
            Number::Bf16 | Number::F16 => 2,
        }
    }

    /// The number that kernels know it by (`RowKind` in sixteen.cuh).
    pub fn kind(self) -> u32 {
        match self {
            Number::F32 => 0,
            Number::Bf16 => 1,
            Number::F16 => 2,
        }
    }
}

/// How products are computed; sums are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compute {
    /// In the numbers of the operands.
    Plain,
    /// f32 operands rounded to TF32 (10 bits after the point) by the tensor cores.
    Tf32,
}

/// A matrix, column by column: element `(i, j)` at `i + j * stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Of the first element.
    pub at: Address,
    /// Elements from one column to the next.
    pub stride: usize,
    /// Read as its transpose.
    pub transposed: bool,
}

/// A bit for each element of a matrix, column by column: that of `(i, j)` is bit `i + j * stride`,
/// lowest bits of a byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitMask {
    /// Of the first byte; a multiple of 16.
    pub at: Address,
    /// Bits from one column to the next: a multiple of 128.
    pub stride: usize,
}

/// What follows a product, in f32 and before the result is rounded to its numbers. Biases have the
/// result's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// `D[i, j] += bias[i]`.
    Bias(Address),
    /// The same, then `max(D, 0)`.
    BiasRelu(Address),
    /// The same, and sets the bits of the elements above zero.
    BiasReluMask(Address, BitMask),
    /// `D[i, j] = 0` where such a bit is not set.
    ReluGradient(BitMask),
    /// `out[j] = sum over k of op(B)[k, j]`, `n` elements of f32.
    SumsOfB(Address),
}

/// One product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Rows of D.
    pub m: usize,
    /// Columns of D.
    pub n: usize,
    /// Columns of op(A), rows of op(B).
    pub k: usize,
    /// Left.
    pub a: Operand,
    /// Right.
    pub b: Operand,
    /// Numbers of both.
    pub number: Number,
    /// The product, not transposed.
    pub d: Operand,
    /// Its numbers: f32 or those of the operands.
    pub result: Number,
    /// How.
    pub compute: Compute,
    /// And then.
    pub epilogue: Epilogue,
    /// Add to what D holds, before what follows.
    pub add: bool,
}

impl Epilogue {
    /// Where the bias is, or where the sums go.
    pub fn vector(&self) -> Option<Address> {
        match *self {
            Epilogue::None | Epilogue::ReluGradient(_) => None,
            Epilogue::Bias(at)
            | Epilogue::BiasRelu(at)
            | Epilogue::BiasReluMask(at, _)
            | Epilogue::SumsOfB(at) => Some(at),
        }
    }

    /// The bits that it writes or reads.
    pub fn mask(&self) -> Option<BitMask> {
        match *self {
            Epilogue::BiasReluMask(_, mask) | Epilogue::ReluGradient(mask) => Some(mask),
            _ => None,
        }
    }
}

impl Gemm {
    /// The same shapes and places in memory modulo what alignment asks about: products of one kind
    /// share a plan.
    pub fn kind(&self) -> Gemm {
        let aligned = |at: Address| 1 << at.trailing_zeros().min(8);
        let kind = |o: Operand| Operand { at: aligned(o.at), ..o };
        let mask = |m: BitMask| BitMask { at: aligned(m.at), ..m };
        let epilogue = match self.epilogue {
            Epilogue::None => Epilogue::None,
            Epilogue::Bias(at) => Epilogue::Bias(aligned(at)),
            Epilogue::BiasRelu(at) => Epilogue::BiasRelu(aligned(at)),
            Epilogue::BiasReluMask(at, m) => Epilogue::BiasReluMask(aligned(at), mask(m)),
            Epilogue::ReluGradient(m) => Epilogue::ReluGradient(mask(m)),
            Epilogue::SumsOfB(at) => Epilogue::SumsOfB(aligned(at)),
        };
        Gemm { a: kind(self.a), b: kind(self.b), d: kind(self.d), epilogue, ..*self }
    }
}
