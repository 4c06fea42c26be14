//! `[data]`.

use super::{error::WorkloadError, reader::Reader, words::*};
use crate::{
    data::{format::Format, preprocess::criteo::TABLES, source::planted},
    workload::*,
};
use std::path::PathBuf;

type Result<T> = std::result::Result<T, WorkloadError>;

/// Ids are 32-bit.
const MAX_ROWS: usize = u32::MAX as usize;
/// A larger shuffling buffer is a slip.
const MAX_BUFFER: usize = 1 << 30;
/// A bag longer than this is a slip.
const MAX_HOTNESS: usize = 1 << 20;

/// Reads and checks `[data]`.
pub(super) fn data(r: &Reader) -> Result<DataConfig> {
    Ok(match r.must("data.source")? {
        SourceWord::Planted => DataConfig::Planted(planted(r)?),
        SourceWord::NumpyRandom => DataConfig::NumpyRandom(numpy_random(r)?),
        SourceWord::CriteoTsv => DataConfig::CriteoTsv(criteo_tsv(r)?),
        SourceWord::Csv => DataConfig::Csv(csv(r)?),
        SourceWord::Bin40 => DataConfig::Bin40(bin40(r)?),
        SourceWord::Parquet => DataConfig::Parquet(parquet(r)?),
        SourceWord::Files(format) => DataConfig::Files(files(r, format)?),
    })
}

fn planted(r: &Reader) -> Result<PlantedConfig> {
    let preset = r.or("data.preset", PresetWord::CriteoKaggle)?;
    let custom = preset == PresetWord::Custom;
    let tables = if custom { tables(r)? } else { Vec::new() };
    let hotness: Vec<usize> = if custom { r.or("data.hotness", Vec::new())? } else { Vec::new() };
    let exponents: Vec<f64> = if custom { r.or("data.exponents", Vec::new())? } else { Vec::new() };
    for (key, entries) in [("data.hotness", hotness.len()), ("data.exponents", exponents.len())] {
        r.check(key, entries == 0 || entries == tables.len(), || {
            format!(
                "has {entries} entries, but data.tables has {}; must have one for each table",
                tables.len()
            )
        })?;
    }
    for &q in &exponents {
        r.within(
            "data.exponents",
            q,
            |q| (0.0..=4.0).contains(&q),
            "exponents from 0 (all ids alike) to 4",
        )?;
    }
    for &h in &hotness {
        r.within(
            "data.hotness",
            h,
            |h| (1..=planted::MAX_HOTNESS).contains(&h),
            "ids a sample, from 1 to 4096",
        )?;
    }
    let dense = if custom { r.opt("data.dense")? } else { None };
    let rate = r.opt("data.positive_rate")?;
    let max_rows = r.within_opt(
        "data.max_rows",
        r.opt("data.max_rows")?,
        |m| (1..=MAX_ROWS).contains(&m),
        "from 1 to 4294967295",
    )?;
    for &rows in &tables {
        let fits = |rows: usize| rows.min(max_rows.unwrap_or(rows)) <= planted::MAX_ROWS;
        r.within(
            "data.tables",
            rows,
            fits,
            "rows up to 2147483648 where data.max_rows does not cap them",
        )?;
    }
    let unsaid = PlantedConfig::of(preset.word());
    Ok(PlantedConfig {
        max_rows,
        tables,
        hotness,
        exponents,
        dense: r.within_opt("data.dense", dense, |d| d <= planted::MAX_DENSE, "at most 1048576")?,
        train_samples: at_least_one(r, "data.train_samples", Some(unsaid.train_samples))?,
        eval_samples: at_least_one(r, "data.eval_samples", Some(unsaid.eval_samples))?,
        seed: r.or("data.seed", unsaid.seed)?,
        preset: unsaid.preset,
        positive_rate: r.within_opt(
            "data.positive_rate",
            rate,
            |p| planted::POSITIVE_RATES.contains(&p),
            "from 0.001 to 0.999",
        )?,
    })
}

