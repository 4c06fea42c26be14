//! Student's distribution: tests and intervals of means of a few measurements.

use super::{Interval, StatsError};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A test of "no difference" by Student's distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TTest {
    /// Difference of means, the second over the first, with its interval.
    pub difference: Interval,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom.
    pub freedom: f64,
    /// Difference in standard errors.
    pub t: f64,
    /// Chance of a |t| like this or greater without a difference.
    pub p: f64,
}

/// Welch's test of the difference `mean(b) - mean(a)` of two independent samples that may differ in
/// size and variance (B. L. Welch, "The generalization of 'Student's' problem when several
/// different population variances are involved", Biometrika 34, 1947; degrees of freedom after
/// Satterthwaite).
///
/// # Errors
/// For fewer than 2 values in either, values that are not finite, or a confidence outside (0, 1).
///
/// ```
/// use dlrm_bench::stats::welch;
/// let test = welch(&[10.0, 11.0, 12.0], &[13.0, 14.0, 15.0], 0.95)?;
/// assert_eq!(test.difference.estimate, 3.0);
/// assert!(test.p < 0.05 && test.difference.low > 0.0);
/// # Ok::<(), dlrm_bench::stats::StatsError>(())
/// ```
pub fn welch(a: &[f64], b: &[f64], confidence: f64) -> Result<TTest, StatsError> {
    let ((mean_a, a), (mean_b, b)) = (mean_and_error(a)?, mean_and_error(b)?);
    // Squared standard errors of both means.
    let (va, vb) = (a.0 * a.0, b.0 * b.0);
    let freedom =
        if va + vb > 0.0 { (va + vb).powi(2) / (va * va / a.1 + vb * vb / b.1) } else { a.1 + b.1 };
    judge(mean_b - mean_a, (va + vb).sqrt(), freedom, confidence)
}

/// Ratio `b / a` of two independent samples' geometric means with its interval: [`welch`] on
/// logarithms. For rates and times, whose errors are shares rather than amounts.
///
/// # Errors
/// As [`welch`], and for values that are not above 0.
pub fn welch_ratio(a: &[f64], b: &[f64], confidence: f64) -> Result<Interval, StatsError> {
    let logs = |x: &[f64]| x.iter().map(|x| x.ln()).collect::<Vec<_>>();
    Ok(exponential(welch(&logs(a), &logs(b), confidence)?.difference))
}

