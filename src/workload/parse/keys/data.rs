//! `[data]`: the sources and the keys of each.

use super::{Key, Setting, ids, lens, prepared, under};
use crate::{
    data::{
        preprocess::criteo::TABLES,
        source::{
            config::HeldOut,
            paths::{Paths, is_pattern},
            planted,
        },
    },
    workload::{
        CriteoSet, CriteoShuffle,
        DataConfig::{Bin40, CriteoTsv, Csv, Files, NumpyRandom, Parquet, Planted},
        DateFeature, DenseTransform, GroupShuffle, NumpyRandomConfig, OnError, PlantedConfig,
        RandomIds, RecordShuffle, TraceRestart, Workload,
        parse::{
            key::{Field, Lens, above, between, key, split},
            value::Numbers,
            words::{FORMATS, Words},
        },
    },
};
use std::path::PathBuf;

/// Ids are 32-bit.
const MAX_ROWS: usize = u32::MAX as usize;
/// A larger shuffling buffer is a slip.
const MAX_BUFFER: usize = 1 << 30;
/// A bag longer than this is a slip.
const MAX_HOTNESS: usize = 1 << 20;

/// `[data]`
pub(super) fn keys() -> Vec<Key> {
    let source = key("data.source", |w| Some(&mut w.data)).says(
        "`planted` (endless click log with a known truth), `numpy_random` (facebook's random \
         generator), `criteo_tsv` (raw Criteo logs, held in memory), `prepared` (raw Criteo logs, \
         made into files by the first run), `csv` (text with a header line), `bin40` (facebook's and MLPerf's binary records), `parquet`, or the word of another format of \
         [data-formats.md](data-formats.md)",
    );
    let mut keys = vec![source];
    keys.extend(ids::keys());
    keys.extend(under("data.source", &["planted"], planted()));
    keys.extend(under("data.source", &["numpy_random"], numpy_random()));
    keys.extend(under("data.source", &["criteo_tsv"], criteo_tsv()));
    keys.extend(prepared::keys());
    keys.extend(under("data.source", &["csv"], csv()));
    keys.extend(under("data.source", &["bin40"], bin40()));
    keys.extend(under("data.source", &["parquet"], parquet()));
    keys.extend(under("data.source", &FORMATS, formats()));
    keys
}

