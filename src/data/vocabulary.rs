//! From values of a categorical column to ids: numbers of the values that training holds, or hashes.

use std::collections::HashMap;

/// Values of one column with their provisional numbers and how often they came.
#[derive(Default)]
pub(in crate::data) struct Vocabulary {
    numbers: HashMap<Box<[u8]>, u32>,
    counts: Vec<u32>,
}

impl Vocabulary {
    /// Takes a value; its provisional number.
    pub fn add(&mut self, value: &[u8]) -> u32 {
        let number = match self.numbers.get(value) {
            Some(&n) => n,
            None => {
                let n = self.counts.len() as u32;
                self.numbers.insert(value.into(), n);
                self.counts.push(0);
                n
            }
        };
        self.counts[number as usize] = self.counts[number as usize].saturating_add(1);
        number
    }

    /// Different values.
    pub fn len(&self) -> u64 {
        self.numbers.len() as u64
    }

    /// Whether a value came.
    pub fn has(&self, value: &[u8]) -> bool {
        self.numbers.contains_key(value)
    }

    /// How many of the values that came, each as often as it did, are not in `known`.
    pub fn unknown(&self, known: &HashMap<Box<[u8]>, u32>) -> u64 {
        let unknown = self.numbers.iter().filter(|(value, _)| !known.contains_key(*value));
        unknown.map(|(_, &n)| u64::from(self.counts[n as usize])).sum()
    }

    /// Id of each value that came often enough, and of each provisional number.
    pub fn sort(self, min_count: u32) -> (HashMap<Box<[u8]>, u32>, Vec<u32>) {
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

/// Values hashed as TensorFlow's `string_to_hash_bucket_fast` does (tensorflow/tensorflow:
/// core/kernels/string_to_hash_bucket_fast_op.h): the FarmHash64 fingerprint modulo the buckets.
#[derive(Debug, Clone)]
pub(in crate::data) struct Hashes(Vec<usize>);

impl Hashes {
    /// Values modulo these, one number for each column or one for all.
    pub fn new(buckets: Vec<usize>) -> Self {
        Hashes(buckets)
    }

    /// Buckets of column `k`.
    pub fn buckets(&self, k: usize) -> u64 {
        *self.0.get(k).unwrap_or(&self.0[0]) as u64
    }

    /// The id of a value of column `k`.
    pub fn id(&self, k: usize, value: &[u8]) -> u32 {
        (farmhash::fingerprint64(value) % self.buckets(k)) as u32
    }
}
