//! The area under the ROC curve as TensorFlow 1.15 approximates it: `tf.metrics.auc` with 1000
//! thresholds (tensorflow/tensorflow: python/ops/metrics_impl.py). DeepRec publishes it.

/// Thresholds.
pub(crate) const THRESHOLDS: usize = 1000;
/// Added to both counts of samples, and to the true positives.
const EPSILON: f64 = 1e-6;

/// Threshold `k`: the first lies below all probabilities, the last above, those between at whole
/// multiples of 1/999, rounded to f32.
pub(crate) fn threshold(k: usize) -> f32 {
    const LAST: usize = THRESHOLDS - 1;
    match k {
        0 => -1e-7,
        LAST => 1.0 + 1e-7,
        k => (k as f64 / LAST as f64) as f32,
    }
}

/// `sum_k (fp_k - fp_{k+1}) (tp_k + tp_{k+1})` over thresholds in their order, with the negatives
/// and positives that are predicted above them: twice the area under the trapezoids, times the
/// negatives and the positives. Probabilities in [0, 1], labels 0 or 1.
pub(super) fn doubled_area(predictions: &[f32], labels: &[f32]) -> u128 {
    let thresholds: Vec<f32> = (0..THRESHOLDS).map(threshold).collect();
    // Samples between threshold k and the next one, by class.
    let mut between = [[0u64; 2]; THRESHOLDS];
    for (&p, &y) in predictions.iter().zip(labels) {
        // A guess that is off by rounding.
        let mut k = (f64::from(p) * (THRESHOLDS - 1) as f64) as usize;
        while thresholds[k] >= p && k > 0 {
            k -= 1;
        }
        while thresholds[k + 1] < p {
            k += 1;
        }
        between[k][usize::from(y == 1.0)] += 1;
    }
    let (mut area, mut above) = (0u128, 0u64);
    for [negatives, positives] in between.into_iter().rev() {
        area += u128::from(negatives) * u128::from(2 * above + positives);
        above += positives;
    }
    area
}

/// The area that TensorFlow tells, from [`doubled_area`].
pub(super) fn auc(doubled_area: u128, negatives: u64, positives: u64) -> f64 {
    let (n, p) = (negatives as f64, positives as f64);
    (doubled_area as f64 + 2.0 * EPSILON * n) / (2.0 * (n + EPSILON) * (p + EPSILON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The original's lines: counts above each threshold, then the trapezoids.
    fn plain(predictions: &[f32], labels: &[f32]) -> f64 {
        let mut thresholds = vec![0.0 - 1e-7];
        thresholds.extend((0..998).map(|i| f64::from(i + 1) / 999.0));
        thresholds.push(1.0 + 1e-7);
        let rates = |t: f64| {
            let above = |class: f32| {
                let of_class = predictions.iter().zip(labels).filter(|(_, y)| **y == class);
                let all = of_class.clone().count() as f64;
                (of_class.filter(|(p, _)| **p > t as f32).count() as f64, all)
            };
            let ((fp, n), (tp, p)) = (above(0.0), above(1.0));
            (fp / (n + 1e-6), (tp + 1e-6) / (p + 1e-6))
        };
        let points: Vec<(f64, f64)> = thresholds.into_iter().map(rates).collect();
        points.windows(2).map(|w| (w[0].0 - w[1].0) * (w[0].1 + w[1].1) / 2.0).sum()
    }

    fn ours(predictions: &[f32], labels: &[f32]) -> f64 {
        let positives = labels.iter().filter(|&&y| y == 1.0).count() as u64;
        let negatives = labels.len() as u64 - positives;
        auc(doubled_area(predictions, labels), negatives, positives)
    }

    #[test]
    fn small_cases_by_hand() {
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-5, "{got} is not {want}");
        near(ours(&[0.0, 1.0], &[0.0, 1.0]), 1.0);
        near(ours(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        // Between two thresholds order is lost: half credit.
        near(ours(&[0.0101, 0.0102], &[0.0, 1.0]), 0.5);
        near(ours(&[0.0101, 0.0112], &[0.0, 1.0]), 1.0);
        // A prediction on a threshold is not above it.
        let third = threshold(333);
        near(ours(&[third, f32::from_bits(third.to_bits() + 1)], &[0.0, 1.0]), 1.0);
    }

    proptest! {
        #[test]
        fn is_what_tensorflow_computes(
            samples in prop::collection::vec((0f32..=1.0, any::<bool>(), any::<bool>()), 2..60),
        ) {
            // Half of them on thresholds, or next to them.
            let on = |(p, on, _): &(f32, bool, bool)| {
                if !on { return *p }
                let t = threshold(1 + (p * 996.0) as usize);
                f32::from_bits(t.to_bits() - u32::from(*p < 0.5))
            };
            let p: Vec<f32> = samples.iter().map(on).collect();
            let mut y: Vec<f32> = samples.iter().map(|s| f32::from(u8::from(s.2))).collect();
            (y[0], y[1]) = (0.0, 1.0);
            prop_assert!((ours(&p, &y) - plain(&p, &y)).abs() < 1e-12);
        }
    }
}
