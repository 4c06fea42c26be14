//! The update rules of [`crate::optim::rules`] on whole registers; the same bits.

use super::simd::{Lanes, load_up_to, store_up_to};
use crate::optim::rules::{Arithmetic, Rule};

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
}

/// Updates `n` parameters by `scale * g`.
///
/// # Safety
/// The machine must have the instruction set of `L`; `p`, `g` and the state that the rule has must
/// hold `n` floats, nobody else may look at `p` and the state meanwhile.
#[inline(always)]
pub(crate) unsafe fn update<L: Lanes, R: Rule>(
    rule: R,
    n: usize,
    scale: f32,
    p: *mut f32,
    g: *const f32,
    state: [*mut f32; 2],
) {
    let mut i = 0;
    while i < n {
        let left = n - i;
        // SAFETY: the caller's promise.
        unsafe {
            let g = L::mul(L::splat(scale), load_up_to::<L>(g.add(i), left));
            // No closures here: code inside one is not compiled for the instruction set unless the
            // compiler happens to inline it.
            let mut old = [Register::<L>(L::splat(0.0)); 2];
            for k in 0..R::STATES {
                old[k] = Register(load_up_to::<L>(state[k].add(i), left));
            }
            let (new, s) = rule.apply(Register(load_up_to::<L>(p.add(i), left)), Register(g), old);
            store_up_to::<L>(p.add(i), left, new.0);
            for k in 0..R::STATES {
                store_up_to::<L>(state[k].add(i), left, s[k].0);
            }
        }
        i += L::N;
    }
}

/// Updates one row of a table of `n` columns.
///
/// # Safety
/// As [`update`]; a rule with [`Rule::ROWWISE`] has one float of state.
#[inline(always)]
pub(crate) unsafe fn update_row<L: Lanes, R: Rule>(
    rule: R,
    n: usize,
    p: *mut f32,
    g: *const f32,
    state: [*mut f32; 2],
) {
    // SAFETY: the caller's promise.
    unsafe {
        if !R::ROWWISE {
            return update::<L, R>(rule, n, 1.0, p, g, state);
        }
        let m = *state[0] + sum_squares::<L>(g, n) / n as f32;
        *state[0] = m;
        let mut i = 0;
        while i < n {
            let (p, left) = (p.add(i), n - i);
            let (old, g) = (
                Register::<L>(load_up_to::<L>(p, left)),
                Register(load_up_to::<L>(g.add(i), left)),
            );
            store_up_to::<L>(p, left, rule.apply_scaled(old, g, Register::of(m)).0);
            i += L::N;
        }
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
