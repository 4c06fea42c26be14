//! A file's samples with their ids modulo a number.

use super::Reader;
use crate::data::{
    DataError,
    rows::{Layout, Rows},
};

/// Passes the samples of another reader on.
pub struct Reduced {
    from: Box<dyn Reader>,
    range: u32,
}

impl Reduced {
    /// Takes the ids that `from` reads modulo `range`, at least 1. What is missing stays so.
    pub fn new(from: Box<dyn Reader>, range: u32) -> Self {
        Reduced { from, range }
    }
}

impl Reader for Reduced {
    fn layout(&self) -> &Layout {
        self.from.layout()
    }

    fn len(&self) -> Option<u64> {
        self.from.len()
    }

    fn told(&self) -> &[String] {
        self.from.told()
    }

    fn texts(&self) -> Vec<usize> {
        self.from.texts()
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        self.from.read(n, rows)?;
        let texts = self.from.texts();
        let ids = rows.ids.iter_mut().enumerate().filter(|(k, _)| !texts.contains(k));
        ids.flat_map(|(_, bags)| &mut bags.indices).for_each(|id| *id %= self.range);
        Ok(())
    }
}
