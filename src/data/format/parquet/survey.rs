//! What the columns of parquet files hold, whatever they are meant for.

use super::{
    column::{Leaf, Made, guarded},
    open::{Opened, open},
    table::{column, damaged},
};
use crate::{
    batch::Bags,
    data::{
        DataError,
        format::leftovers::Leftover,
        ids::ToId,
        rows::{RowRef, wrong},
        survey::{Column, Gathered, Holds, Survey},
    },
};
use parquet::file::reader::FileReader;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Rows that are read together.
const CHUNK: usize = 1 << 13;

/// A column that is looked at.
struct Look {
    name: String,
    leaf: Option<Leaf>,
    gathered: Gathered,
    holds: Option<Holds>,
    no_feature: Option<&'static str>,
}

/// Looks at all rows of the files at `paths`, which have the columns of the first one; `None` if
/// `stop` was set.
///
/// # Errors
/// If a file cannot be read, or lacks a column of the first.
pub fn survey(paths: &[PathBuf], stop: &AtomicBool) -> Result<Option<Survey>, DataError> {
    let (mut looks, mut rows): (Vec<Look>, u64) = (Vec::new(), 0);
    for (f, path) in paths.iter().enumerate() {
        let opened = open(path)?;
        if f == 0 {
            looks = start(path, &opened);
        }
        let leaves =
            looks.iter().map(|look| same(path, &opened, look)).collect::<Result<Vec<_>, _>>()?;
        for group in 0..opened.file.num_row_groups() {
            let n = opened.file.metadata().row_group(group).num_rows().max(0) as usize;
            for (look, leaf) in looks.iter_mut().zip(&leaves) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                if let Some(leaf) = leaf {
                    look.group(path, &opened, group, n, leaf)?;
                }
            }
            rows += n as u64;
        }
    }
    Ok(Some(Survey { rows, columns: looks.into_iter().map(Look::column).collect() }))
}

/// The columns of the first file.
fn start(path: &Path, opened: &Opened) -> Vec<Look> {
    let mut looks: Vec<Look> = Vec::new();
    for (i, name) in opened.names.iter().enumerate() {
        // A struct has several leaves of one name.
        if looks.iter().any(|look| look.name == *name) {
            continue;
        }
        let leaf = leaf_of(path, opened, i).ok();
        let holds = match &leaf {
            None => Some(Holds::Other),
            Some(leaf) => leaf.list.then_some(Holds::Lists),
        };
        let no_feature = opened.leftover(path, i).map(Leftover::why);
        looks.push(Look {
            name: name.clone(),
            leaf,
            gathered: Gathered::default(),
            holds,
            no_feature,
        });
    }
    looks
}

/// The column of `look` in another file.
fn same(path: &Path, opened: &Opened, look: &Look) -> Result<Option<Leaf>, DataError> {
    if look.leaf.is_none() {
        return Ok(None);
    }
    let at = opened.names.iter().position(|n| *n == look.name);
    let at = at.ok_or_else(|| {
        wrong(path, format!("there is no column {}, which the first file has", look.name))
    })?;
    leaf_of(path, opened, at).map(Some)
}

/// Leaf `i`, of numbers, text or dates.
fn leaf_of(path: &Path, opened: &Opened, i: usize) -> Result<Leaf, DataError> {
    let column = opened.file.metadata().file_metadata().schema_descr().column(i);
    let numbers = || Leaf::new(path, i, &column);
    Leaf::text(i, &column)
        .map_or_else(numbers, Ok)
        .or_else(|e| Leaf::date(i, &column, None).ok_or(e))
}

impl Look {
    /// Reads the column in a row group of `n` rows.
    fn group(
        &mut self,
        path: &Path,
        opened: &Opened,
        group: usize,
        n: usize,
        leaf: &Leaf,
    ) -> Result<(), DataError> {
        if matches!(self.holds, Some(Holds::Hashes | Holds::Other)) {
            return Ok(());
        }
        let failed = |e| damaged(path, group, &e);
        let mut reader =
            guarded(|| column(&*opened.file.get_row_group(group)?, &opened.shared, leaf))
                .map_err(failed)?;
        let (mut values, mut bags) = (Vec::new(), Bags::default());
        for at in (0..n).step_by(CHUNK) {
            let part = CHUNK.min(n - at);
            reader.advance(0, part).map_err(failed)?;
            let place = |i: usize| RowRef { path, row: (at + i) as u64 + 1 };
            if leaf.list {
                // Only which ids there are is of interest; those of 64 bits are taken modulo a number.
                bags.clear();
                if reader.ids(leaf, ToId::modulo(Some(u32::MAX)), &mut bags, place).is_err() {
                    // Lists of fractions.
                    self.holds = Some(Holds::Other);
                    return Ok(());
                }
                bags.indices.iter().for_each(|&id| self.gathered.number(id.into()));
                continue;
            }
            if leaf.made == Made::Text {
                // A null is nothing, as an empty field is.
                reader.texts(leaf, |text| self.gathered.text(text.unwrap_or_default()));
                continue;
            }
            values.clear();
            values.resize(part, f64::NAN);
            if reader.numbers(leaf, &mut values, 1, place).is_err() {
                // The only reason: a number beyond 2^53.
                self.holds = Some(Holds::Hashes);
                return Ok(());
            }
            for &x in &values {
                match leaf.made {
                    Made::Date(..) => self.gathered.moment((!x.is_nan()).then_some(x as i64)),
                    Made::Numbers | Made::Text => self.gathered.number(x),
                }
            }
        }
        Ok(())
    }

    fn column(self) -> Column {
        let mut column = self.gathered.column(self.name);
        // Digits that are stored as text are no numbers to the file's readers.
        let text = self.leaf.as_ref().is_some_and(|leaf| leaf.made == Made::Text);
        let number = matches!(column.holds, Holds::Whole | Holds::Fractions);
        column.holds =
            self.holds.unwrap_or(if text && number { Holds::Text } else { column.holds });
        column.no_feature = self.no_feature;
        column
    }
}
