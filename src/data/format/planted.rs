//! Planted data as samples to write: the same log that `data.source = "planted"` trains on, with
//! its dense columns as counts.

use super::Reader;
use crate::{
    batch::Batch,
    data::{
        DataError, Source,
        rows::{Hotness, Layout, Numbers, Rows},
    },
};

/// Reads part of a planted split.
pub struct PlantedReader {
    source: Box<dyn Source>,
    layout: Layout,
    batch: Batch,
    next: u64,
    end: u64,
}

impl PlantedReader {
    /// Samples `start..start + n` of `split`, a source of planted data.
    pub fn new(split: Box<dyn Source>, start: u64, n: u64) -> Self {
        let schema = split.schema();
        let hotness = |h: usize| if h == 1 { Hotness::One } else { Hotness::Fixed(h) };
        let layout = Layout::numbered(
            schema.dense,
            Numbers::Int32,
            schema.tables.iter().map(|t| hotness(t.max_hotness)),
        );
        PlantedReader {
            batch: Batch::with_capacity(schema, 0),
            source: split,
            layout,
            next: start,
            end: start.saturating_add(n),
        }
    }
}

impl Reader for PlantedReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.end - self.next)
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.end - self.next).min(n as u64) as usize;
        self.source.fill(0, self.next, n, &mut self.batch)?;
        self.next += n as u64;
        rows.labels.extend_from_slice(&self.batch.labels);
        // The source gives ln(x + 1) of a whole x below 2^22. In f32 that tells x for sure up to
        // about a million, and beyond that one with the same logarithm to the last bit but one.
        rows.dense.extend(self.batch.dense.iter().map(|&y| libm::expm1(f64::from(y)).round()));
        for (to, from) in rows.ids.iter_mut().zip(&self.batch.bags) {
            to.clone_from(from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        dense::Dense,
        format::testing::drain,
        source::{
            config::{DenseTransform, PlantedConfig},
            planted,
        },
    };

    /// Counts give the planted features back, and rows do not depend on how they are asked for.
    #[test]
    fn counts_have_the_logarithms_that_planted_data_has() {
        let config = PlantedConfig {
            max_rows: Some(1000),
            train_samples: 1,
            eval_samples: 5000,
            seed: 3,
            ..PlantedConfig::of("criteo_kaggle")
        };
        let open = || planted::open(&config).unwrap();
        let n = 20_000;
        let rows = drain(&mut PlantedReader::new(open().train, 7, n as u64), 999).unwrap();
        let mut batch = Batch::with_capacity(open().train.schema(), n);
        open().train.fill(0, 7, n, &mut batch).unwrap();
        assert_eq!((&rows.labels, &rows.ids), (&batch.labels, &batch.bags));
        let log = Dense::new(DenseTransform::Log1pClamp0).unwrap();
        let (mut furthest, mut largest) = (0, 0.0f64);
        for (&x, &y) in rows.dense.iter().zip(&batch.dense) {
            assert_eq!(x.fract(), 0.0);
            furthest = furthest.max(log.apply(x).unwrap().to_bits().abs_diff(y.to_bits()));
            largest = largest.max(x);
        }
        assert!(furthest <= 1, "{furthest}");
        assert!(largest > 100_000.0);
    }
}
