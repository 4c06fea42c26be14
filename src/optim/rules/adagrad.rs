//! Adagrad (Duchi, Hazan & Singer 2011) as torch and TensorFlow have it.

use super::{Arithmetic, Buffer, Constants, FormulaKind, Range, State, Step, UpdateRule, describe};

describe::keys! {
    /// `G += g^2; p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(G) + eps)` (pytorch:
    /// torch/optim/adagrad.py; TensorFlow's with `eps = 0, initial_accumulator = 0.1`).
    Adagrad {
        /// Added to the root in the denominator
        eps: f64 = 1e-10, Range::NOT_NEGATIVE;
        /// Accumulators at start
        initial_accumulator: f64 = 0.0, Range::NOT_NEGATIVE;
        /// The rate is divided by 1 + (step - 1) * this
        lr_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl UpdateRule for Adagrad {
    const KIND: &'static str = "adagrad";
    const ABOUT: &'static str = "`G += g^2; p -= lr * g / (sqrt(G) + eps)` (torch; TensorFlow's \
        with `eps = 0`, `initial_accumulator = 0.1`)";

    fn conflict(&self) -> Option<(&'static str, String)> {
        divides_by_zero(self.eps, self.initial_accumulator)
    }

    fn state(&self) -> State {
        State::lazy(vec![Buffer::per_element("sum of squares", self.initial_accumulator)])
    }

    fn step(&self, rate: f64, number: u64) -> Step {
        let steps = number.saturating_sub(1) as f64;
        Step::of(FormulaKind::Adagrad, [rate / (1.0 + steps * self.lr_decay), self.eps])
    }

    fn examples() -> Vec<Self> {
        vec![Adagrad { eps: 1e-3, initial_accumulator: 0.1, lr_decay: 0.5 }]
    }

    fn logged(&self) -> Vec<(&'static str, f64)> {
        logged(self.eps, self.initial_accumulator, self.lr_decay)
    }
}

/// What is wrong with an epsilon of 0 beside accumulators that begin at 0.
pub(super) fn divides_by_zero(eps: f64, initial: f64) -> Option<(&'static str, String)> {
    (eps <= 0.0 && initial <= 0.0).then(|| {
        let what = "is 0 with initial_accumulator 0, so a zero gradient divides by 0; \
            make one of them above 0";
        ("optimizer.eps", what.to_owned())
    })
}

/// Adagrad's keys of the MLPerf log.
pub(super) fn logged(eps: f64, initial: f64, decay: f64) -> Vec<(&'static str, f64)> {
    vec![
        ("opt_adagrad_epsilon", eps),
        ("opt_adagrad_initial_accumulator_value", initial),
        ("opt_adagrad_learning_rate_decay", decay),
    ]
}

/// Constants: rate, decayed; what is added to the root.
pub struct Formula;

impl super::Formula for Formula {
    const STATES: usize = 1;

    #[inline(always)]
    fn element<A: Arithmetic>(
        [lr, eps, ..]: Constants<A>,
        p: A,
        g: A,
        [sum, rest]: [A; 2],
    ) -> (A, [A; 2]) {
        let sum = sum.add(g.mul(g));
        (p.sub(lr.mul(g).div(sum.sqrt().add(eps))), [sum, rest])
    }
}
