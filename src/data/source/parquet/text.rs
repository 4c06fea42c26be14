//! Text in categorical columns of parquet: values of the training split are numbered, or hashed, as
//! those of csv are.

use super::{super::counting::few, files::Files};
use crate::data::{
    ColumnFacts, DataError,
    cardinality::Cardinality,
    format::texts::Texts,
    rows::Layout,
    source::{config::ParquetConfig, hold_out::Side},
    vocabulary::{Hashes, Vocabulary},
};
use std::{collections::HashMap, sync::Arc};

/// Text columns with what their values became.
pub(super) struct Coded {
    /// What makes ids of them.
    pub texts: Arc<Ids>,
    /// What was counted of each categorical column that is text.
    pub counts: Vec<Option<TextCounts>>,
}

/// Counts of a column of text.
#[derive(Default)]
pub(super) struct TextCounts {
    /// Training samples, and those of them without a text.
    samples: u64,
    missing: u64,
    /// Different texts of the training split.
    distinct: Option<u64>,
    estimated: bool,
    /// Texts of the evaluation split that training does not hold (often enough).
    unseen: Option<u64>,
}

impl TextCounts {
    /// Takes a text of the training split; whether it is one.
    fn take(&mut self, text: Option<&[u8]>) -> bool {
        let there = text.is_some_and(|text| !text.is_empty());
        self.samples += 1;
        self.missing += u64::from(!there);
        there
    }

    /// Says what was counted in `column`.
    pub fn put(&self, column: &mut ColumnFacts) {
        let share = self.missing as f64 / self.samples as f64;
        if self.samples > 0 {
            column.missing = Some(share);
        }
        (column.distinct, column.estimated) = (self.distinct, self.estimated);
        column.unseen = self.unseen;
    }
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
    layout: &Layout,
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
        return Ok(Some(Coded { texts, counts: hashed(layout, &splits[0], &text, sides)? }));
    }
    let held_out = |at: u64| sides.is_some_and(|[kept, _]| !kept.has(at));
    let mut found: Vec<TextCounts> = text.iter().map(|_| TextCounts::default()).collect();
    let new = || text.iter().map(|_| Vocabulary::default()).collect::<Vec<_>>();
    let (mut train, mut eval) = (new(), new());
    splits[0].each_text(&mut |at, k, text| {
        let to = match held_out(at) {
            true => &mut eval,
            false => {
                found[k].take(text);
                &mut train
            }
        };
        to[k].add(text.unwrap_or(&empty));
    })?;
    if sides.is_none() && splits.len() > 1 {
        splits[1].each_text(&mut |_, k, text| {
            eval[k].add(text.unwrap_or(&empty));
        })?;
    }
    let (mut known, mut counts) = (Vec::new(), Vec::new());
    for (((train, eval), found), is_text) in train.into_iter().zip(eval).zip(found).zip(&text) {
        // Nothing is a value like others, but none that differs.
        let nothing = found.missing > 0 && train.has(&empty);
        let distinct = Some(train.len() - u64::from(nothing));
        let (numbers, _) = train.sort(config.min_count.unwrap_or(1));
        let unseen = Some(eval.unknown(&numbers));
        counts.push(is_text.then_some(TextCounts { distinct, unseen, ..found }));
        known.push(numbers);
    }
    let texts = Arc::new(Ids { empty, known: Known::Numbered(known) });
    Ok(Some(Coded { texts, counts }))
}

/// Counts of the texts of the training split, where they are hashed: nothing has them read, so that
/// only a few are.
fn hashed(
    layout: &Layout,
    train: &Files,
    text: &[bool],
    sides: Option<&[Side; 2]>,
) -> Result<Vec<Option<TextCounts>>, DataError> {
    let new = |&text: &bool| text.then(|| (TextCounts::default(), Cardinality::default()));
    let mut columns: Vec<_> = text.iter().map(new).collect();
    let counted = few(train.len(), layout);
    if counted {
        train.each_text(&mut |at, k, text| {
            let held_out = sides.is_some_and(|[kept, _]| !kept.has(at));
            if let Some((counts, values)) = columns[k].as_mut().filter(|_| !held_out)
                && counts.take(text)
            {
                values.add(farmhash::fingerprint64(text.unwrap_or_default()));
            }
        })?;
    }
    let counts = |(counts, values): (TextCounts, Cardinality)| TextCounts {
        distinct: counted.then(|| values.count()),
        estimated: !values.is_exact(),
        ..counts
    };
    Ok(columns.into_iter().map(|column| column.map(counts)).collect())
}
