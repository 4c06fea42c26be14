//! Delimited text with a header line: Frappe, Adult, one's own.
//!
//! Everything is encoded by the training files alone, or categories by hashes, and held in memory
//! (4 bytes a column). Spaces around fields are not part of them; fields may be quoted, and then hold
//! line ends; gzip and zstd are unpacked while reading.

mod encode;
mod layout;
mod read;

use super::{
    super::{ColumnFacts, ColumnRole, DataError, Dataset, Facts, Source},
    hold_out::Side,
    order::Order,
    paths,
    picked::{Key, Picking},
};
use crate::{
    batch::{Batch, Column, Schema},
    data::source::config::CsvConfig,
};
use encode::{Counts, Encoded, Encoding, Samples, Training};
use layout::Roles;
use read::{Sample, Sink};
use std::path::{Path, PathBuf};

/// Reads and encodes all files. `seed` decides the order of the training samples in each epoch.
///
/// # Errors
/// If a file cannot be read, a line is malformed (unless those are skipped), a column is missing,
/// or a split lacks one of the classes.
pub fn open(config: &CsvConfig, seed: u64) -> Result<Dataset, DataError> {
    let files = &config.train.0[..];
    let Some(first) = files.first() else {
        return Err(DataError::Invalid("data.train names no file".into()));
    };
    let sides = sides(config, files)?;
    let [kept, held_out] = match &sides {
        Some([kept, held_out]) => [Some(kept), Some(held_out)],
        None => [None, None],
    };
    let mut training = Training::new(config);
    let pass = read::read(files, config, None, kept, &mut training)?;
    let (train, encoding, counts) = training.finish(config);
    both_classes(first, &train)?;
    let roles = pass.roles.unwrap_or_default();
    let table = |(k, name): (usize, &String)| Column {
        name: name.clone(),
        rows: encoding.rows(k),
        max_hotness: 1,
    };
    let schema = Schema {
        dense: roles.dense.len(),
        tables: roles.categorical.iter().enumerate().map(table).collect(),
    };
    let mut facts = Facts { skipped_lines: pass.skipped, ..Facts::default() };
    facts.notes.push(format!("train: {} samples", train.labels.len()));
    let first = first.display();
    facts.notes.extend(pass.told.iter().map(|told| format!("{first}: {told}")));
    facts.split = held_out.map(Side::told);
    let mut other = |name: &str, paths: &[PathBuf], side: Option<&Side>| {
        let mut encoded = Encoded::new(&encoding);
        let skipped = read::read(paths, config, Some(&roles), side, &mut encoded)?.skipped;
        // Those of the training files have been counted.
        facts.skipped_lines += if side.is_none() { skipped } else { 0 };
        both_classes(&paths[0], &encoded.samples)?;
        let (samples, unknown) = (encoded.samples.labels.len(), encoded.unknown);
        facts.notes.push(match encoding.hashed() {
            true => format!("{name}: {samples} samples"),
            false => format!(
                "{name}: {samples} samples, {} values that the training file does not hold",
                unknown.iter().sum::<u64>()
            ),
        });
        Ok::<_, DataError>((encoded.samples, unknown))
    };
    let eval_files = if held_out.is_some() { files } else { &config.eval.0 };
    let (eval, unseen) = other("eval", eval_files, held_out)?;
    let test = match config.test.is_empty() {
        true => None,
        false => Some(other("test", &config.test.0, None)?.0),
    };
    facts.warnings.extend(paths::same(files, &config.eval.0));
    facts.columns = columns(&roles, &train, &encoding, &counts, &unseen);
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

/// What is trained on and what is held out of the training files, where something is.
fn sides(config: &CsvConfig, files: &[PathBuf]) -> Result<Option<[Side; 2]>, DataError> {
    let held_out = &config.held_out;
    if let Some(every) = held_out.hold_out {
        return Ok(Some(Side::of_every(every)));
    }
    let Some(share) = held_out.eval_share else { return Ok(None) };
    let mut picking = Picking::new(share, held_out.split_by.as_ref());
    read::read(files, config, None, None, &mut picking)?;
    Ok(Some(Side::of_picked(picking.finish())))
}

impl Sink for Picking {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), String> {
        match sample.split_by() {
            None => {
                self.hashed(sample.fields.fingerprint());
                Ok(())
            }
            Some(field) => self.ordered(Key::of(field)),
        }
    }
}

/// The columns as they were understood; `unseen` are the values of each categorical one in the
/// evaluation split that training does not hold.
fn columns(
    roles: &Roles,
    train: &Samples,
    encoding: &Encoding,
    counts: &Counts,
    unseen: &[u64],
) -> Vec<ColumnFacts> {
    let share = |missing: u64| Some(missing as f64 / train.labels.len() as f64);
    let dense = roles.dense.iter().enumerate().map(|(k, name)| {
        let (missing, distinct, estimated) = counts.dense(k);
        ColumnFacts {
            name: name.clone(),
            role: ColumnRole::Dense,
            distinct: Some(distinct),
            estimated,
            missing: share(missing),
            rows: None,
            unseen: None,
        }
    });
    let categorical = roles.categorical.iter().enumerate().map(|(k, name)| {
        let (missing, hashed, estimated) = counts.categorical(k);
        ColumnFacts {
            name: name.clone(),
            role: ColumnRole::Categorical,
            distinct: Some(encoding.distinct(k).unwrap_or(hashed)),
            estimated,
            missing: share(missing),
            rows: Some(encoding.rows(k) as u64),
            unseen: unseen.get(k).copied(),
        }
    });
    dense.chain(categorical).collect()
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
            let ids = &self.ids[s * f..(s + 1) * f];
            let Some(high) = self.high.get(s * f..(s + 1) * f).filter(|high| !high.is_empty())
            else {
                batch.bags.iter_mut().zip(ids).for_each(|(bags, &id)| bags.push([id]));
                continue;
            };
            for (bags, (&low, &high)) in batch.bags.iter_mut().zip(ids.iter().zip(high)) {
                bags.push_keys([u64::from(high) << 32 | u64::from(low)]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