fn planted() -> Vec<Key> {
    let unsaid = PlantedConfig::of("");
    let custom = &[Setting { key: "data.preset", words: &["custom"] }];
    vec![
        key("data.preset", lens!(data; Planted(d) => &mut d.preset))
            .one_of(&["criteo_kaggle", "criteo_terabyte", "custom"])
            .or("criteo_kaggle".to_owned())
            .says(
                "Cardinalities, id distributions and truth: `criteo_kaggle`, `criteo_terabyte`, \
                 or `custom` with keys of its own",
            ),
        key("data.max_rows", lens!(data; Planted(d) => &mut d.max_rows))
            .or(None)
            .within(1..=MAX_ROWS)
            .says("No table has more rows than this"),
        split(
            "data.fit_memory",
            |w| matches!(w.data, Planted(_)),
            |w| matches!(&w.data, Planted(d) if d.fit_memory).then_some(true),
            |w, fit| {
                if let Planted(d) = &mut w.data {
                    d.fit_memory = fit;
                }
            },
        )
        .or(false)
        .says(
            "Lower `data.max_rows` to the largest of 1, 2 and 5 times a power of ten with which the \
             run takes at most three quarters of the memory that is free (of the GPU's too, if one \
             computes). The cap that comes of it is kept in this key's stead: it is part of what \
             the data are",
        ),
        tables(lens!(data; Planted(d) if d.preset == "custom" => &mut d.tables))
            .when(custom)
            .check(|tables, w| {
                let most = match &w.data {
                    Planted(PlantedConfig { max_rows: Some(most), .. }) => *most,
                    _ => usize::MAX,
                };
                match tables.iter().find(|&&rows| rows.min(most) > planted::MAX_ROWS) {
                    Some(rows) => Err(format!(
                        "is {rows}; must be rows up to 2147483648 where data.max_rows does not cap them"
                    )),
                    None => Ok(()),
                }
            })
            .says("Rows of each table, at most 2147483648 where `data.max_rows` does not cap them"),
        key("data.hotness", lens!(data; Planted(d) if d.preset == "custom" => &mut d.hotness))
            .when(custom)
            .or(Vec::new())
            .or_in_words("1 each")
            .check(|hotness, w| one_for_each_table(hotness.len(), w))
            .within_as(1..=planted::MAX_HOTNESS, "ids a sample, from 1 to 4096")
            .says("Ids that a sample holds in each table"),
        split(
            "data.exponents",
            |w| matches!(&w.data, Planted(d) if d.preset == "custom"),
            |w| match &w.data {
                Planted(d) if !d.exponents.is_empty() => Some(d.exponents.clone()),
                _ => None,
            },
            |w, exponents| {
                if let Planted(d) = &mut w.data {
                    d.exponents = exponents;
                }
            },
        )
        .when(custom)
        .or(Vec::new())
        .or_in_words("by size, 0.6 to 1.25")
        .check(|exponents, w| one_for_each_table(exponents.len(), w))
        .within_as(0.0..=4.0, "exponents from 0 (all ids alike) to 4")
        .says(
            "Exponent of Zipf's law by which ids of each table occur, as `data profile` finds it \
             in real data",
        ),
        split(
            "data.dense",
            |w| matches!(&w.data, Planted(d) if d.preset == "custom"),
            |w| match &w.data {
                Planted(d) => Some(d.dense),
                _ => None,
            },
            |w, dense| {
                if let Planted(d) = &mut w.data {
                    d.dense = dense;
                }
            },
        )
        .when(custom)
        .or(None)
        .or_in_words("13")
        .within(..=planted::MAX_DENSE)
        .says("Dense columns"),
        key("data.train_samples", lens!(data; Planted(d) => &mut d.train_samples))
            .or(unsaid.train_samples)
            .within(1..)
            .says("Samples of an epoch; the log itself has no end"),
        key("data.eval_samples", lens!(data; Planted(d) => &mut d.eval_samples))
            .or(unsaid.eval_samples)
            .within(1..)
            .says("Samples of the evaluation split"),
        key("data.positive_rate", lens!(data; Planted(d) => &mut d.positive_rate))
            .or(None)
            .or_in_words("the preset's")
            .within(planted::POSITIVE_RATES)
            .says("Share of positive labels"),
        key("data.seed", lens!(data; Planted(d) => &mut d.seed)).or(unsaid.seed).says(
            "Seed of the data. Not the run's seed, so that runs with several seeds see one data set",
        ),
    ]
}

fn numpy_random() -> Vec<Key> {
    let mut keys = vec![
        tables(lens!(data; NumpyRandom(d) => &mut d.tables)).says("Rows of each table"),
        key("data.dense", lens!(data; NumpyRandom(d) => &mut d.dense))
            .within(..=planted::MAX_DENSE)
            .says("Dense columns"),
        key("data.samples", lens!(data; NumpyRandom(d) => &mut d.samples))
            .within(1..)
            .says("Samples of an epoch (`--data-size`)"),
        key("data.indices_per_lookup", lens!(data; NumpyRandom(d) => &mut d.indices_per_lookup))
            .or(10)
            .within(1..=MAX_HOTNESS)
            .says("Most ids of a sample in a table (`--num-indices-per-lookup`)"),
        key("data.fixed_indices", lens!(data; NumpyRandom(d) => &mut d.fixed_indices))
            .or(false)
            .says("Draw exactly so many instead of at most (`--num-indices-per-lookup-fixed`)"),
        key("data.distribution", lens!(data; NumpyRandom(d) => &mut d.distribution))
            .or(RandomIds::Uniform)
            .says(
                "How ids are drawn (`--rand-data-dist`): `uniform`, `gaussian`, or `trace` \
                 (`--data-generation=synthetic`): as soon again as in a recorded trace",
            ),
    ];
    keys.extend(under("data.distribution", &["gaussian"], gaussian()));
    keys.extend(under("data.distribution", &["trace"], trace()));
    keys.extend([
        key("data.round_targets", lens!(data; NumpyRandom(d) => &mut d.round_targets))
            .or(false)
            .says("Labels rounded to 0 or 1 (`--round-targets`)"),
        key("data.seed", lens!(data; NumpyRandom(d) => &mut d.seed)).or(123).says(
            "Seed of the data (`--numpy-rand-seed`). Not the run's seed, so that runs with several \
             seeds see one data set",
        ),
    ]);
    keys
}

