//! Numbers in 16 bits: what kernels do to whole registers, one number at a time.

/// The f32 that a bf16 stands for.
#[inline(always)]
pub(crate) fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// The nearest bf16, ties to even.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

/// The bf16 next to `x` on either side, further from zero with a chance equal to the part of the
/// way that `x` lies towards it, where `noise` is uniform over all of its values: `x` plus the
/// noise as lower half of a mantissa, cut off.
#[inline(always)]
pub(crate) fn round_bf16(x: f32, noise: u16) -> u16 {
    (x.to_bits().wrapping_add(u32::from(noise)) >> 16) as u16
}

/// The f32 that an f16 stands for.
#[inline(always)]
pub(crate) fn from_f16(x: u16) -> f32 {
    let magnitude = u32::from(x & 0x7fff) << 13;
    // 2^112 mends the exponent's bias, of subnormal numbers too; the largest exponent is that of
    // infinity and NaN.
    let bits = match x & 0x7c00 {
        0x7c00 => magnitude | 0x7f80_0000,
        _ => (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits(),
    };
    f32::from_bits(bits | u32::from(x & 0x8000) << 16)
}

/// The nearest f16, ties to even.
#[inline(always)]
pub(crate) fn to_f16(x: f32) -> u16 {
    half::f16::from_f32(x).to_bits()
}

/// 2^-14, the smallest normal f16.
pub(crate) const F16_NORMAL: f32 = 6.103_515_6e-5;
/// What 13 bits of noise below an f16's last bit count where f16 is subnormal: 2^-37.
pub(crate) const F16_TINY: f32 = 1.0 / (1u64 << 37) as f32;

/// As [`round_bf16`] to f16 with the lower 13 bits of `noise`. What is finite stays so: beyond
/// 65,504 there is no way further. What is not stays so too, though noise may turn infinity into
/// NaN.
#[inline(always)]
pub(crate) fn round_f16(x: f32, noise: u16) -> u16 {
    let noise = u32::from(noise & 0x1fff);
    let moved = if x.abs() < F16_NORMAL {
        x + (noise as f32 * F16_TINY).copysign(x)
    } else {
        f32::from_bits(x.to_bits().wrapping_add(noise))
    };
    cut_f16(moved)
}

/// The f16 next to `x` towards zero.
#[inline(always)]
fn cut_f16(x: f32) -> u16 {
    let (sign, magnitude) = ((x.to_bits() >> 16 & 0x8000) as u16, x.to_bits() & 0x7fff_ffff);
    sign | match magnitude {
        0x7f80_0001.. => 0x7e00 | (magnitude >> 13 & 0x3ff) as u16,
        0x7f80_0000 => 0x7c00,
        0x4780_0000.. => 0x7bff,
        0x3880_0000.. => ((magnitude - 0x3800_0000) >> 13) as u16,
        // In units of 2^-24.
        _ => (f32::from_bits(magnitude) * 16_777_216.0) as u16,
    }
}

/// Cuts an f32 into the nearest bf16 (ties away from zero) and the 16 bits that, as a signed
/// number, lead from there back.
#[inline(always)]
pub(crate) fn split(x: f32) -> (u16, u16) {
    let bits = x.to_bits();
    ((bits.wrapping_add(0x8000) >> 16) as u16, bits as u16)
}

/// The f32 that [`split`] cut, bit by bit.
#[inline(always)]
pub(crate) fn join(high: u16, low: u16) -> f32 {
    f32::from_bits((u32::from(high) << 16).wrapping_add(i32::from(low as i16) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_16_bit_number_is_widened_as_the_half_crate_does() {
        for x in 0..=u16::MAX {
            let (b, h) = (half::bf16::from_bits(x), half::f16::from_bits(x));
            assert!(from_bf16(x) == b.to_f32() || b.is_nan() && from_bf16(x).is_nan());
            assert!(
                from_f16(x).to_bits() == h.to_f32().to_bits() || h.is_nan() && from_f16(x).is_nan(),
                "{x:#x}"
            );
            // What is exact is never moved by noise, in either direction.
            if !b.is_nan() {
                assert_eq!((to_bf16(from_bf16(x)), round_bf16(from_bf16(x), u16::MAX)), (x, x));
            }
            if h.is_finite() {
                assert_eq!(
                    (
                        to_f16(from_f16(x)),
                        round_f16(from_f16(x), u16::MAX),
                        round_f16(from_f16(x), 0)
                    ),
                    (x, x, x)
                );
            }
        }
    }

    proptest! {
        #[test]
        fn split_halves_are_exact_and_the_upper_one_is_nearest(bits: u32) {
            let x = f32::from_bits(bits);
            let (high, low) = split(x);
            prop_assert_eq!(join(high, low).to_bits(), bits);
            if x.is_finite() {
                let nearest = half::bf16::from_f32(x).to_bits();
                let tie = bits & 0xffff == 0x8000;
                prop_assert!(high == nearest || tie && high == nearest.wrapping_add(1), "{x}: {high:#x} {nearest:#x}");
            }
        }

        /// Over all noise, the mean of what comes out is what went in.
        #[test]
        fn stochastic_rounding_is_unbiased(sign: bool, exponent in -34i32..15, mantissa in 0u32..1 << 23) {
            let x = f32::from_bits(u32::from(sign) << 31 | ((127 + exponent) as u32) << 23 | mantissa);
            let mean = |round: &dyn Fn(u16) -> f32| (0..=u16::MAX).map(|n| f64::from(round(n))).sum::<f64>() / 65536.0;
            let wide = f64::from(x);
            let bf16 = mean(&|n| from_bf16(round_bf16(x, n)));
            prop_assert!((bf16 - wide).abs() <= 1e-12 * wide.abs(), "bf16 of {x:e}: {bf16:e}");
            // An f16's spacing is 2^-10 of its power of two, and never below 2^-24; noise has 13
            // bits of that.
            let f16 = mean(&|n| from_f16(round_f16(x, n)));
            let spacing = f64::from(exponent.max(-14) - 10).exp2();
            prop_assert!((f16 - wide).abs() <= spacing / 8192.0, "f16 of {x:e}: {f16:e}");
        }
    }

    #[test]
    fn rounding_to_f16_saturates_and_keeps_what_is_not_finite() {
        assert_eq!(from_f16(round_f16(70_000.0, 9)), 65_504.0);
        assert_eq!(from_f16(round_f16(-65_519.0, u16::MAX)), -65_504.0);
        assert_eq!(from_f16(round_f16(f32::NEG_INFINITY, 0)), f32::NEG_INFINITY);
        assert!(!from_f16(round_f16(f32::INFINITY, 5)).is_finite());
        assert!(
            from_f16(round_f16(f32::NAN, 77)).is_nan()
                && from_bf16(round_bf16(f32::NAN, 77)).is_nan()
        );
    }
}
