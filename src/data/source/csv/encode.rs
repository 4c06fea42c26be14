//! From text and raw numbers to ids and features, by the training file alone or by hashes.

use super::read::Sink;
use crate::data::{
    dense::log_sq_bucket,
    source::config::{CsvConfig, DenseTransform},
};
use std::collections::HashMap;

/// Samples of one file, encoded.
pub(super) struct Samples {
    /// Labels `[N]`.
    pub labels: Vec<f32>,
    /// Features `[N, D]`.
    pub dense: Vec<f32>,
    /// Ids `[N, F]`: a shuffled gather touches one or two cache lines a sample.
    pub ids: Vec<u32>,
}

/// The training file while it is read: values are numbered as they come, or hashed.
pub(super) struct Training {
    columns: Vec<Seen>,
    hashes: Option<Hashes>,
    labels: Vec<f32>,
    dense: Vec<f64>,
    ids: Vec<u32>,
}

/// Values of one column with their provisional numbers and how often they came.
#[derive(Default)]
struct Seen {
    numbers: HashMap<Box<[u8]>, u32>,
    counts: Vec<u32>,
}

/// What the training file has fixed.
pub(super) struct Encoding {
    ids: Ids,
    scales: Vec<Scale>,
}

/// How values become ids.
enum Ids {
    /// Id of each known value, by column.
    Known(Vec<HashMap<Box<[u8]>, u32>>),
    Hashed(Hashes),
}

impl Encoding {
    /// Rows of the table of column `k`: the known values and id 0, or the buckets.
    pub fn rows(&self, k: usize) -> usize {
        match &self.ids {
            Ids::Known(vocabularies) => vocabularies[k].len() + 1,
            Ids::Hashed(hashes) => hashes.buckets(k) as usize,
        }
    }

    /// Whether every value has an id of its own accord.
    pub fn hashed(&self) -> bool {
        matches!(self.ids, Ids::Hashed(_))
    }
}

/// Values hashed as TensorFlow's `string_to_hash_bucket_fast` does (tensorflow/tensorflow:
/// core/kernels/string_to_hash_bucket_fast_op.h): the FarmHash64 fingerprint modulo the buckets.
#[derive(Debug, Clone)]
pub(super) struct Hashes(Vec<usize>);

impl Hashes {
    /// Buckets of column `k`.
    fn buckets(&self, k: usize) -> u64 {
        *self.0.get(k).unwrap_or(&self.0[0]) as u64
    }

    /// The id of a value of column `k`.
    fn id(&self, k: usize, value: &[u8]) -> u32 {
        (farmhash::fingerprint64(value) % self.buckets(k)) as u32
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
            hashes: c.hash_buckets.clone().map(Hashes),
            labels: Vec::new(),
            dense: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Fixes ids and scales. Ids follow the sorted values from 1: as numbers if every value of the
    /// column is a whole number, else byte by byte (numpy's `unique` on integers and on strings).
    /// Values that came less than `min_count` times become id 0. Hashes are ids already.
    pub fn finish(mut self, c: &CsvConfig) -> (Samples, Encoding) {
        let width = self.columns.len();
        let mut vocabularies = Vec::with_capacity(width);
        for (k, seen) in self.columns.into_iter().enumerate() {
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
        let ids = self.hashes.map_or(Ids::Known(vocabularies), Ids::Hashed);
        (Samples { labels: self.labels, dense, ids: self.ids }, Encoding { ids, scales })
    }
}

impl Seen {
    /// Id of each value that came often enough, and of each provisional number.
    fn sort(self, min_count: u32) -> (HashMap<Box<[u8]>, u32>, Vec<u32>) {
        let whole = |v: &[u8]| std::str::from_utf8(v).ok()?.parse::<i64>().ok();
        let mut values: Vec<(Option<i64>, Box<[u8]>, u32)> =
            self.numbers.into_iter().map(|(v, n)| (whole(&v), v, n)).collect();
        if values.iter().any(|(number, ..)| number.is_none()) {
            values.iter_mut().for_each(|(number, ..)| *number = None);
        }
        values.sort_unstable();
        let mut finals = vec![0; self.counts.len()];
        let mut vocabulary = HashMap::new();
        for (_, value, n) in values {
            if self.counts[n as usize] >= min_count {
                let id = vocabulary.len() as u32 + 1;
                finals[n as usize] = id;
                vocabulary.insert(value, id);
            }
        }
        (vocabulary, finals)
    }
}

impl Sink for Training {
    fn sample<'a>(
        &mut self,
        label: f32,
        dense: &[f64],
        categorical: impl Iterator<Item = &'a [u8]>,
    ) {
        self.labels.push(label);
        self.dense.extend_from_slice(dense);
        if let Some(hashes) = &self.hashes {
            self.ids.extend(categorical.enumerate().map(|(k, value)| hashes.id(k, value)));
            return;
        }
        for (k, value) in categorical.enumerate() {
            if k == self.columns.len() {
                self.columns.push(Seen::default());
            }
            let seen = &mut self.columns[k];
            let number = match seen.numbers.get(value) {
                Some(&n) => n,
                None => {
                    let n = seen.counts.len() as u32;
                    seen.numbers.insert(value.into(), n);
                    seen.counts.push(0);
                    n
                }
            };
            seen.counts[number as usize] = seen.counts[number as usize].saturating_add(1);
            self.ids.push(number);
        }
    }
}

/// A file read with a fixed encoding.
pub(super) struct Encoded<'a> {
    pub encoding: &'a Encoding,
    pub samples: Samples,
    /// Ids 0: values that the training file does not hold (often enough).
    pub unknown: u64,
}

impl<'a> Encoded<'a> {
    /// Nothing read yet.
    pub fn new(encoding: &'a Encoding) -> Self {
        Encoded {
            encoding,
            samples: Samples { labels: Vec::new(), dense: Vec::new(), ids: Vec::new() },
            unknown: 0,
        }
    }
}

impl Sink for Encoded<'_> {
    fn sample<'a>(
        &mut self,
        label: f32,
        dense: &[f64],
        categorical: impl Iterator<Item = &'a [u8]>,
    ) {
        self.samples.labels.push(label);
        self.samples
            .dense
            .extend(dense.iter().zip(&self.encoding.scales).map(|(&x, s)| s.apply(x)));
        match &self.encoding.ids {
            Ids::Hashed(hashes) => {
                self.samples.ids.extend(categorical.enumerate().map(|(k, v)| hashes.id(k, v)));
            }
            Ids::Known(vocabularies) => {
                for (vocabulary, value) in vocabularies.iter().zip(categorical) {
                    let id = vocabulary.get(value).copied().unwrap_or(0);
                    self.unknown += u64::from(id == 0);
                    self.samples.ids.push(id);
                }
            }
        }
    }
}
