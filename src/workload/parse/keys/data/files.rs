//! `[data]`: csv, parquet and the other formats.

use super::{
    super::{Key, Setting, lens},
    common::{
        HELD_OUT, MAX_ROWS, buffer, date_features, dates, eval_share, hold_out, hotness,
        max_ind_range, on_error, one_for_evaluation, paths, row_transform, separates, split_by,
        tables,
    },
};
use crate::{
    data::source::paths::Paths,
    workload::{
        DataConfig::{Csv, Files, Parquet},
        DenseTransform, GroupShuffle,
        parse::key::{Field, Lens, above, key},
    },
};

pub(super) fn csv() -> Vec<Key> {
    macro_rules! min_range {
        ($field:ident) => {
            lens!(data; Csv(d) if d.dense_transform == DenseTransform::MinRange => &mut d.$field)
        };
    }
    vec![
        key("data.train", lens!(data; Csv(d) => &mut d.train))
            .check(|paths, _| match paths.is_empty() {
                true => Err("names no file; must name at least one".to_owned()),
                false => Ok(()),
            })
            .says(
                "Training files: files, patterns (`days/day_*.csv.gz`) and folders, of which every \
                 `*.csv` is taken, or if there is none every `*.tsv` or else every `*.txt`, packed \
                 or not; in the order of their names, with numbers as numbers",
            ),
        hold_out(lens!(data; Csv(d) => &mut d.held_out.hold_out)),
        eval_share(lens!(data; Csv(d) => &mut d.held_out.eval_share)),
        split_by(lens!(data; Csv(d) => &mut d.held_out.split_by)),
        key("data.eval", lens!(data; Csv(d) => &mut d.eval))
            .or(Paths::default())
            .or_in_words(HELD_OUT)
            .check(|eval, w| one_for_evaluation(!eval.is_empty(), w))
            .says("Evaluation files, named as those of `data.train`"),
        key("data.test", lens!(data; Csv(d) => &mut d.test))
            .or(Paths::default())
            .says("Test files, looked at once, after training"),
        key("data.columns", lens!(data; Csv(d) => &mut d.columns))
            .or(None)
            .or_in_words("the first line")
            .check(|columns, _| {
                let columns = columns.as_deref().unwrap_or_default();
                match columns.iter().enumerate().find(|(i, n)| columns[..*i].contains(n)) {
                    Some((_, name)) => Err(format!("names \"{name}\" twice")),
                    None => Ok(()),
                }
            })
            .says("Names of the columns where the files have no header line"),
        key("data.label", lens!(data; Csv(d) => &mut d.label)).says("Column with the label"),
        key("data.positive", lens!(data; Csv(d) => &mut d.positive)).or(Vec::new()).says(
            "Values of the label that mean 1, all others mean 0; if empty, labels are the numbers \
             0 and 1",
        ),
        key("data.dense", lens!(data; Csv(d) => &mut d.dense)).or(Vec::new()).says("Dense columns"),
        key("data.categorical", lens!(data; Csv(d) => &mut d.categorical))
            .or(Vec::new())
            .or_in_words("all others, but [indices of rows](data-formats.md)")
            .says("Categorical columns"),
        key("data.ignore", lens!(data; Csv(d) => &mut d.ignore))
            .or(Vec::new())
            .says("Columns that are not used"),
        dates(lens!(data; Csv(d) => &mut d.dates)),
        date_features(lens!(data; Csv(d) if d.dates.is_some() => &mut d.date_features)),
        key("data.missing", lens!(data; Csv(d) => &mut d.missing))
            .or(None)
            .or_in_words("`NaN`, `NA`, `N/A`, `null`, `None`, `<NA>` and `\\N`")
            .says(
                "Words that say that a value is missing, in capitals or not; an empty field always \
                 says so. A missing number is 0, a missing category what `data.missing_category` \
                 says; `[]` leaves the words what they are",
            ),
        key("data.dense_transform", lens!(data; Csv(d) => &mut d.dense_transform))
            .or(DenseTransform::Raw)
            .says(
                "Of dense columns: `raw`, `log1p_clamp0` (ln(max(x, 0) + 1), facebook), \
                 `log_plus2` (ln(x + 2), OneFlow), `log_plus3` (ln(x + 3), NVIDIA, TorchRec), \
                 `log_sq_bucket` (floor(ln(x)^2) above 2, else cut to a whole number, FuxiCTR), \
                 `min_max`, `standard` (both by the training file), `min_range` ((x - min) / range \
                 with the numbers of the next two keys, DeepRec)",
            ),
        of_each_dense("data.dense_min", min_range!(dense_min))
            .says("What is taken off each dense column"),
        of_each_dense("data.dense_range", min_range!(dense_range))
            .within(above(0.0))
            .says("What the rest is then divided by"),
        key("data.min_count", lens!(data; Csv(d) => &mut d.min_count))
            .or(1)
            .within_as(1.., "at least 1 (every value counts)")
            .says("Values rarer than this in the training file become id 0"),
        key("data.hash_buckets", lens!(data; Csv(d) => &mut d.hash_buckets))
            .or(None)
            .not_empty("is empty; must hold at least one number of rows")
            .within_as(1..=MAX_ROWS, "rows from 1 to 4294967295")
            .check(|buckets, w| match &w.data {
                Csv(d) if buckets.is_some() && d.min_count > 1 => {
                    Err("hashes every value, so none is rare; remove data.min_count".to_owned())
                }
                _ => Ok(()),
            })
            .says(
                "Ids are hashes of the values: FarmHash64 fingerprints modulo these, one number of \
                 rows for each categorical column or one for all (TensorFlow's \
                 `string_to_hash_bucket_fast`, DeepRec). Without it the values of the training file \
                 are numbered",
            ),
        key("data.missing_category", lens!(data; Csv(d) => &mut d.missing_category))
            .or(None)
            .or_in_words("the empty text, a value like others")
            .says(
                "What a missing category is taken for; DeepRec: a space, which is hashed like any \
                 other value",
            ),
        key("data.delimiter", lens!(data; Csv(d) => &mut d.delimiter))
            .or(',')
            .check(|&c, _| match separates(c) {
                true => Ok(()),
                false => Err("must be one ASCII character, no quote and no line end".to_owned()),
            })
            .says("Between fields"),
        key("data.comment", lens!(data; Csv(d) => &mut d.comment))
            .or(None)
            .check(|comment, w| match (comment, &w.data) {
                (Some(c), Csv(d)) if !separates(*c) || *c == d.delimiter => {
                    Err("must be one ASCII character, no quote, no line end and not the delimiter"
                        .to_owned())
                }
                _ => Ok(()),
            })
            .says("Lines that start with it are left out"),
        key("data.shuffle", lens!(data; Csv(d) => &mut d.shuffle))
            .or(true)
            .says("Training samples in a new order every epoch, from `train.seed`"),
        on_error(lens!(data; Csv(d) => &mut d.on_error)),
    ]
}

