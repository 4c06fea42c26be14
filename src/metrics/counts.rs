//! What the quality of predictions is made of: sums of integers, so that the order of samples, the
//! number of threads and the device cannot matter.

use super::{MetricsError, Quality, binned, pointwise, pointwise::Confusion, ranking};

/// Sums over all samples of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// How predicted classes meet the labels.
    pub confusion: Confusion,
    /// Sum of `-ln` of the products of the likelihoods of 32 samples in a row, in units of 2^-44,
    /// each rounded down.
    pub loss: u128,
    /// Twice the pairs of a positive and a negative in the right order, and the tied ones once.
    pub doubled_area: u128,
    /// Sum over all positives of the precision at their prediction, in units of 2^-53, each rounded
    /// down.
    pub precision: u128,
    /// Twice the area under the ROC curve of `tf.metrics.auc` with 1000 thresholds, times the
    /// negatives and the positives.
    pub binned_area: u128,
}

impl Counts {
    /// Of probabilities in [0, 1] and labels 0 or 1.
    pub(super) fn of(predictions: &[f32], labels: &[f32]) -> Self {
        let (doubled_area, precision) = ranking::rank(predictions, labels);
        Counts {
            confusion: pointwise::confusion(predictions, labels),
            loss: pointwise::loss(predictions, labels),
            doubled_area,
            precision,
            binned_area: binned::doubled_area(predictions, labels),
        }
    }

    /// The metrics.
    ///
    /// # Errors
    /// If all labels are equal.
    pub fn quality(&self) -> Result<Quality, MetricsError> {
        let Counts { confusion, loss, doubled_area, precision, binned_area } = self;
        let (samples, positives) = (confusion.samples(), confusion.positives());
        match positives {
            0 => return Err(MetricsError::OneClass { samples: samples as usize, class: 0 }),
            p if p == samples => {
                return Err(MetricsError::OneClass { samples: samples as usize, class: 1 });
            }
            _ => {}
        }
        let base_rate = positives as f64 / samples as f64;
        let logloss = *loss as f64 / pointwise::LOSS_UNITS / samples as f64;
        Ok(Quality {
            samples,
            auc: *doubled_area as f64 / (2.0 * positives as f64 * (samples - positives) as f64),
            logloss,
            accuracy: confusion.accuracy(),
            normalized_entropy: logloss / pointwise::entropy(base_rate),
            base_rate,
            precision: confusion.precision(),
            recall: confusion.recall(),
            f1: confusion.f1(),
            average_precision: *precision as f64 / ranking::PRECISION_UNITS / positives as f64,
            auc_binned_1000: Some(binned::auc(*binned_area, samples - positives, positives)),
        })
    }
}
