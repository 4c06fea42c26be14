//! Files of any format, through the reader that `data inspect` and `data convert` have: TorchRec's,
//! FuxiCTR's, HugeCTR's, NVIDIA's, libsvm's and so on.
//!
//! A reader goes through its file from one end to the other. Samples keep the order of the files;
//! a new epoch opens the first file again, and a place in the middle is reached by passing over
//! what lies before it. Samples are shuffled by a buffer behind it (`data.buffer`).

use super::{
    super::{
        DataError, Dataset, Facts, Source,
        dense::Dense,
        format::{self, Format, Reader, columns::Columns},
        rows::{Hotness, Layout, RowRef, Rows, wrong},
    },
    OpenSettings,
    buffered::Buffered,
    counting::{Counting, Of, few},
    hold_out::{OneSide, Side},
    ids::{Ids, check_lengths, sized_by, untransformed},
    once, paths,
    picked::{Picking, hash},
};
use crate::{
    batch::{Batch, Column, Schema},
    data::source::config::FilesConfig,
};
use std::path::{Path, PathBuf};

/// Opens the files. What they do not tell of themselves (their rows, the largest ids, the most ids
/// of a sample) is found by reading them once, unless it is given.
///
/// # Errors
/// If a file cannot be read, is not of the format, has no rows, or has other columns than the
/// first.
pub fn open(config: &FilesConfig, settings: &OpenSettings) -> Result<Dataset, DataError> {
    let columns = Columns {
        label: config.label.clone(),
        dense: config.dense.clone(),
        categorical: config.categorical.clone(),
        ignore: config.ignore.clone(),
        range: config.max_ind_range,
        keys: !config.ids.is_rows(),
        ..Columns::default()
    };
    let first = config.train.first();
    let first = first.ok_or_else(|| DataError::Invalid("data.train names no file".into()))?;
    let layout = format::open(first, config.format, &columns)?.layout().clone();
    check_lengths(&layout, config.tables.as_deref(), config.hotness.as_deref())?;
    let sides = sides(config, &columns)?;
    let mut found = Found::new(config, &layout);
    let mut notes = Vec::new();
    let mut splits: Vec<Split> = Vec::new();
    for (n, paths) in [&config.train, &config.eval, &config.test].into_iter().enumerate() {
        // What is held out lies in the training files.
        if n == 1 && sides.is_some() {
            splits.push(splits[0].clone());
        } else if !paths.is_empty() {
            found.of = Of::split(n, sides.as_ref());
            splits.push(Split::open(paths, config.format, &columns, &mut found, &mut notes)?);
        }
    }
    let mut lens = [splits[0].len(), splits[1].len()];
    if let Some([kept, held_out]) = &sides {
        lens = [kept.of(lens[0])?, held_out.of(lens[1])?];
    }
    notes.push(format!("train: {} samples, eval: {} samples", lens[0], lens[1]));
    if config.tables.is_none() {
        notes.push(sized_by(config.ids).into());
    }
    let rows: Vec<usize> = match &config.tables {
        Some(rows) => rows.clone(),
        None if !config.ids.is_rows() => found.counting.different_ids(),
        None => found.largest.iter().map(|&id| id as usize + 1).collect(),
    };
    let hotness = config.hotness.clone().unwrap_or(found.hotness);
    let table = |k: usize| Column {
        name: layout.ids[k].name.clone(),
        rows: rows[k],
        max_hotness: hotness[k],
    };
    let schema = Schema { dense: layout.dense.len(), tables: (0..rows.len()).map(table).collect() };
    let facts = Facts {
        columns: found.counting.facts(&rows),
        split: sides.as_ref().map(|[_, held_out]| held_out.told()),
        warnings: paths::same(&config.train, &config.eval).into_iter().collect(),
        notes,
        ..Facts::default()
    };
    let mut splits = splits.into_iter();
    let mut source = || -> Result<Option<Box<dyn Source>>, DataError> {
        let Some(split) = splits.next() else { return Ok(None) };
        Ok(Some(Box::new(Files {
            schema: schema.clone(),
            layout: layout.clone(),
            split,
            dense: Dense::new(config.dense_transform).ok_or_else(untransformed)?,
            // They have been taken modulo `data.max_ind_range` as they were read.
            ids: Ids { rows: rows.clone(), range: None, keys: !config.ids.is_rows() },
            hotness: hotness.clone(),
            open: None,
        })))
    };
    let none = || DataError::Invalid("a split is missing".into());
    let mut ordered = source()?.ok_or_else(none)?;
    let mut eval = source()?.ok_or_else(none)?;
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
        test: source()?,
        facts,
        numpy: None,
    })
}

