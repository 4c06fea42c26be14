//! Adam as DeepRec's asynchronous parameter servers apply it.

use super::{
    Arithmetic, Buffer, Constants, FormulaKind, Per, Range, State, Step, UpdateRule, adam, describe,
};

describe::keys! {
    /// `alpha = lr * sqrt(1 - b2p) / (1 - b1p); m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) *
    /// g^2; p -= alpha * m / (sqrt(v) + eps)`. The powers `b1p`, `b2p` begin at `b1`, `b2`; every
    /// variable has its own, which go on by one factor an update (DeepRec: AdamAsyncOptimizer,
    /// training_ali_ops.cc).
    AdamAsync {
        /// Decay of the first moment
        beta1: f64 = 0.9, Range::BELOW_ONE;
        /// Decay of the second moment
        beta2: f64 = 0.999, Range::BELOW_ONE;
        /// Added to the root in the denominator
        eps: f64 = 1e-8, Range::DIVISOR;
        /// Look ahead: m in the step becomes beta1 * m + (1 - beta1) * g
        nesterov: bool = false, Range::ANY;
        /// Rows go by `v = b2 v + (1 - b2) g^2; m = b1 m + lr * g / sqrt(v + eps); p -= m`
        apply_sparse_rmsprop: bool = false, Range::ANY;
    }
}

impl UpdateRule for AdamAsync {
    const KIND: &'static str = "adam_async";
    const ABOUT: &'static str = "`alpha = lr * sqrt(1 - b2p) / (1 - b1p); m = b1 m + (1 - b1) g; \
        v = b2 v + (1 - b2) g^2; p -= alpha * m / (sqrt(v) + eps)`, then `b1p *= b1; b2p *= b2` \
        (DeepRec)";

    fn state(&self) -> State {
        let power = |name, beta: f64| Buffer {
            name,
            initial: beta as f32,
            dense: Per::Variable,
            rows: Per::Variable,
        };
        let powers = [power("power of beta1", self.beta1), power("power of beta2", self.beta2)];
        State::lazy(adam::moments().into_iter().chain(powers).collect())
    }

    fn step(&self, rate: f64, number: u64) -> Step {
        let AdamAsync { beta1, beta2, eps, nesterov, apply_sparse_rmsprop } = *self;
        let kind = match (nesterov, apply_sparse_rmsprop) {
            (false, false) => FormulaKind::AdamAsync,
            (true, false) => FormulaKind::AdamAsyncNesterov,
            (false, true) => FormulaKind::AdamAsyncRmsprop,
            (true, true) => FormulaKind::AdamAsyncNesterovRmsprop,
        };
        let (power1, power2) = (beta1.powf(number as f64), beta2.powf(number as f64));
        let alpha = rate * (1.0 - power2).sqrt() / (1.0 - power1);
        Step::of(kind, [alpha, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, rate])
    }

    fn examples() -> Vec<Self> {
        let with = |nesterov, apply_sparse_rmsprop| AdamAsync {
            beta1: 0.8,
            beta2: 0.99,
            eps: 1e-3,
            nesterov,
            apply_sparse_rmsprop,
        };
        vec![with(false, false), with(true, false), with(false, true), with(true, true)]
    }

    fn logged(&self) -> Vec<(&'static str, f64)> {
        adam::logged(self.beta1, self.beta2, self.eps)
    }
}

/// Constants: alpha, `b1`, `1 - b1`, `b2`, `1 - b2`, `eps`, rate.
pub struct Formula<const NESTEROV: bool, const RMSPROP: bool>;

/// `b * old + c * new`.
#[inline(always)]
fn blend<A: Arithmetic>(b: A, old: A, c: A, new: A) -> A {
    b.mul(old).add(c.mul(new))
}

impl<const NESTEROV: bool, const RMSPROP: bool> super::Formula for Formula<NESTEROV, RMSPROP> {
    const STATES: usize = 2;

    #[inline(always)]
    fn element<A: Arithmetic>(
        [alpha, beta1, one_minus_beta1, beta2, one_minus_beta2, eps, ..]: Constants<A>,
        p: A,
        g: A,
        [m, v]: [A; 2],
    ) -> (A, [A; 2]) {
        let m = blend(beta1, m, one_minus_beta1, g);
        let v = blend(beta2, v, one_minus_beta2, g.mul(g));
        let ahead = if NESTEROV { blend(beta1, m, one_minus_beta1, g) } else { m };
        (p.sub(alpha.mul(ahead).div(v.sqrt().add(eps))), [m, v])
    }

    #[inline(always)]
    fn row_element<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        if !RMSPROP {
            return Self::element(c, p, g, s);
        }
        let ([_, beta1, _, beta2, one_minus_beta2, eps, lr, _], [m, v]) = (c, s);
        let v = blend(beta2, v, one_minus_beta2, g.mul(g));
        let m = beta1.mul(m).add(lr.mul(g).div(v.add(eps).sqrt()));
        (p.sub(m), [m, v])
    }
}
