//! The update rules, element by element and row by row: plain arithmetic that every backend must
//! match.
//!
//! Computed in f32 in the order of torch's kernels; what depends on the step alone (bias
//! corrections, decayed rates) is computed in f64 first. A rule is written once over
//! [`Arithmetic`]; CPU kernels put whole registers in its place. Since nothing is fused or
//! reordered, all of them give the same bits.

use super::{AdamForm, OptimizerSpec};

/// What the rules compute with: one f32, or several side by side. Every operation is rounded once,
/// as IEEE 754 says.
pub trait Arithmetic: Copy {
    /// A constant.
    fn of(x: f32) -> Self;
    /// `self + b`.
    fn add(self, b: Self) -> Self;
    /// `self - b`.
    fn sub(self, b: Self) -> Self;
    /// `self * b`.
    fn mul(self, b: Self) -> Self;
    /// `self / b`.
    fn div(self, b: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn of(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn add(self, b: f32) -> f32 {
        self + b
    }
    #[inline(always)]
    fn sub(self, b: f32) -> f32 {
        self - b
    }
    #[inline(always)]
    fn mul(self, b: f32) -> f32 {
        self * b
    }
    #[inline(always)]
    fn div(self, b: f32) -> f32 {
        self / b
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        self.sqrt()
    }
}

/// A rule at one step, its constants ready.
pub trait Rule: Copy + Send + Sync {
    /// State buffers kept beside the parameters: 0, 1 or 2.
    const STATES: usize;

    /// Whether a row of a table has one accumulator for all its columns: then a kernel adds the
    /// mean of the squared gradient ([`sum_squares`] over the number of columns) to it and calls
    /// [`Rule::apply_scaled`] for each element.
    const ROWWISE: bool = false;

    /// New parameter and state from a parameter, its gradient and state. States beyond
    /// [`Rule::STATES`] are passed through.
    fn apply<A: Arithmetic>(self, p: A, g: A, s: [A; 2]) -> (A, [A; 2]);

    /// New parameter of a row whose accumulator, already raised, is `m`. Only for rules with
    /// [`Rule::ROWWISE`].
    fn apply_scaled<A: Arithmetic>(self, p: A, g: A, m: A) -> A {
        let _ = (g, m);
        p
    }
}

/// `p -= lr * g`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Rate.
    pub lr: f32,
}

impl Rule for Sgd {
    const STATES: usize = 0;

    #[inline(always)]
    fn apply<A: Arithmetic>(self, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        (p.sub(A::of(self.lr).mul(g)), s)
    }
}

/// `G += g^2; p -= lr * g / (sqrt(G) + eps)` (pytorch: torch/optim/adagrad.py).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// Rate, decayed.
    pub lr: f32,
    /// Added to the root.
    pub eps: f32,
}

impl Rule for Adagrad {
    const STATES: usize = 1;

    #[inline(always)]
    fn apply<A: Arithmetic>(self, p: A, g: A, [sum, rest]: [A; 2]) -> (A, [A; 2]) {
        let sum = sum.add(g.mul(g));
        let root = sum.sqrt().add(A::of(self.eps));
        (p.sub(A::of(self.lr).mul(g).div(root)), [sum, rest])
    }
}

/// Rows share one accumulator: `m += mean_k(g_k^2); p -= lr * (g / (sqrt(m) + eps))`; dense
/// parameters as [`Adagrad`] (facebookresearch/dlrm: optim/rwsadagrad.py).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowwiseAdagrad {
    /// Rate.
    pub lr: f32,
    /// Added to the root.
    pub eps: f32,
}

impl Rule for RowwiseAdagrad {
    const STATES: usize = 1;
    const ROWWISE: bool = true;

    #[inline(always)]
    fn apply<A: Arithmetic>(self, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        Adagrad { lr: self.lr, eps: self.eps }.apply(p, g, s)
    }

    #[inline(always)]
    fn apply_scaled<A: Arithmetic>(self, p: A, g: A, m: A) -> A {
        let root = m.sqrt().add(A::of(self.eps));
        p.sub(A::of(self.lr).mul(g.div(root)))
    }
}

/// Adam; torch: `p -= rate * m / (sqrt(v) / root + eps)` with `rate = lr / (1 - b1^t)`, `root =
/// sqrt(1 - b2^t)` (pytorch: torch/optim/adam.py). TensorFlow's form (`p -= rate * m / (sqrt(v) +
/// eps)`, `rate = lr * sqrt(1 - b2^t) / (1 - b1^t)`) is the same with `root = 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// `1 - beta1`.
    pub one_minus_beta1: f32,
    /// `beta2`.
    pub beta2: f32,
    /// `1 - beta2`.
    pub one_minus_beta2: f32,
    /// Rate with its bias correction.
    pub rate: f32,
    /// What `sqrt(v)` is divided by.
    pub root: f32,
    /// Added to the root.
    pub eps: f32,
}

impl Rule for Adam {
    const STATES: usize = 2;

