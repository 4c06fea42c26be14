//! Samples that a device makes itself, so that nothing but their numbers travels.

use super::Batch;
use std::sync::Arc;

/// A split whose samples a device makes itself, bit by bit those of [`crate::data::Source::fill`].
#[derive(Debug, Clone)]
pub struct GeneratedSplit {
    /// The log.
    pub log: Arc<GeneratedLog>,
    /// Number of the split within the log.
    pub split: u32,
    /// Sample `start` of epoch `e` has the number `e * epoch + start` (modulo 2^64).
    pub epoch: u64,
}

impl GeneratedSplit {
    /// Samples `start..start + len` of an epoch.
    pub fn span(&self, epoch: u64, start: u64, len: usize) -> Span {
        Span { split: self.split, first: epoch.wrapping_mul(self.epoch).wrapping_add(start), len }
    }
}

/// Consecutive samples of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Number of the split within the log.
    pub split: u32,
    /// Number of the first sample; those that follow have the next ones, modulo 2^64.
    pub first: u64,
    /// How many.
    pub len: usize,
}

/// What an engine is to work on.
#[derive(Debug, Clone, Copy)]
pub enum Samples<'a> {
    /// A batch in the host's memory.
    Host(&'a Batch),
    /// Samples that the device makes, once it has been given their log.
    Generated(Span),
}

impl<'a> Samples<'a> {
    /// The batch in the host's memory, if there is one.
    pub fn host(self) -> Option<&'a Batch> {
        match self {
            Samples::Host(batch) => Some(batch),
            Samples::Generated(_) => None,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Samples::Host(batch) => batch.len,
            Samples::Generated(span) => span.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rounds of the scattering of ids.
pub const SCATTER_ROUNDS: usize = 4;

/// Everything that a sample depends on, but its number.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedLog {
    /// Seed of the log.
    pub seed: u64,
    /// `logit = bias + gain * (terms)`.
    pub gain: f64,
    /// See there.
    pub bias: f64,
    /// Categorical columns.
    pub columns: Vec<ColumnNumbers>,
    /// Pairs of columns whose latent vectors meet.
    pub pairs: Vec<PairNumbers>,
    /// Dense columns.
    pub dense: Vec<DenseNumbers>,
}

/// One categorical column.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct ColumnNumbers {
    /// Of the Zipf law: `n, p, 1 / p, first, span, squeeze` (`zipf.rs`).
    pub zipf: [f64; 6],
    /// Ids of a sample.
    pub hotness: u32,
    /// Added to every id but that of missing values.
    pub base: u32,
    /// A value is missing if its random word is below this.
    pub missing: u32,
    /// Ids but the missing one.
    pub values: u32,
    /// Of the scattering (`scatter.rs`).
    pub mask: u32,
    /// Of the scattering.
    pub shift: u32,
    /// Of the scattering.
    pub odd: [[u32; 2]; SCATTER_ROUNDS],
    /// Of the scattering.
    pub turn: [u32; SCATTER_ROUNDS],
    /// Keys of the hashes of weight and latent vector.
    pub keys: [u32; 2],
    /// A logit's share of a weight in hash units.
    pub weight_scale: f32,
    /// Keeps the size a multiple of 8.
    pub unused: u32,
}

/// Two columns whose latent vectors meet.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct PairNumbers {
    /// The columns.
    pub columns: [u32; 2],
    /// A logit's share of their product in hash units.
    pub scale: f32,
}

/// One dense column and its term of the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct DenseNumbers {
    /// Median of `ln x`.
    pub location: f64,
    /// Scale of the logistic law of `ln x`.
    pub scale: f64,
    /// A value is missing if its random word is below this.
    pub missing: u32,
    /// Of the term: `rise z / sqrt(1 + z^2) + hump (1 / (1 + z^2) - 1/2)`, `z = (y - centre) *
    /// inverse_width`.
    pub centre: f32,
    /// See there.
    pub inverse_width: f32,
    /// See there.
    pub rise: f32,
    /// See there.
    pub hump: f32,
    /// Keeps the size a multiple of 8.
    pub unused: u32,
}
