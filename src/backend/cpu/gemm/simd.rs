//! The few vector operations that the kernels are written in, for each instruction set.

/// One instruction set's registers of `LANES` floats.
///
/// # Safety
/// Every method needs the instruction set to be there; pointers must be valid for the elements
/// named. Methods are inlined into functions that have the instruction set enabled (see
/// `kernel.rs`).
pub(super) trait Simd: Copy + 'static {
    /// Floats in a register.
    const LANES: usize;
    /// Rows of the largest tile that is kept in registers, at most `LANES`.
    const MR: usize;
    /// Columns of a panel of the second operand: two registers.
    const NR: usize = 2 * Self::LANES;
    /// A register.
    type V: Copy;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The first `n < LANES` elements, zeros after them.
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    /// Stores the first `n < LANES` elements only.
    unsafe fn store_first(to: *mut f32, n: usize, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `v` with negative elements replaced by zero; NaN stays.
    unsafe fn relu(v: Self::V) -> Self::V;
    /// `v` where `gate > 0`, zero elsewhere.
    unsafe fn gate(v: Self::V, gate: Self::V) -> Self::V;
    /// Element `i` of `v` where bit `at + i` from `bits` on is set, zero elsewhere. `at` is a
    /// multiple of `LANES`.
    unsafe fn keep(v: Self::V, bits: *const u8, at: usize) -> Self::V;
    /// Sum of the elements, in a fixed order.
    unsafe fn sum(v: Self::V) -> f32;
    /// Hints that a cache line will be read soon: brings it to the first level. Any address will
    /// do.
    unsafe fn prefetch(at: *const f32);
    /// The same, to the second level.
    unsafe fn prefetch_second(at: *const f32);
    /// Each element rounded to the nearest bf16, ties to even; NaN stays NaN.
    unsafe fn round_bf16(v: Self::V) -> Self::V;
    /// Each element rounded to the nearest f16, ties to even; NaN stays NaN.
    unsafe fn round_f16(v: Self::V) -> Self::V;
    /// `LANES` registers, one a row, turned into one a column.
    unsafe fn transpose(rows: *mut Self::V);

    /// The first `n <= LANES` elements, zeros after them.
    #[inline(always)]
    unsafe fn load_up_to(from: *const f32, n: usize) -> Self::V {
        // SAFETY: as the caller's.
        unsafe { if n >= Self::LANES { Self::load(from) } else { Self::load_first(from, n) } }
    }

    /// Stores the first `n <= LANES` elements only.
    #[inline(always)]
    unsafe fn store_up_to(to: *mut f32, n: usize, v: Self::V) {
        // SAFETY: as the caller's.
        unsafe { if n >= Self::LANES { Self::store(to, v) } else { Self::store_first(to, n, v) } }
    }
}
