//! From text and raw numbers to ids and features, by the training files alone or by hashes.

use super::read::{Sample, Sink};
use crate::data::{
    cardinality::Cardinality,
    dense::log_sq_bucket,
    ids::ToId,
    preprocess::lines::shown,
    source::config::{CsvConfig, DenseTransform},
    vocabulary::{Hashes, Vocabulary},
};
use std::collections::HashMap;

/// Samples of one file, encoded.
#[derive(Default)]
pub(super) struct Samples {
    /// Labels `[N]`.
    pub labels: Vec<f32>,
    /// Features `[N, D]`.
    pub dense: Vec<f32>,
    /// Ids `[N, F]`: a shuffled gather touches one or two cache lines a sample.
    pub ids: Vec<u32>,
    /// Their upper halves `[N, F]` where they are keys, else nothing.
    pub high: Vec<u32>,
}

/// The training file while it is read: values are numbered as they come, or hashed.
pub(super) struct Training {
    columns: Vec<Vocabulary>,
    hashes: Option<Hashes>,
    keys: bool,
    empty: Vec<u8>,
    counts: Counts,
    labels: Vec<f32>,
    dense: Vec<f64>,
    ids: Vec<u32>,
    high: Vec<u32>,
}

/// What is counted of the columns of the training files.
#[derive(Default)]
pub(super) struct Counts {
    /// Of each dense column the samples without a value, and its different values.
    dense: Vec<(u64, Cardinality)>,
    /// Of each categorical column the same; different values are counted where they are hashed.
    categorical: Vec<(u64, Cardinality)>,
}

impl Counts {
    /// Samples without a value of dense column `k`, its different values, and whether that is an
    /// estimate.
    pub fn dense(&self, k: usize) -> (u64, u64, bool) {
        Counts::of(self.dense.get(k))
    }

    /// Samples without a value of categorical column `k`, and if values are hashed how many differ,
    /// and whether that is an estimate.
    pub fn categorical(&self, k: usize) -> (u64, u64, bool) {
        Counts::of(self.categorical.get(k))
    }

    /// About how many rows each categorical column's table needs for its keys, and some for what an
    /// estimate may be wrong by.
    fn different_keys(&self) -> Vec<usize> {
        let of = |(missing, values): &(u64, Cardinality)| {
            // What is missing is one, too.
            let n = values.count() as usize + usize::from(*missing > 0);
            if values.is_exact() { n } else { n + n / 16 }
        };
        self.categorical.iter().map(of).collect()
    }

    fn of(column: Option<&(u64, Cardinality)>) -> (u64, u64, bool) {
        column.map_or((0, 0, false), |(missing, values)| {
            (*missing, values.count(), !values.is_exact())
        })
    }

    fn number(&mut self, k: usize, x: f64) {
        if k == self.dense.len() {
            self.dense.push(Default::default());
        }
        let (missing, values) = &mut self.dense[k];
        match x.is_nan() {
            true => *missing += 1,
            // -0 and 0 are one value.
            false => values.add((x + 0.0).to_bits()),
        }
    }

    fn category(&mut self, k: usize, value: Option<&[u8]>, hashed: bool) {
        if k == self.categorical.len() {
            self.categorical.push(Default::default());
        }
        let (missing, values) = &mut self.categorical[k];
        match value {
            None => *missing += 1,
            Some(value) if hashed => values.add(farmhash::fingerprint64(value)),
            Some(_) => {}
        }
    }
}

/// What the training file has fixed.
pub(super) struct Encoding {
    ids: Ids,
    scales: Vec<Scale>,
    /// What a category without a value is taken for.
    empty: Vec<u8>,
    /// Different values of each categorical column, where they were numbered.
    distinct: Vec<u64>,
}

/// How values become ids.
enum Ids {
    /// Id of each known value, by column.
    Known(Vec<HashMap<Box<[u8]>, u32>>),
    Hashed(Hashes),
    /// They are numbers of 64 bits; about how many differ, by column.
    Keys(Vec<usize>),
}

