//! Parquet files, read row group by row group: OneFlow's, FuxiCTR's, one's own.
//!
//! Row groups of all files may be dealt in a new order every epoch, as Petastorm does
//! (`shuffle_row_groups`, OneFlow's reader); the rows of one stay together and in order. One file
//! is open at a time, since a data set may have more files than a process may open.

use super::{
    super::{
        ColumnFacts, DataError, Dataset, Facts, Source,
        dense::Dense,
        format::{columns::Columns, parquet::Part, texts::Texts},
        rows::{Hotness, Layout},
    },
    OpenSettings,
    buffered::Buffered,
    counting::{Counting, Of, few},
    hold_out::{OneSide, Side},
    ids::{Ids, check_lengths, sized_by, untransformed},
    order::Order,
    paths,
    picked::Picking,
};
use crate::{
    batch::{Bags, Batch, Column, Schema},
    data::source::config::{DateFeature, GroupShuffle, HeldOut, ParquetConfig},
    host::pool::Pool,
};
use files::{Files, Found};
use std::sync::Arc;
use text::Coded;

mod files;
mod text;

/// More threads than this wait for each other more than they read.
const MOST_THREADS: usize = 8;

/// Opens the files, to be read by as many threads as `settings` allow. Where the sizes of the tables are
/// not given, they are taken from the statistics of the files, or where those are missing, all rows
/// are read once.
///
/// # Errors
/// If a file cannot be read, lacks a column or has one of another type, or a split has no rows.
pub fn open(config: &ParquetConfig, settings: &OpenSettings) -> Result<Dataset, DataError> {
    let mut columns = Columns {
        label: config.label.clone(),
        dense: config.dense.clone(),
        categorical: config.categorical.clone(),
        ignore: config.ignore.clone(),
        positive: config.positive.clone(),
        dates: (
            config.dates.clone().unwrap_or_default(),
            config.date_features.clone().unwrap_or_else(|| DateFeature::ALL.to_vec()),
        ),
        missing: config.missing.clone(),
        text: true,
        range: config.max_ind_range,
        keys: !config.ids.is_rows(),
        ..Columns::default()
    };
    // The column by which samples are told apart is no feature unless it is named.
    if let Some(by) = &config.held_out.split_by
        && ![&columns.dense, &columns.categorical, &columns.dates.0].iter().any(|c| c.contains(by))
        && !columns.ignore.contains(by)
    {
        columns.ignore.push(by.clone());
    }
    let mut layout = None;
    let mut splits = Vec::new();
    // What is held out lies in the training files.
    let eval = if config.held_out.any() { &config.train } else { &config.eval };
    for paths in [&config.train, eval, &config.test] {
        if !paths.is_empty() {
            splits.push(Files::open(paths, &mut columns, config.id_stride, &mut layout)?);
        }
    }
    if config.held_out.any() {
        splits[1].told.clear();
    }
    let Some(layout) = layout else {
        return Err(DataError::Invalid("data.train names no file".into()));
    };
    let mut lens = [splits[0].len(), splits[1].len()];
    let sides = sides(config, &splits[0], &layout)?;
    if let Some([kept, held_out]) = &sides {
        lens = [kept.of(lens[0])?, held_out.of(lens[1])?];
    }
    let mut notes = vec![format!("train: {} samples, eval: {} samples", lens[0], lens[1])];
    splits.iter_mut().for_each(|files| notes.append(&mut files.told));
    let coded = text::coded(config, &layout, &splits, sides.as_ref())?;
    if let Some(coded) = &coded {
        let texts: Arc<dyn Texts> = coded.texts.clone();
        splits.iter_mut().for_each(|files| files.make_ids_by(texts.clone()));
    }
    let mut counting = Counting::new(&layout);
    let counted = (&mut counting, sides.as_ref());
    let (rows, hotness) = sizes(config, &layout, &splits, counted, &mut notes)?;
    let schema = schema(&layout, &rows, &hotness);
    let facts = Facts {
        columns: columns_of(&splits[0], &rows, &counting, coded.as_ref())?,
        split: sides.as_ref().map(|[_, held_out]| held_out.told()),
        warnings: paths::same(
            splits[0].paths(),
            if config.eval.is_empty() { &[] } else { splits[1].paths() },
        )
        .into_iter()
        .collect(),
        notes,
        ..Facts::default()
    };
    let mut splits = splits.into_iter();
    let mut source = |shuffle: GroupShuffle| -> Result<Option<Box<dyn Source>>, DataError> {
        let Some(files) = splits.next() else { return Ok(None) };
        let order = match shuffle {
            GroupShuffle::None => None,
            GroupShuffle::RowGroup => Some(Order::new(settings.seed, files.groups.len() as u32)),
        };
        Ok(Some(Box::new(Parquet {
            schema: schema.clone(),
            outs: std::iter::repeat_with(Out::default)
                .take(1 + layout.dense.len() + layout.ids.len())
                .collect(),
            encode: Encode {
                layout: layout.clone(),
                dense: Dense::new(config.dense_transform).ok_or_else(untransformed)?,
                // They have been taken modulo `data.max_ind_range` before they had 32 bits.
                ids: Ids { rows: rows.clone(), range: None, keys: !config.ids.is_rows() },
                hotness: hotness.clone(),
            },
            threads: settings.threads,
            pool: None,
            files,
            order,
            laid_out: None,
            starts: Vec::new(),
        })))
    };
    let none = || DataError::Invalid("a split is missing".into());
    let mut ordered = source(config.shuffle)?.ok_or_else(none)?;
    let mut eval = source(GroupShuffle::None)?.ok_or_else(none)?;
    if let Some([kept, held_out]) = sides {
        ordered = Box::new(OneSide::new(ordered, kept));
        eval = Box::new(OneSide::new(eval, held_out));
    }
    Ok(Dataset {
        train: match config.buffer {
            Some(room) => Box::new(Buffered::new(ordered, room, settings.seed)),
            None => ordered,
        },
        eval,
        test: source(GroupShuffle::None)?,
        facts,
        numpy: None,
    })
}

