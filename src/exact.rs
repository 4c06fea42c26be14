//! Elementary functions made of IEEE additions, multiplications, divisions and integer operations
//! only, in a fixed order: the same bits on every platform, whatever its C library, and on a GPU
//! (`backend/cuda/common/exact.cuh` is the same text, compiled with contraction off). They have no
//! branches, so that loops over columns vectorise. Planted data and the log loss are made of them.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// Adding and subtracting 1.5 * 2^52 rounds to the nearest integer, which then sits in the low bits
/// of the sum.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// `LN_2` in two parts; the first has 21 trailing zero bits, so that a small integer times it is
/// exact.
const LN_2_HIGH: f64 = f64::from_bits(LN_2.to_bits() & !0x1F_FFFF);
/// `LN_2 - LN_2_HIGH` with 30 digits of ln 2.
const LN_2_LOW: f64 = (LN_2 - LN_2_HIGH) + 2.319_046_813_846_299_6e-17;

/// `e^x` with a relative error below 1e-14 for `|x| <= 700`; larger arguments are cut there.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    let x = select(x < -700.0, -700.0, select(x > 700.0, 700.0, x));
    let shifted = x * LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    // Taylor's series; |r| <= ln(2)/2, so that the first term left out is below 4e-16.
    let mut p = 1.0 / 479_001_600.0;
    for inverse_factorial in [
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p * r + inverse_factorial;
    }
    // 2^k: the low bits of `shifted` hold k, moved into the exponent.
    p * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// `ln(x)` for finite, normal `x > 0`, with an absolute error below 1e-14 + 3e-16 |ln x|.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mantissa = f64::from_bits(bits & 0x000F_FFFF_FFFF_FFFF | 0x3FF0_0000_0000_0000);
    let above = mantissa > SQRT_2;
    // m in (sqrt(1/2), sqrt(2)], x = m * 2^k.
    let m = select(above, 0.5 * mantissa, mantissa);
    // The exponent becomes a number by way of the bits of 2^52 + exponent.
    let exponent = f64::from_bits(bits >> 52 | 0x4330_0000_0000_0000) - 4_503_599_627_370_496.0;
    let k = exponent - select(above, 1022.0, 1023.0);
    // ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 19.0;
    for c in [
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
        1.0 / 3.0,
        1.0,
    ] {
        p = p * z + c;
    }
    k * LN_2_HIGH + (2.0 * s * p + k * LN_2_LOW)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// The largest integer not above `x`, `0 <= x < 2^51`.
#[inline(always)]
pub fn floor(x: f64) -> f64 {
    let nearest = (x + ROUND) - ROUND;
    nearest - select(nearest > x, 1.0, 0.0)
}

/// An integer held in an f64, `0 <= x < 2^32`.
#[inline(always)]
pub fn to_u32(x: f64) -> u32 {
    (x + ROUND).to_bits() as u32
}

/// A uniform number in (0, 1) from the upper 52 bits of `high:low`: an odd multiple of 2^-53, never
/// 0 or 1.
#[inline(always)]
pub fn open_unit(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    f64::from_bits(bits | 0x3FF0_0000_0000_0000) - (1.0 - f64::EPSILON / 2.0)
}

/// `if condition { yes } else { no }`, as a value that vectorises.
#[inline(always)]
pub fn select(condition: bool, yes: f64, no: f64) -> f64 {
    if condition { yes } else { no }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_is_accurate(x in -700.0..700.0f64) {
            let want = libm::exp(x);
            prop_assert!((exp(x) - want).abs() <= 1e-14 * want, "{x}: {} {want}", exp(x));
        }

        #[test]
        fn ln_is_accurate(exponent in -1000.0..1000.0f64, near_one in 0.5..2.0f64) {
            for x in [libm::exp2(exponent), near_one] {
                let want = libm::log(x);
                prop_assert!((ln(x) - want).abs() <= 1e-14 + 3e-16 * want.abs(), "{x}: {} {want}", ln(x));
                // What powers need: no absolute error where the logarithm itself is small.
                prop_assert!((ln(x) - want).abs() <= 2e-15 * want.abs() + 1e-17, "{x}: {} {want}", ln(x));
            }
        }

        #[test]
        fn floor_and_conversion_are_exact(x in 0.0..4e9f64, n: u32) {
            prop_assert_eq!(floor(x), x.floor());
            prop_assert_eq!(floor(f64::from(n)), f64::from(n));
            prop_assert_eq!(to_u32(f64::from(n)), n);
        }
    }

    #[test]
    fn edges() {
        assert_eq!((exp(0.0), ln(1.0), sigmoid(0.0)), (1.0, 0.0, 0.5));
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
        assert_eq!(open_unit(0, 0), 0.5f64.powi(53));
        assert_eq!(open_unit(u32::MAX, u32::MAX), 1.0 - 0.5f64.powi(53));
        assert_eq!(LN_2_HIGH.to_bits() & 0x1F_FFFF, 0);
    }
}
