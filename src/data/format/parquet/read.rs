//! Reading of parquet files, row group by row group.

use super::{
    super::{
        Reader,
        columns::Columns,
        leftovers::{self, Leftover},
    },
    column::{Column, Leaf, beyond_numbers, fraction, guarded},
    pages::Sound,
    shared::Shared,
};
use crate::{
    batch::Bags,
    data::{
        DataError,
        ids::ToId,
        rows::{self, Hotness, IdColumn, Layout, Numbers, RowRef, Rows, io, repeated, wrong},
    },
    host::pool::Pool,
};
use parquet::{
    basic::Type as Physical,
    column::reader::get_column_reader,
    errors::ParquetError,
    file::{
        metadata::FileMetaData,
        reader::{FileReader, RowGroupReader, SerializedFileReader},
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
    file: SerializedFileReader<Shared>,
    label: Leaf,
    dense: Vec<Leaf>,
    ids: Vec<Leaf>,
    layout: Layout,
    /// First row of each row group, and the number of all rows.
    starts: Vec<u64>,
    /// Taken off the ids of categorical column `k`, `k` times.
    stride: u32,
    /// Ids modulo this, after that.
    range: Option<u32>,
    /// What was left out.
    told: Vec<String>,
    at: Option<Cursor>,
    scratch: Vec<f64>,
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
    /// Opens a file. Ids of categorical column `k` (from 0) start at `k * stride`, which is taken
    /// off (OneFlow's are numbered through all columns; 0 where each starts at 0); then they are
    /// taken modulo `columns.range`.
    ///
    /// # Errors
    /// If it cannot be read, is no parquet file, or lacks a column or has one of another type.
    pub fn open(path: &Path, columns: &Columns, stride: u32) -> Result<Self, DataError> {
        let file = File::open(path).map_err(io(path))?;
        let metadata = file.metadata().map_err(io(path))?;
        if metadata.len() == 0 {
            return Err(wrong(path, "the file is empty; must be a parquet file"));
        }
        let file = Shared::new(file, metadata.len());
        let file = guarded(|| SerializedFileReader::new(file));
        let file = file.map_err(|e| wrong(path, format!("no parquet file: {}", one_line(&e))))?;
        let schema = file.metadata().file_metadata().schema_descr();
        // One entry a leaf: a column of numbers or a list is one leaf, a struct several of the same
        // name.
        let names: Vec<String> =
            schema.columns().iter().filter_map(|c| c.path().parts().first().cloned()).collect();
        if let Some(twice) = repeated(schema.root_schema().get_fields().iter().map(|f| f.name())) {
            return Err(wrong(path, rows::twice(twice)));
        }
        let physical = |i: usize| schema.column(i).physical_type();
        let list = |i: usize| schema.column(i).max_rep_level() > 0;
        // OneFlow's files for DeepFM have hashes as I1 and so on, too.
        let hashed = |i: usize| {
            let leaf = Leaf::new(path, i, &schema.column(i)).ok();
            let groups = file.metadata().row_groups().iter();
            let mut extremes = groups.filter_map(|g| match g.columns().get(i)?.statistics()? {
                Statistics::Int64(s) => Some([s.min_opt().copied(), s.max_opt().copied()]),
                _ => None,
            });
            leaf.is_some_and(|leaf| {
                extremes.any(|x| x.into_iter().flatten().any(|x| beyond_numbers(x, leaf.unsigned)))
            })
        };
        let stored = indices_of(file.metadata().file_metadata());
        let leftover = |i: usize| match Leftover::named(&names[i]) {
            None if stored.contains(&names[i]) => Some(Leftover::Index),
            None if Leftover::may_count(&names[i]) => {
                let leaf = Leaf::new(path, i, &schema.column(i)).ok().filter(|l| !l.list)?;
                guarded(|| counts(&file, &leaf)).ok()?.then_some(Leftover::Counts)
            }
            known => known,
        };
        let fractions = |i: usize| fraction(physical(i)) && !list(i);
        let chosen = columns.choose_among(path, &names, fractions, hashed, leftover)?;
        let leaf = |&i: &usize| Leaf::new(path, i, &schema.column(i));
        let label = leaf(&chosen.label)?;
        let dense = chosen.dense.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
        let ids = chosen.categorical.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
        if let Some(list) = [&label].into_iter().chain(&dense).find(|l| l.list) {
            return Err(wrong(
                path,
                format!("column {} holds lists; only categorical columns may", list.name),
            ));
        }
        // Whole numbers of 32 bits beside fractions of 32 need 64 to hold both.
        let numbers = match () {
            _ if dense.iter().all(|l| {
                matches!(physical(l.index), Physical::BOOLEAN | Physical::INT32) && !l.unsigned
            }) =>
            {
                Numbers::Int32
            }
            _ if dense
                .iter()
                .all(|l| matches!(physical(l.index), Physical::BOOLEAN | Physical::FLOAT)) =>
            {
                Numbers::Float32
            }
            _ => Numbers::Float64,
        };
        let hotness = |l: &Leaf| if l.list { Hotness::Any } else { Hotness::One };
        let layout = Layout {
            label: label.name.clone(),
            dense: dense.iter().map(|l| l.name.clone()).collect(),
            numbers,
            ids: ids
                .iter()
                .map(|l| IdColumn { name: l.name.clone(), hotness: hotness(l) })
                .collect(),
        };
        let mut starts = vec![0u64];
        for (g, group) in file.metadata().row_groups().iter().enumerate() {
            // The crate takes these for granted when it reads the columns.
            let places = group.columns().iter().flat_map(|c| {
                [Some(c.data_page_offset()), c.dictionary_page_offset(), Some(c.compressed_size())]
            });
            if group.num_columns() != names.len() || places.flatten().any(|at| at < 0) {
                return Err(wrong(
                    path,
                    format!("row group {g} is damaged: its columns lie nowhere"),
                ));
            }
            let rows = u64::try_from(group.num_rows())
                .map_err(|_| wrong(path, "a row group has a negative number of rows"))?;
            starts.push(starts[starts.len() - 1].saturating_add(rows));
        }
        let (path, range) = (path.to_owned(), columns.range);
        Ok(Table {
            path,
            file,
            label,
            dense,
            ids,
            layout,
            starts,
            stride,
            range,
            told: chosen.told,
            at: None,
            scratch: Vec::new(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What has been left out of the file, a sentence each.
    pub fn told(&self) -> &[String] {
        &self.told
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

    /// The largest id of categorical column `k` by the file's own statistics; `None` where a row
    /// group has none. Of ids modulo a number, the largest that there may be.
    pub fn largest_id(&self, k: usize) -> Option<i64> {
        if self.ids[k].unsigned {
            return None;
        }
        let groups = self.file.metadata().row_groups();
        groups.iter().filter(|g| g.num_rows() > 0).try_fold(0, |largest: i64, group| {
            let (min, max) = match group.column(self.ids[k].index).statistics()? {
                Statistics::Int32(s) => {
                    (s.min_opt().copied().map(i64::from), i64::from(*s.max_opt()?))
                }
                Statistics::Int64(s) => (s.min_opt().copied(), *s.max_opt()?),
                _ => return None,
            };
            let max = max.wrapping_sub(self.offset(k));
            Some(largest.max(match self.range.map(i64::from) {
                Some(range) if min? < 0 || !(0..range).contains(&max) => range - 1,
                _ => max,
            }))
        })
    }

    fn offset(&self, k: usize) -> i64 {
        k as i64 * i64::from(self.stride)
    }

    /// What becomes of the numbers of column `at`, from the label on.
    fn to_id(&self, at: usize) -> ToId {
        ToId {
            offset: at.checked_sub(1 + self.dense.len()).map_or(0, |k| self.offset(k)),
            range: self.range,
        }
    }

    /// Appends `n` rows from `row` on, which all lie in row group `group`. Quick where it goes on
    /// from the last call.
    ///
    /// # Errors
    /// If the file is damaged, or a row is malformed.
    pub fn append(
        &mut self,
        group: usize,
        row: u64,
        n: usize,
        rows: &mut Rows,
    ) -> Result<(), DataError> {
        if n == 0 {
            return Ok(());
        }
        let (mut at, skip) = self.seek(group, row)?;
        for column in &mut at.columns {
            column.advance(skip, n).map_err(|e| damaged(&self.path, group, &e))?;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let leaves = [&self.label].into_iter().chain(&self.dense).chain(&self.ids);
        let (start, width) = (rows.dense.len(), self.dense.len());
        rows.dense.resize(start + n * width, f64::NAN);
        for (k, (column, leaf)) in at.columns.iter().zip(leaves).enumerate() {
            let part = Part { column, leaf, to: self.to_id(k), path: &self.path, first: row, n };
            match k.checked_sub(1) {
                None => part.labels(&mut scratch, &mut rows.labels)?,
                Some(k) if k < width => part.numbers(&mut rows.dense[start + k..], width)?,
                Some(k) => part.ids(&mut rows.ids[k - width])?,
            }
        }
        at.row = row - self.starts[group] + n as u64;
        (self.at, self.scratch) = (Some(at), scratch);
        Ok(())
    }

    /// Reads rows as [`Table::append`] does, columns on all threads of `pool`: `take` is called for
    /// each, in the order label, dense, categorical, with its entry of `to`, which has one for
    /// each.
    ///
    /// # Errors
    /// As [`Table::append`], and the first column's for which `take` fails.
    pub fn each_column<S: Send>(
        &mut self,
        group: usize,
        row: u64,
        n: usize,
        pool: &Pool,
        to: &mut [S],
        take: impl Fn(usize, Part, &mut S) -> Result<(), DataError> + Sync,
    ) -> Result<(), DataError> {
        struct Job<'a, S> {
            column: &'a mut Column,
            leaf: &'a Leaf,
            to_id: ToId,
            to: &'a mut S,
            done: Result<(), DataError>,
        }
        if n == 0 {
            return Ok(());
        }
        let (mut at, skip) = self.seek(group, row)?;
        let leaves = [&self.label].into_iter().chain(&self.dense).chain(&self.ids);
        let columns = at.columns.iter_mut().zip(leaves).zip(to).enumerate();
        let mut jobs: Vec<_> = columns
            .map(|(k, ((column, leaf), to))| Job {
                column,
                leaf,
                to_id: self.to_id(k),
                to,
                done: Ok(()),
            })
            .collect();
        let path = &self.path;
        pool.for_each_chunk(&mut jobs, 1, |k, _, jobs| {
            for Job { column, leaf, to_id, to, done } in jobs {
                *done =
                    column.advance(skip, n).map_err(|e| damaged(path, group, &e)).and_then(|()| {
                        let part = Part { column, leaf, to: *to_id, path, first: row, n };
                        take(k, part, to)
                    });
            }
        });
        jobs.into_iter().try_for_each(|job| job.done)?;
        at.row = row - self.starts[group] + n as u64;
        self.at = Some(at);
        Ok(())
    }

    /// The open row group, or `group` anew, and the rows to pass over from where it stands.
    fn seek(&mut self, group: usize, row: u64) -> Result<(Cursor, usize), DataError> {
        let row = row - self.starts[group];
        let at = match self.at.take() {
            Some(at) if at.group == group && at.row <= row => at,
            _ => guarded(|| self.enter(group)).map_err(|e| damaged(&self.path, group, &e))?,
        };
        let skip = (row - at.row) as usize;
        Ok((at, skip))
    }

    fn enter(&self, group: usize) -> Result<Cursor, ParquetError> {
        let reader = self.file.get_row_group(group)?;
        let leaves = [&self.label].into_iter().chain(&self.dense).chain(&self.ids);
        let columns = leaves.map(|l| column(&*reader, l)).collect::<Result<_, _>>()?;
        Ok(Cursor { group, row: 0, columns })
    }
}

/// A reader of column `leaf` of a row group.
fn column(group: &dyn RowGroupReader, leaf: &Leaf) -> Result<Column, ParquetError> {
    let description = group.metadata().schema_descr().column(leaf.index);
    let pages = group.get_column_page_reader(leaf.index)?;
    let pages = Sound::new(pages, description.physical_type());
    Ok(Column::new(get_column_reader(description, Box::new(pages))))
}

/// The columns that the file's metadata call an index.
fn indices_of(metadata: &FileMetaData) -> Vec<String> {
    let entries = metadata.key_value_metadata().into_iter().flatten();
    let pandas = entries.filter(|entry| entry.key == leftovers::PANDAS);
    pandas.filter_map(|e| e.value.as_deref()).flat_map(leftovers::indices).collect()
}

/// Whether the first values of column `leaf` count the rows.
fn counts(file: &SerializedFileReader<Shared>, leaf: &Leaf) -> Result<bool, ParquetError> {
    let mut groups = 0..file.num_row_groups();
    let Some(first) = groups.find(|&g| file.metadata().row_group(g).num_rows() > 0) else {
        return Ok(false);
    };
    let rows = file.metadata().row_group(first).num_rows().min(leftovers::LOOK as i64) as usize;
    let mut column = column(&*file.get_row_group(first)?, leaf)?;
    column.advance(0, rows)?;
    let mut values = vec![f64::NAN; rows];
    let place = |i: usize| RowRef { path: Path::new(""), row: i as u64 };
    // Hashes count nothing.
    if column.numbers(leaf, &mut values, 1, place).is_err() {
        return Ok(false);
    }
    let whole = |&x: &f64| (x.fract() == 0.0).then_some(x as i64);
    Ok(leftovers::counting(&values.iter().map(whole).collect::<Vec<_>>()))
}

fn damaged(path: &Path, group: usize, e: &ParquetError) -> DataError {
    wrong(path, format!("row group {group} cannot be read: {}", one_line(e)))
}

/// What a column has read: `n` rows from `first` on.
pub struct Part<'a> {
    column: &'a Column,
    leaf: &'a Leaf,
    to: ToId,
    path: &'a Path,
    first: u64,
    n: usize,
}

impl Part<'_> {
    /// Where row `i` of them is.
    pub fn place(&self, i: usize) -> RowRef<'_> {
        RowRef { path: self.path, row: self.first + i as u64 + 1 }
    }

    /// Appends labels; `scratch` is scratch space.
    ///
    /// # Errors
    /// If one is missing or not 0 or 1.
    pub fn labels(&self, scratch: &mut Vec<f64>, labels: &mut Vec<f32>) -> Result<(), DataError> {
        scratch.clear();
        scratch.resize(self.n, f64::NAN);
        self.numbers(scratch, 1)?;
        for (i, &y) in scratch.iter().enumerate() {
            if y.is_nan() {
                let what =
                    format!("the label (column {}) is missing; must be 0 or 1", self.leaf.name);
                return Err(self.place(i).error(what));
            }
            labels.push(self.place(i).label(&self.leaf.name, y)?);
        }
        Ok(())
    }

    /// Puts numbers to every `stride`-th place of `out`; NaN where they are missing.
    ///
    /// # Errors
    /// If a whole number is beyond 2^53 in magnitude.
    pub fn numbers(&self, out: &mut [f64], stride: usize) -> Result<(), DataError> {
        self.column.numbers(self.leaf, out, stride, |i| self.place(i))
    }

    /// Appends ids.
    ///
    /// # Errors
    /// If a value is none.
    pub fn ids(&self, bags: &mut Bags) -> Result<(), DataError> {
        let before = bags.offsets.len();
        self.column.ids(self.leaf, self.to, bags, |i| self.place(i))?;
        if bags.offsets.len() - before != self.n {
            let what = format!(
                "column {} has not as many rows as the label; the file is damaged",
                self.leaf.name
            );
            return Err(wrong(self.path, what));
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

    fn told(&self) -> &[String] {
        self.table.told()
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

/// A message of the parquet crate, which may have several lines, in one.
pub(super) fn one_line(e: &ParquetError) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
