//! Text in categorical columns of parquet: values of the training split are numbered, or hashed, as
//! those of csv are.

use super::files::Files;
use crate::data::{
    DataError,
    format::texts::Texts,
    source::{config::ParquetConfig, hold_out::Side},
    vocabulary::{Hashes, Vocabulary},
};
use std::{collections::HashMap, sync::Arc};

/// Text columns with what their values became.
pub(super) struct Coded {
    /// What makes ids of them.
    pub texts: Arc<Ids>,
    /// Of each categorical column that is text and numbered: its different values in the training
    /// split, and values of the evaluation split that training does not hold (often enough).
    pub counts: Vec<Option<(u64, Option<u64>)>>,
}

/// Ids of text.
pub(super) struct Ids {
    /// What a null is taken for.
    empty: Vec<u8>,
    known: Known,
}

enum Known {
    /// Id of each known value, by column.
    Numbered(Vec<HashMap<Box<[u8]>, u32>>),
    /// Hashes, and the number of each column among those of text.
    Hashed(Hashes, Vec<usize>),
}

impl Texts for Ids {
    fn id(&self, k: usize, text: Option<&[u8]>) -> Option<u32> {
        let text = text.unwrap_or(&self.empty);
        Some(match &self.known {
            Known::Numbered(columns) => columns[k].get(text).copied().unwrap_or(0),
            Known::Hashed(hashes, places) => hashes.id(places[k], text),
        })
    }

    fn rows(&self, k: usize) -> usize {
        match &self.known {
            Known::Numbered(columns) => columns[k].len() + 1,
            Known::Hashed(hashes, places) => hashes.buckets(places[k]) as usize,
        }
    }
}

/// Looks at the text of the training split (of `splits` the first; of it `sides` may hold some out)
/// and of the evaluation split; `None` where no column is text.
///
/// # Errors
/// If a file cannot be read, or there is no text but keys that are about it.
pub(super) fn coded(
    config: &ParquetConfig,
    splits: &[Files],
    sides: Option<&[Side; 2]>,
) -> Result<Option<Coded>, DataError> {
    let text = splits[0].texts()?;
    let columns = text.iter().filter(|&&text| text).count();
    let keys = [
        ("data.hash_buckets", config.hash_buckets.is_some()),
        ("data.min_count", config.min_count.is_some()),
        ("data.missing_category", config.missing_category.is_some()),
    ];
    if columns == 0 {
        return match keys.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(DataError::Invalid(format!(
                "{key} is about categorical columns of text, and the files have none; remove it"
            ))),
            None => Ok(None),
        };
    }
    let empty = config.missing_category.clone().unwrap_or_default().into_bytes();
    if let Some(buckets) = &config.hash_buckets {
        if buckets.len() != 1 && buckets.len() != columns {
            return Err(DataError::Invalid(format!(
                "data.hash_buckets has {} entries; must have one for each of the {columns} categorical columns of text, or one for all",
                buckets.len()
            )));
        }
        let place = |k: usize| text[..k].iter().filter(|&&text| text).count();
        let places = (0..text.len()).map(place).collect();
        let known = Known::Hashed(Hashes::new(buckets.clone()), places);
        let texts = Arc::new(Ids { empty, known });
        return Ok(Some(Coded { texts, counts: vec![None; text.len()] }));
    }
    let new = || text.iter().map(|_| Vocabulary::default()).collect::<Vec<_>>();
    let (mut train, mut eval) = (new(), new());
    splits[0].each_text(&mut |at, k, text| {
        let held_out = sides.is_some_and(|[kept, _]| !kept.has(at));
        let to = if held_out { &mut eval } else { &mut train };
        to[k].add(text.unwrap_or(&empty));
    })?;
    if sides.is_none() && splits.len() > 1 {
        splits[1].each_text(&mut |_, k, text| {
            eval[k].add(text.unwrap_or(&empty));
        })?;
    }
    let (mut known, mut counts) = (Vec::new(), Vec::new());
    for ((train, eval), is_text) in train.into_iter().zip(eval).zip(&text) {
        let distinct = train.len();
        let (numbers, _) = train.sort(config.min_count.unwrap_or(1));
        counts.push(is_text.then(|| (distinct, Some(eval.unknown(&numbers)))));
        known.push(numbers);
    }
    let texts = Arc::new(Ids { empty, known: Known::Numbered(known) });
    Ok(Some(Coded { texts, counts }))
}
