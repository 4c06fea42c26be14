//! Samples on their way between formats: what every reader gives and every writer takes.

use super::{
    DataError,
    preprocess::{criteo, lines::shown_name},
};
use crate::batch::Bags;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// How many ids a sample holds in a categorical column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hotness {
    /// One, or none where the value is missing.
    One,
    /// Exactly so many.
    Fixed(usize),
    /// Any number, none included.
    Any,
}

/// What the numbers of the dense columns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Whole numbers of 32 bits: counts as they stand in a log.
    Int32,
    /// Fractions of 32 bits.
    Float32,
    /// Fractions of 64 bits.
    Float64,
}

/// A categorical column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdColumn {
    /// Its name.
    pub name: String,
    /// Ids of a sample.
    pub hotness: Hotness,
}

/// The columns of a file, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the label.
    pub label: String,
    /// Names of the dense columns.
    pub dense: Vec<String>,
    /// What the dense columns hold.
    pub numbers: Numbers,
    /// The categorical columns.
    pub ids: Vec<IdColumn>,
}

impl Layout {
    /// Columns without names of their own: `label`, `I1`..., `C1`..., as Criteo's are called.
    pub fn numbered(
        dense: usize,
        numbers: Numbers,
        hotness: impl IntoIterator<Item = Hotness>,
    ) -> Self {
        let column = |(hotness, k): (Hotness, usize)| IdColumn { name: format!("C{k}"), hotness };
        Layout {
            label: "label".into(),
            dense: (1..=dense).map(|k| format!("I{k}")).collect(),
            numbers,
            ids: hotness.into_iter().zip(1..).map(column).collect(),
        }
    }

    /// Refuses two columns of one name, of the file at `path`.
    ///
    /// # Errors
    /// If there are.
    pub(in crate::data) fn check_names(&self, path: &Path) -> Result<(), DataError> {
        let ids = self.ids.iter().map(|c| &*c.name);
        let names = [&*self.label].into_iter().chain(self.dense.iter().map(|n| &**n)).chain(ids);
        repeated(names).map_or(Ok(()), |name| Err(wrong(path, twice(name))))
    }

    /// The columns of Criteo's logs.
    pub fn criteo(numbers: Numbers) -> Self {
        Layout::numbered(criteo::DENSE, numbers, [Hotness::One; criteo::TABLES])
    }
}

/// Samples, column by column. A missing dense value is NaN, a missing id an empty bag; formats that
/// have no word for "missing" hold 0 in its place.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// 0 or 1, `[n]`.
    pub labels: Vec<f32>,
    /// `[n, D]`, row by row. 64 bits hold each number of each format.
    pub dense: Vec<f64>,
    /// A categorical column each.
    pub ids: Vec<Bags>,
}

impl Rows {
    /// No rows of `layout`.
    pub fn new(layout: &Layout) -> Self {
        let mut ids = vec![Bags::default(); layout.ids.len()];
        ids.iter_mut().for_each(Bags::clear);
        Rows { labels: Vec::new(), dense: Vec::new(), ids }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Takes all rows out, keeping their memory.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.dense.clear();
        self.ids.iter_mut().for_each(Bags::clear);
    }

    /// Dense columns.
    pub fn width(&self) -> usize {
        self.dense.len().checked_div(self.len()).unwrap_or(0)
    }

    /// The dense values of row `i`.
    pub fn dense_row(&self, i: usize) -> &[f64] {
        let width = self.width();
        &self.dense[i * width..(i + 1) * width]
    }

    /// The id of row `i` in one-hot column `k`; 0 where it is missing.
    pub fn id(&self, k: usize, i: usize) -> u32 {
        self.ids[k].bag(i).first().copied().unwrap_or(0)
    }
}

/// A row of a file, for messages.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    /// The file.
    pub path: &'a Path,
    /// The row, from 1.
    pub row: u64,
}

