//! AVX2 with FMA and F16C: 8 floats a register, 16 registers.

use super::simd::Simd;
use std::arch::x86_64::*;

/// Marks code that needs AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2;

/// Eight all-ones words, then eight zeros: a mask of the first `n` lanes starts at `8 - n`.
static LANE_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Mask of the first `n < 8` elements.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    // SAFETY: `8 - n` lies in 1..=8, and eight words follow it.
    unsafe { _mm256_loadu_si256(LANE_MASKS.as_ptr().add(8 - n).cast()) }
}

// SAFETY (all blocks): the trait asks the caller for AVX2, FMA, F16C and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one instruction a block; said above")]
impl Simd for Avx2 {
    const LANES: usize = 8;
    /// 12 accumulators, 2 registers of the second operand, 1 broadcast of the first.
    const MR: usize = 6;
    type V = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m256 {
        // SAFETY: see above; masked elements are not touched.
        unsafe { _mm256_maskload_ps(from, first(n)) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, v: __m256) {
        // SAFETY: see above; masked elements are not touched.
        unsafe { _mm256_maskstore_ps(to, first(n), v) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn keep(v: __m256, bits: *const u8, at: usize) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(*bits.add(at / 8))), bit);
            _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit)))
        }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(v: __m256) -> __m256 {
        // The instruction returns its second operand if either is NaN.
        // SAFETY: see above.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), v) }
    }

    #[inline(always)]
    unsafe fn gate(v: __m256, gate: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps())) }
    }

    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    /// Adds just under half of the last place kept, more by that place's bit, and cuts. A NaN is
    /// only cut; its highest bit is set so that something of it stays.
    #[inline(always)]
    unsafe fn round_bf16(v: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_castsi256_ps(_mm256_add_epi32(
                bits,
                _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)),
            ));
            let quiet = _mm256_or_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x40_0000)));
            let kept = _mm256_blendv_ps(rounded, quiet, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            _mm256_and_ps(kept, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000u32 as i32)))
        }
    }

    #[inline(always)]
    unsafe fn round_f16(v: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
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

    /// Three rounds: within pairs of rows, within fours, then 128-bit halves.
    #[inline(always)]
    unsafe fn transpose(rows: *mut __m256) {
        // SAFETY: see above; `rows` holds 8 registers.
        unsafe {
            let r = &mut *rows.cast::<[__m256; 8]>();
            let mut t = *r;
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut q = t;
            for i in 0..2 {
                let pd = |j: usize| _mm256_castps_pd(t[4 * i + j]);
                q[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(pd(0), pd(2)));
                q[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(pd(0), pd(2)));
                q[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(pd(1), pd(3)));
                q[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(pd(1), pd(3)));
            }
            for i in 0..4 {
                r[i] = _mm256_permute2f128_ps::<0x20>(q[i], q[4 + i]);
                r[4 + i] = _mm256_permute2f128_ps::<0x31>(q[i], q[4 + i]);
            }
        }
    }
}
