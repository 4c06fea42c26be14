//! Metrics that are means over samples: log loss, accuracy, precision and recall.

use crate::exact;

/// Probabilities are kept this far from 0 and 1 in the log loss: the machine epsilon of f32, as
/// sklearn's `log_loss` does for float32 predictions. One sample then costs at most 15.94.
const EPSILON: f64 = f32::EPSILON as f64;

/// Factors below that are multiplied before a logarithm is taken: `EPSILON^32` is about 1e-222,
/// still a normal number.
const FACTORS: usize = 32;

/// Units of a logarithm in [`loss`]: the largest, 32 * 15.94, is below 2^53 of them.
pub(super) const LOSS_UNITS: f64 = 17_592_186_044_416.0;

/// `-sum(y ln p + (1 - y) ln(1 - p))` with `p` cut to `[EPSILON, 1 - EPSILON]`, in units of `1 /
/// LOSS_UNITS`; labels are 0 or 1.
///
/// The logarithm is taken of products of 32 likelihoods: 32 times fewer logarithms, and fewer
/// roundings too.
pub(super) fn loss(predictions: &[f32], labels: &[f32]) -> u128 {
    let chunks = predictions.chunks(FACTORS).zip(labels.chunks(FACTORS));
    let products = chunks.map(|(p, y)| p.iter().zip(y).map(|(&p, &y)| likelihood(p, y)).product());
    products.map(|product: f64| u128::from((-exact::ln(product) * LOSS_UNITS) as u64)).sum()
}

fn likelihood(p: f32, y: f32) -> f64 {
    let p = f64::from(p).clamp(EPSILON, 1.0 - EPSILON);
    if y == 1.0 { p } else { 1.0 - p }
}

/// Entropy in nats of a coin that shows heads with `rate` in (0, 1).
pub(super) fn entropy(rate: f64) -> f64 {
    -(rate * libm::log(rate) + (1.0 - rate) * libm::log1p(-rate))
}

/// How predicted classes, `round(p)`, meet the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confusion {
    true_positives: u64,
    false_positives: u64,
    false_negatives: u64,
    true_negatives: u64,
}

/// Counts the four cases. Halves round to even as in numpy, so exactly 0.5 predicts class 0.
pub(super) fn confusion(predictions: &[f32], labels: &[f32]) -> Confusion {
    let (mut both, mut predicted, mut actual) = (0u64, 0u64, 0u64);
    for (&p, &y) in predictions.iter().zip(labels) {
        let (p, y) = (u64::from(p > 0.5), u64::from(y == 1.0));
        both += p & y;
        predicted += p;
        actual += y;
    }
    Confusion::new(predictions.len() as u64, actual, predicted, both)
}

impl Confusion {
    /// Of so many samples, of class 1, predicted to be of class 1, and both.
    pub fn new(samples: u64, positives: u64, predicted: u64, both: u64) -> Self {
        Confusion {
            true_positives: both,
            false_positives: predicted - both,
            false_negatives: positives - both,
            true_negatives: samples + both - predicted - positives,
        }
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }

    /// Samples of class 1.
    pub fn positives(&self) -> u64 {
        self.true_positives + self.false_negatives
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        (self.true_positives + self.true_negatives) as f64 / self.samples() as f64
    }

    /// Share of right ones among predicted positives; 0 if there are none (sklearn's
    /// `zero_division`).
    pub fn precision(&self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of positives that are predicted.
    pub fn recall(&self) -> f64 {
        ratio(self.true_positives, self.positives())
    }

    /// Harmonic mean of precision and recall; 0 if both are.
    pub fn f1(&self) -> f64 {
        ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logloss(predictions: &[f32], labels: &[f32]) -> f64 {
        loss(predictions, labels) as f64 / LOSS_UNITS / predictions.len() as f64
    }

    #[test]
    fn certainty_costs_a_finite_amount() {
        let most = -f64::from(f32::EPSILON).ln();
        assert!((logloss(&[0.0], &[1.0]) - most).abs() < 1e-12);
        assert!((logloss(&[1.0], &[0.0]) - most).abs() < 1e-12);
        assert!(logloss(&[0.0, 1.0], &[0.0, 1.0]) < 1.2e-7);
        // The longest products of the smallest likelihoods do not underflow.
        assert!((logloss(&[0.0; 1000], &[1.0; 1000]) - most).abs() < 1e-12);
    }

    #[test]
    fn halves_round_to_even() {
        let c = confusion(&[0.5, 0.5, 0.500_000_1, 0.499_999_97], &[0.0, 1.0, 1.0, 0.0]);
        assert_eq!(
            c,
            Confusion {
                true_positives: 1,
                false_positives: 0,
                false_negatives: 1,
                true_negatives: 2
            }
        );
        assert_eq!((c.accuracy(), c.precision(), c.recall(), c.f1()), (0.75, 1.0, 0.5, 2.0 / 3.0));
    }

    #[test]
    fn no_predicted_positive_means_zero_not_nan() {
        let c = confusion(&[0.1, 0.2], &[1.0, 0.0]);
        assert_eq!((c.precision(), c.recall(), c.f1()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn entropy_of_a_fair_coin() {
        assert!((entropy(0.5) - std::f64::consts::LN_2).abs() < 1e-15);
        assert!((entropy(0.25) - 0.562_335_144_618_808_4).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn logloss_is_its_definition(samples in prop::collection::vec((0f32..=1.0, any::<bool>()), 1..200)) {
            let (p, y): (Vec<f32>, Vec<f32>) = samples.iter().map(|s| (s.0, f32::from(u8::from(s.1)))).unzip();
            let terms = p.iter().zip(&y).map(|(&p, &y)| {
                let p = f64::from(p).clamp(EPSILON, 1.0 - EPSILON);
                -(f64::from(y) * p.ln() + (1.0 - f64::from(y)) * (1.0 - p).ln())
            });
            let mean = terms.sum::<f64>() / p.len() as f64;
            prop_assert!((logloss(&p, &y) - mean).abs() <= 1e-13 * mean.max(1.0));
        }
    }
}
