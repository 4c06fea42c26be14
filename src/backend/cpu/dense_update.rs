//! Updates of dense parameters, and sums of squares for clipping.

use super::{
    gemm::Isa,
    pool::{Pool, SharedMut},
    simd::{Kernel, Lanes, launch},
};
use crate::optim::rules::{Rule, Step};

/// Elements of a chunk.
const BLOCK: usize = 1 << 14;

/// Applies one step of a rule to parameters `p` with gradients `scale * g`. `state` holds as many buffers as the rule asks for
/// ([`crate::optim::rules::StateShape`]), each as long as `p`; the others are empty.
///
/// # Panics
/// If lengths differ.
#[allow(clippy::too_many_arguments)]
pub fn update(pool: &Pool, isa: Isa, step: &Step, scale: f32, p: &mut [f32], g: &[f32], s0: &mut [f32], s1: &mut [f32]) {
    match *step {
        Step::Sgd(rule) => update_by(pool, isa, rule, scale, p, g, [s0, s1]),
        Step::Adagrad(rule) => update_by(pool, isa, rule, scale, p, g, [s0, s1]),
        Step::RowwiseAdagrad(rule) => update_by(pool, isa, rule, scale, p, g, [s0, s1]),
        Step::Adam(rule) => update_by(pool, isa, rule, scale, p, g, [s0, s1]),
    }
}

fn update_by<R: Rule>(pool: &Pool, isa: Isa, rule: R, scale: f32, p: &mut [f32], g: &[f32], state: [&mut [f32]; 2]) {
    let n = p.len();
    assert_eq!(g.len(), n, "one gradient for each parameter");
    assert!(state.iter().take(R::STATES).all(|s| s.len() == n), "state of each parameter");
    let p = SharedMut::new(p);
    let state = state.map(SharedMut::new);
    pool.run(n.div_ceil(BLOCK), |chunk, _| {
        let (at, len) = (chunk * BLOCK, BLOCK.min(n - chunk * BLOCK));
        let part = |i: usize| if i < R::STATES { (at, len) } else { (0, 0) };
        // SAFETY: chunks have elements of their own.
        let (p, s0, s1) =
            unsafe { (p.slice(at, len), state[0].slice(part(0).0, part(0).1), state[1].slice(part(1).0, part(1).1)) };
        launch(isa, Update { rule, scale, p, g: &g[at..at + len], s0, s1 });
    });
}

struct Update<'a, R> {
    rule: R,
    scale: f32,
    p: &'a mut [f32],
    g: &'a [f32],
    s0: &'a mut [f32],
    s1: &'a mut [f32],
}

impl<R: Rule> Kernel for Update<'_, R> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        if self.scale == 1.0 {
            return self.rule.slice(self.p, self.g, self.s0, self.s1);
        }
        let mut scaled = [0.0; 256];
        let part = |i: usize, at: usize, len: usize| if i < R::STATES { at..at + len } else { 0..0 };
        for (c, g) in self.g.chunks(scaled.len()).enumerate() {
            let (at, len) = (c * scaled.len(), g.len());
            for (s, &g) in scaled.iter_mut().zip(g) {
                *s = self.scale * g;
            }
            let (s0, s1) = (&mut self.s0[part(0, at, len)], &mut self.s1[part(1, at, len)]);
            self.rule.slice(&mut self.p[at..at + len], &scaled[..len], s0, s1);
        }
    }
}

/// Sum of squares in f64. Sums of fixed blocks are added in order, so the result does not depend on the number of threads.
/// `partials` is scratch space, which grows once.
pub fn sum_squares(pool: &Pool, isa: Isa, x: &[f32], partials: &mut Vec<f64>) -> f64 {
    let chunks = x.len().div_ceil(BLOCK);
    partials.clear();
    partials.resize(chunks, 0.0);
    let shared = SharedMut::new(partials);
    pool.run(chunks, |chunk, _| {
        let x = &x[chunk * BLOCK..x.len().min((chunk + 1) * BLOCK)];
        // SAFETY: each chunk has its own sum.
        let sum = unsafe { &mut shared.slice(chunk, 1)[0] };
        launch(isa, Squares { x, sum });
    });
    partials.iter().sum()
}

struct Squares<'a> {
    x: &'a [f32],
    sum: &'a mut f64,
}

impl Kernel for Squares<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        *self.sum = sum_squares_block(self.x);
    }
}

/// Sum of squares in f64: sixteen running sums, added in order.
#[inline(always)]
pub(crate) fn sum_squares_block(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let mut chunks = x.chunks_exact(16);
    for c in &mut chunks {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l += f64::from(v) * f64::from(v);
        }
    }
    for (l, &v) in lanes.iter_mut().zip(chunks.remainder()) {
        *l += f64::from(v) * f64::from(v);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests;