/// Student's test of the mean of differences, `b[i] - a[i]`, of values that were measured in pairs.
///
/// # Errors
/// For slices of different lengths, fewer than 2 pairs, values that are not finite, or a confidence
/// outside (0, 1).
pub fn paired(a: &[f64], b: &[f64], confidence: f64) -> Result<TTest, StatsError> {
    if a.len() != b.len() {
        return Err(StatsError::Pairs { a: a.len(), b: b.len() });
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let (mean, (error, freedom)) = mean_and_error(&differences)?;
    judge(mean, error, freedom, confidence)
}

/// An interval of logarithms as one of their exponentials.
pub(super) fn exponential(log: Interval) -> Interval {
    let Interval { estimate, low, high, confidence } = log;
    Interval { estimate: estimate.exp(), low: low.exp(), high: high.exp(), confidence }
}

/// The smallest difference of means that a two-sided test at `1 - confidence` finds with
/// probability `power`, for samples of `n` and `m` values with standard deviation `stdev` each:
/// `(t(1 - alpha/2) + t(power)) stdev sqrt(1/n + 1/m)`, n + m - 2 degrees of freedom (J. Cohen,
/// "Statistical power analysis for the behavioral sciences", 2nd ed., 1988, chapter 2; Student's
/// quantile in place of the noncentral one).
///
/// # Errors
/// For fewer than 2 values in either, or a confidence or power outside (0, 1).
pub fn smallest_detectable(
    stdev: f64,
    n: usize,
    m: usize,
    confidence: f64,
    power: f64,
) -> Result<f64, StatsError> {
    for share in [confidence, power] {
        check_share(share)?;
    }
    if n.min(m) < 2 {
        return Err(StatsError::Values { values: n.min(m), needed: 2 });
    }
    let freedom = (n + m) as f64 - 2.0;
    let error = stdev * (1.0 / n as f64 + 1.0 / m as f64).sqrt();
    Ok((quantile(freedom, 0.5 + confidence / 2.0)? + quantile(freedom, power)?) * error)
}

/// Mean, and its standard error with its degrees of freedom.
fn mean_and_error(values: &[f64]) -> Result<(f64, (f64, f64)), StatsError> {
    if values.len() < 2 {
        return Err(StatsError::Values { values: values.len(), needed: 2 });
    }
    if let Some(&x) = values.iter().find(|x| !x.is_finite()) {
        return Err(StatsError::NotFinite(x));
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Ok((mean, ((variance / n).sqrt(), n - 1.0)))
}

fn judge(
    estimate: f64,
    standard_error: f64,
    freedom: f64,
    confidence: f64,
) -> Result<TTest, StatsError> {
    check_share(confidence)?;
    let half = quantile(freedom, 0.5 + confidence / 2.0)? * standard_error;
    let difference = Interval { estimate, low: estimate - half, high: estimate + half, confidence };
    // Without any spread, any difference is certain and none is none.
    let t = if estimate == 0.0 { 0.0 } else { estimate / standard_error };
    let p = if t.is_infinite() { 0.0 } else { 2.0 * distribution(freedom)?.cdf(-t.abs()) };
    Ok(TTest { difference, standard_error, freedom, t, p })
}

/// Quantile `p` of Student's distribution.
pub(super) fn quantile(freedom: f64, p: f64) -> Result<f64, StatsError> {
    Ok(distribution(freedom)?.inverse_cdf(p))
}

fn distribution(freedom: f64) -> Result<StudentsT, StatsError> {
    StudentsT::new(0.0, 1.0, freedom).map_err(|_| StatsError::NotFinite(freedom))
}

pub(super) fn check_share(share: f64) -> Result<(), StatsError> {
    if share > 0.0 && share < 1.0 { Ok(()) } else { Err(StatsError::Confidence(share)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{block_bootstrap::tests::autoregression, mean_interval};
    use proptest::prelude::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} is not {b}");
    }

    /// Quantiles as NIST/SEMATECH's e-Handbook of Statistical Methods, table 1.3.6.7.2, prints
    /// them.
    #[test]
    fn quantiles_are_those_of_tables() {
        for (freedom, p, t) in [
            (1.0, 0.95, 6.314),
            (5.0, 0.975, 2.571),
            (10.0, 0.99, 2.764),
            (30.0, 0.999, 3.385),
            (100.0, 0.9, 1.290),
        ] {
            close(quantile(freedom, p).unwrap(), t, 5e-4);
            close(quantile(freedom, 1.0 - p).unwrap(), -t, 5e-4);
        }
    }

    /// Student's own example, "The probable error of a mean" (Biometrika 6, 1908), section IX:
    /// additional hours of sleep under two drugs, the same ten patients. R's documentation of
    /// `t.test` prints, for `sleep`: Welch t = -1.8608, df = 17.776, p = 0.07939, interval
    /// -3.3654832 to 0.2054832; paired t = -4.0621, df = 9, p = 0.002833, interval -2.4598858 to
    /// -0.7001142.
    #[test]
    fn students_sleep() {
        let one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let unpaired = welch(&one, &two, 0.95).unwrap();
        close(unpaired.t, 1.8608, 5e-5);
        close(unpaired.freedom, 17.776, 5e-4);
        close(unpaired.p, 0.07939, 5e-6);
        close(unpaired.difference.low, -0.2054832, 5e-7);
        close(unpaired.difference.high, 3.3654832, 5e-7);
        let paired = paired(&one, &two, 0.95).unwrap();
        close(paired.t, 4.0621, 5e-5);
        close(paired.p, 0.002833, 5e-7);
        close(paired.difference.low, 0.7001142, 5e-7);
        close(paired.difference.high, 2.4598858, 5e-7);
    }

    /// The detectable effect of d = 0.5 that Cohen's table 2.3.5 gives for two samples of 64 at 5 %
    /// and a power of 0.80.
    #[test]
    fn detectable_effects_are_cohens() {
        close(smallest_detectable(1.0, 64, 64, 0.95, 0.80).unwrap(), 0.5, 5e-3);
        close(smallest_detectable(1.0, 17, 17, 0.95, 0.80).unwrap(), 1.0, 2e-2);
    }

    /// What is called detectable is detected about as often as said.
    #[test]
    fn detectable_effects_are_detected() {
        let (n, runs) = (12, 1000);
        let effect = smallest_detectable(1.0, n, n, 0.95, 0.9).unwrap();
        let found = |run: u64| {
            let a = autoregression(2 * run + 1, n, 0.0);
            let b: Vec<f64> =
                autoregression(2 * run + 2, n, 0.0).iter().map(|x| x + effect).collect();
            welch(&a, &b, 0.95).unwrap().p < 0.05
        };
        let share = (0..runs).filter(|&r| found(r)).count() as f64 / runs as f64;
        assert!((0.87..0.93).contains(&share), "{share}");
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(
            welch(&[1.0], &[1.0, 2.0], 0.9),
            Err(StatsError::Values { values: 1, needed: 2 })
        );
        assert!(matches!(welch(&[1.0, f64::NAN], &[1.0, 2.0], 0.9), Err(StatsError::NotFinite(_))));
        assert!(welch_ratio(&[1.0, -2.0], &[1.0, 2.0], 0.9).is_err());
        assert_eq!(welch(&[1.0, 2.0], &[1.0, 2.0], 1.0), Err(StatsError::Confidence(1.0)));
        assert_eq!(paired(&[1.0, 2.0], &[1.0], 0.9), Err(StatsError::Pairs { a: 2, b: 1 }));
        let certain = welch(&[1.0, 1.0], &[2.0, 2.0], 0.9).unwrap();
        assert_eq!((certain.p, certain.difference.low), (0.0, 1.0));
        assert_eq!(welch(&[1.0, 1.0], &[1.0, 1.0], 0.9).unwrap().p, 1.0);
    }

    proptest! {
        #[test]
        fn welch_is_antisymmetric_and_scales(
            a in prop::collection::vec(0.5f64..2.0, 2..20), b in prop::collection::vec(0.5f64..2.0, 2..20), scale in 0.1f64..10.0,
        ) {
            let (ab, ba) = (welch(&a, &b, 0.95).unwrap(), welch(&b, &a, 0.95).unwrap());
            prop_assert!((ab.t + ba.t).abs() < 1e-9 && (ab.p - ba.p).abs() < 1e-12);
            prop_assert!(ab.freedom >= (a.len().min(b.len()) - 1) as f64 * (1.0 - 1e-9));
            prop_assert!(ab.freedom <= (a.len() + b.len() - 2) as f64 * (1.0 + 1e-9));
            // The interval excludes 0 exactly where p is below 1 - confidence.
            prop_assert_eq!(ab.difference.low > 0.0 || ab.difference.high < 0.0, ab.p < 0.05);
            let scaled = |x: &[f64]| x.iter().map(|x| x * scale).collect::<Vec<_>>();
            let plain = welch_ratio(&a, &b, 0.95).unwrap();
            let ratio = welch_ratio(&a, &scaled(&b), 0.95).unwrap();
            for (r, p) in [(ratio.estimate, plain.estimate), (ratio.low, plain.low), (ratio.high, plain.high)] {
                prop_assert!((r / p / scale - 1.0).abs() < 1e-9);
            }
        }

        /// Paired differences have the mean's interval; equal sizes and variances make Welch the
        /// pooled test with 2n - 2 degrees of freedom.
        #[test]
        fn closed_forms(x in prop::collection::vec(-2.0f64..2.0, 3..20), shift in -1.0f64..1.0) {
            let moved: Vec<f64> = x.iter().map(|x| x + shift).collect();
            let test = welch(&x, &moved, 0.9).unwrap();
            prop_assert!((test.freedom - (2 * x.len() - 2) as f64).abs() < 1e-6 * test.freedom);
            let zeros = vec![0.0; x.len()];
            let (pairs, mean) = (paired(&zeros, &x, 0.9).unwrap().difference, mean_interval(&x, 0.9).unwrap());
            prop_assert!((pairs.low - mean.low).abs() < 1e-9 && (pairs.high - mean.high).abs() < 1e-9);
        }
    }
}
