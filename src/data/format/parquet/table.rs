//! A parquet file from which rows of row groups are read, all of them or column by column.

use super::{
    chunk::Chunk,
    column::{Column, Leaf, Made, guarded},
    pages::Sound,
    shared::Shared,
};
use crate::{
    batch::Bags,
    data::{
        DataError,
        format::texts::Texts,
        ids::ToId,
        rows::{Layout, RowRef, Rows, wrong},
    },
    host::pool::Pool,
};
use parquet::{
    column::reader::get_column_reader,
    errors::ParquetError,
    file::{
        reader::{FileReader, RowGroupReader, SerializedFileReader},
        serialized_reader::SerializedPageReader,
        statistics::Statistics,
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file with the columns that are read of it, and where it stands.
pub struct Table {
    pub(super) path: PathBuf,
    pub(super) file: SerializedFileReader<Shared>,
    pub(super) shared: Shared,
    pub(super) label: Leaf,
    pub(super) dense: Vec<Leaf>,
    pub(super) ids: Vec<Leaf>,
    pub(super) layout: Layout,
    /// First row of each row group, and the number of all rows.
    pub(super) starts: Vec<u64>,
    /// Taken off the ids of categorical column `k`, `k` times.
    pub(super) stride: u32,
    /// Ids modulo this, after that.
    pub(super) range: Option<u32>,
    /// Whether they keep 64 bits.
    pub(super) keys: bool,
    /// Values of the label that mean 1; if none, labels are the numbers 0 and 1.
    pub(super) positive: Vec<String>,
    /// What makes ids of text, where a categorical column holds some.
    pub(super) texts: Option<Arc<dyn Texts>>,
    /// What was left out.
    pub(super) told: Vec<String>,
    pub(super) at: Option<Cursor>,
    pub(super) scratch: Vec<f64>,
}

/// A row group that is being read.
pub(super) struct Cursor {
    group: usize,
    /// Rows of the group that have been read.
    row: u64,
    /// Label, dense, ids.
    columns: Vec<Column>,
}

impl Table {
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

    /// Rows of each row group.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = u64> {
        self.starts.windows(2).map(|w| w[1] - w[0])
    }

    /// First row of row group `group`.
    pub fn start(&self, group: usize) -> u64 {
        self.starts[group]
    }

    /// Has ids made of text by `texts`. Without it text has no ids.
    pub fn make_ids_by(&mut self, texts: Arc<dyn Texts>) {
        self.texts = Some(texts);
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether categorical column `k` is text.
    pub fn is_text(&self, k: usize) -> bool {
        self.ids[k].made == Made::Text
    }

    /// Categorical columns that are text, by their numbers.
    pub fn texts_among(&self) -> Vec<usize> {
        (0..self.ids.len()).filter(|&k| self.is_text(k)).collect()
    }

    /// Whether dense column `k` holds moments, in seconds since 1970.
    pub fn is_moment(&self, k: usize) -> bool {
        matches!(self.dense[k].made, Made::Date(_, None))
    }

    /// Rows in which column `at`, from the first dense one on, is null, by the file's own
    /// statistics; `None` where a row group has none, or for lists.
    pub fn nulls(&self, at: usize) -> Option<u64> {
        let leaf = self.dense.iter().chain(&self.ids).nth(at).filter(|leaf| !leaf.list)?;
        let groups = self.file.metadata().row_groups().iter();
        groups
            .filter(|g| g.num_rows() > 0)
            .map(|g| g.column(leaf.index).statistics()?.null_count_opt())
            .sum()
    }

    /// The largest id of categorical column `k` by the file's own statistics; `None` where a row
    /// group has none. Of ids modulo a number, the largest that there may be.
    pub fn largest_id(&self, k: usize) -> Option<i64> {
        match self.ids[k].made {
            Made::Text => return Some(self.texts.as_ref()?.rows(k) as i64 - 1),
            Made::Date(..) => return Some(i64::from(self.ids[k].date_rows()?) - 1),
            Made::Numbers if self.ids[k].unsigned => return None,
            Made::Numbers => {}
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
            keys: self.keys,
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
            let words = self.words(k);
            let part =
                Part { column, leaf, to: self.to_id(k), words, path: &self.path, first: row, n };
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

    /// Reads `n` rows as [`Table::append`] does, and gives the text of each categorical column of it
    /// to `take`, with the column's number.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn texts(
        &mut self,
        group: usize,
        row: u64,
        n: usize,
        take: &mut TakeText<'_>,
    ) -> Result<(), DataError> {
        let (mut at, skip) = self.seek(group, row)?;
        for column in &mut at.columns {
            column.advance(skip, n).map_err(|e| damaged(&self.path, group, &e))?;
        }
        let columns = at.columns[1 + self.dense.len()..].iter().zip(&self.ids);
        for (k, (column, leaf)) in columns.enumerate().filter(|(_, (_, l))| l.made == Made::Text) {
            let mut i = 0;
            column.texts(leaf, |text| {
                take(k, i, text);
                i += 1;
            });
        }
        at.row = row - self.starts[group] + n as u64;
        self.at = Some(at);
        Ok(())
    }

    /// What the words of column `at`, from the label on, mean.
    fn words(&self, at: usize) -> Words<'_> {
        match at.checked_sub(1 + self.dense.len()) {
            None => Words::Label(&self.positive),
            Some(k) => Words::Ids(k, self.texts.as_deref()),
        }
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
            words: Words<'a>,
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
                words: self.words(k),
                to,
                done: Ok(()),
            })
            .collect();
        let path = &self.path;
        pool.for_each_chunk(&mut jobs, 1, |k, _, jobs| {
            for Job { column, leaf, to_id, words, to, done } in jobs {
                *done =
                    column.advance(skip, n).map_err(|e| damaged(path, group, &e)).and_then(|()| {
                        let (to_id, words) = (*to_id, *words);
                        let part = Part { column, leaf, to: to_id, words, path, first: row, n };
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
        let columns =
            leaves.map(|l| column(&*reader, &self.shared, l)).collect::<Result<_, _>>()?;
        Ok(Cursor { group, row: 0, columns })
    }
}

/// A reader of column `leaf` of a row group.
pub(super) fn column(
    group: &dyn RowGroupReader,
    file: &Shared,
    leaf: &Leaf,
) -> Result<Column, ParquetError> {
    let metadata = group.metadata();
    let description = metadata.schema_descr().column(leaf.index);
    let (of, rows) = (metadata.column(leaf.index), usize::try_from(metadata.num_rows())?);
    let chunk = Arc::new(Chunk::new(file.clone(), of));
    let pages = Box::new(SerializedPageReader::new(chunk, of, rows, None)?);
    let pages = Sound::new(pages, description.physical_type());
    Ok(Column::new(get_column_reader(description, Box::new(pages))))
}

pub(super) fn damaged(path: &Path, group: usize, e: &ParquetError) -> DataError {
    wrong(path, format!("row group {group} cannot be read: {}", one_line(e)))
}

/// Takes the number of a categorical column, that of a row, and its text.
pub type TakeText<'a> = dyn FnMut(usize, usize, Option<&[u8]>) + 'a;

/// What words mean, where a column holds some.
#[derive(Clone, Copy)]
enum Words<'a> {
    /// Those of a label that mean 1.
    Label(&'a [String]),
    /// Categories of the column of this number.
    Ids(usize, Option<&'a dyn Texts>),
}

/// What a column has read: `n` rows from `first` on.
pub struct Part<'a> {
    column: &'a Column,
    leaf: &'a Leaf,
    to: ToId,
    words: Words<'a>,
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
        let missing = |i: usize| {
            let what = format!("the label (column {}) is missing; must be 0 or 1", self.leaf.name);
            self.place(i).error(what)
        };
        let positive = match self.words {
            Words::Label(positive) if !positive.is_empty() => Some(positive),
            _ => None,
        };
        if let (Made::Text, Some(positive)) = (self.leaf.made, positive) {
            let (mut i, mut nothing) = (0, None);
            self.column.texts(self.leaf, |text| {
                nothing = nothing.or(text.is_none().then_some(i));
                let one = text.is_some_and(|t| positive.iter().any(|p| p.as_bytes() == t));
                labels.push(f32::from(one));
                i += 1;
            });
            return nothing.map_or(Ok(()), |i| Err(missing(i)));
        }
        let numbers = positive.map(|words| words.iter().filter_map(|w| w.parse().ok()));
        let numbers: Option<Vec<f64>> = numbers.map(Iterator::collect);
        scratch.clear();
        scratch.resize(self.n, f64::NAN);
        self.numbers(scratch, 1)?;
        for (i, &y) in scratch.iter().enumerate() {
            if y.is_nan() {
                return Err(missing(i));
            }
            labels.push(match &numbers {
                Some(positive) => f32::from(positive.contains(&y)),
                None => self.place(i).label(&self.leaf.name, y)?,
            });
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
        if let (Made::Text, Words::Ids(k, Some(texts))) = (self.leaf.made, self.words) {
            self.column.texts(self.leaf, |text| bags.push(texts.id(k, text)));
        }
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

/// A message of the parquet crate, which may have several lines, in one.
pub(super) fn one_line(e: &ParquetError) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
