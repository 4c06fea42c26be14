//! Stochastic gradient descent.

use super::{Arithmetic, Constants, FormulaKind, State, Step, UpdateRule, describe};

describe::keys! {
    /// `p -= lr * g`.
    Sgd {}
}

impl UpdateRule for Sgd {
    const KIND: &'static str = "sgd";
    const ABOUT: &'static str = "`p -= lr * g`";

    fn state(&self) -> State {
        State::lazy(Vec::new())
    }

    fn step(&self, rate: f64, _: u64) -> Step {
        Step::of(FormulaKind::Sgd, [rate])
    }

    fn examples() -> Vec<Self> {
        vec![Sgd {}]
    }
}

/// Constants: rate.
pub struct Formula;

impl super::Formula for Formula {
    const STATES: usize = 0;

    #[inline(always)]
    fn element<A: Arithmetic>([lr, ..]: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        (p.sub(lr.mul(g)), s)
    }
}