/// What is trained on and what is held out of the training files, where something is.
fn sides(
    config: &ParquetConfig,
    train: &Files,
    layout: &Layout,
) -> Result<Option<[Side; 2]>, DataError> {
    let HeldOut { hold_out, eval_share, split_by } = &config.held_out;
    if let Some(every) = hold_out {
        return Ok(Some(Side::of_every(*every)));
    }
    let Some(share) = *eval_share else { return Ok(None) };
    let mut picking = Picking::new(share, split_by.as_ref());
    match split_by {
        None => train.each_hash(layout, &mut |hash| picking.hashed(hash))?,
        Some(by) => train.each_key(by, layout, &mut |key| picking.ordered(key))?,
    }
    Ok(Some(Side::of_picked(picking.finish())))
}

/// The columns as they were understood. Where no row was read, what is missing is told of all rows of
/// the files.
fn columns_of(
    train: &Files,
    rows: &[usize],
    counting: &Counting,
    coded: Option<&Coded>,
) -> Result<Vec<ColumnFacts>, DataError> {
    let mut columns = counting.facts(rows);
    let dense = columns.len() - rows.len();
    let nulls = train.nulls(columns.len())?;
    for (at, (column, nulls)) in columns.iter_mut().zip(nulls).enumerate() {
        let text = at.checked_sub(dense).zip(coded).and_then(|(k, coded)| coded.counts[k].as_ref());
        match text {
            Some(text) => text.put(column),
            None => {
                let of_all = nulls.map(|n| n as f64 / train.len() as f64);
                column.missing = column.missing.or(of_all);
            }
        }
    }
    Ok(columns)
}

fn schema(layout: &Layout, rows: &[usize], hotness: &[usize]) -> Schema {
    let column = |k: usize| Column {
        name: layout.ids[k].name.clone(),
        rows: rows[k],
        max_hotness: hotness[k],
    };
    Schema { dense: layout.dense.len(), tables: (0..rows.len()).map(column).collect() }
}

/// Rows and most ids of a sample of each table: as given, or as the files have it.
fn sizes(
    config: &ParquetConfig,
    layout: &Layout,
    splits: &[Files],
    (counting, sides): (&mut Counting, Option<&[Side; 2]>),
    notes: &mut Vec<String>,
) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    let n = layout.ids.len();
    check_lengths(layout, config.tables.as_deref(), config.hotness.as_deref())?;
    let lists = layout.ids.iter().any(|c| c.hotness != Hotness::One);
    let mut found = Found { largest: vec![0; n], hotness: vec![1; n] };
    let keys = !config.ids.is_rows();
    let mut known = !keys || config.tables.is_some();
    if config.tables.is_none() && !keys {
        for files in splits {
            known = known && files.largest(&mut found)?;
        }
    }
    let samples = splits.iter().map(Files::len).sum();
    if !known || (lists && config.hotness.is_none()) || few(samples, layout) {
        for (n, files) in splits.iter().enumerate() {
            let of = Of::split(n, sides);
            files.scan(layout, &mut found, &mut |rows, first| {
                of.into_iter().for_each(|of| counting.add(rows, of, first));
            })?;
        }
    }
    if config.tables.is_none() {
        notes.push(sized_by(config.ids).into());
    }
    let rows = || match keys {
        true => counting.different_ids(),
        false => found.largest.iter().map(|&id| id as usize + 1).collect(),
    };
    Ok((
        config.tables.clone().unwrap_or_else(rows),
        config.hotness.clone().unwrap_or(found.hotness),
    ))
}

