//! The update rules, element by element and row by row: plain arithmetic that every backend must match.
//!
//! Computed in f32 in the order of torch's kernels; what depends on the step alone (bias corrections, decayed rates) is computed in
//! f64 first. CPU kernels compile these very functions for the machine's instruction set; since nothing here is fused or
//! reordered, all of them give the same bits.

use super::{AdamForm, OptimizerSpec};

/// A rule at one step: constants ready, `apply` and `row` to be called for every element or row.
pub trait Rule: Copy + Send + Sync {
    /// State buffers kept beside the parameters: 0, 1 or 2.
    const STATES: usize;

    /// Updates one dense parameter by its gradient. States beyond [`Rule::STATES`] are not looked at.
    fn apply(self, p: &mut f32, g: f32, s0: &mut f32, s1: &mut f32);

    /// Updates a slice of dense parameters; states that the rule has are as long as `p`, the others empty.
    #[inline(always)]
    fn slice(self, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
        let n = p.len();
        let g = &g[..n];
        match Self::STATES {
            0 => (0..n).for_each(|i| self.apply(&mut p[i], g[i], &mut 0.0, &mut 0.0)),
            1 => {
                let s0 = &mut s0[..n];
                (0..n).for_each(|i| self.apply(&mut p[i], g[i], &mut s0[i], &mut 0.0));
            }
            _ => {
                let (s0, s1) = (&mut s0[..n], &mut s1[..n]);
                (0..n).for_each(|i| self.apply(&mut p[i], g[i], &mut s0[i], &mut s1[i]));
            }
        }
    }

    /// Updates one row of an embedding table.
    #[inline(always)]
    fn row(self, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
        self.slice(p, g, s0, s1);
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
    fn apply(self, p: &mut f32, g: f32, _: &mut f32, _: &mut f32) {
        *p -= self.lr * g;
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
    fn apply(self, p: &mut f32, g: f32, sum: &mut f32, _: &mut f32) {
        *sum += g * g;
        *p -= self.lr * g / (sum.sqrt() + self.eps);
    }
}

/// Rows share one accumulator: `m += mean_k(g_k^2); p -= lr * g / (sqrt(m) + eps)`; dense parameters as [`Adagrad`]
/// (facebookresearch/dlrm: optim/rwsadagrad.py).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowwiseAdagrad {
    /// Rate.
    pub lr: f32,
    /// Added to the root.
    pub eps: f32,
}

impl Rule for RowwiseAdagrad {
    const STATES: usize = 1;

    #[inline(always)]
    fn apply(self, p: &mut f32, g: f32, sum: &mut f32, s1: &mut f32) {
        Adagrad { lr: self.lr, eps: self.eps }.apply(p, g, sum, s1);
    }

    #[inline(always)]
    fn row(self, p: &mut [f32], g: &[f32], m: &mut [f32], _: &mut [f32]) {
        m[0] += sum_squares(g) / g.len() as f32;
        let root = m[0].sqrt() + self.eps;
        for (p, &g) in p.iter_mut().zip(g) {
            *p -= self.lr * (g / root);
        }
    }
}

/// Adam; `torch`: `p -= rate * m / (sqrt(v) / root + eps)` with `rate = lr / (1 - b1^t)`, `root = sqrt(1 - b2^t)`
/// (pytorch: torch/optim/adam.py). TensorFlow's form (`p -= rate * m / (sqrt(v) + eps)`, `rate = lr * sqrt(1 - b2^t) / (1 - b1^t)`)
/// is the same with `root = 1`.
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
    fn apply(self, p: &mut f32, g: f32, m: &mut f32, v: &mut f32) {
        *m += self.one_minus_beta1 * (g - *m);
        *v = *v * self.beta2 + self.one_minus_beta2 * g * g;
        *p -= self.rate * *m / (v.sqrt() / self.root + self.eps);
    }
}

/// Sum of squares in f32: sixteen running sums, then halves added to halves. The order depends on the length alone.
#[inline(always)]
pub fn sum_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let mut chunks = x.chunks_exact(16);
    for c in &mut chunks {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l += v * v;
        }
    }
    for (l, &v) in lanes.iter_mut().zip(chunks.remainder()) {
        *l += v * v;
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
                Step::Adagrad(Adagrad { lr: (lr / (1.0 + steps * lr_decay)) as f32, eps: eps as f32 })
            }
            OptimizerSpec::RowwiseAdagrad { eps, .. } => Step::RowwiseAdagrad(RowwiseAdagrad { lr: lr as f32, eps: eps as f32 }),
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

/// Updates dense parameters; the oracle for faster versions.
pub fn update(step: &Step, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    match *step {
        Step::Sgd(r) => r.slice(p, g, s0, s1),
        Step::Adagrad(r) => r.slice(p, g, s0, s1),
        Step::RowwiseAdagrad(r) => r.slice(p, g, s0, s1),
        Step::Adam(r) => r.slice(p, g, s0, s1),
    }
}

/// Updates one row of a table; the oracle for faster versions.
pub fn update_row(step: &Step, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    match *step {
        Step::Sgd(r) => r.row(p, g, s0, s1),
        Step::Adagrad(r) => r.row(p, g, s0, s1),
        Step::RowwiseAdagrad(r) => r.row(p, g, s0, s1),
        Step::Adam(r) => r.row(p, g, s0, s1),
    }
}

/// The state that a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateShape {
    /// Buffers of one element a dense parameter, and of [`StateShape::row_width`] elements a row of a table.
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
            OptimizerSpec::RowwiseAdagrad { initial_accumulator, .. } => (1, initial_accumulator, true),
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