fn gaussian() -> [Key; 4] {
    use RandomIds::Gaussian;
    macro_rules! gaussian {
        ($field:ident) => {
            lens!(data; NumpyRandom(NumpyRandomConfig {
                distribution: Gaussian { $field, .. }, ..
            }) => $field)
        };
    }
    [
        key("data.mu", gaussian!(mu)).or(None).or_in_words("middle of the range").says("Mean"),
        key("data.sigma", gaussian!(sigma)).or(1.0).within(0.0..).says("Standard deviation"),
        key("data.min", gaussian!(min))
            .or(0.0)
            .within_as(0.0.., "0 or more, since it bounds ids")
            .says("Lower bound"),
        key("data.max", gaussian!(max))
            .or(1.0)
            .check(|max, w| match &w.data {
                NumpyRandom(NumpyRandomConfig { distribution: Gaussian { min, .. }, .. })
                    if max < min =>
                {
                    Err(format!("is {max}; must be at least data.min, {min}"))
                }
                _ => Ok(()),
            })
            .says("Upper bound"),
    ]
}

fn trace() -> [Key; 3] {
    use RandomIds::Trace;
    macro_rules! trace {
        ($field:ident) => {
            lens!(data; NumpyRandom(NumpyRandomConfig {
                distribution: Trace { $field, .. }, ..
            }) => $field)
        };
    }
    [
        key("data.traces", trace!(files))
            .check(|files, w| match &w.data {
                NumpyRandom(d) if files.len() != 1 && files.len() != d.tables.len() => {
                    Err(format!(
                        "names {} files; must name one for each of the {} tables, or one for all",
                        files.len(),
                        d.tables.len()
                    ))
                }
                _ => Ok(()),
            })
            .says(
                "What to draw from, a file for each table or one for all: facebook's \
                 `dist_emb_j.log` (ids, stack distances, their cumulative shares, a line each), as \
                 `data profile --patterns` writes it. Ids beyond a table are taken modulo its rows",
            ),
        key("data.trace_padding", trace!(padding)).or(false).says(
            "No new ids once as many were drawn as the largest stack distance \
             (`--data-trace-enable-padding`)",
        ),
        key("data.trace_restart", trace!(restart)).or(TraceRestart::Bag).says(
            "When a trace begins anew: with every `bag` (as facebook's program does), or with the \
             `epoch`, so that bags of a table follow one another as the trace does. Until as many \
             new ids were drawn as the largest distance, only distances that can be met are drawn, \
             so locality is too high at first",
        ),
    ]
}

fn criteo_tsv() -> Vec<Key> {
    vec![
        key("data.set", lens!(data; CriteoTsv(d) => &mut d.set)).says(
            "`kaggle`: one file, cut into 7 \"days\"; `terabyte`: one file a day. The last day is \
             for evaluation",
        ),
        key("data.paths", lens!(data; CriteoTsv(d) => &mut d.paths))
            .check(|paths, w| {
                let CriteoTsv(d) = &w.data else { return Ok(()) };
                let n = paths.len();
                // How many those are is known when they are opened.
                if paths.iter().any(|path| is_pattern(path) || path.is_dir()) {
                    return Ok(());
                }
                match d.set {
                    CriteoSet::Kaggle if n != 1 => Err(format!(
                        "names {n} files; must name one, train.txt, with set = \"kaggle\""
                    )),
                    CriteoSet::Terabyte if n < 2 => Err(format!(
                        "names {n} file(s); must name the day files in order, at least 2, since the last one is for evaluation"
                    )),
                    _ => Ok(()),
                }
            })
            .says(
                "The file, or the day files in order, or their folder or a pattern \
                 (`logs/day_*.gz`), which means them in the order of their numbers; packed ones are \
                 unpacked while reading",
            ),
        max_ind_range(lens!(data; CriteoTsv(d) => &mut d.max_ind_range)).says("Ids modulo this"),
        key("data.sub_sample_rate", lens!(data; CriteoTsv(d) => &mut d.sub_sample_rate))
            .or(0.0)
            .within(0.0..1.0)
            .says("Share of negative samples left out"),
        key("data.shuffle", lens!(data; CriteoTsv(d) => &mut d.shuffle))
            .or(CriteoShuffle::Total)
            .says(
                "Order of training samples: `total` (all days together), `day` (within each day), \
                 `none`",
            ),
        on_error(lens!(data; CriteoTsv(d) => &mut d.on_error)),
        key("data.seed", lens!(data; CriteoTsv(d) => &mut d.seed))
            .or(123)
            .says("numpy's seed for sub-sampling and shuffling"),
    ]
}

