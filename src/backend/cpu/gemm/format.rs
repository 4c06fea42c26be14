//! How the terms of a product are held in packed words of 32 bits, and multiplied.

use super::simd::Simd;

/// A packed word holds one term, or two neighbouring ones in 16 bits each.
///
/// # Safety
/// As [`Simd`].
pub(super) trait Format<S: Simd>: Copy + 'static {
    /// Terms of a word.
    const TERMS: usize;
    /// The words of `TERMS * LANES` consecutive terms: `low` holds the first `LANES`, `high` the
    /// others, if any.
    unsafe fn pack(low: S::V, high: S::V) -> S::V;
    /// Word `c` from element `c` of `first` and, where a word holds two terms, of `second`.
    unsafe fn zip(first: S::V, second: S::V) -> S::V;
    /// `c` plus the products of the terms in `a` and `b`, word by word, summed in f32.
    unsafe fn mul_add(a: S::V, b: S::V, c: S::V) -> S::V;
    /// `sum` plus the terms of each word.
    unsafe fn add_terms(sum: S::V, words: S::V) -> S::V;
}

/// f32 as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct F32;

/// f32 rounded to the nearest bf16, for machines whose instructions cannot multiply bf16.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bf16;

/// f32 rounded to the nearest f16; numbers beyond 65,504 become infinite.
#[derive(Debug, Clone, Copy)]
pub(super) struct F16;

/// A format with one term a word: what happens to an element on the way.
macro_rules! one_term {
    ($format:ident, $x:ident => $packed:expr) => {
        // SAFETY (all blocks): as the caller's.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "one instruction a block; said above")]
        impl<S: Simd> Format<S> for $format {
            const TERMS: usize = 1;

            #[inline(always)]
            unsafe fn pack($x: S::V, _: S::V) -> S::V {
                unsafe { $packed }
            }

            #[inline(always)]
            unsafe fn zip($x: S::V, _: S::V) -> S::V {
                unsafe { $packed }
            }

            #[inline(always)]
            unsafe fn mul_add(a: S::V, b: S::V, c: S::V) -> S::V {
                unsafe { S::mul_add(a, b, c) }
            }

            #[inline(always)]
            unsafe fn add_terms(sum: S::V, words: S::V) -> S::V {
                unsafe { S::add(sum, words) }
            }
        }
    };
}

#[allow(unused_unsafe)]
mod one_term {
    use super::*;
    one_term!(F32, x => x);
    one_term!(Bf16, x => S::round_bf16(x));
    one_term!(F16, x => S::round_f16(x));
}

/// Two bf16 a word, multiplied by `vdpbf16ps`: products and sums in f32, subnormal numbers taken as
/// zero.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Bf16Pairs;

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::{super::avx512::Avx512, Bf16Pairs, Format};
    use std::{arch::x86_64::*, mem::transmute};

    /// Elements 0 and 16, 1 and 17, ... side by side.
    static INTERLEAVE: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i as u16 / 2) + 16 * (i as u16 % 2);
            i += 1;
        }
        order
    };

    // SAFETY (all blocks): the trait asks the caller for the instruction set; registers of the same
    // size hold any bits.
    #[allow(clippy::undocumented_unsafe_blocks, reason = "one instruction a block; said above")]
    impl Format<Avx512> for Bf16Pairs {
        const TERMS: usize = 2;

        #[inline(always)]
        unsafe fn pack(low: __m512, high: __m512) -> __m512 {
            unsafe { transmute(_mm512_cvtne2ps_pbh(high, low)) }
        }

        #[inline(always)]
        unsafe fn zip(first: __m512, second: __m512) -> __m512 {
            unsafe {
                let order = _mm512_loadu_si512(INTERLEAVE.as_ptr().cast());
                let halves: __m512i = transmute(_mm512_cvtne2ps_pbh(second, first));
                _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
            }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe {
                _mm512_dpbf16_ps(
                    c,
                    transmute::<__m512, __m512bh>(a),
                    transmute::<__m512, __m512bh>(b),
                )
            }
        }

        #[inline(always)]
        unsafe fn add_terms(sum: __m512, words: __m512) -> __m512 {
            // 1.0 in both halves.
            unsafe {
                Self::mul_add(words, _mm512_castsi512_ps(_mm512_set1_epi32(0x3f80_3f80)), sum)
            }
        }
    }
}