/// What is trained on and what is held out of the training files, where something is.
fn sides(config: &FilesConfig, columns: &Columns) -> Result<Option<[Side; 2]>, DataError> {
    if let Some(every) = config.held_out.hold_out {
        return Ok(Some(Side::of_every(every)));
    }
    let Some(share) = config.held_out.eval_share else { return Ok(None) };
    let mut picking = Picking::new(share, None);
    for path in &config.train {
        let mut reader = format::open(path, config.format, columns)?;
        let (chunk, mut rows) = (format::chunk(reader.layout()), Rows::new(reader.layout()));
        loop {
            reader.read(chunk, &mut rows)?;
            if rows.is_empty() {
                break;
            }
            (0..rows.len()).for_each(|i| picking.hashed(hash(&rows, i)));
        }
    }
    Ok(Some(Side::of_picked(picking.finish())))
}

/// What is known of the ids so far.
struct Found<'a> {
    layout: &'a Layout,
    largest: Vec<u32>,
    hotness: Vec<usize>,
    /// Whether files have to be read for it.
    read: bool,
    /// What the columns hold, and which split the rows that are read are of.
    counting: Counting,
    of: Option<Of<'a>>,
    /// Rows of the split that have been read.
    rows: u64,
}

impl<'a> Found<'a> {
    fn new(config: &FilesConfig, layout: &'a Layout) -> Self {
        let lists = layout.ids.iter().any(|c| c.hotness == Hotness::Any);
        Found {
            layout,
            largest: vec![0; layout.ids.len()],
            hotness: vec![1; layout.ids.len()],
            read: config.tables.is_none() || (lists && config.hotness.is_none()),
            counting: Counting::new(layout),
            of: None,
            rows: 0,
        }
    }

    fn add(&mut self, rows: &Rows) {
        if let Some(of) = self.of {
            self.counting.add(rows, of, self.rows);
        }
        self.rows += rows.len() as u64;
        for (k, bags) in rows.ids.iter().enumerate() {
            self.largest[k] = bags.indices.iter().copied().fold(self.largest[k], u32::max);
            let most = bags.offsets.windows(2).map(|w| (w[1] - w[0]) as usize).max();
            self.hotness[k] = most.unwrap_or(0).max(self.hotness[k]);
        }
    }
}

/// The files of a split.
#[derive(Clone)]
struct Split {
    paths: Vec<PathBuf>,
    format: Format,
    columns: Columns,
    /// First sample of each, and the number of all.
    starts: Vec<u64>,
}

impl Split {
    fn open(
        paths: &[PathBuf],
        format: Format,
        columns: &Columns,
        found: &mut Found,
        notes: &mut Vec<String>,
    ) -> Result<Self, DataError> {
        once(paths)?;
        let mut starts = vec![0];
        found.rows = 0;
        for path in paths {
            let mut reader = format::open(path, format, columns)?;
            same_columns(path, reader.layout(), found.layout)?;
            notes.extend(reader.told().iter().map(|told| format!("{}: {told}", path.display())));
            for (most, column) in found.hotness.iter_mut().zip(&reader.layout().ids) {
                if let Hotness::Fixed(n) = column.hotness {
                    *most = n.max(*most);
                }
            }
            let len = match reader.len() {
                Some(len) if !found.read && !few(len, found.layout) => len,
                _ => scan(&mut *reader, found)?,
            };
            if len == 0 {
                return Err(wrong(path, "there are no rows; must be at least one"));
            }
            starts.push(starts[starts.len() - 1] + len);
        }
        Ok(Split { paths: paths.to_vec(), format, columns: columns.clone(), starts })
    }

    fn len(&self) -> u64 {
        self.starts[self.paths.len()]
    }
}

