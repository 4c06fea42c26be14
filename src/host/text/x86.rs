//! The same with registers of 32 and 64 bytes.

use super::{Base, Bytes, Columns, GROUP, LONGEST, Separators, find};
use std::arch::x86_64::*;

/// Whether the machine has AVX-512's operations on bytes, which the first ones with AVX-512 lack.
pub(super) fn has_bytes() -> bool {
    is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx512f,avx512bw,avx2,bmi1,bmi2,popcnt")]
pub(super) unsafe fn find_avx512(found: &mut Separators, text: &[u8]) {
    // SAFETY: the instruction set is enabled.
    unsafe { find::<Wide>(found, text) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub(super) unsafe fn find_avx2(found: &mut Separators, text: &[u8]) {
    // SAFETY: the instruction set is enabled.
    unsafe { find::<Half>(found, text) }
}

#[target_feature(enable = "avx512f,avx512bw,avx2")]
pub(super) unsafe fn read_avx512(
    base: Base,
    columns: Columns<'_>,
    out: &mut [[u32; GROUP]],
) -> bool {
    // SAFETY: the instruction set is enabled, the rest is the caller's promise.
    unsafe { columns.read::<Wide>(base, out) }
}

#[target_feature(enable = "avx2")]
pub(super) unsafe fn read_avx2(base: Base, columns: Columns<'_>, out: &mut [[u32; GROUP]]) -> bool {
    // SAFETY: the instruction set is enabled, the rest is the caller's promise.
    unsafe { columns.read::<Half>(base, out) }
}

/// The eight bytes before `end`.
#[inline(always)]
unsafe fn word(text: *const u8, end: u32) -> i64 {
    // SAFETY: the caller has them.
    unsafe { text.add(end as usize - LONGEST).cast::<i64>().read_unaligned() }
}

/// Registers of 64 bytes.
struct Wide;

impl Bytes for Wide {
    #[inline(always)]
    unsafe fn masks(p: *const u8) -> (u64, u64) {
        // SAFETY: the trait asks the caller for AVX-512F, AVX-512BW, AVX2 and valid pointers.
        unsafe {
            let x = _mm512_loadu_si512(p.cast());
            (
                _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8(9)),
                _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8(10)),
            )
        }
    }

    #[inline(always)]
    unsafe fn group(
        base: Base,
        text: *const u8,
        ends: &[u32; GROUP],
        lens: &[u32; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool {
        // SAFETY: the trait asks the caller for AVX-512F, AVX-512BW, AVX2 and valid pointers.
        unsafe {
            let [a, b, c, d, e, f, g, h] = *ends;
            let w = |end| word(text, end);
            let v = _mm512_set_epi64(w(h), w(g), w(f), w(e), w(d), w(c), w(b), w(a));
            // The last `len` bytes are the field's; a shift by 64 leaves nothing.
            let bits = _mm512_cvtepu32_epi64(_mm256_slli_epi32::<3>(_mm256_loadu_si256(
                lens.as_ptr().cast(),
            )));
            let keep = _mm512_sllv_epi64(
                _mm512_set1_epi64(-1),
                _mm512_sub_epi64(_mm512_set1_epi64(64), bits),
            );
            let zeros = _mm512_set1_epi8(b'0' as i8);
            let v = _mm512_or_si512(_mm512_and_si512(v, keep), _mm512_andnot_si512(keep, zeros));
            let low = _mm512_sub_epi8(v, zeros);
            let digits = _mm512_cmple_epu8_mask(low, _mm512_set1_epi8(9));
            let (numbers, good) = match base {
                Base::Decimal => {
                    let pairs = _mm512_maddubs_epi16(low, _mm512_set1_epi16(0x010a));
                    let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_0064));
                    let upper = _mm512_mul_epu32(fours, _mm512_set1_epi64(10_000));
                    (_mm512_add_epi64(upper, _mm512_srli_epi64::<32>(fours)), digits)
                }
                Base::Hexadecimal => {
                    let small = _mm512_or_si512(v, _mm512_set1_epi8(0x20));
                    let from_a = _mm512_sub_epi8(small, _mm512_set1_epi8(b'a' as i8));
                    let letters = _mm512_cmple_epu8_mask(from_a, _mm512_set1_epi8(5));
                    let low = _mm512_mask_add_epi8(low, letters, from_a, _mm512_set1_epi8(10));
                    let pairs = _mm512_maddubs_epi16(low, _mm512_set1_epi16(0x0110));
                    let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_0100));
                    (
                        _mm512_or_si512(
                            _mm512_slli_epi64::<16>(fours),
                            _mm512_srli_epi64::<32>(fours),
                        ),
                        digits | letters,
                    )
                }
            };
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(numbers));
            good == u64::MAX
        }
    }
}