pub(super) fn parquet() -> Vec<Key> {
    vec![
        paths("data.train", lens!(data; Parquet(d) => &mut d.train))
            .says(
                "Training files, patterns, and folders of which every `*.parquet` is taken, in the \
                 order of their names, with numbers as numbers",
            ),
        hold_out(lens!(data; Parquet(d) => &mut d.held_out.hold_out)),
        eval_share(lens!(data; Parquet(d) => &mut d.held_out.eval_share)),
        split_by(lens!(data; Parquet(d) => &mut d.held_out.split_by)),
        key("data.eval", lens!(data; Parquet(d) => &mut d.eval))
            .or(Vec::new())
            .or_in_words(HELD_OUT)
            .check(|eval, w| one_for_evaluation(!eval.is_empty(), w))
            .says("Evaluation files"),
        key("data.test", lens!(data; Parquet(d) => &mut d.test))
            .or(Vec::new())
            .says("Test files, looked at once, after training"),
        key("data.label", lens!(data; Parquet(d) => &mut d.label))
            .or(None)
            .or_in_words("`label`, `clicked`, `click` or `y`, the first that is there")
            .says("Column with the label"),
        key("data.positive", lens!(data; Parquet(d) => &mut d.positive)).or(Vec::new()).says(
            "Values of the label that mean 1, all others mean 0; if empty, labels are the numbers \
             0 and 1",
        ),
        key("data.dense", lens!(data; Parquet(d) => &mut d.dense))
            .or(Vec::new())
            .or_in_words("by the files")
            .says("Dense columns; by the files those of fractions, and `I1`, `I2` and so on"),
        key("data.categorical", lens!(data; Parquet(d) => &mut d.categorical))
            .or(Vec::new())
            .or_in_words("all others, but [indices of rows](data-formats.md)")
            .says("Categorical columns"),
        key("data.ignore", lens!(data; Parquet(d) => &mut d.ignore))
            .or(Vec::new())
            .says("Columns that are not used"),
        dates(lens!(data; Parquet(d) => &mut d.dates)),
        date_features(lens!(data; Parquet(d) if d.dates.is_some() => &mut d.date_features)),
        key("data.min_count", lens!(data; Parquet(d) => &mut d.min_count))
            .or(None)
            .within_as(1.., "at least 1 (every value counts)")
            .says("Values of text that are rarer than this in the training split become id 0"),
        key("data.hash_buckets", lens!(data; Parquet(d) => &mut d.hash_buckets))
            .or(None)
            .not_empty("is empty; must hold at least one number of rows")
            .within_as(1..=MAX_ROWS, "rows from 1 to 4294967295")
            .check(|buckets, w| match &w.data {
                Parquet(d) if buckets.is_some() && d.min_count.is_some() => {
                    Err("hashes every value, so none is rare; remove data.min_count".to_owned())
                }
                _ => Ok(()),
            })
            .says(
                "Ids of categorical columns of text are hashes of the values, as for `csv`: one \
                 number of rows for each of these columns or one for all. Without it the values of \
                 the training split are numbered",
            ),
        key("data.missing", lens!(data; Parquet(d) => &mut d.missing))
            .or(None)
            .or_in_words("none; in dates those of `csv`")
            .says(
                "Words of text that say that a value is missing, in capitals or not, as nothing and \
                 an empty text do",
            ),
        key("data.missing_category", lens!(data; Parquet(d) => &mut d.missing_category))
            .or(None)
            .or_in_words("the empty text, a value like others")
            .says("What a null is taken for in a categorical column of text"),
        tables(lens!(data; Parquet(d) => &mut d.tables))
            .or(None)
            .or_in_words("by the files")
            .says("Rows of each table"),
        hotness(lens!(data; Parquet(d) => &mut d.hotness)),
        key("data.id_stride", lens!(data; Parquet(d) => &mut d.id_stride)).or(0).says(
            "Ids of categorical column k, counted from 0, start at k times this, which is taken \
             off. OneFlow numbers the ids of all columns through: 40000000 for files of its \
             `criteo1t_parquet.py`, 40000001 for those of its Scala tool",
        ),
        max_ind_range(lens!(data; Parquet(d) => &mut d.max_ind_range)).says(
            "Ids of 64 bits modulo this, so that hashes are trained on; tables then have at most \
             so many rows",
        ),
        row_transform(lens!(data; Parquet(d) => &mut d.dense_transform), DenseTransform::Raw),
        key("data.shuffle", lens!(data; Parquet(d) => &mut d.shuffle))
            .or(GroupShuffle::None)
            .check(|shuffle, w| match (shuffle, &w.data) {
                (GroupShuffle::RowGroup, Parquet(d)) if d.held_out.any() => {
                    Err("is \"row_group\", but samples keep their order with data.hold_out or data.eval_share; must be \"none\" (data.buffer shuffles, too)".to_owned())
                }
                _ => Ok(()),
            })
            .says(
                "Order of training samples, new every epoch, from `train.seed`: `none` or \
                 `row_group`",
            ),
        buffer(lens!(data; Parquet(d) => &mut d.buffer)),
    ]
}

