//! Updates of dense parameters, and sums of squares for clipping.

use super::{
    rule,
    simd::{Kernel, Lanes, launch, load_up_to},
};
use crate::{
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
    optim::rules::{Constants, Formula, Step, Visitor},
};
use std::marker::PhantomData;

/// Elements of a chunk.
const BLOCK: usize = 1 << 14;

/// Applies one step of a rule to parameters `p` with gradients `scale * g`. `state` holds as many
/// buffers as the rule asks for ([`crate::optim::rules::State::dense`]), each as long as `p`; the
/// others are empty.
///
/// # Panics
/// If lengths differ.
#[allow(clippy::too_many_arguments)]
pub fn update(
    pool: &Pool,
    isa: Isa,
    step: &Step,
    scale: f32,
    p: &mut [f32],
    g: &[f32],
    s0: &mut [f32],
    s1: &mut [f32],
) {
    let constants = &step.constants;
    step.formula.visit(Sweep { pool, isa, constants, scale, p, g, state: [s0, s1] });
}

/// An update of all parameters, whatever the formula.
struct Sweep<'a> {
    pool: &'a Pool,
    isa: Isa,
    constants: &'a Constants<f32>,
    scale: f32,
    p: &'a mut [f32],
    g: &'a [f32],
    state: [&'a mut [f32]; 2],
}

impl Visitor for Sweep<'_> {
    type Output = ();

    fn visit<F: Formula>(self) {
        let Sweep { pool, isa, constants, scale, p, g, state } = self;
        let n = p.len();
        assert_eq!(g.len(), n, "one gradient for each parameter");
        assert!(state.iter().take(F::STATES).all(|s| s.len() == n), "state of each parameter");
        let p = SharedMut::new(p);
        let state = state.map(SharedMut::new);
        pool.run(n.div_ceil(BLOCK), |chunk, _| {
            let (at, len) = (chunk * BLOCK, BLOCK.min(n - chunk * BLOCK));
            // SAFETY: chunks have elements of their own.
            let p = unsafe { p.slice(at, len) };
            let (g, state) = (&g[at..at + len], state.map(|s| s.as_ptr().wrapping_add(at)));
            launch(isa, Update { formula: PhantomData::<F>, constants, scale, p, g, state });
        });
    }
}

struct Update<'a, F> {
    formula: PhantomData<F>,
    constants: &'a Constants<f32>,
    scale: f32,
    p: &'a mut [f32],
    g: &'a [f32],
    /// As long as `p`, as many as the formula has.
    state: [*mut f32; 2],
}

impl<F: Formula> Kernel for Update<'_, F> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (n, p, g) = (self.p.len(), self.p.as_mut_ptr(), self.g.as_ptr());
        // SAFETY: lengths have been checked by `Sweep`; chunks have elements of their own.
        unsafe { rule::update::<L, F>(self.constants, n, self.scale, p, g, self.state) }
    }
}

/// Partial sums that [`sum_squares`] of `len` numbers needs.
pub fn chunks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// Sum of squares in f64. Sums of fixed blocks are added in order, so the result does not depend on
/// the number of threads. `partials` is scratch space, which grows once.
pub fn sum_squares(pool: &Pool, isa: Isa, x: &[f32], partials: &mut Vec<f64>) -> f64 {
    let chunks = chunks(x.len());
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
        let mut sums = [0.0; 16];
        // SAFETY: the caller has the instruction set.
        unsafe { add_squares::<L>(self.x, &mut sums) };
        *self.sum = sums.iter().sum();
    }
}

/// Adds squares to sixteen running sums in turn, in f64.
///
/// # Safety
/// The machine must have the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn add_squares<L: Lanes>(x: &[f32], sums: &mut [f64; 16]) {
    let mut i = 0;
    while i < x.len() {
        // SAFETY: inside `x`, and `N` divides 16.
        unsafe {
            let v = load_up_to::<L>(x.as_ptr().add(i), x.len() - i);
            L::add_squares(v, sums.as_mut_ptr().add(i % 16));
        }
        i += L::N;
    }
}

#[cfg(test)]
mod tests;
