//! Delimited text: what separates its fields, whether its first line holds names, and its columns.

use super::{Gathered, Survey};
use crate::data::{
    DataError,
    format::leftovers::{Leftover, Seen},
    preprocess::{
        Lines,
        fields::{Fields, Uncut, missing, number, twice},
        records::Records,
    },
    rows::wrong,
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// What may separate fields, in the order in which they are tried.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];
/// Lines by which the delimiter is told.
const LOOK: usize = 20;

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// What separates fields.
    pub delimiter: u8,
    /// Whether the first line holds the names of the columns.
    pub header: bool,
    /// Columns.
    pub width: usize,
}

/// How the file at `path` is cut. Its first line holds names where `header` says so; where nothing
/// is said, if none of its fields is a number or empty, but for the first one.
///
/// # Errors
/// If it cannot be read or holds no columns.
pub fn cut(path: &Path, header: Option<bool>) -> Result<Cut, DataError> {
    let mut lines = Lines::open(path)?;
    let mut first: Vec<Vec<u8>> = Vec::new();
    while first.len() < LOOK {
        match lines.next_line()? {
            Some(line) if line.trim_ascii().is_empty() => {}
            Some(line) if line.contains(&0) => {
                return Err(wrong(path, "is no text; must be text or a file of another format"));
            }
            Some(line) => first.push(line.to_vec()),
            None => break,
        }
    }
    if first.is_empty() {
        return Err(wrong(path, "is empty; a file of samples has at least one"));
    }
    let mut fields = Fields::default();
    let fits = |delimiter: &u8, fields: &mut Fields| {
        let widths = widths(&first, *delimiter, fields);
        let n = *widths.first()?;
        // Some may be malformed; whoever trains on them will say so.
        let alike = widths.iter().filter(|&&width| width == n).count();
        (n > 1 && 2 * alike > widths.len()).then_some(n)
    };
    let mut found: Option<(u8, usize)> = None;
    for delimiter in &DELIMITERS {
        if let Some(n) = fits(delimiter, &mut fields)
            && found.is_none_or(|(_, most)| n > most)
        {
            found = Some((*delimiter, n));
        }
    }
    let Some((delimiter, width)) = found else {
        return Err(wrong(
            path,
            "its first lines have no number of fields in common, at least 2, that commas, tabs, semicolons or bars separate",
        ));
    };
    let mut records = Records::open(path, delimiter, None)?;
    let Some(head) = records.next_record()? else { return Err(wrong(path, "is empty")) };
    let fields = head.map_err(|what| wrong(path, what))?;
    let name = |(i, field): (usize, &[u8])| match missing(field) {
        true => i == 0 && field.is_empty(),
        false => number(field).is_none(),
    };
    let header = header.unwrap_or_else(|| fields.iter().enumerate().all(name));
    Ok(Cut { delimiter, header, width })
}

/// Fields of the records that `lines` make; 0 of a malformed one. One whose end is not among the
/// lines is left out.
fn widths(lines: &[Vec<u8>], delimiter: u8, fields: &mut Fields) -> Vec<usize> {
    let (mut widths, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let mut cut = fields.split(&lines[at], delimiter);
        let mut end = at + 1;
        while let (Err(Uncut::Open(_)), Some(line)) = (&cut, lines.get(end)) {
            cut = fields.go_on(line, delimiter);
            end += 1;
        }
        match cut {
            Ok(()) => {
                widths.push(fields.len());
                at = end;
            }
            // As malformed lines are read: by themselves.
            Err(_) => {
                if end < lines.len() || end == at + 1 {
                    widths.push(0);
                }
                at += 1;
            }
        }
    }
    widths
}

