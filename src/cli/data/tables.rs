//! The list that `data.tables` takes: rows of the table of each categorical column.

use super::{super::Failure, ColumnArgs, empty, input, open, tell};
use crate::data::{
    format::chunk,
    rows::{Layout, Rows},
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// One more than the largest id of each categorical column in all of the files at `paths`, which are
/// one data set; `None` if `stop` was set.
pub(super) fn rows(
    paths: &[PathBuf],
    from: Option<&str>,
    columns: &ColumnArgs,
    stop: &AtomicBool,
) -> Result<Option<Vec<u64>>, Failure> {
    let mut found: Option<(Layout, Vec<u64>)> = None;
    for path in paths {
        let format = input(path, from)?;
        let Some(mut reader) = open(path, format, columns, stop)? else { return Ok(None) };
        tell(path, reader.told());
        let layout = reader.layout().clone();
        let (first, largest) =
            found.get_or_insert_with(|| (layout.clone(), vec![0; layout.ids.len()]));
        same(path, &layout, first)?;
        let (chunk, mut rows, mut any) = (chunk(&layout), Rows::new(&layout), false);
        loop {
            reader.read(chunk, &mut rows)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if rows.is_empty() {
                break;
            }
            any = true;
            for (rows, bags) in largest.iter_mut().zip(&rows.ids) {
                *rows = bags.indices.iter().fold(*rows, |rows, &id| rows.max(u64::from(id) + 1));
            }
        }
        if !any {
            return Err(empty(path));
        }
    }
    // A column without an id has a table all the same.
    Ok(found.map(|(_, rows)| rows.into_iter().map(|n| n.max(1)).collect()))
}

/// Refuses files of other categorical columns than the first has.
fn same(path: &Path, layout: &Layout, first: &Layout) -> Result<(), Failure> {
    let names = |l: &Layout| l.ids.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let path = path.display();
    match names(layout) {
        none if none.is_empty() => {
            Err(Failure::Input(format!("{path}: has no categorical columns")))
        }
        these if these == names(first) => Ok(()),
        _ => Err(Failure::Input(format!(
            "{path}: has other categorical columns than the first file; must be of one data set"
        ))),
    }
}
