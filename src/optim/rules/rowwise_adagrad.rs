//! Adagrad with one accumulator a row.

use super::{
    Arithmetic, Buffer, Constants, FormulaKind, Per, Range, State, Step, UpdateRule, adagrad,
    describe,
};

describe::keys! {
    /// Rows: `m += mean_k(g_k^2); p -= lr * g / (sqrt(m) + eps)`, one `m` a row; dense parameters:
    /// plain Adagrad (facebookresearch/dlrm, optim/rwsadagrad.py).
    RowwiseAdagrad {
        /// Added to the root in the denominator
        eps: f64 = 1e-10, Range::NOT_NEGATIVE;
        /// Accumulators at start
        initial_accumulator: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl UpdateRule for RowwiseAdagrad {
    const KIND: &'static str = "rowwise_adagrad";
    const ABOUT: &'static str = "Rows: `m += mean_k(g_k^2); p -= lr * g / (sqrt(m) + eps)`; dense \
        parameters as `adagrad` (facebookresearch/dlrm)";

    fn conflict(&self) -> Option<(&'static str, String)> {
        adagrad::divides_by_zero(self.eps, self.initial_accumulator)
    }

    fn state(&self) -> State {
        State::lazy(vec![Buffer {
            rows: Per::Row,
            ..Buffer::per_element("sum of (mean) squares", self.initial_accumulator)
        }])
    }

    fn step(&self, rate: f64, _: u64) -> Step {
        Step::of(FormulaKind::RowwiseAdagrad, [rate, self.eps])
    }

    fn examples() -> Vec<Self> {
        vec![RowwiseAdagrad { eps: 1e-3, initial_accumulator: 0.1 }]
    }

    fn logged(&self) -> Vec<(&'static str, f64)> {
        adagrad::logged(self.eps, self.initial_accumulator, 0.0)
    }
}

/// Constants: rate; what is added to the root, for a row's elements the root itself.
pub struct Formula;

impl super::Formula for Formula {
    const STATES: usize = 1;
    const ROW_STATES: usize = 0;
    const ROW: bool = true;
    const SQUARES: bool = true;

    #[inline(always)]
    fn element<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        adagrad::Formula::element(c, p, g, s)
    }

    #[inline(always)]
    fn row<A: Arithmetic>(mut c: Constants<A>, sum: A, mean_square: A) -> (Constants<A>, A) {
        let sum = sum.add(mean_square);
        c[1] = sum.sqrt().add(c[1]);
        (c, sum)
    }

    #[inline(always)]
    fn row_element<A: Arithmetic>(
        [lr, root, ..]: Constants<A>,
        p: A,
        g: A,
        s: [A; 2],
    ) -> (A, [A; 2]) {
        (p.sub(lr.mul(g.div(root))), s)
    }
}
