//! What becomes of text where files are looked at or converted. Nothing, and the empty text, is
//! missing and stays so.

use super::{
    cardinality::Cardinality,
    format::texts::Texts,
    vocabulary::{Hashes, Vocabulary},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Texts of a column that are kept to be shown.
const SHOWN: usize = 5;

/// Looks at texts, in bounded memory: how many differ, and the first ones. Each has id 0.
#[derive(Default)]
pub struct Looked(Mutex<Vec<Look>>);

/// What is known of the texts of a column.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// How many differ.
    pub distinct: Cardinality,
    /// Those of the first rows; `None` where there is none.
    pub first: Vec<Option<String>>,
}

impl Looked {
    /// What has been seen of categorical column `k`.
    pub fn column(&self, k: usize) -> Look {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(k).cloned().unwrap_or_default()
    }
}

impl Texts for Looked {
    fn id(&self, k: usize, text: Option<&[u8]>) -> Option<u32> {
        let text = text.filter(|text| !text.is_empty());
        let mut columns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let column = entry(&mut columns, k);
        if column.first.len() < SHOWN {
            column.first.push(text.map(|text| String::from_utf8_lossy(text).into_owned()));
        }
        text.map(|text| {
            column.distinct.add(farmhash::fingerprint64(text));
            0
        })
    }

    fn rows(&self, _k: usize) -> usize {
        1
    }
}

/// Takes all texts of a file, to be numbered. Each has id 0.
#[derive(Default)]
pub struct Gathered(Mutex<Vec<Vocabulary>>);

impl Gathered {
    /// Numbers from 1 for the texts of each column in their order, as in training.
    pub fn numbered(&self) -> Numbered {
        let columns = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Numbered(columns.into_iter().map(|column| column.sort(1).0).collect())
    }
}

impl Texts for Gathered {
    fn id(&self, k: usize, text: Option<&[u8]>) -> Option<u32> {
        text.filter(|text| !text.is_empty()).map(|text| {
            let mut columns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            entry(&mut columns, k).add(text);
            0
        })
    }

    fn rows(&self, _k: usize) -> usize {
        1
    }
}

/// Numbers of texts, by column.
pub struct Numbered(Vec<HashMap<Box<[u8]>, u32>>);

impl Texts for Numbered {
    fn id(&self, k: usize, text: Option<&[u8]>) -> Option<u32> {
        let text = text.filter(|text| !text.is_empty())?;
        // A file that grows between two looks at it has texts that have no number.
        Some(self.0.get(k).and_then(|column| column.get(text)).copied().unwrap_or(0))
    }

    fn rows(&self, k: usize) -> usize {
        self.0.get(k).map_or(1, |column| column.len() + 1)
    }
}

/// Hashes of texts modulo a number, as in training with `data.hash_buckets`.
pub struct Hashed(Hashes);

impl Hashed {
    /// Modulo `buckets`, at least 1.
    pub fn new(buckets: usize) -> Self {
        Hashed(Hashes::new(vec![buckets]))
    }
}

impl Texts for Hashed {
    fn id(&self, k: usize, text: Option<&[u8]>) -> Option<u32> {
        text.filter(|text| !text.is_empty()).map(|text| self.0.id(k, text))
    }

    fn rows(&self, k: usize) -> usize {
        self.0.buckets(k) as usize
    }
}

/// The entry of column `k`.
fn entry<T: Default>(columns: &mut Vec<T>, k: usize) -> &mut T {
    if k >= columns.len() {
        columns.resize_with(k + 1, T::default);
    }
    &mut columns[k]
}
