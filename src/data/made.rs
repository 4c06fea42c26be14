//! Samples that a device makes itself, so that nothing but their numbers travels.

use super::{Batch, source::planted::Numbers};
use std::sync::Arc;

/// How a device makes the samples of a source: bit by bit those of [`super::Source::fill`].
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The log.
    pub log: Arc<Numbers>,
    /// Number of the split within the log.
    pub split: u32,
    /// Sample `start` of epoch `e` has the number `e * epoch + start` (modulo 2^64).
    pub epoch: u64,
}

impl Recipe {
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
    Made(Span),
}

impl<'a> Samples<'a> {
    /// The batch in the host's memory, if there is one.
    pub fn host(self) -> Option<&'a Batch> {
        match self {
            Samples::Host(batch) => Some(batch),
            Samples::Made(_) => None,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Samples::Host(batch) => batch.len,
            Samples::Made(span) => span.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