pub(super) fn formats() -> Vec<Key> {
    vec![
        paths("data.train", lens!(data; Files(d) => &mut d.train))
            .says("Training files, each by the name that `data inspect` takes"),
        hold_out(lens!(data; Files(d) => &mut d.held_out.hold_out)),
        eval_share(lens!(data; Files(d) => &mut d.held_out.eval_share)),
        key("data.eval", lens!(data; Files(d) => &mut d.eval))
            .or(Vec::new())
            .or_in_words(HELD_OUT)
            .check(|eval, w| one_for_evaluation(!eval.is_empty(), w))
            .says("Evaluation files"),
        key("data.test", lens!(data; Files(d) => &mut d.test))
            .or(Vec::new())
            .says("Test files, looked at once, after training"),
        key("data.label", lens!(data; Files(d) => &mut d.label))
            .or(None)
            .or_in_words("by the files")
            .says("Column with the label, where columns have names or indices"),
        key("data.dense", lens!(data; Files(d) => &mut d.dense))
            .or(Vec::new())
            .or_in_words("by the files")
            .says("Dense columns, where columns have names or indices"),
        key("data.categorical", lens!(data; Files(d) => &mut d.categorical))
            .or(Vec::new())
            .or_in_words("by the files")
            .says("Categorical columns, where columns have names or indices"),
        key("data.ignore", lens!(data; Files(d) => &mut d.ignore))
            .or(Vec::new())
            .says("Columns that are not used, where columns have names or indices"),
        tables(lens!(data; Files(d) => &mut d.tables))
            .or(None)
            .or_in_words("by the files")
            .says("Rows of each table"),
        hotness(lens!(data; Files(d) => &mut d.hotness)),
        max_ind_range(lens!(data; Files(d) => &mut d.max_ind_range))
            .says("Ids modulo this; tables then have at most so many rows"),
        row_transform(lens!(data; Files(d) => &mut d.dense_transform), DenseTransform::Raw),
        buffer(lens!(data; Files(d) => &mut d.buffer)),
    ]
}

/// A number for each dense column of csv.
fn of_each_dense(name: &'static str, lens: Lens<Vec<f64>>) -> Field<Vec<f64>> {
    key(name, lens).when(&[Setting { key: "data.dense_transform", words: &["min_range"] }]).check(
        |numbers, w| match &w.data {
            Csv(d) if numbers.len() != d.dense_columns() => Err(format!(
                "has {} entries; must have {}, one for each column of data.dense{}",
                numbers.len(),
                d.dense_columns(),
                if d.dates.is_some() { " and each dense feature of data.dates" } else { "" }
            )),
            _ => Ok(()),
        },
    )
}
