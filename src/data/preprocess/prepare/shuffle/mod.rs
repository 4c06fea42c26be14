//! Samples on their way from the order of the log to that of the output.

pub mod facebook;
pub mod folds;
pub mod order;
pub mod partition;
pub mod permutation;
pub mod records;