fn numpy_random(r: &Reader) -> Result<NumpyRandomConfig> {
    let dense = r.must("data.dense")?;
    let lookups = r.or("data.indices_per_lookup", 10)?;
    let tables = tables(r)?;
    Ok(NumpyRandomConfig {
        distribution: match r.or("data.distribution", IdsWord::Uniform)? {
            IdsWord::Uniform => RandomIds::Uniform,
            IdsWord::Gaussian => gaussian(r)?,
            IdsWord::Trace => trace(r, tables.len())?,
        },
        tables,
        dense: r.within("data.dense", dense, |d| d <= planted::MAX_DENSE, "at most 1048576")?,
        samples: at_least_one(r, "data.samples", None)?,
        indices_per_lookup: r.within(
            "data.indices_per_lookup",
            lookups,
            |n| (1..=MAX_HOTNESS).contains(&n),
            "from 1 to 1048576",
        )?,
        fixed_indices: r.or("data.fixed_indices", false)?,
        round_targets: r.or("data.round_targets", false)?,
        seed: r.or("data.seed", 123)?,
    })
}

fn gaussian(r: &Reader) -> Result<RandomIds> {
    let (min, max) = (r.or("data.min", 0.0)?, r.or("data.max", 1.0)?);
    let min = r.within("data.min", min, |m| m >= 0.0, "0 or more, since it bounds ids")?;
    r.check("data.max", max >= min, || format!("is {max}; must be at least data.min, {min}"))?;
    let sigma = r.within("data.sigma", r.or("data.sigma", 1.0)?, |s| s >= 0.0, "0 or more")?;
    Ok(RandomIds::Gaussian { mu: r.opt("data.mu")?, sigma, min, max })
}

fn trace(r: &Reader, tables: usize) -> Result<RandomIds> {
    let files: Vec<PathBuf> = r.must("data.traces")?;
    r.check("data.traces", files.len() == 1 || files.len() == tables, || {
        format!(
            "names {} files; must name one for each of the {tables} tables, or one for all",
            files.len()
        )
    })?;
    Ok(RandomIds::Trace {
        files,
        padding: r.or("data.trace_padding", false)?,
        restart: r.or("data.trace_restart", TraceRestart::Bag)?,
    })
}

fn criteo_tsv(r: &Reader) -> Result<CriteoTsvConfig> {
    let set = r.must("data.set")?;
    let paths: Vec<PathBuf> = r.must("data.paths")?;
    r.check("data.paths", set != CriteoSet::Kaggle || paths.len() == 1, || {
        format!("names {} files; must name one, train.txt, with set = \"kaggle\"", paths.len())
    })?;
    r.check("data.paths", set != CriteoSet::Terabyte || paths.len() >= 2, || {
        format!(
            "names {} file(s); must name the day files in order, at least 2, since the last one is for evaluation",
            paths.len()
        )
    })?;
    let rate = r.or("data.sub_sample_rate", 0.0)?;
    Ok(CriteoTsvConfig {
        set,
        paths,
        max_ind_range: max_ind_range(r)?,
        sub_sample_rate: r.within(
            "data.sub_sample_rate",
            rate,
            |s| (0.0..1.0).contains(&s),
            "from 0 to below 1",
        )?,
        shuffle: r.or("data.shuffle", CriteoShuffle::Total)?,
        on_error: r.or("data.on_error", OnError::Fail)?,
        seed: r.or("data.seed", 123)?,
    })
}

fn csv(r: &Reader) -> Result<CsvConfig> {
    let label: String = r.must("data.label")?;
    let columns: Option<Vec<String>> = r.opt("data.columns")?;
    let config = CsvConfig {
        train: r.must("data.train")?,
        eval: r.must("data.eval")?,
        test: r.opt("data.test")?,
        label,
        positive: r.or("data.positive", Vec::new())?,
        dense: r.or("data.dense", Vec::new())?,
        categorical: r.or("data.categorical", Vec::new())?,
        ignore: r.or("data.ignore", Vec::new())?,
        columns,
        dense_transform: r.or("data.dense_transform", DenseTransform::Raw)?,
        min_count: r.within(
            "data.min_count",
            r.or("data.min_count", 1)?,
            |n| n >= 1,
            "at least 1 (every value counts)",
        )?,
        delimiter: r.or("data.delimiter", ',')?,
        comment: r.opt("data.comment")?,
        shuffle: r.or("data.shuffle", true)?,
        on_error: r.or("data.on_error", OnError::Fail)?,
    };
    let good = |c: char| c.is_ascii() && !matches!(c, '"' | '\n' | '\r');
    r.check("data.delimiter", good(config.delimiter), || {
        "must be one ASCII character, no quote and no line end".to_owned()
    })?;
    r.check(
        "data.comment",
        config.comment.is_none_or(|c| good(c) && c != config.delimiter),
        || "must be one ASCII character, no quote, no line end and not the delimiter".to_owned(),
    )?;
    csv_columns(r, &config)?;
    Ok(config)
}

