//! How many ids of a sample a format has room for, and the refusal of columns that it cannot hold.

use super::{Format, registry::FORMATS};
use crate::data::{
    DataError,
    preprocess::criteo::{DENSE, TABLES},
    rows::{Hotness, IdColumn, Layout, wrong},
};
use std::path::Path;

/// How many ids of a sample a categorical column has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capacity {
    /// One, or none where it is missing.
    One,
    /// As many as in every other row.
    Fixed,
    /// Any number.
    Any,
}

impl Capacity {
    /// What the columns of `layout` need.
    pub fn needed(layout: &Layout) -> Capacity {
        let of = |hotness| match hotness {
            Hotness::One => Capacity::One,
            Hotness::Fixed(_) => Capacity::Fixed,
            Hotness::Any => Capacity::Any,
        };
        layout.ids.iter().map(|c| of(c.hotness)).max().unwrap_or(Capacity::One)
    }
}

/// The words of the formats that have room for the columns of `layout`, for messages.
pub fn holding(layout: &Layout) -> String {
    let need = Capacity::needed(layout);
    let criteo = (layout.dense.len(), layout.ids.len()) == (DENSE, TABLES);
    let mut words = Vec::new();
    for entry in FORMATS.iter().filter(|f| criteo || !f.criteo) {
        match entry.format {
            // Its files are of several kinds, all of which hold single ids.
            Format::FuxiCtr if need == Capacity::One => words.push(entry.word.to_owned()),
            Format::FuxiCtr => words.push(format!("{} (.parquet)", entry.word)),
            _ if (entry.capacity)(Path::new("")) >= need => words.push(entry.word.to_owned()),
            _ => {}
        }
    }
    format!("formats that hold these columns: {}", words.join(", "))
}

/// Refuses columns of many ids for a `format` that holds one id a column.
///
/// # Errors
/// If a column may hold more.
pub(super) fn check_single(layout: &Layout, path: &Path, format: &str) -> Result<(), DataError> {
    refuse(
        layout,
        path,
        |c| c.hotness != Hotness::One,
        |name| format!("{format} holds one id a column, but {name} may hold others"),
    )
}

/// Refuses columns of any number of ids for a `format` that has no room for them.
///
/// # Errors
/// If there is one.
pub(super) fn check_fixed(layout: &Layout, path: &Path, format: &str) -> Result<(), DataError> {
    let what = |name: &str| {
        format!("{format} holds a fixed number of ids a column, but {name} may hold any")
    };
    refuse(layout, path, |c| c.hotness == Hotness::Any, what)
}

fn refuse(
    layout: &Layout,
    path: &Path,
    wide: impl Fn(&IdColumn) -> bool,
    what: impl Fn(&str) -> String,
) -> Result<(), DataError> {
    match layout.ids.iter().find(|c| wide(c)) {
        Some(c) => Err(wrong(path, format!("{}; {}", what(&c.name), holding(layout)))),
        None => Ok(()),
    }
}

/// Refuses other columns than those of Criteo's logs for a `format` that holds no others.
///
/// # Errors
/// If there are others, or one may hold several ids.
pub(super) fn check_criteo(layout: &Layout, path: &Path, format: &str) -> Result<(), DataError> {
    let (dense, tables) = (layout.dense.len(), layout.ids.len());
    if (dense, tables) == (DENSE, TABLES) {
        return check_single(layout, path, format);
    }
    let what = format!(
        "{format} holds {DENSE} dense and {TABLES} categorical columns, but there are {dense} and {tables}"
    );
    Err(wrong(path, format!("{what}; {}", holding(layout))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Numbers;

    #[test]
    fn columns_without_room_are_named_with_what_holds_them() {
        let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One, Hotness::Any]);
        let others = "formats that hold these columns: parquet, fuxictr (.parquet), libsvm, libfm";
        let path = Path::new("a.csv");
        let said = |checked: Result<(), DataError>| checked.unwrap_err().to_string();
        assert_eq!(
            said(check_single(&layout, path, "csv")),
            format!("a.csv: csv holds one id a column, but C2 may hold others; {others}")
        );
        let what = "h5 holds a fixed number of ids a column, but C2 may hold any";
        assert_eq!(said(check_fixed(&layout, path, "h5")), format!("a.csv: {what}; {others}"));
        let what = "bin40 holds 13 dense and 26 categorical columns, but there are 0 and 2";
        assert_eq!(said(check_criteo(&layout, path, "bin40")), format!("a.csv: {what}; {others}"));
        let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One, Hotness::Fixed(3)]);
        assert!(
            check_fixed(&layout, path, "h5").is_ok() && check_single(&layout, path, "csv").is_err()
        );
    }

    /// What is said to hold columns takes them, and nothing else does.
    #[test]
    fn a_format_takes_the_columns_it_is_said_to_hold() {
        for (dense, tables) in [(DENSE, TABLES), (2, 3)] {
            for hotness in [Hotness::One, Hotness::Fixed(2), Hotness::Any] {
                let layout = Layout::numbered(dense, Numbers::Int32, vec![hotness; tables]);
                let said = holding(&layout);
                let words: Vec<&str> = said.split(": ").nth(1).unwrap().split(", ").collect();
                for (entry, ending) in
                    FORMATS.iter().flat_map(|f| ["csv", "parquet", "npz"].map(|ending| (f, ending)))
                {
                    let dir = tempfile::tempdir().unwrap();
                    let path = dir.path().join(format!("a.{ending}"));
                    let taken = (entry.create)(&path, &layout).is_ok();
                    let capacity = (entry.capacity)(&path) >= Capacity::needed(&layout)
                        && (!entry.criteo || dense == DENSE);
                    assert_eq!(taken, capacity, "{} {ending} {layout:?}", entry.word);
                    let word = match entry.format {
                        Format::FuxiCtr if hotness != Hotness::One => {
                            format!("fuxictr (.{ending})")
                        }
                        Format::FuxiCtr => "fuxictr".to_owned(),
                        _ => entry.word.to_owned(),
                    };
                    // An archive of FuxiCTR's holds a fixed number, too, but one that holds any is
                    // enough to name.
                    let told = words.contains(&&*word)
                        || (word == "fuxictr (.npz)" && hotness == Hotness::Fixed(2));
                    assert_eq!(told, taken, "{} {ending} {said}", entry.word);
                }
            }
        }
    }
}
