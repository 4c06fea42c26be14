//! Delimited text with a header line: Frappe, Adult, one's own.
//!
//! Everything is encoded by the training file alone, or categories by hashes, and held in memory
//! (4 bytes a column). A record
//! is one line; spaces around fields are not part of them; fields may be quoted; gzip is unpacked
//! while reading.

mod encode;
mod read;

use super::{
    super::{DataError, Dataset, Facts, Source},
    hold_out::Side,
    order::Order,
};
use crate::{
    batch::{Batch, Column, Schema},
    data::source::config::CsvConfig,
};
use encode::{Encoded, Samples, Training};
use std::path::Path;

/// Reads and encodes all files. `seed` decides the order of the training samples in each epoch.
///
/// # Errors
/// If a file cannot be read, a line is malformed (unless those are skipped), a column is missing,
/// or a split lacks one of the classes.
pub fn open(config: &CsvConfig, seed: u64) -> Result<Dataset, DataError> {
    let mut training = Training::new(config);
    let pass =
        read::read(&config.train, config, None, config.hold_out.map(Side::kept), &mut training)?;
    let (train, encoding) = training.finish(config);
    both_classes(&config.train, &train)?;
    let schema = Schema {
        dense: pass.roles.dense.len(),
        tables: pass
            .roles
            .categorical
            .iter()
            .enumerate()
            .map(|(k, name)| Column { name: name.clone(), rows: encoding.rows(k), max_hotness: 1 })
            .collect(),
    };
    let mut facts = Facts { skipped_lines: pass.skipped, ..Facts::default() };
    facts.notes.push(format!("train: {} samples", train.labels.len()));
    facts.notes.extend(pass.told.iter().map(|told| format!("{}: {told}", config.train.display())));
    let mut other = |name: &str, path: &Path, side| -> Result<Samples, DataError> {
        let mut encoded = Encoded::new(&encoding);
        let skipped = read::read(path, config, Some(&pass.roles), side, &mut encoded)?.skipped;
        // Those of the training file have been counted.
        facts.skipped_lines += if side.is_none() { skipped } else { 0 };
        both_classes(path, &encoded.samples)?;
        let (samples, unknown) = (encoded.samples.labels.len(), encoded.unknown);
        facts.notes.push(match encoding.hashed() {
            true => format!("{name}: {samples} samples"),
            false => format!(
                "{name}: {samples} samples, {unknown} values that the training file does not hold"
            ),
        });
        Ok(encoded.samples)
    };
    let held_out = config.hold_out.map(Side::held_out);
    let eval = other("eval", config.eval.as_deref().unwrap_or(&config.train), held_out)?;
    let test = config.test.as_deref().map(|path| other("test", path, None)).transpose()?;
    facts.base_rate =
        Some(eval.labels.iter().map(|&y| f64::from(y)).sum::<f64>() / eval.labels.len() as f64);
    let source = |samples, order| -> Box<dyn Source> {
        Box::new(Csv { schema: schema.clone(), samples, order })
    };
    let order =
        if config.shuffle { Some(Order::new(seed, train.labels.len() as u32)) } else { None };
    Ok(Dataset {
        eval: source(eval, None),
        test: test.map(|t| source(t, None)),
        train: source(train, order),
        facts,
        numpy: None,
    })
}

fn both_classes(path: &Path, samples: &Samples) -> Result<(), DataError> {
    let first = samples.labels[0];
    if samples.labels.iter().any(|&y| y != first) && samples.labels.len() <= u32::MAX as usize {
        return Ok(());
    }
    let what = if samples.labels.len() > u32::MAX as usize {
        format!("has {} samples; must have at most {}", samples.labels.len(), u32::MAX)
    } else {
        format!("every label is {first}; must hold both classes (is data.positive right?)")
    };
    Err(DataError::Invalid(format!("{}: {what}", path.display())))
}

/// One split.
struct Csv {
    schema: Schema,
    samples: Samples,
    order: Option<Order>,
}

impl Source for Csv {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.samples.labels.len() as u64)
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        let range = start as usize..start as usize + n;
        match &mut self.order {
            Some(order) => self.samples.gather(
                order.of_epoch(epoch)[range].iter().map(|&s| s as usize),
                &self.schema,
                batch,
            ),
            None => self.samples.gather(range, &self.schema, batch),
        }
        batch.len = n;
        Ok(())
    }
}

impl Samples {
    fn gather(&self, picked: impl Iterator<Item = usize>, schema: &Schema, batch: &mut Batch) {
        let (d, f) = (schema.dense, schema.tables.len());
        for s in picked {
            batch.labels.push(self.labels[s]);
            batch.dense.extend_from_slice(&self.dense[s * d..(s + 1) * d]);
            for (bags, &id) in batch.bags.iter_mut().zip(&self.ids[s * f..(s + 1) * f]) {
                bags.push([id]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
