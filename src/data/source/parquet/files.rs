//! The parquet files of a split, one of them open at a time.

use super::super::{
    super::{
        DataError,
        format::{
            columns::Columns,
            parquet::{Table, files_of, gaps},
        },
        rows::{Layout, Rows, wrong},
    },
    once,
};
use std::path::PathBuf;

/// Rows that are read together when the largest ids are sought.
const CHUNK: u64 = 1 << 14;

/// What is known of the ids.
pub(super) struct Found {
    pub largest: Vec<u32>,
    pub hotness: Vec<usize>,
}

/// The files of a split, one of them open.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    columns: Columns,
    stride: u32,
    /// File, number within it, and rows of each row group.
    pub groups: Vec<(usize, usize, u64)>,
    open: Option<(usize, Table)>,
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
                    let ids = l.ids.iter().map(|c| c.name.clone()).collect();
                    *columns = Columns {
                        label: Some(l.label.clone()),
                        dense: l.dense.clone(),
                        categorical: ids,
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
        Ok(Files { paths, columns: columns.clone(), stride, groups, open: None, told })
    }

    pub fn len(&self) -> u64 {
        self.groups.iter().map(|(_, _, rows)| rows).sum()
    }

    fn table(&self, f: usize) -> Result<Table, DataError> {
        Table::open(&self.paths[f], &self.columns, self.stride)
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

    /// Reads all ids.
    pub fn scan(&self, layout: &Layout, found: &mut Found) -> Result<(), DataError> {
        let mut rows = Rows::new(layout);
        for f in 0..self.paths.len() {
            let mut table = self.table(f)?;
            for (group, n) in table.groups().collect::<Vec<_>>().into_iter().enumerate() {
                let start = table.start(group);
                for at in (start..start + n).step_by(CHUNK as usize) {
                    rows.clear();
                    table.append(group, at, CHUNK.min(start + n - at) as usize, &mut rows)?;
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
