//! Registers of AVX-512 and AVX2.

use super::{Kernel, Lanes};
use crate::embedding::sixteen::{F16_NORMAL, F16_TINY};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) fn avx512<K: Kernel>(kernel: K) {
    // SAFETY: this function has the instruction set.
    unsafe { kernel.run::<Avx512>() }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn avx2<K: Kernel>(kernel: K) {
    // SAFETY: this function has the instruction set.
    unsafe { kernel.run::<Avx2>() }
}

/// 16 floats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512;

#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    (1u32.wrapping_shl(n as u32) - 1) as __mmask16
}

// SAFETY (all blocks): the trait asks the caller for AVX-512F and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one intrinsic a block; said above")]
impl Lanes for Avx512 {
    const N: usize = 16;
    type V = __m512;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(mask16(n), p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: __m512) {
        unsafe {
            if p.addr().is_multiple_of(64) {
                _mm512_stream_ps(p, v)
            } else {
                _mm512_storeu_ps(p, v)
            }
        }
    }
    #[inline(always)]
    fn fence() {
        // SAFETY: every machine with AVX-512 has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, n: usize, v: __m512) {
        unsafe { _mm512_mask_storeu_ps(p, mask16(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn if_above(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    unsafe fn add_squares(v: __m512, sums: *mut f64) {
        unsafe {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
            let high = _mm512_cvtps_pd(_mm256_castsi256_ps(_mm512_extracti64x4_epi64::<1>(
                _mm512_castps_si512(v),
            )));
            _mm512_storeu_pd(sums, _mm512_fmadd_pd(low, low, _mm512_loadu_pd(sums)));
            _mm512_storeu_pd(
                sums.add(8),
                _mm512_fmadd_pd(high, high, _mm512_loadu_pd(sums.add(8))),
            );
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
        unsafe {
            if (rows, cols) == (Self::N, Self::N) {
                // Without a branch for each row.
                transpose16(from, stride, Self::N, Self::N, to, to_stride);
            } else {
                transpose16(from, stride, rows, cols, to, to_stride);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load16(p, n)))) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16, n: usize) -> __m512 {
        unsafe { _mm512_cvtph_ps(load16(p, n)) }
    }
    #[inline(always)]
    unsafe fn load_split(high: *const u16, low: *const u16, n: usize) -> __m512 {
        unsafe {
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load16(high, n)));
            _mm512_castsi512_ps(_mm512_add_epi32(high, _mm512_cvtepi16_epi32(load16(low, n))))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: __m512, noise: *const u16) {
        unsafe {
            let noise = _mm512_cvtepu16_epi32(load16(noise, 16));
            let moved = _mm512_add_epi32(_mm512_castps_si512(v), noise);
            store16(p, n, _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(moved)));
        }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, n: usize, v: __m512, noise: *const u16) {
        unsafe {
            let noise = _mm512_and_si512(
                _mm512_cvtepu16_epi32(load16(noise, 16)),
                _mm512_set1_epi32(0x1fff),
            );
            let (bits, minus) = (_mm512_castps_si512(v), _mm512_set1_epi32(i32::MIN));
            let magnitude = _mm512_castsi512_ps(_mm512_andnot_si512(minus, bits));
            let step = _mm512_castps_si512(_mm512_mul_ps(
                _mm512_cvtepi32_ps(noise),
                _mm512_set1_ps(F16_TINY),
            ));
            let tiny = _mm512_add_ps(
                v,
                _mm512_castsi512_ps(_mm512_or_si512(step, _mm512_and_si512(bits, minus))),
            );
            let normal = _mm512_castsi512_ps(_mm512_add_epi32(bits, noise));
            let is_tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(magnitude, _mm512_set1_ps(F16_NORMAL));
            let moved = _mm512_mask_blend_ps(is_tiny, normal, tiny);
            store16(p, n, _mm512_cvtps_ph::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(moved));
        }
    }
    #[inline(always)]
    unsafe fn store_split(high: *mut u16, low: *mut u16, n: usize, v: __m512) {
        unsafe {
            let bits = _mm512_castps_si512(v);
            let upper = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, _mm512_set1_epi32(0x8000)));
            store16(high, n, _mm512_cvtepi32_epi16(upper));
            store16(low, n, _mm512_cvtepi32_epi16(bits));
        }
    }
}

/// `n` numbers of 16 bits, zeros behind them.
#[inline(always)]
unsafe fn load16(p: *const u16, n: usize) -> __m256i {
    // SAFETY: the caller has AVX2 and `n` numbers.
    unsafe {
        if n >= 16 {
            return _mm256_loadu_si256(p.cast());
        }
        let mut whole = [0u16; 16];
        std::ptr::copy_nonoverlapping(p, whole.as_mut_ptr(), n);
        _mm256_loadu_si256(whole.as_ptr().cast())
    }
}

/// Writes the first `n` numbers of 16 bits.
#[inline(always)]
unsafe fn store16(p: *mut u16, n: usize, v: __m256i) {
    // SAFETY: the caller has AVX2 and room for `n` numbers.
    unsafe {
        if n >= 16 {
            return _mm256_storeu_si256(p.cast(), v);
        }
        let mut whole = [0u16; 16];
        _mm256_storeu_si256(whole.as_mut_ptr().cast(), v);
        std::ptr::copy_nonoverlapping(whole.as_ptr(), p, n);
    }
}

/// 8 floats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2;

/// All bits of the first `n` lanes.
#[inline(always)]
unsafe fn mask8(n: usize) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }
}

