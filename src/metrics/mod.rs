//! Quality of predictions: exact, in f64.

use serde::Serialize;

/// Metrics of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
}