    #[inline(always)]
    fn apply<A: Arithmetic>(self, p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = m.add(A::of(self.one_minus_beta1).mul(g.sub(m)));
        let v = v.mul(A::of(self.beta2)).add(A::of(self.one_minus_beta2).mul(g).mul(g));
        let root = v.sqrt().div(A::of(self.root)).add(A::of(self.eps));
        (p.sub(A::of(self.rate).mul(m).div(root)), [m, v])
    }
}

/// Sum of squares in f32: sixteen running sums, then halves added to halves. The order depends on
/// the length alone.
pub fn sum_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for c in x.chunks(16) {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l += v * v;
        }
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// A rule of any kind at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// See [`Sgd`].
    Sgd(Sgd),
    /// See [`Adagrad`].
    Adagrad(Adagrad),
    /// See [`RowwiseAdagrad`].
    RowwiseAdagrad(RowwiseAdagrad),
    /// See [`Adam`].
    Adam(Adam),
}

impl Step {
    /// The constants of step `t` (1-based) at learning rate `lr` (the schedule applied).
    pub fn new(rule: &OptimizerSpec, lr: f64, t: u64) -> Step {
        match *rule {
            OptimizerSpec::Sgd => Step::Sgd(Sgd { lr: lr as f32 }),
            OptimizerSpec::Adagrad { eps, lr_decay, .. } => {
                let steps = t.saturating_sub(1) as f64;
                Step::Adagrad(Adagrad {
                    lr: (lr / (1.0 + steps * lr_decay)) as f32,
                    eps: eps as f32,
                })
            }
            OptimizerSpec::RowwiseAdagrad { eps, .. } => {
                Step::RowwiseAdagrad(RowwiseAdagrad { lr: lr as f32, eps: eps as f32 })
            }
            OptimizerSpec::Adam { beta1, beta2, eps, form, .. } => {
                let correction1 = 1.0 - beta1.powf(t as f64);
                let root = (1.0 - beta2.powf(t as f64)).sqrt();
                let (rate, root) = match form {
                    AdamForm::Torch => (lr / correction1, root),
                    AdamForm::Tf => (lr * root / correction1, 1.0),
                };
                Step::Adam(Adam {
                    one_minus_beta1: (1.0 - beta1) as f32,
                    beta2: beta2 as f32,
                    one_minus_beta2: (1.0 - beta2) as f32,
                    rate: rate as f32,
                    root: root as f32,
                    eps: eps as f32,
                })
            }
        }
    }
}

/// Updates dense parameters, one by one. `s0` and `s1` are as long as `p` where the rule has that
/// state, else empty.
pub fn update(step: &Step, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    fn all<R: Rule>(rule: R, p: &mut [f32], g: &[f32], s: [&mut [f32]; 2]) {
        for i in 0..p.len() {
            let old = [0, 1].map(|k| if k < R::STATES { s[k][i] } else { 0.0 });
            let (new, state) = rule.apply(p[i], g[i], old);
            p[i] = new;
            (0..R::STATES).for_each(|k| s[k][i] = state[k]);
        }
    }
    match *step {
        Step::Sgd(r) => all(r, p, g, [s0, s1]),
        Step::Adagrad(r) => all(r, p, g, [s0, s1]),
        Step::RowwiseAdagrad(r) => all(r, p, g, [s0, s1]),
        Step::Adam(r) => all(r, p, g, [s0, s1]),
    }
}

/// Updates one row of a table, element by element; state as [`StateShape`] has it for a row.
pub fn update_row(step: &Step, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    let Step::RowwiseAdagrad(rule) = *step else { return update(step, p, g, s0, s1) };
    s0[0] += sum_squares(g) / g.len() as f32;
    for (p, &g) in p.iter_mut().zip(g) {
        *p = rule.apply_scaled(*p, g, s0[0]);
    }
}

/// The state that a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateShape {
    /// Buffers of one element a dense parameter, and of [`StateShape::row_width`] elements a row of
    /// a table.
    pub buffers: usize,
    /// Value of every element at start.
    pub initial: f32,
    /// Whether a row has one element for all its columns.
    pub rowwise: bool,
}

impl StateShape {
    /// The state of `rule`.
    pub fn of(rule: &OptimizerSpec) -> StateShape {
        let (buffers, initial, rowwise) = match *rule {
            OptimizerSpec::Sgd => (0, 0.0, false),
            OptimizerSpec::Adagrad { initial_accumulator, .. } => (1, initial_accumulator, false),
            OptimizerSpec::RowwiseAdagrad { initial_accumulator, .. } => {
                (1, initial_accumulator, true)
            }
            OptimizerSpec::Adam { .. } => (2, 0.0, false),
        };
        StateShape { buffers, initial: initial as f32, rowwise }
    }

    /// Elements of state that a row of `dim` columns has in each buffer.
    pub fn row_width(&self, dim: usize) -> usize {
        if self.rowwise { 1 } else { dim }
    }
}

#[cfg(test)]
pub(crate) mod tests;