impl RowRef<'_> {
    /// The error that `what` is wrong here.
    pub fn error(self, what: impl Into<String>) -> DataError {
        DataError::Row { path: self.path.to_owned(), row: self.row, what: one_line(what.into()) }
    }

    /// `value` as a label.
    ///
    /// # Errors
    /// If it is neither 0 nor 1.
    pub fn label(self, column: &str, value: f64) -> Result<f32, DataError> {
        match value {
            0.0 => Ok(0.0),
            1.0 => Ok(1.0),
            _ => Err(self.error(format!("the label (column {column}) is {value}; must be 0 or 1"))),
        }
    }

    /// The id that was made of a number of `column`, or the error that says why there is none.
    ///
    /// # Errors
    /// If `id` is an error of [`ToId`](super::ids::ToId).
    pub(in crate::data) fn id<T>(
        self,
        column: &str,
        id: Result<T, String>,
    ) -> Result<T, DataError> {
        id.map_err(|what| self.error(format!("column {column} {what}")))
    }

    /// Ends the bag of this row in `column`, whose ids have been appended.
    ///
    /// # Errors
    /// If the column holds a fixed number of ids, and one of them is missing.
    pub(in crate::data) fn full(self, column: &IdColumn, bags: &mut Bags) -> Result<(), DataError> {
        bags.push([]);
        let ids = bags.bag(bags.offsets.len() - 2).len();
        match column.hotness {
            Hotness::Fixed(n) if n != ids => {
                let name = &column.name;
                Err(self.error(format!("column {name} lacks {} of its {n} ids", n - ids.min(n))))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an infinite `value` for a `format` that has no word for it.
    ///
    /// # Errors
    /// If it is infinite.
    pub fn finite(self, column: &str, value: f64, format: &str) -> Result<(), DataError> {
        match value.is_infinite() {
            true => Err(self.error(format!(
                "column {column} is {value}; must be finite, since {format} holds no other number"
            ))),
            false => Ok(()),
        }
    }

    /// `value` as a whole number of 32 bits; a missing one is 0.
    ///
    /// # Errors
    /// If it is a fraction, or too large.
    pub fn whole(self, column: &str, value: f64, format: &str) -> Result<i32, DataError> {
        let whole = value as i32;
        if value.is_nan() || f64::from(whole) == value {
            return Ok(whole);
        }
        Err(self.error(format!("column {column} is {value}; must be a whole number of 32 bits, since {format} holds no other")))
    }
}

/// The first of `names` that comes a second time.
pub(in crate::data) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|&name| !seen.insert(name))
}

/// What is wrong where two columns are called `name`.
pub(in crate::data) fn twice(name: &str) -> String {
    let name = shown_name(name);
    format!("two columns are called {name}; each must have a name of its own")
}

/// An error about a file as a whole.
pub fn wrong(path: &Path, what: impl Into<String>) -> DataError {
    DataError::File { path: path.to_owned(), what: one_line(what.into()) }
}

/// Names of columns come from files, which may be damaged: what cannot be shown in one line is a
/// question mark.
fn one_line(what: String) -> String {
    if what.contains(char::is_control) { what.replace(char::is_control, "?") } else { what }
}

/// Wraps an error of the file system.
pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> DataError {
    |source| DataError::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_speak_in_one_line() {
        let place = RowRef { path: Path::new("a.bin"), row: 7 };
        let text = |r: Result<f32, DataError>| r.unwrap_err().to_string();
        assert_eq!(place.label("label", 1.0).unwrap(), 1.0);
        assert!(text(place.label("a\nb", 2.0)).contains("column a?b"));
        assert_eq!(
            text(place.label("y", 2.0)),
            "a.bin: row 7: the label (column y) is 2; must be 0 or 1"
        );
        assert_eq!(
            text(place.id("C3", Err("is -1; must be an id".into()))),
            "a.bin: row 7: column C3 is -1; must be an id"
        );
        for (x, whole) in [
            (f64::NAN, 0),
            (-3.0, -3),
            (f64::from(i32::MAX), i32::MAX),
            (f64::from(i32::MIN), i32::MIN),
        ] {
            assert_eq!(place.whole("I1", x, "bin40").unwrap(), whole);
        }
        for x in [0.5, 2_147_483_648.0, f64::INFINITY] {
            let error = place.whole("I1", x, "bin40").unwrap_err().to_string();
            assert!(
                error.contains("must be a whole number of 32 bits, since bin40 holds no other"),
                "{error}"
            );
        }
    }

    #[test]
    fn rows_without_dense_columns_or_without_rows() {
        let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One, Hotness::Any]);
        let mut rows = Rows::new(&layout);
        assert_eq!((rows.width(), rows.is_empty()), (0, true));
        rows.labels.push(1.0);
        rows.ids[0].push([]);
        rows.ids[1].push([4, 5]);
        assert_eq!((rows.dense_row(0), rows.id(0, 0), rows.id(1, 0)), (&[][..], 0, 4));
    }
}
