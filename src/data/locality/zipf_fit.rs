//! The exponent of Zipf's law that fits how often ids occur.

/// Largest exponent that is considered.
const MAX: f64 = 4.0;
/// Ranks that are summed one by one; beyond them the sum is an integral with its first corrections.
const EXACT: usize = 256;

/// The exponent `q >= 0` under which frequencies, the largest first, are likeliest if rank `k` of
/// `ranks` has a probability proportional to `k^-q`; `None` without a sample, or if there is only
/// one rank.
///
/// With `ranks` = the table's rows rather than the ids seen, ids that did not occur count as well.
/// At the maximum of the likelihood the mean of `ln k` is the expected one (Clauset, Shalizi and
/// Newman, "Power-law distributions in empirical data", 2009, appendix B); it falls as `q` grows,
/// so halving intervals finds it.
pub fn zipf_exponent(frequencies: &[u64], ranks: usize) -> Option<f64> {
    let total: f64 = frequencies.iter().map(|&n| n as f64).sum();
    if total == 0.0 || ranks < 2 || frequencies.len() > ranks {
        return None;
    }
    let observed =
        frequencies.iter().enumerate().map(|(i, &n)| n as f64 * ((i + 1) as f64).ln()).sum::<f64>()
            / total;
    let (mut low, mut high) = (0.0, MAX);
    for _ in 0..48 {
        let q = 0.5 * (low + high);
        if mean_log_rank(q, ranks) > observed { low = q } else { high = q }
    }
    Some(0.5 * (low + high))
}

/// `sum_k k^-q ln k / sum_k k^-q` over `k = 1..=n`.
fn mean_log_rank(q: f64, n: usize) -> f64 {
    let (mut weights, mut logs) = (0.0, 0.0);
    for k in 1..=n.min(EXACT) {
        let (k, ln) = (k as f64, (k as f64).ln());
        let w = k.powf(-q);
        weights += w;
        logs += w * ln;
    }
    if n > EXACT {
        // Euler and Maclaurin: the integral from EXACT to n, half the difference of the ends, a
        // twelfth of that of their slopes.
        let (a, b) = (EXACT as f64, n as f64);
        let p = 1.0 - q;
        let (integral, with_log) = if p.abs() < 1e-6 {
            ((b / a).ln(), 0.5 * (b.ln().powi(2) - a.ln().powi(2)))
        } else {
            let primitive = |x: f64| x.powf(p) / p;
            let with_log = |x: f64| x.powf(p) * (x.ln() / p - 1.0 / (p * p));
            (primitive(b) - primitive(a), with_log(b) - with_log(a))
        };
        let ends = |f: &dyn Fn(f64) -> f64, slope: &dyn Fn(f64) -> f64| {
            0.5 * (f(b) - f(a)) + (slope(b) - slope(a)) / 12.0
        };
        weights += integral + ends(&|x| x.powf(-q), &|x| -q * x.powf(-q - 1.0));
        logs +=
            with_log + ends(&|x| x.powf(-q) * x.ln(), &|x| x.powf(-q - 1.0) * (1.0 - q * x.ln()));
    }
    logs / weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_exponent_that_made_frequencies_is_found(q in 0.05f64..3.0, n in 2usize..3000) {
            let frequencies: Vec<u64> = (1..=n).map(|k| (1e15 * (k as f64).powf(-q)) as u64).collect();
            let found = zipf_exponent(&frequencies, n).unwrap();
            prop_assert!((found - q).abs() < 1e-5, "{} instead of {}", found, q);
        }
    }

    #[test]
    fn integrals_stand_in_for_long_sums() {
        for q in [0.0, 0.7, 1.0, 1.05, 2.5] {
            let n = 2_000_000;
            let (mut weights, mut logs) = (0.0, 0.0);
            for k in 1..=n {
                let w = (k as f64).powf(-q);
                weights += w;
                logs += w * (k as f64).ln();
            }
            let mean = mean_log_rank(q, n);
            assert!(
                (mean - logs / weights).abs() < 1e-8 * mean,
                "{q}: {mean} and {}",
                logs / weights
            );
        }
        assert_eq!(
            (zipf_exponent(&[], 5), zipf_exponent(&[3], 1), zipf_exponent(&[1, 1], 1)),
            (None, None, None)
        );
    }
}
