//! Labels, dense values and ids in arrays that lie side by side, row by row: how facebook's and
//! TorchRec's files are read.

use super::Reader;
use crate::data::{
    DataError,
    ids::ToId,
    npy::{Array, Type},
    rows::{Hotness, Layout, Numbers, RowRef, Rows, wrong},
};
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// The file that ends in `ending` of the set that is named by `path`: any of its files, which end
/// in `endings`, or what they have in common.
///
/// A file keeps the name by which it is given; where its ending has capitals alone, those of the
/// others have, too.
pub(super) fn part(path: &Path, endings: &[&str], ending: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let Some((given, (common, written))) =
        endings.iter().find_map(|e| Some((*e, without(name, e)?)))
    else {
        return path.with_file_name([name, OsStr::new(ending)].into_iter().collect::<OsString>());
    };
    if given == ending {
        return path.to_owned();
    }
    let capitals = !written.bytes().any(|b| b.is_ascii_lowercase());
    let ending = if capitals { ending.to_ascii_uppercase() } else { ending.to_owned() };
    path.with_file_name([common, OsStr::new(&ending)].into_iter().collect::<OsString>())
}

/// The name before `ending` in capitals or small letters, which need not be UTF-8, and how the
/// ending is written.
#[cfg(unix)]
fn without<'a>(name: &'a OsStr, ending: &str) -> Option<(&'a OsStr, &'a str)> {
    use std::os::unix::ffi::OsStrExt;
    let (common, written) =
        name.as_bytes().split_at_checked(name.len().checked_sub(ending.len())?)?;
    let written = std::str::from_utf8(written).ok().filter(|w| w.eq_ignore_ascii_case(ending))?;
    Some((OsStr::from_bytes(common), written))
}

#[cfg(not(unix))]
fn without<'a>(name: &'a OsStr, ending: &str) -> Option<(&'a OsStr, &'a str)> {
    let name = name.to_str()?;
    let (common, written) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
    written.eq_ignore_ascii_case(ending).then(|| (OsStr::new(common), written))
}

/// An array that claims more columns is damaged, and their names alone would take a lot of memory.
const MOST_COLUMNS: usize = 1 << 20;

/// Where the ids are.
pub(super) enum Ids {
    /// All columns in one array, one id each.
    Together(Array),
    /// The same as signed numbers of 32 bits, so that ids from 2^31 on are negative.
    Wrapped(Array),
    /// An array a column, as wide as the column has ids.
    Apart(Vec<Array>),
}

/// Reads arrays side by side.
pub struct Matrices {
    layout: Layout,
    labels: Array,
    dense: Array,
    ids: Ids,
    to: ToId,
    next: u64,
}

/// What the dense columns of an array are.
pub(super) fn numbers(of: Type) -> Numbers {
    match of {
        Type::F16 | Type::F32 => Numbers::Float32,
        Type::F64 | Type::Int(8) | Type::Unsigned(4 | 8) => Numbers::Float64,
        Type::Bool | Type::Int(_) | Type::Unsigned(_) => Numbers::Int32,
    }
}

/// Refuses an array whose columns are too many.
pub(super) fn few_columns(array: &Array) -> Result<(), DataError> {
    let (name, width) = (array.name(), array.width());
    match width > MOST_COLUMNS {
        true => Err(wrong(
            array.path(),
            format!("{name} has {width} columns; must have at most {MOST_COLUMNS}"),
        )),
        false => Ok(()),
    }
}

impl Matrices {
    /// Columns are called as [`Layout::numbered`] has it, but for the label; `to` makes ids of the
    /// numbers.
    ///
    /// # Errors
    /// If the arrays differ in their numbers of rows, or there is more than one label a row.
    pub(super) fn new(
        label: &str,
        labels: Array,
        dense: Array,
        ids: Ids,
        to: ToId,
    ) -> Result<Self, DataError> {
        let apart = match &ids {
            Ids::Together(all) | Ids::Wrapped(all) => std::slice::from_ref(all),
            Ids::Apart(columns) => columns,
        };
        if labels.width() != 1 {
            return Err(wrong(
                labels.path(),
                format!("{} is {} wide; must be 1", labels.name(), labels.width()),
            ));
        }
        if let Some(other) = [&dense].into_iter().chain(apart).find(|a| a.rows() != labels.rows()) {
            let (rows, all) = (other.rows(), labels.rows());
            let what = format!(
                "{} has {rows} rows and {} has {all}; must be equal",
                other.name(),
                labels.name()
            );
            return Err(wrong(other.path(), what));
        }
        if let Ids::Apart(columns) = &ids
            && let Some(none) = columns.iter().find(|a| a.width() == 0)
        {
            return Err(wrong(
                none.path(),
                format!("{} has no ids a row; must have one or more", none.name()),
            ));
        }
        few_columns(&dense)?;
        if let Ids::Together(all) | Ids::Wrapped(all) = &ids {
            few_columns(all)?;
        }
        let hotness: Vec<Hotness> = match &ids {
            Ids::Together(all) | Ids::Wrapped(all) => vec![Hotness::One; all.width()],
            Ids::Apart(columns) => columns
                .iter()
                .map(|a| if a.width() == 1 { Hotness::One } else { Hotness::Fixed(a.width()) })
                .collect(),
        };
        let layout = Layout::numbered(dense.width(), numbers(dense.of()), hotness);
        Ok(Matrices {
            layout: Layout { label: label.into(), ..layout },
            labels,
            dense,
            ids,
            to,
            next: 0,
        })
    }
}

impl Reader for Matrices {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.labels.rows())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.labels.rows() - self.next).min(n as u64) as usize;
        self.labels.read(n)?;
        self.dense.read(n)?;
        for i in 0..n {
            let place = RowRef { path: self.labels.path(), row: self.next + i as u64 + 1 };
            rows.labels.push(place.label(&self.layout.label, self.labels.number(i, 0))?);
            rows.dense.extend((0..self.dense.width()).map(|k| self.dense.number(i, k)));
        }
        let columns = rows.ids.iter_mut().zip(&self.layout.ids).enumerate();
        match &mut self.ids {
            Ids::Together(all) => {
                all.read(n)?;
                for (k, (bags, column)) in columns {
                    for i in 0..n {
                        let place = RowRef { path: all.path(), row: self.next + i as u64 + 1 };
                        bags.push_keys(all.id(i, k, self.to, place, &column.name)?);
                    }
                }
            }
            Ids::Wrapped(all) => {
                all.read(n)?;
                columns.for_each(|(k, (bags, _))| {
                    (0..n).for_each(|i| bags.push([all.number(i, k) as i32 as u32]))
                });
            }
            Ids::Apart(arrays) => {
                for (array, (_, (bags, column))) in arrays.iter_mut().zip(columns) {
                    array.read(n)?;
                    for i in 0..n {
                        let place = RowRef { path: array.path(), row: self.next + i as u64 + 1 };
                        for c in 0..array.width() {
                            bags.extend_keys(array.id(i, c, self.to, place, &column.name)?);
                        }
                        place.full(column, bags)?;
                    }
                }
            }
        }
        self.next += n as u64;
        Ok(())
    }
}
