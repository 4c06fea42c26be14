//! AVX-512F: 16 floats a register, 32 registers.

use super::simd::Simd;
use std::arch::x86_64::*;

/// Marks code that needs AVX-512F.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512;

/// Mask of the first `n < 16` elements.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY (all blocks): the trait asks the caller for AVX-512F and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one instruction a block; said above")]
impl Simd for Avx512 {
    const LANES: usize = 16;
    /// 28 accumulators, 2 registers of the second operand, 1 broadcast of the first.
    const MR: usize = 14;
    type V = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m512 {
        // SAFETY: see above; masked elements are not touched.
        unsafe { _mm512_maskz_loadu_ps(first(n), from) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, v: __m512) {
        // SAFETY: see above; masked elements are not touched.
        unsafe { _mm512_mask_storeu_ps(to, first(n), v) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn keep(v: __m512, bits: *const u8, at: usize) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_maskz_mov_ps(bits.add(at / 8).cast::<__mmask16>().read_unaligned(), v) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(v: __m512) -> __m512 {
        // The instruction returns its second operand if either is NaN.
        // SAFETY: see above.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
    }

    #[inline(always)]
    unsafe fn gate(v: __m512, gate: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), v)
        }
    }

    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(v) }
    }

    /// As for AVX2.
    #[inline(always)]
    unsafe fn round_bf16(v: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000));
            _mm512_castsi512_ps(_mm512_and_si512(kept, _mm512_set1_epi32(0xffff_0000u32 as i32)))
        }
    }

    #[inline(always)]
    unsafe fn round_f16(v: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe {
            _mm512_cvtph_ps(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
        }
    }

    #[inline(always)]
    unsafe fn prefetch_second(at: *const f32) {
        // SAFETY: a prefetch cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: a prefetch cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    /// Four rounds: within pairs of rows, within fours, then 128-bit quarters.
    #[inline(always)]
    unsafe fn transpose(rows: *mut __m512) {
        // SAFETY: see above; `rows` holds 16 registers.
        unsafe {
            let r = &mut *rows.cast::<[__m512; 16]>();
            let mut t = *r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut q = t;
            for i in 0..4 {
                let pd = |j: usize| _mm512_castps_pd(t[4 * i + j]);
                q[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(0), pd(2)));
                q[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(0), pd(2)));
                q[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(1), pd(3)));
                q[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(1), pd(3)));
            }
            for i in 0..4 {
                let (a, b) = (q[i], q[4 + i]);
                let (c, d) = (q[8 + i], q[12 + i]);
                let (ab_even, ab_odd) =
                    (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (cd_even, cd_odd) =
                    (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                r[i] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
                r[4 + i] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
                r[8 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even);
                r[12 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
            }
        }
    }
}
