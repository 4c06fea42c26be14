//! `[data]`: data that are made here.

use super::{
    super::{Key, Setting, lens, under},
    common::{MAX_HOTNESS, MAX_ROWS, one_for_each_table, tables},
};
use crate::{
    data::source::planted,
    workload::{
        DataConfig::{NumpyRandom, Planted},
        NumpyRandomConfig, PlantedConfig, RandomIds, TraceRestart,
        parse::key::{key, split},
    },
};

pub(super) fn planted() -> Vec<Key> {
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

pub(super) fn numpy_random() -> Vec<Key> {
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