/// Reads a file to its end; how many rows it has.
fn scan(reader: &mut dyn Reader, found: &mut Found) -> Result<u64, DataError> {
    let (chunk, mut rows) = (format::chunk(reader.layout()), Rows::new(reader.layout()));
    let mut n = 0;
    loop {
        reader.read(chunk, &mut rows)?;
        if rows.is_empty() {
            return Ok(n);
        }
        n += rows.len() as u64;
        found.add(&rows);
    }
}

fn same_columns(path: &Path, layout: &Layout, first: &Layout) -> Result<(), DataError> {
    let names = |l: &Layout| l.ids.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let one = |l: &Layout| l.ids.iter().map(|c| c.hotness == Hotness::One).collect::<Vec<_>>();
    let same = layout.dense == first.dense && names(layout) == names(first);
    match same && one(layout) == one(first) {
        true => Ok(()),
        false => Err(wrong(path, "has other columns than the first training file; must be equal")),
    }
}

/// One split.
struct Files {
    schema: Schema,
    layout: Layout,
    split: Split,
    dense: Dense,
    ids: Ids,
    hotness: Vec<usize>,
    open: Option<Open>,
}

/// A file that is being read.
struct Open {
    file: usize,
    reader: Box<dyn Reader>,
    /// Rows that have been read last, the first of them by its number in the file, and how many of
    /// them have been passed on.
    rows: Rows,
    first: u64,
    passed: usize,
}

impl Open {
    /// Reads the next rows.
    fn next(&mut self, chunk: usize, path: &Path) -> Result<(), DataError> {
        self.first += self.rows.len() as u64;
        self.passed = 0;
        self.reader.read(chunk, &mut self.rows)?;
        match self.rows.is_empty() {
            true => {
                let what =
                    format!("ends after {} rows; it had more when it was opened", self.first);
                Err(wrong(path, what))
            }
            false => Ok(()),
        }
    }
}

impl Source for Files {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.split.len())
    }

    fn fill(
        &mut self,
        _epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        let (mut at, end) = (start, start + n as u64);
        while at < end {
            let mut open = self.seek(at)?;
            let rows = open.passed..open.rows.len().min(open.passed + (end - at) as usize);
            self.append(&open, rows.clone(), batch)?;
            open.passed = rows.end;
            at += rows.len() as u64;
            self.open = Some(open);
        }
        Ok(())
    }
}

impl Files {
    /// The file that holds sample `at`, which is the next one there. After an error nothing is
    /// open.
    fn seek(&mut self, at: u64) -> Result<Open, DataError> {
        let file = self.split.starts.partition_point(|&s| s <= at) - 1;
        let (path, within) = (&self.split.paths[file], at - self.split.starts[file]);
        let mut open = match self.open.take() {
            Some(open) if open.file == file && open.first + open.passed as u64 <= within => open,
            _ => {
                let reader = format::open(path, self.split.format, &self.split.columns)?;
                let rows = Rows::new(&self.layout);
                Open { file, reader, rows, first: 0, passed: 0 }
            }
        };
        let chunk = format::chunk(&self.layout);
        while open.first + open.rows.len() as u64 <= within {
            open.next(chunk, path)?;
        }
        open.passed = (within - open.first) as usize;
        Ok(open)
    }

    /// Appends rows of those that have been read last. What is missing counts as 0.
    fn append(
        &self,
        open: &Open,
        rows: std::ops::Range<usize>,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let path = &self.split.paths[open.file];
        let place = |i: usize| RowRef { path, row: open.first + i as u64 + 1 };
        batch.labels.extend_from_slice(&open.rows.labels[rows.clone()]);
        for i in rows.clone() {
            for (&x, name) in open.rows.dense_row(i).iter().zip(&self.layout.dense) {
                let y = self.dense.apply(x);
                batch.dense.push(y.ok_or_else(|| {
                    place(i).error(format!("column {name} is {x}; must be {}", self.dense.domain()))
                })?);
            }
        }
        for (k, (from, to)) in open.rows.ids.iter().zip(&mut batch.bags).enumerate() {
            let column = &self.layout.ids[k];
            self.ids.put(k, column, self.hotness[k], from, rows.clone(), to, place)?;
        }
        batch.len += rows.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