/// Looks at all of the files at `paths`, which are cut as `cut` says and have the columns of the
/// first one in its order; `None` if `stop` was set. Columns without names are called c1, c2 and so
/// on. Records with another number of fields are passed over, as whoever trains on them will say
/// what is wrong with them.
///
/// # Errors
/// If one cannot be read or has other columns, or two columns have one name.
pub fn survey(paths: &[PathBuf], cut: Cut, stop: &AtomicBool) -> Result<Option<Survey>, DataError> {
    let mut names: Option<Vec<String>> =
        (!cut.header).then(|| (1..=cut.width).map(|i| format!("c{i}")).collect());
    let mut gathered = vec![Gathered::default(); cut.width];
    let mut rows = 0;
    for path in paths {
        let mut records = Records::open(path, cut.delimiter, None)?;
        records.set_width(cut.width);
        let mut header = cut.header;
        while let Some(record) = records.next_record()? {
            let right = record.ok().filter(|fields| fields.len() == cut.width);
            if std::mem::take(&mut header) {
                let of_file: Option<Vec<String>> = right.map(|fields| {
                    fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect()
                });
                if names.get_or_insert_with(|| of_file.clone().unwrap_or_default())
                    != &of_file.unwrap_or_default()
                {
                    let first = paths[0].display();
                    let what = format!("has other columns than {first}, or in another order");
                    return Err(wrong(path, what));
                }
                continue;
            }
            let Some(fields) = right else { continue };
            rows += 1;
            gathered.iter_mut().zip(fields.iter()).for_each(|(g, field)| g.text(field));
            if rows % 4096 == 0 && stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
    }
    let names = names.unwrap_or_default();
    let path = &paths[0];
    if let Some((i, name)) = twice(&names) {
        let what = format!(
            "the first line names {name:?} twice, the second time as column {}; give each column a name of its own",
            i + 1
        );
        return Err(wrong(path, what));
    }
    let seen = first(path, cut)?;
    let columns = gathered.into_iter().zip(names).zip(&seen);
    let columns = columns.map(|((g, name), seen)| {
        let leftover = if cut.header { Leftover::among(&name, seen) } else { None };
        let mut column = g.column(name);
        column.no_feature = leftover.map(Leftover::why);
        column
    });
    Ok(Some(Survey { rows, columns: columns.collect() }))
}

/// What the first lines below the header tell.
fn first(path: &Path, cut: Cut) -> Result<Vec<Seen>, DataError> {
    let mut records = Records::open(path, cut.delimiter, None)?;
    if cut.header {
        let _header = records.next_record()?;
    }
    Seen::first(&mut records, cut.width)
}

#[cfg(test)]
mod tests {
    use super::{super::Holds, *};

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn delimiters_and_headers_are_found() {
        for (text, delimiter, header, width) in [
            ("a,b\n1,2\n", b',', true, 2),
            ("a;b;c\n1,5;2;3\n", b';', true, 3),
            ("0\t1\tx\n1\t2\ty\n", b'\t', false, 3),
            ("\n,label\n0,1\n", b',', true, 2),
            ("a,,b\nx,y,z\n", b',', false, 3),
            ("\"a|b\"|c\n1|2\n", b'|', true, 2),
            ("a,b\n1,2,3\n1,2\n", b',', true, 2),
            ("a;b\n1;\"x\n,\n,,\n\"\n2;y\n", b';', true, 2),
        ] {
            let (_dir, path) = file(text);
            assert_eq!(cut(&path, None).unwrap(), Cut { delimiter, header, width }, "{text}");
            assert!(
                !cut(&path, Some(false)).unwrap().header && cut(&path, Some(true)).unwrap().header
            );
        }
        for (text, why) in [
            ("\n \n", "is empty"),
            ("a\nb\n", "no number of fields in common"),
            ("a,b\nc\n", "no number of fields in common"),
            ("a,\0\n", "is no text"),
        ] {
            let (_dir, path) = file(text);
            assert!(cut(&path, None).unwrap_err().to_string().contains(why), "{text}");
        }
    }

    #[test]
    fn columns_are_surveyed_with_and_without_names() {
        let stop = AtomicBool::new(false);
        let of = |text: &str| {
            let (_dir, path) = file(text);
            survey(std::slice::from_ref(&path), cut(&path, None).unwrap(), &stop)
                .map(Option::unwrap)
        };
        let s = of(",y,\"a b\"\n0,1,x\n1,0,\n2,1,x\n").unwrap();
        let names: Vec<&str> = s.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!((s.rows, names), (3, vec!["", "y", "a b"]));
        assert!(s.columns[0].no_feature.is_some() && s.columns[1].no_feature.is_none());
        assert_eq!((s.columns[2].holds, s.columns[2].missing), (Holds::Text, 1));
        let s = of("1,2\n0,3\n").unwrap();
        assert_eq!((s.rows, s.columns[1].name.as_str(), s.columns[1].distinct), (2, "c2", 2));
        assert!(of("a,a\n1,2\n").unwrap_err().to_string().contains("names \"a\" twice"));
        stop.store(true, Ordering::Relaxed);
        let (_dir, path) = file(&"1,2\n".repeat(5000));
        let cut = cut(&path, None).unwrap();
        assert!(survey(&[path], cut, &stop).unwrap().is_none());
    }
}
