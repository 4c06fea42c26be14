//! Adam (Kingma & Ba 2015) as torch and TensorFlow have it.

use super::{Arithmetic, Buffer, Constants, FormulaKind, Range, State, Step, UpdateRule, describe};

describe::words! {
    /// Where Adam's epsilon sits.
    AdamForm {
        /// `p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
        "torch" => Torch,
        /// `p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`.
        "tf" => Tf,
    }
}

describe::words! {
    /// What Adam does to rows of a table that the batch did not touch.
    AdamRows {
        /// Nothing; `t` is the global step (OneFlow's OneEmbedding).
        "lazy" => Lazy,
        /// They decay and move like all others (torch with dense gradients, FuxiCTR).
        "dense" => Dense,
    }
}

describe::keys! {
    /// `m += (1 - b1) * (g - m); v = b2 * v + (1 - b2) * g^2`, and a step by [`AdamForm`].
    Adam {
        /// Decay of the first moment
        beta1: f64 = 0.9, Range::BELOW_ONE;
        /// Decay of the second moment
        beta2: f64 = 0.999, Range::BELOW_ONE;
        /// Added to the root in the denominator
        eps: f64 = 1e-8, Range::DIVISOR;
        /// `torch` divides by sqrt(v / (1 - beta2^t)) + eps, `tf` by sqrt(v) + eps
        form: AdamForm = AdamForm::Torch, Range::ANY;
        /// Embedding rows that a batch does not touch: `lazy` leaves them alone, `dense` lets them
        /// decay and move like all others
        rows: AdamRows = AdamRows::Lazy, Range::ANY;
    }
}

impl UpdateRule for Adam {
    const KIND: &'static str = "adam";
    const ABOUT: &'static str = "`m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; \
        p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`, or by `optimizer.form`";

    fn state(&self) -> State {
        State { moves_all_rows: self.rows == AdamRows::Dense, ..State::lazy(moments()) }
    }

    fn step(&self, rate: f64, number: u64) -> Step {
        let Adam { beta1, beta2, eps, form, .. } = *self;
        let correction = 1.0 - beta1.powf(number as f64);
        let root = (1.0 - beta2.powf(number as f64)).sqrt();
        let (rate, root) = match form {
            AdamForm::Torch => (rate / correction, root),
            AdamForm::Tf => (rate * root / correction, 1.0),
        };
        Step::of(FormulaKind::Adam, [1.0 - beta1, beta2, 1.0 - beta2, rate, root, eps])
    }

    fn examples() -> Vec<Self> {
        let (torch, tf) = (AdamForm::Torch, AdamForm::Tf);
        vec![
            Adam { beta1: 0.9, beta2: 0.999, eps: 1e-3, form: torch, rows: AdamRows::Dense },
            Adam { beta1: 0.8, beta2: 0.99, eps: 1e-3, form: tf, rows: AdamRows::Lazy },
        ]
    }

    fn logged(&self) -> Vec<(&'static str, f64)> {
        logged(self.beta1, self.beta2, self.eps)
    }
}

/// The two moments.
pub(super) fn moments() -> Vec<Buffer> {
    ["first moment", "second moment"].map(|name| Buffer::per_element(name, 0.0)).into()
}

/// Adam's keys of the MLPerf log.
pub(super) fn logged(beta1: f64, beta2: f64, eps: f64) -> Vec<(&'static str, f64)> {
    vec![("opt_adam_beta_1", beta1), ("opt_adam_beta_2", beta2), ("opt_adam_epsilon", eps)]
}

/// `p -= rate * m / (sqrt(v) / root + eps)`. Torch's form has `rate = lr / (1 - b1^t)` and `root =
/// sqrt(1 - b2^t)`; TensorFlow's `rate = lr * sqrt(1 - b2^t) / (1 - b1^t)` and `root = 1`.
///
/// Constants: `1 - b1`, `b2`, `1 - b2`, `rate`, `root`, `eps`.
pub struct Formula;

impl super::Formula for Formula {
    const STATES: usize = 2;

    #[inline(always)]
    fn element<A: Arithmetic>(
        [one_minus_beta1, beta2, one_minus_beta2, rate, root, eps, ..]: Constants<A>,
        p: A,
        g: A,
        [m, v]: [A; 2],
    ) -> (A, [A; 2]) {
        let m = m.add(one_minus_beta1.mul(g.sub(m)));
        let v = v.mul(beta2).add(one_minus_beta2.mul(g).mul(g));
        let root = v.sqrt().div(root).add(eps);
        (p.sub(rate.mul(m).div(root)), [m, v])
    }
}
