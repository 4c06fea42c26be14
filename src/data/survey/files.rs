//! Files of formats that say themselves which column is what.

use super::{Column, Gathered, Holds, Survey};
use crate::data::{
    DataError,
    format::{self, Format, columns::Columns},
    rows::{Hotness, Rows},
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Looks at all of the files at `paths`; what their columns are, and what they hold, the label first;
/// `None` if `stop` was set.
///
/// # Errors
/// If one cannot be read, or is not of the format.
pub fn survey(
    paths: &[PathBuf],
    format: Format,
    columns: &Columns,
    stop: &AtomicBool,
) -> Result<Option<Survey>, DataError> {
    let first = paths.first().map_or(Path::new(""), PathBuf::as_path);
    let layout = format::open(first, format, columns)?.layout().clone();
    let (dense, ids) = (layout.dense.len(), layout.ids.len());
    let mut gathered = vec![Gathered::default(); 1 + dense + ids];
    let mut all = 0;
    for path in paths {
        let mut reader = format::open(path, format, columns)?;
        let (chunk, mut rows) = (format::chunk(&layout), Rows::new(reader.layout()));
        loop {
            reader.read(chunk, &mut rows)?;
            if rows.is_empty() {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            all += rows.len() as u64;
            rows.labels.iter().for_each(|&y| gathered[0].number(y.into()));
            for (at, &x) in rows.dense.iter().enumerate() {
                gathered[1 + at % dense].number(x);
            }
            for (bags, gathered) in rows.ids.iter().zip(&mut gathered[1 + dense..]) {
                for i in 0..rows.labels.len() {
                    match bags.bag(i) {
                        [] => gathered.number(f64::NAN),
                        bag => bag.iter().for_each(|&id| gathered.number(id.into())),
                    }
                }
            }
        }
    }
    let names = [&layout.label].into_iter().chain(&layout.dense);
    let names = names.chain(layout.ids.iter().map(|c| &c.name));
    let mut columns: Vec<Column> =
        gathered.into_iter().zip(names).map(|(g, name)| g.column(name.clone())).collect();
    for (column, of) in columns[1 + dense..].iter_mut().zip(&layout.ids) {
        if of.hotness != Hotness::One {
            column.holds = Holds::Lists;
        }
    }
    Ok(Some(Survey { rows: all, columns }))
}
