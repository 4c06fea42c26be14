//! Quality of predictions: exact, in f64.

pub(crate) mod binned;
mod counts;
mod pointwise;
mod ranking;

pub use counts::Counts;
pub use pointwise::Confusion;

use serde::{Deserialize, Serialize};

/// Metrics of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Samples.
    pub samples: u64,
    /// Area under the ROC curve; ties get half credit.
    pub auc: f64,
    /// `-mean(y ln p + (1 - y) ln(1 - p))`.
    pub logloss: f64,
    /// `mean(round(p) == y)`, halves to even as numpy rounds.
    pub accuracy: f64,
    /// Log loss over the log loss of always predicting the base rate (He et al. 2014).
    pub normalized_entropy: f64,
    /// Share of positive labels.
    pub base_rate: f64,
    /// Of the predicted positives, how many are.
    pub precision: f64,
    /// Of the positives, how many are predicted.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Average precision (sklearn's `average_precision_score`).
    pub average_precision: f64,
    /// The area under the ROC curve by 1000 thresholds (`tf.metrics.auc`), which DeepRec publishes;
    /// `None` in records of programs that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc_binned_1000: Option<f64>,
}

/// Why predictions have no quality. Positions count from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// Nothing to measure.
    #[error("no predictions to measure: the evaluation set is empty")]
    Empty,
    /// Predictions and labels do not belong together.
    #[error("{predictions} predictions for {labels} labels; there must be one for each")]
    Lengths {
        /// Number of predictions.
        predictions: usize,
        /// Number of labels.
        labels: usize,
    },
    /// The model has diverged.
    #[error("prediction {position} is NaN")]
    NotANumber {
        /// Which one.
        position: usize,
    },
    /// Not a probability.
    #[error("prediction {position} is {value}, outside of [0, 1]")]
    NotAProbability {
        /// Which one.
        position: usize,
        /// Its value.
        value: f32,
    },
    /// Not a click.
    #[error("label {position} is {value}; AUC and the other metrics need labels that are 0 or 1")]
    NotBinary {
        /// Which one.
        position: usize,
        /// Its value.
        value: f32,
    },
    /// Ranking needs both classes.
    #[error(
        "all {samples} labels are {class}; AUC needs at least one sample of each class, so evaluate on more samples"
    )]
    OneClass {
        /// Number of samples.
        samples: usize,
        /// The only class.
        class: u8,
    },
}

/// Measures probabilities `predictions` `[n]` against `labels` `[n]` (0 or 1).
///
/// One sort of `n` 32-bit keys and one pass for the rest; 500,000 samples take some 10 ms.
///
/// # Errors
/// If there is nothing to measure, a prediction is not a probability, a label is not 0 or 1, or all
/// labels are equal.
///
/// ```
/// let q = dlrm_bench::metrics::quality(&[0.1, 0.4, 0.35, 0.8], &[0.0, 0.0, 1.0, 1.0])?;
/// assert_eq!((q.auc, q.accuracy), (0.75, 0.75));
/// # Ok::<(), dlrm_bench::metrics::MetricsError>(())
/// ```
pub fn quality(predictions: &[f32], labels: &[f32]) -> Result<Quality, MetricsError> {
    counts(predictions, labels)?.quality()
}

/// The sums that the quality of predictions is made of.
///
/// # Errors
/// As [`quality`], but for equal labels.
pub fn counts(predictions: &[f32], labels: &[f32]) -> Result<Counts, MetricsError> {
    check(predictions, labels)?;
    Ok(Counts::of(predictions, labels))
}

fn check(predictions: &[f32], labels: &[f32]) -> Result<(), MetricsError> {
    if predictions.len() != labels.len() {
        return Err(MetricsError::Lengths { predictions: predictions.len(), labels: labels.len() });
    }
    if predictions.is_empty() {
        return Err(MetricsError::Empty);
    }
    if let Some(position) = predictions.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(MetricsError::prediction(position, predictions[position]));
    }
    if let Some(position) = labels.iter().position(|&y| y != 0.0 && y != 1.0) {
        return Err(MetricsError::NotBinary { position, value: labels[position] });
    }
    Ok(())
}

impl MetricsError {
    /// Why `value` is no probability.
    pub(crate) fn prediction(position: usize, value: f32) -> Self {
        match value.is_nan() {
            true => MetricsError::NotANumber { position },
            false => MetricsError::NotAProbability { position, value },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_input_is_named() {
        let message = |p: &[f32], y: &[f32]| quality(p, y).unwrap_err().to_string();
        assert_eq!(message(&[], &[]), "no predictions to measure: the evaluation set is empty");
        assert_eq!(
            message(&[0.5], &[0.0, 1.0]),
            "1 predictions for 2 labels; there must be one for each"
        );
        assert_eq!(message(&[0.5, f32::NAN], &[0.0, 1.0]), "prediction 1 is NaN");
        assert_eq!(
            message(&[1.5, f32::NAN], &[0.0, 1.0]),
            "prediction 0 is 1.5, outside of [0, 1]"
        );
        assert_eq!(
            message(&[0.5, f32::INFINITY], &[0.0, 1.0]),
            "prediction 1 is inf, outside of [0, 1]"
        );
        assert!(message(&[0.5, 0.5], &[0.25, 1.0]).starts_with("label 0 is 0.25; AUC"));
        assert!(message(&[0.5, 0.5], &[f32::NAN, 1.0]).starts_with("label 0 is NaN; AUC"));
        assert!(message(&[0.5, 0.5], &[0.0, 0.0]).starts_with("all 2 labels are 0; AUC needs"));
        assert!(message(&[0.5], &[1.0]).starts_with("all 1 labels are 1; AUC needs"));
    }

    /// All ten numbers of one small case; values by hand.
    #[test]
    fn a_case_worked_by_hand() {
        let q = quality(&[0.9, 0.8, 0.6, 0.5, 0.2], &[1.0, 0.0, 1.0, 1.0, 0.0]).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} is not {b}");
        assert_eq!(q.samples, 5);
        // 6 pairs; 0.8 beats 0.6 and 0.5 wrongly.
        near(q.auc, 4.0 / 6.0);
        near(q.base_rate, 0.6);
        // 0.5 rounds to 0: predicted positives 0.9, 0.8, 0.6, of which two are right.
        near(q.accuracy, 3.0 / 5.0);
        near(q.precision, 2.0 / 3.0);
        near(q.recall, 2.0 / 3.0);
        near(q.f1, 2.0 / 3.0);
        // Recall steps of a third at precisions 1, 2/3 and 3/4.
        near(q.average_precision, (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0);
        let loss = -(0.9f64.ln() + 0.2f64.ln() + 0.6f64.ln() + 0.5f64.ln() + 0.8f64.ln()) / 5.0;
        near(q.logloss, loss);
        near(q.normalized_entropy, loss / -(0.6 * 0.6f64.ln() + 0.4 * 0.4f64.ln()));
    }
}
