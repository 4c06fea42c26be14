//! Wilcoxon's signed-rank statistics: bounds of a shift that outliers hardly move.
//!
//! If each of n differences is as likely to be above as below the shift, symmetrically (which it is
//! by design where a coin decides the order of the two sides of a comparison), then the sum W of
//! the ranks of those above has a known distribution, whatever the noise (F. Wilcoxon, "Individual
//! comparisons by ranking methods", Biometrics Bulletin 1, 1945). Turned round, it bounds the shift
//! by ordered means of pairs of differences, and their median estimates it (J. L. Hodges & E. L.
//! Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34,
//! 1963).

use super::StatsError;
use statrs::distribution::{ContinuousCDF, Normal};

/// Up to this many differences the distribution of W is counted out; beyond, it is normal to all
/// practical purposes.
const EXACT: usize = 200;

/// A shift with a bound on each side, each of which holds by itself with the confidence asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The median of the means of all pairs (each difference with itself included).
    pub estimate: f64,
    /// Lower bound; minus infinity where there are too few differences to give one.
    pub low: f64,
    /// Upper bound; infinity where there are too few differences to give one.
    pub high: f64,
}

/// The shift of `differences` with one-sided bounds: each is missed with a chance of at most
/// `alpha`.
///
/// # Errors
/// Without differences, for values that are not finite, or for an `alpha` outside (0, 1/2).
///
/// ```
/// use dlrm_bench::stats::signed_rank;
/// let shift = signed_rank(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 700.0], 0.01)?;
/// assert_eq!((shift.estimate, shift.low), (4.0, 1.0));
/// # Ok::<(), dlrm_bench::stats::StatsError>(())
/// ```
pub fn signed_rank(differences: &[f64], alpha: f64) -> Result<Shift, StatsError> {
    if !(alpha > 0.0 && alpha < 0.5) {
        return Err(StatsError::Confidence(1.0 - alpha));
    }
    if differences.is_empty() {
        return Err(StatsError::Values { values: 0, needed: 1 });
    }
    if let Some(&x) = differences.iter().find(|x| !x.is_finite()) {
        return Err(StatsError::NotFinite(x));
    }
    let mut means = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (i, a) in differences.iter().enumerate() {
        means.extend(differences[i..].iter().map(|b| (a + b) / 2.0));
    }
    means.sort_unstable_by(f64::total_cmp);
    let last = means.len() - 1;
    let estimate = (means[last / 2] + means[means.len() / 2]) / 2.0;
    let (low, high) = match outside(differences.len(), alpha) {
        Some(k) => (means[k], means[last - k]),
        None => (f64::NEG_INFINITY, f64::INFINITY),
    };
    Ok(Shift { estimate, low, high })
}

/// The fewest differences that have bounds at `alpha`.
pub fn fewest(alpha: f64) -> usize {
    (1.0 / alpha).log2().ceil() as usize
}

/// How many of the smallest means lie below the lower bound: the number of values k with P(W <= k -
/// 1) <= alpha; `None` if even W = 0 is likelier.
fn outside(n: usize, alpha: f64) -> Option<usize> {
    if n > EXACT {
        let n = n as f64;
        let (mean, variance) = (n * (n + 1.0) / 4.0, n * (n + 1.0) * (2.0 * n + 1.0) / 24.0);
        let z = Normal::standard().inverse_cdf(alpha);
        // W <= k with continuity correction.
        return Some((mean + z * variance.sqrt() - 0.5).floor() as usize);
    }
    let distribution = distribution(n);
    let mut below = 0.0;
    let likely = distribution.iter().position(|p| {
        below += p;
        below > alpha
    });
    likely.filter(|&k| k > 0).map(|k| k - 1)
}