fn bin40(r: &Reader) -> Result<Bin40Config> {
    let tables = file_tables(r)?;
    r.check("data.tables", tables.as_ref().is_none_or(|t| t.len() == TABLES), || {
        let n = tables.as_ref().map_or(0, Vec::len);
        format!("has {n} entries; must have {TABLES}, one for each categorical column of bin40")
    })?;
    Ok(Bin40Config {
        train: paths(r, "data.train")?,
        eval: r.must("data.eval")?,
        test: r.opt("data.test")?,
        tables,
        max_ind_range: max_ind_range(r)?,
        dense_transform: row_transform(r, DenseTransform::Log1pClamp0)?,
        shuffle: r.or("data.shuffle", RecordShuffle::None)?,
        buffer: buffer(r)?,
    })
}

/// One file or more.
fn paths(r: &Reader, key: &'static str) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = r.must(key)?;
    r.check(key, !paths.is_empty(), || "names no file; must name at least one".to_owned())?;
    Ok(paths)
}

/// Room of a shuffling buffer.
fn buffer(r: &Reader) -> Result<Option<usize>> {
    r.within_opt(
        "data.buffer",
        r.opt("data.buffer")?,
        |n| (1..=MAX_BUFFER).contains(&n),
        "samples from 1 to 1073741824",
    )
}

/// Rows of the tables of files, and the most ids of a sample in each, where they are given.
fn sizes(r: &Reader) -> Result<(Option<Vec<usize>>, Option<Vec<usize>>)> {
    let tables = file_tables(r)?;
    let hotness: Option<Vec<usize>> = r.opt("data.hotness")?;
    for &h in hotness.iter().flatten() {
        r.within(
            "data.hotness",
            h,
            |h| (1..=MAX_HOTNESS).contains(&h),
            "ids a sample, from 1 to 1048576",
        )?;
    }
    if let (Some(tables), Some(hotness)) = (&tables, &hotness) {
        r.check("data.hotness", hotness.len() == tables.len(), || {
            format!(
                "has {} entries, but data.tables has {}; must have one for each table",
                hotness.len(),
                tables.len()
            )
        })?;
    }
    Ok((tables, hotness))
}

fn parquet(r: &Reader) -> Result<ParquetConfig> {
    let (tables, hotness) = sizes(r)?;
    let config = ParquetConfig {
        train: paths(r, "data.train")?,
        eval: paths(r, "data.eval")?,
        test: r.or("data.test", Vec::new())?,
        label: r.opt("data.label")?,
        dense: r.or("data.dense", Vec::new())?,
        categorical: r.or("data.categorical", Vec::new())?,
        ignore: r.or("data.ignore", Vec::new())?,
        tables,
        hotness,
        id_stride: r.or("data.id_stride", 0)?,
        max_ind_range: max_ind_range(r)?,
        dense_transform: row_transform(r, DenseTransform::Raw)?,
        shuffle: r.or("data.shuffle", GroupShuffle::None)?,
        buffer: buffer(r)?,
    };
    let label: Vec<String> = config.label.iter().cloned().collect();
    roles(r, [&label, &config.dense, &config.categorical, &config.ignore], None)?;
    Ok(config)
}