/// One split.
struct Parquet {
    schema: Schema,
    encode: Encode,
    files: Files,
    /// Threads that read columns; they start with the first batch.
    threads: usize,
    pool: Option<Pool>,
    /// One for each column: label, dense, categorical.
    outs: Vec<Out>,
    order: Option<Order>,
    /// The epoch for which `starts` holds.
    laid_out: Option<u64>,
    /// First sample of each row group in the epoch's order.
    starts: Vec<u64>,
}

impl Source for Parquet {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.files.len())
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        self.lay_out(epoch);
        let (mut at, end) = (start, start + n as u64);
        while at < end {
            // The last row group that starts at or before `at`.
            let place = self.starts.partition_point(|&s| s <= at) - 1;
            let g = self.order.as_mut().map_or(place, |o| o.of_epoch(epoch)[place] as usize);
            let within = at - self.starts[place];
            let part = (self.files.groups[g].2 - within).min(end - at);
            let first = self.files.start(g)? + within;
            self.append(g, first, part as usize, batch)?;
            at += part;
        }
        Ok(())
    }
}

impl Parquet {
    fn lay_out(&mut self, epoch: u64) {
        if self.laid_out == Some(epoch) || (self.order.is_none() && self.laid_out.is_some()) {
            return;
        }
        self.laid_out = Some(epoch);
        self.starts.clear();
        let mut next = 0;
        for place in 0..self.files.groups.len() {
            let g = self.order.as_mut().map_or(place, |o| o.of_epoch(epoch)[place] as usize);
            self.starts.push(next);
            next += self.files.groups[g].2;
        }
    }

    /// Appends `n` rows of row group `g` from row `first` of its file on. What is missing counts as
    /// 0.
    fn append(
        &mut self,
        g: usize,
        first: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let pool = self.pool.get_or_insert_with(|| Pool::new(self.threads.min(MOST_THREADS)));
        let (table, group) = self.files.enter(g)?;
        let (encode, dense) = (&self.encode, self.encode.layout.dense.len());
        // Each column's part of the batch goes to the thread that reads the column.
        let (labels, rest) = self.outs.split_at_mut(1);
        labels[0].values.append(&mut batch.labels);
        rest[dense..]
            .iter_mut()
            .zip(&mut batch.bags)
            .for_each(|(out, bags)| std::mem::swap(&mut out.bags, bags));
        let done = table.each_column(group, first, n, pool, &mut self.outs, |k, part, out| match k
            .checked_sub(1)
        {
            None => part.labels(&mut out.numbers, &mut out.values),
            Some(k) if k < dense => encode.dense(k, &part, n, out),
            Some(k) => encode.ids(k - dense, &part, n, out),
        });
        let (labels, rest) = self.outs.split_at_mut(1);
        batch.labels.append(&mut labels[0].values);
        rest[dense..]
            .iter_mut()
            .zip(&mut batch.bags)
            .for_each(|(out, bags)| std::mem::swap(&mut out.bags, bags));
        done?;
        let start = batch.dense.len();
        batch.dense.resize(start + n * dense, 0.0);
        for (k, out) in rest[..dense].iter().enumerate() {
            batch.dense[start + k..]
                .iter_mut()
                .step_by(dense)
                .zip(&out.values)
                .for_each(|(to, &x)| *to = x);
        }
        batch.len += n;
        Ok(())
    }
}

/// What a column's thread reads to.
#[derive(Default)]
struct Out {
    numbers: Vec<f64>,
    /// Labels, or dense features.
    values: Vec<f32>,
    bags: Bags,
    /// Ids before it is looked at how many each sample has.
    raw: Bags,
}

/// From the numbers of a file to those of a batch.
struct Encode {
    layout: Layout,
    dense: Dense,
    ids: Ids,
    hotness: Vec<usize>,
}

impl Encode {
    /// Dense column `k`, in place of what was in `out`.
    fn dense(&self, k: usize, part: &Part, n: usize, out: &mut Out) -> Result<(), DataError> {
        out.numbers.clear();
        out.numbers.resize(n, f64::NAN);
        part.numbers(&mut out.numbers, 1)?;
        out.values.clear();
        for (i, &x) in out.numbers.iter().enumerate() {
            out.values.push(self.dense.apply(x).ok_or_else(|| {
                let name = &self.layout.dense[k];
                part.place(i)
                    .error(format!("column {name} is {x}; must be {}", self.dense.domain()))
            })?);
        }
        Ok(())
    }

    /// Appends the ids of categorical column `k`.
    fn ids(&self, k: usize, part: &Part, n: usize, out: &mut Out) -> Result<(), DataError> {
        out.raw.clear();
        part.ids(&mut out.raw)?;
        let (column, most) = (&self.layout.ids[k], self.hotness[k]);
        self.ids.put(k, column, most, &out.raw, 0..n, &mut out.bags, |i| part.place(i))
    }
}

#[cfg(test)]
mod tests;
