//! Matrix products as cuBLASLt describes them: column by column, `D [m, n] = op(A) op(B)`, with what follows in the same pass.

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

/// What follows a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// `D[i, j] += bias[i]`.
    Bias(Address),
    /// The same, then `max(D, 0)`.
    BiasRelu(Address),
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
    /// The product, f32 and not transposed.
    pub d: Operand,
    /// How.
    pub compute: Compute,
    /// And then.
    pub epilogue: Epilogue,
}

impl Gemm {
    /// The same shapes and places in memory modulo what alignment asks about: products of one kind share a plan.
    pub fn kind(&self) -> Gemm {
        let aligned = |at: Address| 1 << at.trailing_zeros().min(8);
        let kind = |o: Operand| Operand { at: aligned(o.at), ..o };
        let epilogue = match self.epilogue {
            Epilogue::None => Epilogue::None,
            Epilogue::Bias(at) => Epilogue::Bias(aligned(at)),
            Epilogue::BiasRelu(at) => Epilogue::BiasRelu(aligned(at)),
            Epilogue::SumsOfB(at) => Epilogue::SumsOfB(aligned(at)),
        };
        Gemm { a: kind(self.a), b: kind(self.b), d: kind(self.d), epilogue, ..*self }
    }
}