fn files(r: &Reader, format: Format) -> Result<FilesConfig> {
    let (tables, hotness) = sizes(r)?;
    let config = FilesConfig {
        format,
        train: paths(r, "data.train")?,
        eval: paths(r, "data.eval")?,
        test: r.or("data.test", Vec::new())?,
        label: r.opt("data.label")?,
        dense: r.or("data.dense", Vec::new())?,
        categorical: r.or("data.categorical", Vec::new())?,
        ignore: r.or("data.ignore", Vec::new())?,
        tables,
        hotness,
        max_ind_range: max_ind_range(r)?,
        dense_transform: row_transform(r, DenseTransform::Raw)?,
        buffer: buffer(r)?,
    };
    let label: Vec<String> = config.label.iter().cloned().collect();
    roles(r, [&label, &config.dense, &config.categorical, &config.ignore], None)?;
    Ok(config)
}

/// Rows of the tables of a file, where they are given.
fn file_tables(r: &Reader) -> Result<Option<Vec<usize>>> {
    let given: Option<Vec<usize>> = r.opt("data.tables")?;
    if given.is_some() { tables(r).map(Some) } else { Ok(None) }
}

fn max_ind_range(r: &Reader) -> Result<Option<u32>> {
    let range = r.opt("data.max_ind_range")?;
    r.within_opt("data.max_ind_range", range, |m| m >= 1, "at least 1; leave it out for no limit")
}

/// A transform of files that are not looked at as a whole before training.
fn row_transform(r: &Reader, default: DenseTransform) -> Result<DenseTransform> {
    let transform = r.or("data.dense_transform", default)?;
    r.check("data.dense_transform", !matches!(transform, DenseTransform::MinMax | DenseTransform::Standard), || {
        let word = transform.word();
        format!("is \"{word}\", which needs all of the data at once; must be \"raw\", \"log1p_clamp0\", \"log_plus2\", \"log_plus3\" or \"log_sq_bucket\"")
    })?;
    Ok(transform)
}

/// No column may have two roles, and with `columns` each must be there.
fn csv_columns(r: &Reader, c: &CsvConfig) -> Result<()> {
    if let Some(columns) = &c.columns {
        let twice = columns.iter().enumerate().find(|(i, n)| columns[..*i].contains(n));
        r.check("data.columns", twice.is_none(), || {
            format!("names \"{}\" twice", twice.map_or("", |(_, n)| n))
        })?;
    }
    roles(
        r,
        [std::slice::from_ref(&c.label), &c.dense, &c.categorical, &c.ignore],
        c.columns.as_deref(),
    )
}

/// Label, dense, categorical and ignored columns: each named once, and in `columns` where those are
/// given.
fn roles(r: &Reader, lists: [&[String]; 4], columns: Option<&[String]>) -> Result<()> {
    let keys = ["data.label", "data.dense", "data.categorical", "data.ignore"];
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (key, names) in keys.into_iter().zip(lists) {
        for name in names {
            if let Some((other, _)) = seen.iter().find(|(_, n)| n == name) {
                return Err(r.error(
                    key,
                    format!(
                        "names \"{name}\", which {other} names already; must name each column once"
                    ),
                ));
            }
            if let Some(all) = columns.filter(|all| !all.contains(name)) {
                let all = all.join(", ");
                return Err(r.error(
                    key,
                    format!("names \"{name}\", which is not in data.columns ({all})"),
                ));
            }
            seen.push((key, name));
        }
    }
    Ok(())
}

fn tables(r: &Reader) -> Result<Vec<usize>> {
    let tables: Vec<usize> = r.must("data.tables")?;
    r.check("data.tables", !tables.is_empty(), || {
        "is empty; must hold the rows of at least one table".to_owned()
    })?;
    for &rows in &tables {
        r.within(
            "data.tables",
            rows,
            |n| (1..=MAX_ROWS).contains(&n),
            "rows from 1 to 4294967295",
        )?;
    }
    Ok(tables)
}

fn at_least_one(r: &Reader, key: &'static str, default: Option<u64>) -> Result<u64> {
    let n = match default {
        Some(default) => r.or(key, default)?,
        None => r.must(key)?,
    };
    r.within(key, n, |n| n >= 1, "at least 1")
}
