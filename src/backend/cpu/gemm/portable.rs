//! Plain Rust: arrays of four floats, which compilers keep in one 128-bit register.

use super::simd::Simd;

/// Runs anywhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 4;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

// SAFETY (all blocks): the trait asks the caller for valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one instruction a block; said above")]
impl Simd for Portable {
    const LANES: usize = LANES;
    /// 8 accumulators, 2 registers of the second operand, 1 broadcast of the first: SSE2 has 16.
    const MR: usize = 4;
    type V = [f32; LANES];

    #[inline(always)]
    unsafe fn zero() -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; LANES] {
        // SAFETY: see above.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; LANES]) {
        // SAFETY: see above.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> [f32; LANES] {
        // SAFETY: see above; only the first `n` are read.
        each(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, v: [f32; LANES]) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: see above; only the first `n` are written.
            unsafe { *to.add(i) = x }
        }
    }

    #[inline(always)]
    unsafe fn add(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn mul(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn keep(v: [f32; LANES], bits: *const u8, at: usize) -> [f32; LANES] {
        // SAFETY: see above.
        let byte = unsafe { *bits.add(at / 8) } >> (at % 8);
        each(|i| if byte >> i & 1 != 0 { v[i] } else { 0.0 })
    }

    /// Two roundings: `f32::mul_add` is a library call where the machine has no such instruction.
    #[inline(always)]
    unsafe fn mul_add(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        each(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn relu(v: [f32; LANES]) -> [f32; LANES] {
        each(|i| if v[i] < 0.0 { 0.0 } else { v[i] })
    }

    #[inline(always)]
    unsafe fn gate(v: [f32; LANES], gate: [f32; LANES]) -> [f32; LANES] {
        each(|i| if gate[i] > 0.0 { v[i] } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn sum(v: [f32; LANES]) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }

    #[inline(always)]
    unsafe fn round_bf16(v: [f32; LANES]) -> [f32; LANES] {
        each(|i| half::bf16::from_f32(v[i]).to_f32())
    }

    #[inline(always)]
    unsafe fn round_f16(v: [f32; LANES]) -> [f32; LANES] {
        each(|i| half::f16::from_f32(v[i]).to_f32())
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_second(_: *const f32) {}

    #[inline(always)]
    unsafe fn transpose(rows: *mut [f32; LANES]) {
        // SAFETY: `rows` holds `LANES` registers.
        let r = unsafe { &mut *rows.cast::<[[f32; LANES]; LANES]>() };
        let t = *r;
        for (i, row) in r.iter_mut().enumerate() {
            *row = each(|j| t[j][i]);
        }
    }
}