/// P(W = w) for w from 0 to n (n + 1) / 2: each rank is in the sum or not, by a fair coin.
fn distribution(n: usize) -> Vec<f64> {
    let mut p = vec![0.0; n * (n + 1) / 2 + 1];
    p[0] = 1.0;
    for rank in 1..=n {
        for w in (0..=rank * (rank + 1) / 2).rev() {
            let with = if w >= rank { p[w - rank] } else { 0.0 };
            p[w] = 0.5 * (p[w] + with);
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Critical values of W at a one-sided 5, 2.5, 1 and 0.5 % that every printed table has
    /// (Wilcoxon & Wilcox, "Some rapid approximate statistical procedures", 1964; `qsignrank` of
    /// R): W up to the value is significant.
    #[test]
    fn critical_values_are_those_of_tables() {
        let table: [(usize, [Option<usize>; 4]); 5] = [
            (5, [Some(0), None, None, None]),
            (8, [Some(5), Some(3), Some(1), Some(0)]),
            (10, [Some(10), Some(8), Some(5), Some(3)]),
            (20, [Some(60), Some(52), Some(43), Some(37)]),
            (30, [Some(151), Some(137), Some(120), Some(109)]),
        ];
        for (n, values) in table {
            for (alpha, value) in [0.05, 0.025, 0.01, 0.005].into_iter().zip(values) {
                assert_eq!(outside(n, alpha), value, "{n} {alpha}");
            }
        }
        assert_eq!([fewest(0.05), fewest(0.005)], [5, 8]);
    }

    /// Darwin's maize, crossed over self-fertilised heights in eighths of an inch (R. A. Fisher,
    /// "The design of experiments", 1935, section 16). R's `wilcox.test(..., conf.int = TRUE)`: W
    /// 96 of 120 (two-sided p 0.04126), median of means 25.0 eighths.
    #[test]
    fn darwins_maize() {
        let d = [
            49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0,
            -48.0,
        ];
        let shift = signed_rank(&d, 0.025).unwrap();
        assert!(
            shift.low > 0.0 && shift.high > 41.0 && (20.0..30.0).contains(&shift.estimate),
            "{shift:?}"
        );
        // p = 0.04126 two-sided: bounds at half of that exclude 0, a little below they do not.
        assert!(signed_rank(&d, 0.0207).unwrap().low > 0.0);
        assert!(signed_rank(&d, 0.0200).unwrap().low <= 0.0);
    }

    #[test]
    fn the_normal_limit_continues_the_exact_one() {
        let exact = outside(EXACT, 0.004).unwrap() as f64;
        let n = EXACT as f64;
        let normal = n * (n + 1.0) / 4.0 - 2.652 * (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        assert!((exact / normal - 1.0).abs() < 0.003, "{exact} {normal}");
        assert!(outside(EXACT + 1, 0.004).unwrap() as f64 > exact);
    }

    #[test]
    fn too_few_differences_bound_nothing() {
        let shift = signed_rank(&[1.0, 2.0, 3.0], 0.01).unwrap();
        assert_eq!(
            (shift.estimate, shift.low, shift.high),
            (2.0, f64::NEG_INFINITY, f64::INFINITY)
        );
        assert!(
            signed_rank(&[], 0.01).is_err()
                && signed_rank(&[f64::NAN], 0.01).is_err()
                && signed_rank(&[1.0], 0.6).is_err()
        );
    }

    proptest! {
        #[test]
        fn shifts_scales_and_mirrors(d in prop::collection::vec(-1.0f64..1.0, 8..40), shift in -2.0f64..2.0) {
            let plain = signed_rank(&d, 0.01).unwrap();
            prop_assert!(plain.low <= plain.estimate && plain.estimate <= plain.high);
            let moved = signed_rank(&d.iter().map(|x| x + shift).collect::<Vec<_>>(), 0.01).unwrap();
            let mirrored = signed_rank(&d.iter().map(|x| -x).collect::<Vec<_>>(), 0.01).unwrap();
            for (a, b) in [
                (moved.estimate, plain.estimate + shift), (moved.low, plain.low + shift), (moved.high, plain.high + shift),
                (mirrored.estimate, -plain.estimate), (mirrored.low, -plain.high), (mirrored.high, -plain.low),
            ] {
                prop_assert!((a - b).abs() < 1e-9);
            }
            // A surer bound is wider.
            let sure = signed_rank(&d, 0.005).unwrap();
            prop_assert!(sure.low <= plain.low && plain.high <= sure.high);
        }
    }
}