// SAFETY (all blocks): the trait asks the caller for AVX2, FMA and valid pointers.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one intrinsic a block; said above")]
impl Lanes for Avx2 {
    const N: usize = 8;
    type V = __m256;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(p, mask8(n)) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, n: usize, v: __m256) {
        unsafe { _mm256_maskstore_ps(p, mask8(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn if_above(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn add_squares(v: __m256, sums: *mut f64) {
        unsafe {
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v));
            _mm256_storeu_pd(sums, _mm256_fmadd_pd(low, low, _mm256_loadu_pd(sums)));
            _mm256_storeu_pd(
                sums.add(4),
                _mm256_fmadd_pd(high, high, _mm256_loadu_pd(sums.add(4))),
            );
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
        unsafe {
            if (rows, cols) == (Self::N, Self::N) {
                // Without a branch for each row.
                transpose8(from, stride, Self::N, Self::N, to, to_stride);
            } else {
                transpose8(from, stride, rows, cols, to, to_stride);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> __m256 {
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load8(p, n)))) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16, n: usize) -> __m256 {
        unsafe { _mm256_cvtph_ps(load8(p, n)) }
    }
    #[inline(always)]
    unsafe fn load_split(high: *const u16, low: *const u16, n: usize) -> __m256 {
        unsafe {
            let high = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load8(high, n)));
            _mm256_castsi256_ps(_mm256_add_epi32(high, _mm256_cvtepi16_epi32(load8(low, n))))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: __m256, noise: *const u16) {
        unsafe {
            let noise = _mm256_cvtepu16_epi32(load8(noise, 8));
            store8(
                p,
                n,
                lower_halves(_mm256_srli_epi32::<16>(_mm256_add_epi32(
                    _mm256_castps_si256(v),
                    noise,
                ))),
            );
        }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, n: usize, v: __m256, noise: *const u16) {
        unsafe {
            let noise =
                _mm256_and_si256(_mm256_cvtepu16_epi32(load8(noise, 8)), _mm256_set1_epi32(0x1fff));
            let (bits, minus) = (_mm256_castps_si256(v), _mm256_set1_epi32(i32::MIN));
            let magnitude = _mm256_castsi256_ps(_mm256_andnot_si256(minus, bits));
            let step = _mm256_castps_si256(_mm256_mul_ps(
                _mm256_cvtepi32_ps(noise),
                _mm256_set1_ps(F16_TINY),
            ));
            let tiny = _mm256_add_ps(
                v,
                _mm256_castsi256_ps(_mm256_or_si256(step, _mm256_and_si256(bits, minus))),
            );
            let normal = _mm256_castsi256_ps(_mm256_add_epi32(bits, noise));
            let is_tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(magnitude, _mm256_set1_ps(F16_NORMAL));
            let moved = _mm256_blendv_ps(normal, tiny, is_tiny);
            store8(p, n, _mm256_cvtps_ph::<_MM_FROUND_TO_ZERO>(moved));
        }
    }
    #[inline(always)]
    unsafe fn store_split(high: *mut u16, low: *mut u16, n: usize, v: __m256) {
        unsafe {
            let bits = _mm256_castps_si256(v);
            let upper = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, _mm256_set1_epi32(0x8000)));
            store8(high, n, lower_halves(upper));
            store8(low, n, lower_halves(_mm256_and_si256(bits, _mm256_set1_epi32(0xffff))));
        }
    }
}

/// The lower halves of words whose upper halves are zero.
#[inline(always)]
unsafe fn lower_halves(words: __m256i) -> __m128i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let packed = _mm256_packus_epi32(words, words);
        _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed))
    }
}

