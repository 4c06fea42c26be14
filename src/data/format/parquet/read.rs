//! Reading of parquet files, row group by row group.

use super::{
    super::{Reader, columns::Columns},
    column::{Column, Leaf, fraction},
};
use crate::data::{
    DataError,
    quiet::caught,
    rows::{Hotness, IdColumn, Layout, Numbers, Place, Rows, io, wrong},
};
use parquet::{
    basic::Type as Physical,
    errors::ParquetError,
    file::{
        reader::{FileReader, SerializedFileReader},
        statistics::Statistics,
    },
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// A file with the columns that are read of it, and where it stands.
pub struct Table {
    path: PathBuf,
    file: SerializedFileReader<File>,
    label: Leaf,
    dense: Vec<Leaf>,
    ids: Vec<Leaf>,
    layout: Layout,
    /// First row of each row group, and the number of all rows.
    starts: Vec<u64>,
    /// Taken off the ids of categorical column `k`, `k` times.
    stride: u32,
    at: Option<Cursor>,
}

/// A row group that is being read.
struct Cursor {
    group: usize,
    /// Rows of the group that have been read.
    row: u64,
    /// Label, dense, ids.
    columns: Vec<Column>,
}

impl Table {
    /// Opens a file. Ids of categorical column `k` (from 0) start at `k * stride`, which is taken off (OneFlow's are numbered
    /// through all columns; 0 where each starts at 0).
    ///
    /// # Errors
    /// If it cannot be read, is no parquet file, or lacks a column or has one of another type.
    pub fn open(path: &Path, columns: &Columns, stride: u32) -> Result<Self, DataError> {
        let file = File::open(path).map_err(io(path))?;
        let metadata = file.metadata().map_err(io(path))?;
        if metadata.len() == 0 {
            return Err(wrong(path, "the file is empty; must be a parquet file"));
        }
        let file = guarded(|| SerializedFileReader::new(file));
        let file = file.map_err(|e| wrong(path, format!("no parquet file: {}", one_line(&e))))?;
        let schema = file.metadata().file_metadata().schema_descr();
        // One entry a leaf: a column of numbers or a list is one leaf, a struct several of the same name.
        let names: Vec<String> = schema.columns().iter().filter_map(|c| c.path().parts().first().cloned()).collect();
        let physical = |i: usize| schema.column(i).physical_type();
        let list = |i: usize| schema.column(i).max_rep_level() > 0;
        let chosen = columns.choose(path, &names, |i| fraction(physical(i)) && !list(i))?;
        let leaf = |&i: &usize| Leaf::new(path, i, &schema.column(i));
        let label = leaf(&chosen.label)?;
        let dense = chosen.dense.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
        let ids = chosen.categorical.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
        if let Some(list) = [&label].into_iter().chain(&dense).find(|l| l.list) {
            return Err(wrong(path, format!("column {} holds lists; only categorical columns may", list.name)));
        }
        // Whole numbers of 32 bits beside fractions of 32 need 64 to hold both.
        let numbers = match () {
            _ if dense.iter().all(|l| matches!(physical(l.index), Physical::BOOLEAN | Physical::INT32) && !l.unsigned) => {
                Numbers::Int32
            }
            _ if dense.iter().all(|l| matches!(physical(l.index), Physical::BOOLEAN | Physical::FLOAT)) => Numbers::Float32,
            _ => Numbers::Float64,
        };
        let hotness = |l: &Leaf| if l.list { Hotness::Any } else { Hotness::One };
        let layout = Layout {
            label: label.name.clone(),
            dense: dense.iter().map(|l| l.name.clone()).collect(),
            numbers,
            ids: ids.iter().map(|l| IdColumn { name: l.name.clone(), hotness: hotness(l) }).collect(),
        };
        let mut starts = vec![0u64];
        for (g, group) in file.metadata().row_groups().iter().enumerate() {
            // The crate takes these for granted when it reads the columns.
            let places = group
                .columns()
                .iter()
                .flat_map(|c| [Some(c.data_page_offset()), c.dictionary_page_offset(), Some(c.compressed_size())]);
            if group.num_columns() != names.len() || places.flatten().any(|at| at < 0) {
                return Err(wrong(path, format!("row group {g} is damaged: its columns lie nowhere")));
            }
            let rows = u64::try_from(group.num_rows()).map_err(|_| wrong(path, "a row group has a negative number of rows"))?;
            starts.push(starts[starts.len() - 1].saturating_add(rows));
        }
        Ok(Table { path: path.to_owned(), file, label, dense, ids, layout, starts, stride, at: None })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All rows.
    pub fn len(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of each row group.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = u64> {
        self.starts.windows(2).map(|w| w[1] - w[0])
    }

    /// First row of row group `group`.
    pub fn start(&self, group: usize) -> u64 {
        self.starts[group]
    }

    /// The largest id of categorical column `k` by the file's own statistics; `None` where a row group has none.
    pub fn largest_id(&self, k: usize) -> Option<i64> {
        if self.ids[k].unsigned {
            return None;
        }
        let groups = self.file.metadata().row_groups();
        groups.iter().filter(|g| g.num_rows() > 0).try_fold(0, |largest: i64, group| {
            let max = match group.column(self.ids[k].index).statistics()? {
                Statistics::Int32(s) => i64::from(*s.max_opt()?),
                Statistics::Int64(s) => *s.max_opt()?,
                _ => return None,
            };
            Some(largest.max(max.wrapping_sub(self.offset(k))))
        })
    }

    fn offset(&self, k: usize) -> i64 {
        k as i64 * i64::from(self.stride)
    }

    /// Appends `n` rows from `row` on, which all lie in row group `group`. Quick where it goes on from the last call.
    ///
    /// # Errors
    /// If the file is damaged, or a row is malformed.
    pub fn append(&mut self, group: usize, row: u64, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        if n == 0 {
            return Ok(());
        }
        let row = row - self.starts[group];
        let damaged = |path: &Path, e: &ParquetError| wrong(path, format!("row group {group} cannot be read: {}", one_line(e)));
        let mut at = match self.at.take() {
            Some(at) if at.group == group && at.row <= row => at,
            _ => guarded(|| self.enter(group)).map_err(|e| damaged(&self.path, &e))?,
        };
        let skip = (row - at.row) as usize;
        for column in &mut at.columns {
            let short = || ParquetError::General("it ends early".into());
            let read = guarded(|| {
                if skip > 0 && column.skip(skip)? != skip {
                    return Err(short());
                }
                if column.read(n)? == n { Ok(()) } else { Err(short()) }
            });
            read.map_err(|e| damaged(&self.path, &e))?;
        }
        self.collect(&at.columns, self.starts[group] + row, n, rows)?;
        at.row = row + n as u64;
        self.at = Some(at);
        Ok(())
    }

    fn enter(&self, group: usize) -> Result<Cursor, ParquetError> {
        let reader = self.file.get_row_group(group)?;
        let leaves = [&self.label].into_iter().chain(&self.dense).chain(&self.ids);
        let columns = leaves.map(|l| reader.get_column_reader(l.index).map(Column::new)).collect::<Result<_, _>>()?;
        Ok(Cursor { group, row: 0, columns })
    }

    /// Takes what the columns have read, `n` rows from `first` on.
    fn collect(&self, columns: &[Column], first: u64, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        let place = |i: usize| Place { path: &self.path, row: first + i as u64 + 1 };
        let (label, rest) = columns.split_at(1);
        let (dense, ids) = rest.split_at(self.dense.len());
        // The labels pass through the place of the dense values.
        let (start, width) = (rows.dense.len(), self.dense.len());
        rows.dense.resize(start + n * width.max(1), f64::NAN);
        label[0].numbers(&self.label, &mut rows.dense[start..start + n], 1);
        for i in 0..n {
            let y = rows.dense[start + i];
            if y.is_nan() {
                return Err(place(i).error(format!("the label (column {}) is missing; must be 0 or 1", self.label.name)));
            }
            rows.labels.push(place(i).label(&self.label.name, y)?);
        }
        rows.dense.truncate(start + n * width);
        for (k, (column, leaf)) in dense.iter().zip(&self.dense).enumerate() {
            column.numbers(leaf, &mut rows.dense[start + k..], width);
        }
        for (k, (column, leaf)) in ids.iter().zip(&self.ids).enumerate() {
            let before = rows.ids[k].offsets.len();
            column.ids(leaf, self.offset(k), &mut rows.ids[k], place)?;
            if rows.ids[k].offsets.len() - before != n {
                return Err(wrong(
                    &self.path,
                    format!("column {} has not as many rows as the label; the file is damaged", leaf.name),
                ));
            }
        }
        Ok(())
    }
}

/// Reads a whole file in order.
pub struct ParquetReader {
    table: Table,
    group: usize,
    next: u64,
}

impl ParquetReader {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn open(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        Ok(ParquetReader { table: Table::open(path, columns, 0)?, group: 0, next: 0 })
    }
}

impl Reader for ParquetReader {
    fn layout(&self) -> &Layout {
        self.table.layout()
    }

    fn len(&self) -> Option<u64> {
        Some(self.table.len())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        while rows.len() < n && self.next < self.table.len() {
            while self.table.start(self.group + 1) <= self.next {
                self.group += 1;
            }
            let left = self.table.start(self.group + 1) - self.next;
            let part = left.min((n - rows.len()) as u64);
            self.table.append(self.group, self.next, part as usize, rows)?;
            self.next += part;
        }
        Ok(())
    }
}

/// Calls into the parquet crate. It looks at most of what it reads, but takes some of it on trust, and a damaged file must not end the
/// program.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // Whatever was half done is given up with the error.
    caught(call).unwrap_or_else(|| Err(ParquetError::General("the file is damaged".into())))
}

/// A message of the parquet crate, which may have several lines, in one.
pub(super) fn one_line(e: &ParquetError) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
