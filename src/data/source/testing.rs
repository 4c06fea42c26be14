//! A source whose samples are told from one another, for tests.

use super::super::{DataError, Source};
use crate::batch::{Batch, Column, Schema};

/// Sample i: label i % 2, one dense value i, id i in the first table and i % 4 times i in the
/// second.
pub struct Numbered {
    schema: Schema,
    len: Option<u64>,
}

impl Numbered {
    pub fn new(len: u64) -> Self {
        let column =
            |name: &str, max_hotness| Column { name: name.into(), rows: 1 << 20, max_hotness };
        Numbered {
            schema: Schema { dense: 1, tables: vec![column("a", 1), column("b", 3)] },
            len: Some(len),
        }
    }

    pub fn endless() -> Self {
        Numbered { len: None, ..Numbered::new(0) }
    }

    /// The numbers of the samples of a batch, whose columns must agree.
    pub fn check(batch: &Batch) -> Vec<u32> {
        assert_eq!(
            (batch.labels.len(), batch.dense.len(), batch.bags.len()),
            (batch.len, batch.len, 2)
        );
        let number = |i: usize| {
            let x = batch.bags[0].bag(i)[0];
            assert_eq!((batch.labels[i], batch.dense[i]), ((x % 2) as f32, x as f32));
            assert_eq!(batch.bags[1].bag(i), vec![x; x as usize % 4]);
            x
        };
        (0..batch.len).map(number).collect()
    }
}

impl Source for Numbered {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        self.len
    }

    fn fill(&mut self, _: u64, start: u64, n: usize, batch: &mut Batch) -> Result<(), DataError> {
        assert!(self.len.is_none_or(|len| start + n as u64 <= len));
        batch.clear();
        batch.len = n;
        for x in start as u32..start as u32 + n as u32 {
            batch.labels.push((x % 2) as f32);
            batch.dense.push(x as f32);
            batch.bags[0].push([x]);
            batch.bags[1].push(vec![x; x as usize % 4]);
        }
        Ok(())
    }
}

/// What tests of sources tell them where it does not matter.
pub(super) fn settings() -> super::OpenSettings {
    let draw = super::DrawOrder::default();
    super::OpenSettings { batch_size: 1, seed: 7, threads: 1, shards: None, draw }
}
