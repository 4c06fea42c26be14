//! How long the blocks of a bootstrap should be, from the data (Politis & White, "Automatic
//! block-length selection for the dependent bootstrap", Econometric Reviews 23, 2004, with the
//! correction by Patton, Politis & White, 28, 2009).

/// Correlations of fewer than this many lags in a row below the threshold do not end the search.
const QUIET_LAGS: usize = 5;

/// Block length for a circular block bootstrap of the mean of `x`: 1 for independent values, more
/// the slower their correlation dies out. At most `min(3 sqrt(n), n / 3)`.
pub(super) fn block_length(x: &[f64]) -> usize {
    let n = x.len();
    let mean = x.iter().sum::<f64>() / n as f64;
    let centred: Vec<f64> = x.iter().map(|x| x - mean).collect();
    let covariance = |lag: usize| {
        centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>() / n as f64
    };
    let variance = covariance(0);
    let size = x.iter().map(|x| x * x).sum::<f64>() / n as f64;
    if variance <= 1e-24 * size {
        return 1;
    }
    // The last lag before a row of small correlations.
    let most = (n as f64).sqrt().ceil() as usize + QUIET_LAGS;
    let threshold = 2.0 * ((n as f64).log10() / n as f64).sqrt() * variance;
    let mut covariances = vec![variance];
    let (mut last, mut quiet) = (0, 0);
    for lag in 1..most.min(n) {
        covariances.push(covariance(lag));
        if covariances[lag].abs() < threshold {
            quiet += 1;
            if quiet == QUIET_LAGS {
                break;
            }
        } else {
            (last, quiet) = (lag, 0);
        }
    }
    if last == 0 {
        return 1;
    }
    // Sums over lags under the flat-top window.
    let window = 2 * last;
    let (mut weighted, mut spectrum) = (0.0, variance);
    for lag in 1..=window.min(n - 1) {
        let c = covariances.get(lag).copied().unwrap_or_else(|| covariance(lag));
        let t = lag as f64 / window as f64;
        let weight = if t <= 0.5 { 1.0 } else { 2.0 * (1.0 - t) };
        weighted += 2.0 * weight * lag as f64 * c;
        spectrum += 2.0 * weight * c;
    }
    let best = (1.5 * (weighted / spectrum).powi(2) * n as f64).cbrt();
    let cap = (3.0 * (n as f64).sqrt()).min(n as f64 / 3.0).ceil();
    // A spectrum near 0 makes `best` infinite or NaN; then the cap is the careful answer.
    if best < cap { (best.round() as usize).max(1) } else { cap as usize }
}

#[cfg(test)]
mod tests {
    use super::{super::block_bootstrap::tests::autoregression, *};

    #[test]
    fn grows_with_correlation() {
        let length = |rho| block_length(&autoregression(1, 2000, rho));
        assert!(length(0.0) <= 3, "{}", length(0.0));
        assert!((4..=30).contains(&length(0.5)), "{}", length(0.5));
        assert!((20..=134).contains(&length(0.95)), "{}", length(0.95));
    }

    #[test]
    fn degenerate_series_have_an_answer() {
        assert_eq!(block_length(&[0.0; 10]), 1);
        assert_eq!(block_length(&[0.1; 1000]), 1);
        let alternating: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        assert!((1..=30).contains(&block_length(&alternating)));
        let trend: Vec<f64> = (0..100).map(f64::from).collect();
        assert!((10..=30).contains(&block_length(&trend)), "{}", block_length(&trend));
    }
}
