//! Metrics of the order of predictions: ROC AUC and average precision, exact, from one sort.

/// Units of a precision in [`rank`]: none is above 1, and those above a half lose nothing.
pub(super) const PRECISION_UNITS: f64 = 9_007_199_254_740_992.0;

/// Ranks probabilities in [0, 1] with labels 0 or 1. Returns
///
/// - twice the pairs of a positive and a negative in the right order, and the tied ones once: over
///   twice the number of pairs that is the area under the ROC curve (Mann and Whitney's statistic),
///   ties half credit;
/// - the sum over all positives of the precision at their prediction, each in units of `1 /
///   PRECISION_UNITS`: over the number of positives that is the average precision, `sum_t (R_t -
///   R_{t-1}) P_t` over the distinct predictions from the highest to the lowest. It is sklearn's:
///   tied predictions are one step (`sklearn.metrics.average_precision_score`).
pub(super) fn rank(predictions: &[f32], labels: &[f32]) -> (u128, u128) {
    // The bits of floats >= 0 sort as the floats do, and those of [0, 1] leave a bit for the label.
    // `+ 0.0` turns -0 into 0.
    let mut keys: Vec<u32> = predictions
        .iter()
        .zip(labels)
        .map(|(&p, &y)| ((p + 0.0).to_bits() << 1) | u32::from(y == 1.0))
        .collect();
    keys.sort_unstable();
    let (mut hits, mut misses, mut doubled_area, mut precision_sum) = (0u64, 0u64, 0u128, 0u128);
    for group in keys.chunk_by(|a, b| a >> 1 == b >> 1).rev() {
        let p = group.iter().map(|k| u64::from(k & 1)).sum::<u64>();
        let n = group.len() as u64 - p;
        doubled_area += u128::from(n) * u128::from(2 * hits + p);
        hits += p;
        misses += n;
        let precision = hits as f64 / (hits + misses) as f64;
        precision_sum += u128::from(p) * u128::from((precision * PRECISION_UNITS) as u64);
    }
    (doubled_area, precision_sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positives(y: &[f32]) -> f64 {
        y.iter().filter(|&&y| y == 1.0).count() as f64
    }

    fn auc(p: &[f32], y: &[f32]) -> f64 {
        let hits = positives(y);
        rank(p, y).0 as f64 / (2.0 * hits * (y.len() as f64 - hits))
    }

    fn average_precision(p: &[f32], y: &[f32]) -> f64 {
        rank(p, y).1 as f64 / PRECISION_UNITS / positives(y)
    }

    /// Compares each positive with each negative.
    fn auc_by_pairs(p: &[f32], y: &[f32]) -> f64 {
        let (mut credit, mut pairs) = (0.0, 0.0);
        for a in p.iter().zip(y).filter(|(_, y)| **y == 1.0).map(|(p, _)| p) {
            for b in p.iter().zip(y).filter(|(_, y)| **y == 0.0).map(|(p, _)| p) {
                pairs += 1.0;
                credit += if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
            }
        }
        credit / pairs
    }

    /// Counts true and false positives anew for every threshold.
    fn average_precision_by_thresholds(p: &[f32], y: &[f32]) -> f64 {
        let mut thresholds = p.to_vec();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let positives = y.iter().sum::<f32>() as f64;
        let (mut sum, mut last_recall) = (0.0, 0.0);
        for t in thresholds {
            let taken = p.iter().zip(y).filter(|(p, _)| **p >= t);
            let (hits, all) = taken.fold((0.0, 0.0), |(h, a), (_, y)| (h + *y as f64, a + 1.0));
            sum += (hits / positives - last_recall) * (hits / all);
            last_recall = hits / positives;
        }
        sum
    }

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(auc(&[0.0, 1.0], &[0.0, 1.0]), 1.0);
        assert_eq!(auc(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(auc(&[0.3, 0.3, 0.3], &[0.0, 1.0, 1.0]), 0.5);
        assert_eq!(auc(&[-0.0, 0.0], &[0.0, 1.0]), 0.5);
        // One tie (half a pair) and one pair in order, of two.
        assert_eq!(auc(&[0.5, 0.5, 0.1], &[1.0, 0.0, 0.0]), 0.75);
        // The smallest f32 counts as a difference.
        assert_eq!(auc(&[0.0, f32::from_bits(1)], &[0.0, 1.0]), 1.0);
        // All tied: one step, precision = base rate.
        assert_eq!(average_precision(&[0.5; 4], &[1.0, 0.0, 0.0, 0.0]), 0.25);
        // Ranked 1, 0, 1: precisions 1 and 2/3.
        assert_eq!(average_precision(&[0.9, 0.5, 0.1], &[1.0, 0.0, 1.0]), (1.0 + 2.0 / 3.0) / 2.0);
    }

    #[test]
    fn a_million_samples_count_exactly() {
        // Positives at even, negatives at odd positions of one long ladder: the k-th negative (from
        // below) beats k + 1 positives.
        let n = 1 << 20;
        let p: Vec<f32> = (0..n).map(|i| i as f32 / n as f32).collect();
        let y: Vec<f32> = (0..n).map(|i| ((i + 1) % 2) as f32).collect();
        let half = (n / 2) as f64;
        assert_eq!(auc(&p, &y), (half - 1.0) / (2.0 * half));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definitions(samples in prop::collection::vec((0u8..20, any::<bool>()), 2..60)) {
            let p: Vec<f32> = samples.iter().map(|s| f32::from(s.0) / 19.0).collect();
            let mut y: Vec<f32> = samples.iter().map(|s| f32::from(u8::from(s.1))).collect();
            (y[0], y[1]) = (0.0, 1.0);
            prop_assert!((auc(&p, &y) - auc_by_pairs(&p, &y)).abs() < 1e-12);
            prop_assert!((average_precision(&p, &y) - average_precision_by_thresholds(&p, &y)).abs() < 1e-12);
        }

        #[test]
        fn order_of_samples_does_not_matter(
            samples in prop::collection::vec((0f32..1.0, any::<bool>()), 2..100).prop_shuffle(),
        ) {
            let split = |s: &[(f32, bool)]| -> (Vec<f32>, Vec<f32>) {
                s.iter().map(|s| (s.0, f32::from(u8::from(s.1)))).unzip()
            };
            let mut sorted = samples.clone();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            let ((p, y), (ps, ys)) = (split(&samples), split(&sorted));
            prop_assume!(y.contains(&0.0) && y.contains(&1.0));
            prop_assert_eq!(auc(&p, &y).to_bits(), auc(&ps, &ys).to_bits());
        }
    }
}
