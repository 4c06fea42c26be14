//! `[data]`: keys that several sources have.

use super::super::{Key, Setting};
use crate::{
    data::source::config::HeldOut,
    workload::{
        DataConfig::{Csv, Files, Parquet, Planted},
        DateFeature, DenseTransform, OnError, Workload,
        parse::{
            key::{Field, Lens, between, key},
            value::Numbers,
            words::Words,
        },
    },
};
use std::path::PathBuf;

/// Ids are 32-bit.
pub(super) const MAX_ROWS: usize = u32::MAX as usize;

/// A larger shuffling buffer is a slip.
const MAX_BUFFER: usize = 1 << 30;

/// A bag longer than this is a slip.
pub(super) const MAX_HOTNESS: usize = 1 << 20;

/// The most ids of a sample, where files may tell.
pub(super) fn hotness(lens: Lens<Option<Vec<usize>>>) -> Key {
    key("data.hotness", lens)
        .or(None)
        .or_in_words("by the files")
        .within_as(1..=MAX_HOTNESS, "ids a sample, from 1 to 1048576")
        .check(|hotness, w| {
            let tables = match &w.data {
                Parquet(d) => d.tables.as_ref(),
                Files(d) => d.tables.as_ref(),
                _ => None,
            };
            match (hotness, tables) {
                (Some(hotness), Some(tables)) if tables.len() != hotness.len() => {
                    Err(uneven(hotness.len(), tables.len()))
                }
                _ => Ok(()),
            }
        })
        .says("The most ids that a sample may hold in each table")
}

/// Where evaluation samples come from if no file of their own is named.
pub(super) const HELD_OUT: &str = "what `data.hold_out` or `data.eval_share` holds out";

/// Evaluation samples that are taken from the training files.
pub(super) fn hold_out(lens: Lens<Option<u32>>) -> Key {
    key("data.hold_out", lens).or(None).within(2..=1_000_000).says(
        "Instead of `data.eval`: of each so many samples of the training files, in their order, \
         the last one is held out for evaluation, and never trained on",
    )
}

/// A share of the training files' samples for evaluation.
pub(super) fn eval_share(lens: Lens<Option<f64>>) -> Key {
    key("data.eval_share", lens)
        .or(None)
        .within(between(0.0, 1.0))
        .check(|share, w| match (share, held_out(w)) {
            (Some(_), Some(HeldOut { hold_out: Some(_), .. })) => {
                Err("is given, but data.hold_out is, too; keep one of the two (--set data.hold_out= takes that one out)".to_owned())
            }
            _ => Ok(()),
        })
        .says(
            "Instead of `data.eval`: about this share of the samples of the training files is held \
             out for evaluation, and never trained on. Which ones is decided by a hash of each row: \
             the same rows whatever their order, and equal rows together",
        )
}

/// The column by which the last samples are told.
pub(super) fn split_by(lens: Lens<Option<String>>) -> Key {
    key("data.split_by", lens)
        .or(None)
        .check(|by, w| match (by, held_out(w)) {
            (Some(_), Some(HeldOut { eval_share: None, .. })) => {
                Err("is given without data.eval_share; name the share, as 0.1".to_owned())
            }
            _ => Ok(()),
        })
        .says(
            "With `data.eval_share`: the last samples by this column of numbers or dates are held \
             out, those of one value together. It is no feature unless it is named as one",
        )
}

/// What is held out of the training files, where a source can do that.
fn held_out(w: &Workload) -> Option<&HeldOut> {
    match &w.data {
        Csv(d) => Some(&d.held_out),
        Parquet(d) => Some(&d.held_out),
        Files(d) => Some(&d.held_out),
        _ => None,
    }
}