impl Encoding {
    /// Rows of the table of column `k`: the known values and id 0, or the buckets, or as many as keys
    /// need.
    pub fn rows(&self, k: usize) -> usize {
        match &self.ids {
            Ids::Known(vocabularies) => vocabularies[k].len() + 1,
            Ids::Hashed(hashes) => hashes.buckets(k) as usize,
            Ids::Keys(different) => different[k],
        }
    }

    /// Different values of categorical column `k` in the training files, nothing not counted; `None`
    /// where they are hashed.
    pub fn distinct(&self, k: usize) -> Option<u64> {
        self.distinct.get(k).copied()
    }

    /// Whether every value has an id of its own accord.
    pub fn hashed(&self) -> bool {
        matches!(self.ids, Ids::Hashed(_) | Ids::Keys(_))
    }
}

/// The transform of one dense column.
#[derive(Debug, Clone, Copy)]
struct Scale {
    transform: DenseTransform,
    /// Subtracted, for the two that look at the data.
    shift: f64,
    /// Divided by.
    width: f64,
}

impl Scale {
    fn apply(&self, x: f64) -> f32 {
        (match self.transform {
            DenseTransform::Raw => x,
            DenseTransform::Log1pClamp0 => libm::log(x.max(0.0) + 1.0),
            DenseTransform::LogPlus2 => libm::log(x + 2.0),
            DenseTransform::LogPlus3 => libm::log(x + 3.0),
            DenseTransform::LogSqBucket => log_sq_bucket(x),
            DenseTransform::MinMax | DenseTransform::Standard => (x - self.shift) / self.width,
            // In f32, as the original computes it.
            DenseTransform::MinRange => {
                return (x as f32 - self.shift as f32) / self.width as f32;
            }
        }) as f32
    }

    /// That of column `d`, whose numbers are given or found in its `values`.
    fn of(c: &CsvConfig, d: usize, values: impl Iterator<Item = f64> + Clone) -> Self {
        match (c.dense_transform, c.dense_min.get(d), c.dense_range.get(d)) {
            (DenseTransform::MinRange, Some(&shift), Some(&width)) => {
                Scale { transform: c.dense_transform, shift, width }
            }
            _ => Scale::fit(c.dense_transform, values),
        }
    }

    /// A constant column keeps its width of 1, so that it becomes 0 and not NaN.
    fn fit(transform: DenseTransform, values: impl Iterator<Item = f64> + Clone) -> Self {
        let (shift, width) = match transform {
            DenseTransform::MinMax => {
                let (min, max) = values
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
                (min, max - min)
            }
            DenseTransform::Standard => {
                let n = values.clone().count() as f64;
                let mean = values.clone().sum::<f64>() / n;
                (mean, (values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt())
            }
            _ => (0.0, 1.0),
        };
        Scale { transform, shift, width: if width > 0.0 { width } else { 1.0 } }
    }
}

impl Training {
    /// Room for files of any number of columns.
    pub fn new(c: &CsvConfig) -> Self {
        Training {
            columns: Vec::new(),
            hashes: c.hash_buckets.clone().map(Hashes::new),
            keys: !c.ids.is_rows(),
            empty: c.missing_category.clone().unwrap_or_default().into_bytes(),
            counts: Counts::default(),
            labels: Vec::new(),
            dense: Vec::new(),
            ids: Vec::new(),
            high: Vec::new(),
        }
    }