fn csv() -> Vec<Key> {
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

fn bin40() -> Vec<Key> {
    vec![
        paths("data.train", lens!(data; Bin40(d) => &mut d.train))
            .says("Training files, a day each; a file is named once"),
        key("data.eval", lens!(data; Bin40(d) => &mut d.eval)).says("Evaluation file"),
        key("data.test", lens!(data; Bin40(d) => &mut d.test))
            .or(None)
            .says("Test file, looked at once, after training"),
        tables(lens!(data; Bin40(d) => &mut d.tables))
            .or(None)
            .or_in_words("by the files")
            .check(|tables, _| match tables {
                Some(tables) if tables.len() != TABLES => Err(format!(
                    "has {} entries; must have {TABLES}, one for each categorical column of bin40",
                    tables.len()
                )),
                _ => Ok(()),
            })
            .says("Rows of each table"),
        max_ind_range(lens!(data; Bin40(d) => &mut d.max_ind_range))
            .says("Ids modulo this; tables then have at most so many rows"),
        row_transform(lens!(data; Bin40(d) => &mut d.dense_transform), DenseTransform::Log1pClamp0),
        key("data.shuffle", lens!(data; Bin40(d) => &mut d.shuffle)).or(RecordShuffle::None).says(
            "Order of training samples, new every epoch, from `train.seed`: `none`, `batch` (whole \
             batches), `day` (samples of each file) or `total` (samples of all files)",
        ),
        buffer(lens!(data; Bin40(d) => &mut d.buffer)),
    ]
}

fn parquet() -> Vec<Key> {
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

fn formats() -> Vec<Key> {
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

/// The most ids of a sample, where files may tell.
fn hotness(lens: Lens<Option<Vec<usize>>>) -> Key {
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
const HELD_OUT: &str = "what `data.hold_out` or `data.eval_share` holds out";

/// Evaluation samples that are taken from the training files.
fn hold_out(lens: Lens<Option<u32>>) -> Key {
    key("data.hold_out", lens).or(None).within(2..=1_000_000).says(
        "Instead of `data.eval`: of each so many samples of the training files, in their order, \
         the last one is held out for evaluation, and never trained on",
    )
}

/// A share of the training files' samples for evaluation.
fn eval_share(lens: Lens<Option<f64>>) -> Key {
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
fn split_by(lens: Lens<Option<String>>) -> Key {
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
fn one_for_evaluation(given: bool, w: &Workload) -> Result<(), String> {
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
fn dates(lens: Lens<Option<Vec<String>>>) -> Key {
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
fn date_features(lens: Lens<Option<Vec<DateFeature>>>) -> Key {
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

/// Rows of the tables.
fn tables<T: Numbers<Number = usize>>(lens: Lens<T>) -> Field<T> {
    key("data.tables", lens)
        .not_empty("is empty; must hold the rows of at least one table")
        .within_as(1..=MAX_ROWS, "rows from 1 to 4294967295")
}

fn one_for_each_table(entries: usize, w: &Workload) -> Result<(), String> {
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
fn paths(name: &'static str, lens: Lens<Vec<PathBuf>>) -> Field<Vec<PathBuf>> {
    key(name, lens).not_empty("names no file; must name at least one")
}

fn max_ind_range(lens: Lens<Option<u32>>) -> Field<Option<u32>> {
    key("data.max_ind_range", lens).or(None).within_as(1.., "at least 1; leave it out for no limit")
}

/// A transform of files that are not looked at as a whole before training.
fn row_transform(lens: Lens<DenseTransform>, default: DenseTransform) -> Key {
    row_by_row(key("data.dense_transform", lens).or(default))
        .says("Of dense columns, as for `csv`, but for those that need all of the data at once")
}

/// Refuses a transform that looks at the data as a whole.
pub(super) fn row_by_row(field: Field<DenseTransform>) -> Field<DenseTransform> {
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
pub(super) fn buffer(lens: Lens<Option<usize>>) -> Key {
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
fn on_error(lens: Lens<OnError>) -> Key {
    key("data.on_error", lens).or(OnError::Fail).says(
        "A malformed line: `fail` names file and line and stops; `skip` leaves it out, counts it \
         and says so in the record",
    )
}

/// Whether a character can stand between fields, or before a comment.
fn separates(c: char) -> bool {
    c.is_ascii() && !matches!(c, '"' | '\n' | '\r')
}
