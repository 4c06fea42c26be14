//! The parquet files of a split, one of them open at a time.

use super::super::{
    super::{
        DataError,
        format::{
            columns::Columns,
            parquet::{Table, files_of, gaps},
            texts::{Fingerprints, Texts},
        },
        rows::{Layout, RowRef, Rows, wrong},
    },
    once,
    picked::{Key, hash},
};
use std::{path::PathBuf, sync::Arc};

/// Rows that are read together when the largest ids are sought.
const CHUNK: u64 = 1 << 14;

/// What is known of the ids.
pub(super) struct Found {
    pub largest: Vec<u32>,
    pub hotness: Vec<usize>,
}

/// Takes the number of a sample in the split, that of a categorical column, and its text.
type TakeText<'a> = dyn FnMut(u64, usize, Option<&[u8]>) + 'a;

/// Takes rows of a table: its row group, the first of them, and how many.
type TakePart<'a> = dyn FnMut(&mut Table, usize, u64, usize) -> Result<(), DataError> + 'a;

/// The files of a split, one of them open.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    columns: Columns,
    stride: u32,
    /// File, number within it, and rows of each row group.
    pub groups: Vec<(usize, usize, u64)>,
    open: Option<(usize, Table)>,
    /// What makes ids of text, once that is known.
    texts: Option<Arc<dyn Texts>>,
    /// What is to be told of the files, a sentence each.
    pub told: Vec<String>,
}

impl Files {
    /// Reads the ends of all files. The first file of all decides about the columns of the others.
    pub fn open(
        paths: &[PathBuf],
        columns: &mut Columns,
        stride: u32,
        layout: &mut Option<Layout>,
    ) -> Result<Self, DataError> {
        let (paths, mut told) = expand(paths)?;
        let mut groups = Vec::new();
        for (f, path) in paths.iter().enumerate() {
            let table = Table::open(path, columns, stride)?;
            match layout {
                None => {
                    let of = |told: &String| format!("{}: {told}", path.display());
                    told.extend(table.told().iter().map(of));
                    let l = table.layout();
                    // Features of dates stand behind the columns, and are no columns.
                    let made = |dense: bool| {
                        let (dates, features) = &columns.dates;
                        dates.len() * features.iter().filter(|f| f.is_dense() == dense).count()
                    };
                    let (dense, ids) = (l.dense.len() - made(true), l.ids.len() - made(false));
                    *columns = Columns {
                        label: Some(l.label.clone()),
                        dense: l.dense[..dense].to_vec(),
                        categorical: l.ids[..ids].iter().map(|c| c.name.clone()).collect(),
                        ignore: Vec::new(),
                        only: true,
                        ..columns.clone()
                    };
                    *layout = Some(l.clone());
                }
                Some(first) => {
                    if let Some((column, _)) = table
                        .layout()
                        .ids
                        .iter()
                        .zip(&first.ids)
                        .find(|(a, b)| a.hotness != b.hotness)
                    {
                        let what = format!(
                            "column {} holds lists in one file and single ids in another",
                            column.name
                        );
                        return Err(wrong(path, what));
                    }
                }
            }
            groups.extend(
                table
                    .groups()
                    .enumerate()
                    .filter(|(_, rows)| *rows > 0)
                    .map(|(g, rows)| (f, g, rows)),
            );
        }
        if groups.is_empty() {
            return Err(wrong(&paths[0], "there are no rows; must be at least one"));
        }
        if groups.len() > u32::MAX as usize {
            return Err(wrong(&paths[0], "there are too many row groups"));
        }
        Ok(Files { paths, columns: columns.clone(), stride, groups, open: None, texts: None, told })
    }

