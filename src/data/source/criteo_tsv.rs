//! Raw Criteo logs, prepared as facebook's program does ([`criteo`]) and held in memory (157 bytes
//! a sample).
//!
//! All days but the last are for training; the first half of the last (rounded up) is for
//! evaluation (the original's "test"), the rest (its "val") is looked at once at the end. The
//! original's shuffles are drawn once, so that every epoch has the same order.

use super::super::{
    DataError, Dataset, Facts, Source,
    preprocess::criteo::{self, Samples},
};
use crate::{
    batch::{Batch, Column, Schema},
    data::source::config::{CriteoSet, CriteoShuffle, CriteoTsvConfig},
    random::numpy::RandomState,
};
use std::{ops::Range, sync::Arc};

/// Reads, encodes, splits and shuffles.
///
/// [`Dataset::numpy`] is the generator as the original leaves it: it makes its data set twice, once
/// for training and once for testing, and draws the shuffle of the training days each time; the
/// first one counts.
///
/// # Errors
/// If a file is missing or malformed, or a split would be empty.
pub fn open(config: &CriteoTsvConfig) -> Result<Dataset, DataError> {
    check(config)?;
    let mut numpy = RandomState::new(config.seed);
    let samples = Arc::new(criteo::read(config, &mut numpy)?);
    let last = samples.days.last().cloned().unwrap_or(0..0);
    let middle = last.start + last.len().div_ceil(2);
    let (train, eval, test) = (last.start, last.start..middle, middle..last.end);
    if train == 0 || eval.is_empty() {
        return Err(DataError::Invalid(format!(
            "{}: {} samples are too few: {train} in the training days and {} in the last one; must be at least 1 in each",
            config.paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
            samples.labels.len(),
            last.len()
        )));
    }
    let order = shuffle(config.shuffle, &samples.days, &mut numpy);
    shuffle(config.shuffle, &samples.days, &mut numpy);
    let facts = Facts {
        base_rate: Some(
            samples.labels[eval.clone()].iter().map(|&y| f64::from(y)).sum::<f64>()
                / eval.len() as f64,
        ),
        skipped_lines: samples.skipped,
        notes: vec![format!(
            "{train} samples for training, {} for evaluation, {} held out",
            eval.len(),
            test.len()
        )],
        ..Facts::default()
    };
    let schema = schema(&samples);
    let source = |order| -> Box<dyn Source> {
        Box::new(CriteoTsv { schema: schema.clone(), samples: Arc::clone(&samples), order })
    };
    let test = (!test.is_empty()).then(|| source(Order::AsIs(test)));
    Ok(Dataset {
        train: source(order),
        eval: source(Order::AsIs(eval)),
        test,
        facts,
        numpy: Some(numpy),
    })
}

fn check(config: &CriteoTsvConfig) -> Result<(), DataError> {
    let invalid = |what: String| Err(DataError::Invalid(what));
    match (config.set, config.paths.len()) {
        (CriteoSet::Kaggle, n) if n != 1 => {
            invalid(format!("the Kaggle log is one file, but {n} are named"))
        }
        (CriteoSet::Terabyte, n) if n < 2 => invalid(format!(
            "the terabyte log needs 2 days or more (the last one is for evaluation), but {n} is named"
        )),
        _ if !(0.0..1.0).contains(&config.sub_sample_rate) => invalid(format!(
            "the share of negatives to drop is {}; from 0 to less than 1 is right",
            config.sub_sample_rate
        )),
        _ => Ok(()),
    }
}

fn schema(samples: &Samples) -> Schema {
    let column =
        |(k, &rows): (usize, &usize)| Column { name: format!("C{}", k + 1), rows, max_hotness: 1 };
    Schema { dense: criteo::DENSE, tables: samples.rows.iter().enumerate().map(column).collect() }
}

/// The order of the training samples: those of all days but the last.
fn shuffle(how: CriteoShuffle, days: &[Range<usize>], numpy: &mut RandomState) -> Order {
    let days = &days[..days.len() - 1];
    let end = days.last().map_or(0, |d| d.end);
    let mut order: Vec<u32> = match how {
        CriteoShuffle::None => return Order::AsIs(0..end),
        CriteoShuffle::Total | CriteoShuffle::Day => (0..end as u32).collect(),
    };
    match how {
        CriteoShuffle::Total => numpy.shuffle(&mut order),
        _ => days.iter().for_each(|d| numpy.shuffle(&mut order[d.clone()])),
    }
    Order::Listed(order)
}

enum Order {
    /// A range of samples.
    AsIs(Range<usize>),
    /// Samples by number.
    Listed(Vec<u32>),
}

struct CriteoTsv {
    schema: Schema,
    samples: Arc<Samples>,
    order: Order,
}

impl Source for CriteoTsv {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(match &self.order {
            Order::AsIs(range) => range.len(),
            Order::Listed(order) => order.len(),
        } as u64)
    }

    fn fill(
        &mut self,
        _epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let start = start as usize;
        match &self.order {
            Order::AsIs(range) => {
                gather(&self.samples, range.start + start..range.start + start + n, batch)
            }
            Order::Listed(order) => {
                gather(&self.samples, order[start..start + n].iter().map(|&i| i as usize), batch)
            }
        }
        Ok(())
    }
}

fn gather(samples: &Samples, order: impl ExactSizeIterator<Item = usize>, batch: &mut Batch) {
    batch.clear();
    batch.len = order.len();
    for i in order {
        // As torch does: to f32, plus 1, logarithm, each rounded to f32.
        batch.dense.extend(samples.dense[i].iter().map(|&x| libm::logf(x as f32 + 1.0)));
        for (bags, &id) in batch.bags.iter_mut().zip(&samples.ids[i]) {
            bags.push([id]);
        }
        batch.labels.push(f32::from(samples.labels[i]));
    }
}