/// `n` numbers of 16 bits, zeros behind them.
#[inline(always)]
unsafe fn load8(p: *const u16, n: usize) -> __m128i {
    // SAFETY: the caller has AVX2 and `n` numbers.
    unsafe {
        if n >= 8 {
            return _mm_loadu_si128(p.cast());
        }
        let mut whole = [0u16; 8];
        std::ptr::copy_nonoverlapping(p, whole.as_mut_ptr(), n);
        _mm_loadu_si128(whole.as_ptr().cast())
    }
}

/// Writes the first `n` numbers of 16 bits.
#[inline(always)]
unsafe fn store8(p: *mut u16, n: usize, v: __m128i) {
    // SAFETY: the caller has AVX2 and room for `n` numbers.
    unsafe {
        if n >= 8 {
            return _mm_storeu_si128(p.cast(), v);
        }
        let mut whole = [0u16; 8];
        _mm_storeu_si128(whole.as_mut_ptr().cast(), v);
        std::ptr::copy_nonoverlapping(whole.as_ptr(), p, n);
    }
}

/// [`Lanes::transpose`] of [`Avx512`].
///
/// # Safety
/// As [`Lanes::transpose`].
#[allow(clippy::undocumented_unsafe_blocks, reason = "one intrinsic a block; said above")]
#[inline(always)]
unsafe fn transpose16(
    from: *const f32,
    stride: usize,
    rows: usize,
    cols: usize,
    to: *mut f32,
    to_stride: usize,
) {
    unsafe {
        let mut a = [_mm512_setzero_ps(); 16];
        for (r, v) in a.iter_mut().enumerate().take(rows) {
            *v = if cols == 16 {
                Avx512::load(from.add(r * stride))
            } else {
                Avx512::load_part(from.add(r * stride), cols)
            };
        }
        // Pairs, then fours within each quarter of a register, then the quarters.
        let mut b = a;
        for i in (0..16).step_by(2) {
            b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
        }
        for i in (0..16).step_by(4) {
            for h in 0..2 {
                let (x, y) = (_mm512_castps_pd(b[i + h]), _mm512_castps_pd(b[i + 2 + h]));
                a[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                a[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
            }
        }
        for i in 0..4 {
            let even = _mm512_shuffle_f32x4::<0x88>(a[i], a[i + 4]);
            let odd = _mm512_shuffle_f32x4::<0xdd>(a[i], a[i + 4]);
            let even2 = _mm512_shuffle_f32x4::<0x88>(a[i + 8], a[i + 12]);
            let odd2 = _mm512_shuffle_f32x4::<0xdd>(a[i + 8], a[i + 12]);
            b[i] = _mm512_shuffle_f32x4::<0x88>(even, even2);
            b[i + 4] = _mm512_shuffle_f32x4::<0x88>(odd, odd2);
            b[i + 8] = _mm512_shuffle_f32x4::<0xdd>(even, even2);
            b[i + 12] = _mm512_shuffle_f32x4::<0xdd>(odd, odd2);
        }
        for (c, &v) in b.iter().enumerate().take(cols) {
            Avx512::store(to.add(c * to_stride), v);
        }
    }
}

/// [`Lanes::transpose`] of [`Avx2`].
///
/// # Safety
/// As [`Lanes::transpose`].
#[allow(clippy::undocumented_unsafe_blocks, reason = "one intrinsic a block; said above")]
#[inline(always)]
unsafe fn transpose8(
    from: *const f32,
    stride: usize,
    rows: usize,
    cols: usize,
    to: *mut f32,
    to_stride: usize,
) {
    unsafe {
        let mut a = [_mm256_setzero_ps(); 8];
        for (r, v) in a.iter_mut().enumerate().take(rows) {
            *v = if cols == 8 {
                Avx2::load(from.add(r * stride))
            } else {
                Avx2::load_part(from.add(r * stride), cols)
            };
        }
        // Pairs, then fours within each half of a register, then the halves.
        let mut b = a;
        for i in (0..8).step_by(2) {
            b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        }
        for i in (0..8).step_by(4) {
            for h in 0..2 {
                let (x, y) = (_mm256_castps_pd(b[i + h]), _mm256_castps_pd(b[i + 2 + h]));
                a[i + 2 * h] = _mm256_castpd_ps(_mm256_unpacklo_pd(x, y));
                a[i + 2 * h + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(x, y));
            }
        }
        for i in 0..4 {
            b[i] = _mm256_permute2f128_ps::<0x20>(a[i], a[i + 4]);
            b[i + 4] = _mm256_permute2f128_ps::<0x31>(a[i], a[i + 4]);
        }
        for (c, &v) in b.iter().enumerate().take(cols) {
            Avx2::store(to.add(c * to_stride), v);
        }
    }
}