/// Registers of 32 bytes.
struct Half;

impl Bytes for Half {
    #[inline(always)]
    unsafe fn masks(p: *const u8) -> (u64, u64) {
        // SAFETY: the trait asks the caller for AVX2 and valid pointers.
        unsafe {
            let (x, y) = (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast()));
            let bits = |v| u64::from(_mm256_movemask_epi8(v) as u32);
            let mask = |b| {
                bits(_mm256_cmpeq_epi8(x, _mm256_set1_epi8(b)))
                    | bits(_mm256_cmpeq_epi8(y, _mm256_set1_epi8(b))) << 32
            };
            (mask(9), mask(10))
        }
    }

    #[inline(always)]
    unsafe fn group(
        base: Base,
        text: *const u8,
        ends: &[u32; GROUP],
        lens: &[u32; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool {
        // SAFETY: the trait asks the caller for AVX2 and valid pointers.
        unsafe {
            let low = four(
                base,
                text,
                [ends[0], ends[1], ends[2], ends[3]],
                _mm_loadu_si128(lens.as_ptr().cast()),
            );
            let high = four(
                base,
                text,
                [ends[4], ends[5], ends[6], ends[7]],
                _mm_loadu_si128(lens.as_ptr().add(4).cast()),
            );
            _mm_storeu_si128(out.as_mut_ptr().cast(), low.0);
            _mm_storeu_si128(out.as_mut_ptr().add(4).cast(), high.0);
            _mm256_movemask_epi8(_mm256_and_si256(low.1, high.1)) == -1
        }
    }
}

/// Four fields: their numbers, and all bits where a byte is a digit.
#[inline(always)]
unsafe fn four(base: Base, text: *const u8, ends: [u32; 4], lens: __m128i) -> (__m128i, __m256i) {
    // SAFETY: the caller has AVX2 and valid fields.
    unsafe {
        let w = |i: usize| word(text, ends[i]);
        let v = _mm256_set_epi64x(w(3), w(2), w(1), w(0));
        let bits = _mm256_cvtepu32_epi64(_mm_slli_epi32::<3>(lens));
        let keep = _mm256_sllv_epi64(
            _mm256_set1_epi64x(-1),
            _mm256_sub_epi64(_mm256_set1_epi64x(64), bits),
        );
        let zeros = _mm256_set1_epi8(b'0' as i8);
        let v = _mm256_or_si256(_mm256_and_si256(v, keep), _mm256_andnot_si256(keep, zeros));
        let at_most = |v, most| _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(most)), v);
        let low = _mm256_sub_epi8(v, zeros);
        let digits = at_most(low, 9);
        let (numbers, good) = match base {
            Base::Decimal => {
                let pairs = _mm256_maddubs_epi16(low, _mm256_set1_epi16(0x010a));
                let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064));
                let upper = _mm256_mul_epu32(fours, _mm256_set1_epi64x(10_000));
                (_mm256_add_epi64(upper, _mm256_srli_epi64::<32>(fours)), digits)
            }
            Base::Hexadecimal => {
                let small = _mm256_or_si256(v, _mm256_set1_epi8(0x20));
                let from_a = _mm256_sub_epi8(small, _mm256_set1_epi8(b'a' as i8));
                let letters = at_most(from_a, 5);
                let low =
                    _mm256_blendv_epi8(low, _mm256_add_epi8(from_a, _mm256_set1_epi8(10)), letters);
                let pairs = _mm256_maddubs_epi16(low, _mm256_set1_epi16(0x0110));
                let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0100));
                let joined =
                    _mm256_or_si256(_mm256_slli_epi64::<16>(fours), _mm256_srli_epi64::<32>(fours));
                (joined, _mm256_or_si256(digits, letters))
            }
        };
        let lower = _mm256_permutevar8x32_epi32(numbers, _mm256_setr_epi32(0, 2, 4, 6, 0, 0, 0, 0));
        (_mm256_castsi256_si128(lower), good)
    }
}