/// Refuses evaluation samples from two places, or from none.
pub(super) fn one_for_evaluation(given: bool, w: &Workload) -> Result<(), String> {
    match (given, held_out(w)) {
        (true, Some(HeldOut { hold_out: Some(_), .. })) => {
            Err("is named, but data.hold_out is given, too; keep one of the two (--set data.hold_out= takes that one out)".to_owned())
        }
        (true, Some(HeldOut { eval_share: Some(_), .. })) => {
            Err("is named, but data.eval_share is given, too; keep one of the two (--set data.eval_share= takes that one out)".to_owned())
        }
        (false, Some(held_out)) if !held_out.any() => {
            Err("missing; must be a path as a string, or give data.eval_share or data.hold_out"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// Columns of dates.
pub(super) fn dates(lens: Lens<Option<Vec<String>>>) -> Key {
    key("data.dates", lens)
        .or(None)
        .not_empty("is empty; must name at least one column, or leave it out")
        .says(
            "Columns of dates and times, which are read in the forms of \
                 [data-formats.md](data-formats.md#dates-and-times) as UTC. Features are made of \
                 each, which are called like `when.hour_of_day` and stand behind the other columns",
        )
}

/// What is made of each column of dates.
pub(super) fn date_features(lens: Lens<Option<Vec<DateFeature>>>) -> Key {
    key("data.date_features", lens)
        .when(&[Setting { key: "data.dates", words: &[] }])
        .or(None)
        .or_in_words("all of them")
        .not_empty("is empty; must hold at least one, or leave it out")
        .check(|features, _| {
            let features = features.as_deref().unwrap_or_default();
            match features.iter().enumerate().find(|(i, f)| features[..*i].contains(f)) {
                Some((_, twice)) => Err(format!("names \"{}\" twice", twice.word())),
                None => Ok(()),
            }
        })
        .says(
            "What is made of each column of dates: categories `hour_of_day` (0 to 23), \
                 `day_of_week` (0 is Monday), `day_of_month`, `month_of_year`, and the dense \
                 `days_since_epoch` (whole days since 1970-01-01)",
        )
}

/// Rows of the tables.
pub(super) fn tables<T: Numbers<Number = usize>>(lens: Lens<T>) -> Field<T> {
    key("data.tables", lens)
        .not_empty("is empty; must hold the rows of at least one table")
        .within_as(1..=MAX_ROWS, "rows from 1 to 4294967295")
}

pub(super) fn one_for_each_table(entries: usize, w: &Workload) -> Result<(), String> {
    match &w.data {
        Planted(d) if entries != 0 && entries != d.tables.len() => {
            Err(uneven(entries, d.tables.len()))
        }
        _ => Ok(()),
    }
}

fn uneven(entries: usize, tables: usize) -> String {
    format!("has {entries} entries, but data.tables has {tables}; must have one for each table")
}

/// One file or more.
pub(super) fn paths(name: &'static str, lens: Lens<Vec<PathBuf>>) -> Field<Vec<PathBuf>> {
    key(name, lens).not_empty("names no file; must name at least one")
}

pub(super) fn max_ind_range(lens: Lens<Option<u32>>) -> Field<Option<u32>> {
    key("data.max_ind_range", lens).or(None).within_as(1.., "at least 1; leave it out for no limit")
}

/// A transform of files that are not looked at as a whole before training.
pub(super) fn row_transform(lens: Lens<DenseTransform>, default: DenseTransform) -> Key {
    row_by_row(key("data.dense_transform", lens).or(default))
        .says("Of dense columns, as for `csv`, but for those that need all of the data at once")
}

/// Refuses a transform that looks at the data as a whole.
pub(in crate::workload::parse::keys) fn row_by_row(
    field: Field<DenseTransform>,
) -> Field<DenseTransform> {
    field
        .check(|transform, _| match transform {
            _ if transform.of_column() => Err(format!(
                "is \"{}\", which needs {}; must be \"raw\", \"log1p_clamp0\", \"log_plus2\", \"log_plus3\" or \"log_sq_bucket\"",
                transform.word(),
                match transform {
                    DenseTransform::MinRange => "csv's data.dense_min and data.dense_range",
                    _ => "all of the data at once",
                }
            )),
            _ => Ok(()),
        })
}

/// Capacity of a shuffling buffer.
pub(in crate::workload::parse::keys) fn buffer(lens: Lens<Option<usize>>) -> Key {
    key("data.buffer", lens)
        .or(None)
        .within_as(1..=MAX_BUFFER, "samples from 1 to 1073741824")
        .says(
            "Samples of a buffer through which training samples pass after that: each one that \
             leaves is drawn at random and makes room for the next, as in tf.data's `shuffle` \
             (DeepRec: 20000) and Petastorm's shuffling queue; also from `train.seed`",
        )
}

/// What to do with a malformed line.
pub(super) fn on_error(lens: Lens<OnError>) -> Key {
    key("data.on_error", lens).or(OnError::Fail).says(
        "A malformed line: `fail` names file and line and stops; `skip` leaves it out, counts it \
         and says so in the record",
    )
}

/// Whether a character can stand between fields, or before a comment.
pub(super) fn separates(c: char) -> bool {
    c.is_ascii() && !matches!(c, '"' | '\n' | '\r')
}