    pub fn len(&self) -> u64 {
        self.groups.iter().map(|(_, _, rows)| rows).sum()
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Has ids made of text by `texts`.
    pub fn make_ids_by(&mut self, texts: Arc<dyn Texts>) {
        self.texts = Some(texts);
    }

    fn table(&self, f: usize) -> Result<Table, DataError> {
        let mut table = Table::open(&self.paths[f], &self.columns, self.stride)?;
        self.texts.iter().for_each(|texts| table.make_ids_by(texts.clone()));
        Ok(table)
    }

    /// Which categorical columns are text.
    pub fn texts(&self) -> Result<Vec<bool>, DataError> {
        let table = self.table(0)?;
        Ok((0..table.layout().ids.len()).map(|k| table.is_text(k)).collect())
    }

    /// Rows without a value of each of the `n` columns, dense ones first; `None` where the files do
    /// not say.
    pub fn nulls(&self, n: usize) -> Result<Vec<Option<u64>>, DataError> {
        let mut nulls = vec![Some(0); n];
        for f in 0..self.paths.len() {
            let table = self.table(f)?;
            for (at, nulls) in nulls.iter_mut().enumerate() {
                *nulls = nulls.zip(table.nulls(at)).map(|(a, b)| a + b);
            }
        }
        Ok(nulls)
    }

    /// Reads rows of all files in turn, of `columns` and with `texts`, and gives each part to
    /// `take`: its table, row group, first row and how many.
    fn each_part(
        &self,
        columns: &Columns,
        texts: Option<&Arc<dyn Texts>>,
        take: &mut TakePart<'_>,
    ) -> Result<(), DataError> {
        for path in &self.paths {
            let mut table = Table::open(path, columns, self.stride)?;
            texts.into_iter().for_each(|texts| table.make_ids_by(texts.clone()));
            for (group, n) in table.groups().collect::<Vec<_>>().into_iter().enumerate() {
                let start = table.start(group);
                for at in (start..start + n).step_by(CHUNK as usize) {
                    take(&mut table, group, at, CHUNK.min(start + n - at) as usize)?;
                }
            }
        }
        Ok(())
    }

    /// A hash of what each row holds in the columns that are used.
    pub fn each_hash(&self, layout: &Layout, take: &mut dyn FnMut(u64)) -> Result<(), DataError> {
        let mut rows = Rows::new(layout);
        let texts: Arc<dyn Texts> = Arc::new(Fingerprints);
        self.each_part(&self.columns, Some(&texts), &mut |table, group, at, n| {
            rows.clear();
            table.append(group, at, n, &mut rows)?;
            (0..n).for_each(|i| take(hash(&rows, i)));
            Ok(())
        })
    }

    /// What orders each row: its value in column `by`.
    pub fn each_key(
        &self,
        by: &str,
        layout: &Layout,
        take: &mut dyn FnMut(Option<Key>) -> Result<(), String>,
    ) -> Result<(), DataError> {
        let columns = Columns {
            label: Some(layout.label.clone()),
            positive: self.columns.positive.clone(),
            dense: vec![by.to_owned()],
            moments: true,
            only: true,
            ..Columns::default()
        };
        let mut rows: Option<Rows> = None;
        self.each_part(&columns, None, &mut |table, group, at, n| {
            let rows = rows.get_or_insert_with(|| Rows::new(table.layout()));
            rows.clear();
            table.append(group, at, n, rows)?;
            for (i, &x) in rows.dense.iter().enumerate() {
                let key = match table.is_moment(0) {
                    _ if x.is_nan() => None,
                    true => Some(Key::Moment(x as i64)),
                    false => Some(Key::Number(x)),
                };
                let place = RowRef { path: table.path(), row: at + i as u64 + 1 };
                take(key).map_err(|what| place.error(what))?;
            }
            Ok(())
        })
    }

    /// The texts of each categorical column of text of each row, in the order of the rows by their
    /// numbers in the split.
    pub fn each_text(&self, take: &mut TakeText<'_>) -> Result<(), DataError> {
        let mut before = 0;
        self.each_part(&self.columns, None, &mut |table, group, at, n| {
            table.texts(group, at, n, &mut |k, i, text| take(before + i as u64, k, text))?;
            before += n as u64;
            Ok(())
        })
    }

    /// Takes the largest ids from the statistics of the files; whether all have some.
    pub fn largest(&self, found: &mut Found) -> Result<bool, DataError> {
        for f in 0..self.paths.len() {
            let table = self.table(f)?;
            for (k, largest) in found.largest.iter_mut().enumerate() {
                match table.largest_id(k).map(u32::try_from) {
                    Some(Ok(id)) => *largest = id.max(*largest),
                    // Reading the rows will say which of them is wrong.
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Reads all rows, and gives them to `take` with the number of the first in the split.
    pub fn scan(
        &self,
        layout: &Layout,
        found: &mut Found,
        take: &mut dyn FnMut(&Rows, u64),
    ) -> Result<(), DataError> {
        let (mut rows, mut before) = (Rows::new(layout), 0);
        for f in 0..self.paths.len() {
            let mut table = self.table(f)?;
            for (group, n) in table.groups().collect::<Vec<_>>().into_iter().enumerate() {
                let start = table.start(group);
                for at in (start..start + n).step_by(CHUNK as usize) {
                    rows.clear();
                    table.append(group, at, CHUNK.min(start + n - at) as usize, &mut rows)?;
                    take(&rows, before);
                    before += rows.len() as u64;
                    for (k, bags) in rows.ids.iter().enumerate() {
                        found.largest[k] =
                            bags.indices.iter().copied().fold(found.largest[k], u32::max);
                        let most = bags.offsets.windows(2).map(|w| (w[1] - w[0]) as usize).max();
                        found.hotness[k] = most.unwrap_or(0).max(found.hotness[k]);
                    }
                }
            }
        }
        Ok(())
    }

    /// First row of row group `g` of the split in its file.
    pub fn start(&mut self, g: usize) -> Result<u64, DataError> {
        self.enter(g).map(|(table, group)| table.start(group))
    }

    /// Row group `g` of the split: its file and the number within it.
    pub fn enter(&mut self, g: usize) -> Result<(&mut Table, usize), DataError> {
        let (f, group, _) = self.groups[g];
        let table = match self.open.take() {
            Some((open, table)) if open == f => table,
            _ => self.table(f)?,
        };
        Ok((&mut self.open.insert((f, table)).1, group))
    }
}

/// Files as they are, folders as their parquet files in order of their names; and what is to be
/// told of them.
fn expand(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<String>), DataError> {
    let (mut all, mut told) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let mut files = files_of(path)?;
        told.extend(gaps(&files).iter().map(|gap| format!("{}: {gap}", path.display())));
        all.append(&mut files);
    }
    once(&all)?;
    Ok((all, told))
}
