//! Registers of f32 for kernels that are written once and compiled for each instruction set.
//!
//! A kernel implements [`Kernel`]; [`launch`] runs it with the registers of an [`Isa`]. Its `run`
//! must be `#[inline(always)]`, and so must be all that it calls with `L`, or the code is not
//! compiled for the instruction set.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::{embedding::sixteen, host::Isa};

/// A register of f32.
///
/// # Safety
/// All methods need the instruction set of the implementation. Loads and stores need valid memory
/// for the lanes that they touch; no alignment is asked for.
pub(crate) trait Lanes: Copy {
    /// Floats in a register.
    const N: usize;
    /// A register.
    type V: Copy;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `N` floats at `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// `n < N` floats at `p`, zeros in the other lanes.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    /// Writes all lanes to `p`.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Writes the first `n < N` lanes to `p`.
    unsafe fn store_part(p: *mut f32, n: usize, v: Self::V);
    /// As `store`, past the caches where `p` is aligned to a register and the instruction set can.
    /// Other threads see it after [`Lanes::fence`].
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::V) {
        // SAFETY: as the caller's.
        unsafe { Self::store(p, v) }
    }
    /// Ends what was streamed.
    #[inline(always)]
    fn fence() {}
    /// Lane by lane.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// Lane by lane.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// Lane by lane.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// Lane by lane.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// Lane by lane.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// Lane by lane, `yes` where `a > b`, else (also where one of them is NaN) `no`.
    unsafe fn if_above(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the machine can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Sum of all lanes, halves added to halves.
    unsafe fn sum(v: Self::V) -> f32;
    /// Adds the square of lane `i` to `sums[i]` for all lanes, in f64, where the product is exact.
    unsafe fn add_squares(v: Self::V, sums: *mut f64);
    /// Reads `rows` by `cols` floats at `from` (both at most `N`), rows `stride` apart, and writes
    /// them at `to` with rows and columns exchanged: `cols` rows, `to_stride` apart, of `N` floats,
    /// those from `rows` on zero.
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        cols: usize,
        to: *mut f32,
        to_stride: usize,
    );
    /// `n` bf16 at `p` (at most `N`), zeros in the other lanes.
    unsafe fn load_bf16(p: *const u16, n: usize) -> Self::V;
    /// `n` f16 at `p` (at most `N`), zeros in the other lanes.
    unsafe fn load_f16(p: *const u16, n: usize) -> Self::V;
    /// `n` numbers (at most `N`) of halves at `high` and `low` ([`sixteen::split`]), zeros in the
    /// other lanes.
    unsafe fn load_split(high: *const u16, low: *const u16, n: usize) -> Self::V;
    /// Writes the first `n` lanes (at most `N`) as bf16, rounded with the `N` numbers at `noise`
    /// ([`sixteen::round_bf16`]).
    unsafe fn store_bf16(p: *mut u16, n: usize, v: Self::V, noise: *const u16);
    /// Writes the first `n` lanes (at most `N`) as f16, rounded with the `N` numbers at `noise`
    /// ([`sixteen::round_f16`]).
    unsafe fn store_f16(p: *mut u16, n: usize, v: Self::V, noise: *const u16);
    /// Writes the halves of the first `n` lanes (at most `N`).
    unsafe fn store_split(high: *mut u16, low: *mut u16, n: usize, v: Self::V);
}

/// Work that is compiled for each instruction set.
pub(crate) trait Kernel {
    /// Does the work. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The machine must have the instruction set of `L`.
    unsafe fn run<L: Lanes>(self);
}

/// Runs a kernel with the registers of `isa`.
#[inline]
pub(crate) fn launch<K: Kernel>(isa: Isa, kernel: K) {
    match isa {
        // SAFETY: an `Isa` other than `Portable` is only made where the machine has it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { x86::avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::avx2(kernel) },
        // SAFETY: plain Rust.
        _ => unsafe { kernel.run::<Plain>() },
    }
}

/// A register of the `left` floats at `p`, if that is less than a register with zeros behind them.
///
/// # Safety
/// As [`Lanes::load`], for `left` floats.
#[inline(always)]
pub(crate) unsafe fn load_up_to<L: Lanes>(p: *const f32, left: usize) -> L::V {
    // SAFETY: the caller's promise.
    unsafe { if left >= L::N { L::load(p) } else { L::load_part(p, left) } }
}

/// Writes a register, or only the first `left` lanes.
///
/// # Safety
/// As [`Lanes::store`], for `left` floats.
#[inline(always)]
pub(crate) unsafe fn store_up_to<L: Lanes>(p: *mut f32, left: usize, v: L::V) {
    // SAFETY: the caller's promise.
    unsafe { if left >= L::N { L::store(p, v) } else { L::store_part(p, left, v) } }
}

/// Plain Rust.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

const PLAIN: usize = 8;

// SAFETY (all blocks): the trait asks the caller for valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one access a block; said above")]
impl Lanes for Plain {
    const N: usize = PLAIN;
    type V = [f32; PLAIN];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; PLAIN]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V {
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, n: usize, v: Self::V) {
        for (i, &x) in v.iter().enumerate().take(n) {
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn if_above(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| v[i] + v[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    unsafe fn add_squares(v: Self::V, sums: *mut f64) {
        for (i, &x) in v.iter().enumerate() {
            unsafe { *sums.add(i) += f64::from(x) * f64::from(x) };
        }
    }
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        cols: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        for c in 0..cols {
            for r in 0..PLAIN {
                unsafe {
                    *to.add(c * to_stride + r) =
                        if r < rows { *from.add(r * stride + c) } else { 0.0 }
                };
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> Self::V {
        let mut v = [0.0; PLAIN];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            *x = sixteen::from_bf16(unsafe { *p.add(i) });
        }
        v
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16, n: usize) -> Self::V {
        let mut v = [0.0; PLAIN];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            *x = sixteen::from_f16(unsafe { *p.add(i) });
        }
        v
    }
    #[inline(always)]
    unsafe fn load_split(high: *const u16, low: *const u16, n: usize) -> Self::V {
        let mut v = [0.0; PLAIN];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            *x = unsafe { sixteen::join(*high.add(i), *low.add(i)) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: Self::V, noise: *const u16) {
        for (i, &x) in v.iter().enumerate().take(n) {
            unsafe { *p.add(i) = sixteen::round_bf16(x, *noise.add(i)) };
        }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, n: usize, v: Self::V, noise: *const u16) {
        for (i, &x) in v.iter().enumerate().take(n) {
            unsafe { *p.add(i) = sixteen::round_f16(x, *noise.add(i)) };
        }
    }
    #[inline(always)]
    unsafe fn store_split(high: *mut u16, low: *mut u16, n: usize, v: Self::V) {
        for (i, &x) in v.iter().enumerate().take(n) {
            unsafe { (*high.add(i), *low.add(i)) = sixteen::split(x) };
        }
    }
}

/// One float, for rows of one element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct One;

// SAFETY (all blocks): the trait asks the caller for valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one access a block; said above")]
impl Lanes for One {
    const N: usize = 1;
    type V = f32;

    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn load_part(_: *const f32, _: usize) -> f32 {
        0.0
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn store_part(_: *mut f32, _: usize, _: f32) {}
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn div(a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    unsafe fn sqrt(a: f32) -> f32 {
        a.sqrt()
    }
    #[inline(always)]
    unsafe fn if_above(a: f32, b: f32, yes: f32, no: f32) -> f32 {
        if a > b { yes } else { no }
    }
    #[inline(always)]
    unsafe fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    unsafe fn sum(v: f32) -> f32 {
        v
    }
    #[inline(always)]
    unsafe fn add_squares(v: f32, sums: *mut f64) {
        unsafe { *sums += f64::from(v) * f64::from(v) };
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, _: usize, _: usize, _: usize, to: *mut f32, _: usize) {
        unsafe { *to = *from }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, _: usize) -> f32 {
        sixteen::from_bf16(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16, _: usize) -> f32 {
        sixteen::from_f16(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn load_split(high: *const u16, low: *const u16, _: usize) -> f32 {
        unsafe { sixteen::join(*high, *low) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, _: usize, v: f32, noise: *const u16) {
        unsafe { *p = sixteen::round_bf16(v, *noise) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, _: usize, v: f32, noise: *const u16) {
        unsafe { *p = sixteen::round_f16(v, *noise) }
    }
    #[inline(always)]
    unsafe fn store_split(high: *mut u16, low: *mut u16, _: usize, v: f32) {
        unsafe { (*high, *low) = sixteen::split(v) }
    }
}