    /// Fixes ids and scales. Ids follow the sorted values from 1: as numbers if every value of the
    /// column is a whole number, else byte by byte (numpy's `unique` on integers and on strings).
    /// Values that came less than `min_count` times become id 0. Hashes are ids already.
    pub fn finish(mut self, c: &CsvConfig) -> (Samples, Encoding, Counts) {
        let width = self.columns.len();
        let mut vocabularies = Vec::with_capacity(width);
        let mut distinct = Vec::with_capacity(width);
        for (k, seen) in self.columns.into_iter().enumerate() {
            let nothing = self.counts.categorical(k).0 > 0 && seen.has(&self.empty);
            distinct.push(seen.len() - u64::from(nothing));
            let (vocabulary, finals) = seen.sort(c.min_count);
            self.ids.iter_mut().skip(k).step_by(width).for_each(|id| *id = finals[*id as usize]);
            vocabularies.push(vocabulary);
        }
        let columns = self.dense.len() / self.labels.len().max(1);
        let scales: Vec<Scale> = (0..columns)
            .map(|d| Scale::of(c, d, self.dense.iter().skip(d).step_by(columns).copied()))
            .collect();
        let dense =
            self.dense.iter().zip(scales.iter().cycle()).map(|(&x, s)| s.apply(x)).collect();
        let ids = match self.keys {
            true => Ids::Keys(self.counts.different_keys()),
            false => self.hashes.map_or(Ids::Known(vocabularies), Ids::Hashed),
        };
        let samples = Samples { labels: self.labels, dense, ids: self.ids, high: self.high };
        (samples, Encoding { ids, scales, empty: self.empty, distinct }, self.counts)
    }
}

impl Sink for Training {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), String> {
        self.labels.push(sample.label);
        for (k, &x) in sample.dense.iter().enumerate() {
            self.counts.number(k, x);
            self.dense.push(there(x));
        }
        let hashed = self.hashes.is_some() || self.keys;
        for (k, value) in sample.categories().enumerate() {
            self.counts.category(k, value, hashed);
            let value = value.unwrap_or(&self.empty);
            if self.keys {
                let key = key_of(value)?;
                self.ids.push(key as u32);
                self.high.push((key >> 32) as u32);
                continue;
            }
            if let Some(hashes) = &self.hashes {
                self.ids.push(hashes.id(k, value));
                continue;
            }
            if k == self.columns.len() {
                self.columns.push(Vocabulary::default());
            }
            self.ids.push(self.columns[k].add(value));
        }
        Ok(())
    }
}

/// A category as a key; nothing is 0.
///
/// # Errors
/// If it is no whole number of 64 bits.
fn key_of(value: &[u8]) -> Result<u64, String> {
    if value.is_empty() {
        return Ok(0);
    }
    let to = ToId { keys: true, ..ToId::default() };
    let text = std::str::from_utf8(value).ok();
    let key = text.and_then(|text| to.text(text).ok().flatten());
    key.ok_or_else(|| {
        format!(
            "a category is {}; must be a whole number of 64 bits with data.ids = \"keys\" (data.hash_buckets makes ids of text)",
            shown(value)
        )
    })
}

/// A dense value; what is missing counts as 0.
fn there(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x }
}

/// Files read with a fixed encoding.
pub(super) struct Encoded<'a> {
    pub encoding: &'a Encoding,
    pub samples: Samples,
    /// Ids 0 of each column: values that the training files do not hold (often enough).
    pub unknown: Vec<u64>,
}

impl<'a> Encoded<'a> {
    /// Nothing read yet.
    pub fn new(encoding: &'a Encoding) -> Self {
        Encoded { encoding, samples: Samples::default(), unknown: vec![0; encoding.distinct.len()] }
    }
}

impl Sink for Encoded<'_> {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), String> {
        let Encoded { encoding, samples, unknown } = self;
        samples.labels.push(sample.label);
        let scaled = sample.dense.iter().zip(&encoding.scales).map(|(&x, s)| s.apply(there(x)));
        samples.dense.extend(scaled);
        let values = sample.categories().map(|value| value.unwrap_or(&encoding.empty));
        match &encoding.ids {
            Ids::Keys(_) => {
                for value in values {
                    let key = key_of(value)?;
                    samples.ids.push(key as u32);
                    samples.high.push((key >> 32) as u32);
                }
            }
            Ids::Hashed(hashes) => {
                samples.ids.extend(values.enumerate().map(|(k, v)| hashes.id(k, v)));
            }
            Ids::Known(vocabularies) => {
                for ((vocabulary, value), unknown) in vocabularies.iter().zip(values).zip(unknown) {
                    let id = vocabulary.get(value).copied().unwrap_or(0);
                    *unknown += u64::from(id == 0);
                    samples.ids.push(id);
                }
            }
        }
        Ok(())
    }
}
