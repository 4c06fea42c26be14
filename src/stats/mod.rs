//! What can be said about noisy timings: intervals. Pure functions, no I/O; the same input gives
//! the same bits.

mod block_bootstrap;
mod block_length;
mod cache;
mod changes;
mod jump;
mod olympic;
mod rcp;
mod sequential;
mod signed_rank;
mod student;

use serde::Serialize;

pub use block_bootstrap::{Bootstrap, throughput, warmup_cut};
pub use cache::{Popular, counted_misses, expected_misses, zipf};
pub use changes::changes;
pub use jump::{Jump, jump};
pub use olympic::{Score, mean, mean_interval, olympic_mean, score};
pub use rcp::{Accepted, Convergence, Judged, Origin, RcpError, Reference, ReferencePoint, margin};
pub use sequential::{Criteria, Decision, Finding, LOOKS, Sequential};
pub use signed_rank::{Shift, fewest, signed_rank};
pub use student::{TTest, paired, smallest_detectable, welch, welch_ratio};

/// An estimate with its confidence interval, all in the unit of the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The estimate from the data as they are.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Share of repetitions of the whole measurement in which such an interval holds the truth, say
    /// 0.95.
    pub confidence: f64,
}

/// Why there is no interval.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Not enough data.
    #[error(
        "{steps} steps after the warm-up of {warmup}; an interval needs at least {needed}, so train for longer"
    )]
    TooFew {
        /// Steps that are left.
        steps: usize,
        /// Steps that were cut.
        warmup: usize,
        /// The least that would do.
        needed: usize,
    },
    /// Numbers of samples and times do not belong together.
    #[error("{samples} numbers of samples for {seconds} step times; there must be one for each")]
    Lengths {
        /// Numbers of samples.
        samples: usize,
        /// Times.
        seconds: usize,
    },
    /// A time or a number of samples that cannot be.
    #[error("step {step} has {samples} samples in {seconds} s; both must be above 0")]
    NotPositive {
        /// Position from 0, warm-up included.
        step: usize,
        /// Its samples.
        samples: f64,
        /// Its time.
        seconds: f64,
    },
    /// A value that cannot be.
    #[error("value {at} is {value}; it must be a number above 0")]
    NotAbove0 {
        /// Position from 0.
        at: usize,
        /// What it is.
        value: f64,
    },
    /// Not a confidence level.
    #[error("a confidence of {0}; it must lie between 0 and 1, 0.95 say")]
    Confidence(f64),
    /// Not enough values.
    #[error("{values} values; at least {needed} are needed")]
    Values {
        /// Values that there are.
        values: usize,
        /// The least that would do.
        needed: usize,
    },
    /// A value that is not a finite number (the logarithm of a value that is not above 0, say).
    #[error("{0} is among the values; all must be finite numbers")]
    NotFinite(f64),
    /// Values that should be pairs.
    #[error("{a} and {b} values; pairs need the same number of both")]
    Pairs {
        /// The first's.
        a: usize,
        /// The second's.
        b: usize,
    },
}
