//! MLPerf training logs: `:::MLLOG {json}` lines, written as each event happens.
//!
//! What a benchmark's log holds is a row of `BENCHMARKS` (benchmark.rs); [`MlLog`] listens to the
//! training loop and writes; [`parse`] reads anybody's and [`check`] judges them by [`rules`].
//! Format and keys: mlcommons/logging, mlperf_logging/mllog and compliance_checker (package
//! `mlperf-logging` 4.1.68).

pub(crate) mod benchmark;
pub mod check;
mod json;
mod keys;
pub mod parse;
pub mod rules;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

pub use benchmark::Benchmark;
pub use writer::MlLog;
