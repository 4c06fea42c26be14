//! A part of a split as a split of its own.

use super::super::{DataError, Source};
use crate::batch::{Batch, Schema};
use std::ops::Range;

/// Some samples of a source, one behind the other, of which it has as many.
pub struct Part {
    source: Box<dyn Source>,
    range: Range<u64>,
}

impl Part {
    /// The samples `range` of `source`.
    pub fn of(source: Box<dyn Source>, range: Range<u64>) -> Self {
        Part { source, range }
    }
}

impl Source for Part {
    fn schema(&self) -> &Schema {
        self.source.schema()
    }

    fn len(&self) -> Option<u64> {
        Some(self.range.end - self.range.start)
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        self.source.fill(epoch, self.range.start + start, n, batch)
    }
}
