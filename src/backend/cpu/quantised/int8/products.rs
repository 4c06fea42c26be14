//! Exact sums of products of bytes.

use crate::host::Isa;

/// Rows of codes are as long as a multiple of this many bytes, with zeros at their end.
pub(super) const STEP: usize = 32;

/// Samples and outputs that are computed at a time.
pub(super) const TILE: [usize; 2] = [2, 4];

/// Sums of products of each sample's codes with each output's, exact.
pub(super) type Sums = [[i32; TILE[1]]; TILE[0]];

/// The products of up to [`TILE`] rows, `width` codes each, a multiple of [`STEP`].
pub(super) fn products(
    isa: Isa,
    [rows, outputs]: [usize; 2],
    width: usize,
    x: &[u8],
    w: &[i8],
) -> Sums {
    assert!(x.len() >= rows * width && w.len() >= outputs * width && width.is_multiple_of(STEP));
    match isa {
        // SAFETY: an `Isa` other than `Portable` is only made where the machine has AVX2; rows lie
        // inside the slices.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 if [rows, outputs] == TILE => unsafe {
            x86::products(width, x.as_ptr(), w.as_ptr())
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => {
            let mut all = Sums::default();
            for (r, sums) in all.iter_mut().enumerate().take(rows) {
                for (c, sum) in sums.iter_mut().enumerate().take(outputs) {
                    let (x, w) = (&x[r * width..][..width], &w[c * width..][..width]);
                    // SAFETY: as above.
                    *sum = unsafe { x86::product(width, x.as_ptr(), w.as_ptr()) };
                }
            }
            all
        }
        _ => {
            let mut all = Sums::default();
            for (sums, x) in all.iter_mut().zip(x.chunks_exact(width)).take(rows) {
                for (sum, w) in sums.iter_mut().zip(w.chunks_exact(width)).take(outputs) {
                    *sum = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
                }
            }
            all
        }
    }
}

/// Codes of inputs are at most 128, so that two products fit 16 bits: 2 * 128 * -128 = -2^15.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{STEP, Sums, TILE};
    use std::arch::x86_64::*;

    /// # Safety
    /// `x` and `w` point to `TILE` rows of `width` codes.
    #[target_feature(enable = "avx2")]
    pub unsafe fn products(width: usize, x: *const u8, w: *const i8) -> Sums {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_si256(); TILE[1]]; TILE[0]];
        let mut at = 0;
        while at < width {
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                let x = unsafe { _mm256_loadu_si256(x.add(r * width + at).cast()) };
                for (c, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    let w = unsafe { _mm256_loadu_si256(w.add(c * width + at).cast()) };
                    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones);
                    *sum = _mm256_add_epi32(*sum, pairs);
                }
            }
            at += STEP;
        }
        let mut all = Sums::default();
        for (to, sums) in all.iter_mut().zip(&sums) {
            for (to, &sum) in to.iter_mut().zip(sums) {
                *to = total(sum);
            }
        }
        all
    }

    /// One of them.
    ///
    /// # Safety
    /// `x` and `w` point to `width` codes.
    #[target_feature(enable = "avx2")]
    pub unsafe fn product(width: usize, x: *const u8, w: *const i8) -> i32 {
        let ones = _mm256_set1_epi16(1);
        let mut sum = _mm256_setzero_si256();
        let mut at = 0;
        while at < width {
            // SAFETY: the caller's promise.
            let (x, w) = unsafe {
                (_mm256_loadu_si256(x.add(at).cast()), _mm256_loadu_si256(w.add(at).cast()))
            };
            let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones);
            sum = _mm256_add_epi32(sum, pairs);
            at += STEP;
        }
        total(sum)
    }

    #[target_feature(enable = "avx2")]
    fn total(v: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }
}
