//! The formulas of [`crate::optim::rules`] on whole registers; the same bits.

use super::simd::{Lanes, load_up_to, store_up_to};
use crate::optim::rules::{Arithmetic, CONSTANTS, Constants, Formula};
use std::marker::PhantomData;

/// A register as a number. Made only inside kernels, which run with their instruction set.
struct Register<L: Lanes>(L::V);

impl<L: Lanes> Clone for Register<L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L: Lanes> Copy for Register<L> {}

// SAFETY (all blocks): registers exist only where the machine has the instruction set, see
// `Register`.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one instruction a block; said above")]
impl<L: Lanes> Arithmetic for Register<L> {
    #[inline(always)]
    fn of(x: f32) -> Self {
        Register(unsafe { L::splat(x) })
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Register(unsafe { L::add(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Register(unsafe { L::sub(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Register(unsafe { L::mul(self.0, b.0) })
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Register(unsafe { L::div(self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Register(unsafe { L::sqrt(self.0) })
    }
    #[inline(always)]
    fn if_above(self, b: Self, yes: Self, no: Self) -> Self {
        Register(unsafe { L::if_above(self.0, b.0, yes.0, no.0) })
    }
}

/// Dense parameters, or elements of a row: which half of a formula is meant.
trait Elements {
    const STATES: usize;
    fn apply<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]);
}

struct Dense<F>(PhantomData<F>);

impl<F: Formula> Elements for Dense<F> {
    const STATES: usize = F::STATES;

    #[inline(always)]
    fn apply<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        F::element(c, p, g, s)
    }
}

struct OfRow<F>(PhantomData<F>);

impl<F: Formula> Elements for OfRow<F> {
    const STATES: usize = F::ROW_STATES;

    #[inline(always)]
    fn apply<A: Arithmetic>(c: Constants<A>, p: A, g: A, s: [A; 2]) -> (A, [A; 2]) {
        F::row_element(c, p, g, s)
    }
}

/// Updates `n` dense parameters by `scale * g`.
///
/// # Safety
/// The machine must have the instruction set of `L`; `p`, `g` and the state that the formula has
/// must hold `n` floats, nobody else may look at `p` and the state meanwhile.
#[inline(always)]
pub(crate) unsafe fn update<L: Lanes, F: Formula>(
    constants: &Constants<f32>,
    n: usize,
    scale: f32,
    p: *mut f32,
    g: *const f32,
    state: [*mut f32; 2],
) {
    // SAFETY: the caller's promise.
    unsafe { elements::<L, Dense<F>>(constants, n, scale, p, g, state) }
}

/// Updates one row of a table of `n` columns.
///
/// # Safety
/// As [`update`]; the row's own number, if the formula has one ([`Formula::ROW`]), is a single float
/// behind the state of its elements.
#[inline(always)]
pub(crate) unsafe fn update_row<L: Lanes, F: Formula>(
    constants: &Constants<f32>,
    n: usize,
    p: *mut f32,
    g: *const f32,
    state: [*mut f32; 2],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mean = if F::SQUARES { sum_squares::<L>(g, n) / n as f32 } else { 0.0 };
        let own = if F::ROW { *state[F::ROW_STATES] } else { 0.0 };
        let (constants, own) = F::row(*constants, own, mean);
        if F::ROW {
            *state[F::ROW_STATES] = own;
        }
        elements::<L, OfRow<F>>(&constants, n, 1.0, p, g, state);
    }
}

/// # Safety
/// As [`update`].
#[inline(always)]
unsafe fn elements<L: Lanes, E: Elements>(
    constants: &Constants<f32>,
    n: usize,
    scale: f32,
    p: *mut f32,
    g: *const f32,
    state: [*mut f32; 2],
) {
    // No closures here: code inside one is not compiled for the instruction set unless the compiler
    // happens to inline it.
    let mut c = [Register::<L>::of(0.0); CONSTANTS];
    for k in 0..CONSTANTS {
        c[k] = Register::of(constants[k]);
    }
    let mut i = 0;
    while i < n {
        let left = n - i;
        // SAFETY: the caller's promise.
        unsafe {
            let g = L::mul(L::splat(scale), load_up_to::<L>(g.add(i), left));
            let mut old = [Register::<L>(L::splat(0.0)); 2];
            for k in 0..E::STATES {
                old[k] = Register(load_up_to::<L>(state[k].add(i), left));
            }
            let (new, s) = E::apply(c, Register(load_up_to::<L>(p.add(i), left)), Register(g), old);
            store_up_to::<L>(p.add(i), left, new.0);
            for k in 0..E::STATES {
                store_up_to::<L>(state[k].add(i), left, s[k].0);
            }
        }
        i += L::N;
    }
}

/// [`crate::optim::rules::sum_squares`].
///
/// # Safety
/// As [`update`], for `g`.
#[inline(always)]
unsafe fn sum_squares<L: Lanes>(g: *const f32, n: usize) -> f32 {
    const LANES: usize = 16;
    // SAFETY: the caller's promise.
    unsafe {
        // Sixteen running sums are `16 / N` registers.
        let mut sums = [L::splat(0.0); LANES];
        let mut i = 0;
        while i < n {
            for (k, sum) in sums.iter_mut().enumerate().take(LANES / L::N) {
                if i + k * L::N < n {
                    let g = load_up_to::<L>(g.add(i + k * L::N), n - i - k * L::N);
                    *sum = L::add(*sum, L::mul(g, g));
                }
            }
            i += LANES;
        }
        let mut half = LANES / L::N / 2;
        while half > 0 {
            for k in 0..half {
                sums[k] = L::add(sums[k], sums[k + half]);
            }
            half /= 2;
        }
        L::sum(sums[0])
    }
}
