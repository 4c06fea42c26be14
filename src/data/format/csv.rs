//! Delimited text. `csv`: a header line with names, ids in decimal digits. `deeprec`: DeepRec's files for Criteo (modelzoo/DLRM), no header,
//! `clicked,I1..I13,C1..C26`, the categories as in Criteo's logs, 8 hexadecimal digits. In both an empty field is a missing value.

use super::{Reader, Writer, columns::Columns, text::TextWriter};
use crate::data::{
    DataError,
    preprocess::{
        Lines,
        criteo::hexadecimal,
        fields::{Fields, twice},
        lines::{shown, shown_name},
    },
    rows::{Hotness, IdColumn, Layout, Numbers, Place, Rows, wrong},
};
use std::{fmt::Write as _, path::Path};

/// Lines that are looked at to tell columns of fractions from those of whole numbers.
const LOOK: usize = 100;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// With a header line.
    Named,
    /// DeepRec's.
    DeepRec,
}

/// Reads a file, packed by gzip or not.
pub struct CsvReader {
    dialect: Dialect,
    lines: Lines,
    fields: Fields,
    layout: Layout,
    /// Fields of a line, and which of them are read.
    width: usize,
    label: usize,
    dense: Vec<usize>,
    ids: Vec<usize>,
}

impl CsvReader {
    /// Opens a file with a header line.
    ///
    /// # Errors
    /// If it cannot be read, or lacks a column.
    pub fn named(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        let mut lines = Lines::open(path)?;
        let mut fields = Fields::default();
        let names = match header(&mut lines, &mut fields)? {
            Some(names) => names,
            None => return Err(wrong(path, "the file is empty; must start with a header line")),
        };
        let fractions = fractions(path, names.len())?;
        let chosen = columns.choose(path, &names, |i| fractions[i])?;
        let name = |&i: &usize| names[i].clone();
        let layout = Layout {
            label: names[chosen.label].clone(),
            dense: chosen.dense.iter().map(name).collect(),
            numbers: Numbers::Float64,
            ids: chosen.categorical.iter().map(|i| IdColumn { name: name(i), hotness: Hotness::One }).collect(),
        };
        let width = names.len();
        Ok(CsvReader {
            dialect: Dialect::Named,
            lines,
            fields,
            layout,
            width,
            label: chosen.label,
            dense: chosen.dense,
            ids: chosen.categorical,
        })
    }

    /// Opens a file of DeepRec's.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn deeprec(path: &Path) -> Result<Self, DataError> {
        let layout = Layout { label: "clicked".into(), ..Layout::criteo(Numbers::Float64) };
        Ok(CsvReader {
            dialect: Dialect::DeepRec,
            lines: Lines::open(path)?,
            fields: Fields::default(),
            layout,
            width: 40,
            label: 0,
            dense: (1..14).collect(),
            ids: (14..40).collect(),
        })
    }

    /// Takes the fields at hand as a row.
    fn take(&self, rows: &mut Rows) -> Result<(), String> {
        let (fields, layout) = (&self.fields, &self.layout);
        if fields.len() != self.width {
            return Err(format!("has {} fields; must have {}, one for each column", fields.len(), self.width));
        }
        let wrong = |i: usize, name: &str, right: &str| {
            format!("column {} is {}; must be {right}", shown_name(name), shown(fields.get(i)))
        };
        let label = match number(fields.get(self.label)) {
            // -0 is 0, and written so.
            Some(0.0) => 0.0,
            Some(1.0) => 1.0,
            _ => return Err(wrong(self.label, &layout.label, "0 or 1, since it is the label")),
        };
        for (&i, name) in self.dense.iter().zip(&layout.dense) {
            let text = fields.get(i);
            rows.dense.push(match text {
                [] => f64::NAN,
                _ => number(text).ok_or_else(|| wrong(i, name, "a number or nothing"))?,
            });
        }
        for ((&i, column), bags) in self.ids.iter().zip(&layout.ids).zip(&mut rows.ids) {
            let text = fields.get(i);
            let id = || match self.dialect {
                Dialect::Named => decimal(text).ok_or_else(|| match number(text) {
                    None => wrong(i, &column.name, "a whole number below 2^32 (an id) or nothing"),
                    Some(_) => {
                        let right = "a whole number below 2^32 (an id) or nothing (name dense columns with --dense)";
                        wrong(i, &column.name, right)
                    }
                }),
                Dialect::DeepRec => {
                    hexadecimal(text).ok_or_else(|| wrong(i, &column.name, "up to 8 hexadecimal digits or nothing"))
                }
            };
            bags.push(if text.is_empty() { None } else { Some(id()?) });
        }
        rows.labels.push(label);
        Ok(())
    }
}

/// The names in the first line that is not blank, without a byte-order mark.
fn header(lines: &mut Lines, fields: &mut Fields) -> Result<Option<Vec<String>>, DataError> {
    let mut first = true;
    while let Some(line) = lines.next_line()? {
        let line = if std::mem::take(&mut first) { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let names =
            fields.split(line, b',').map(|()| fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect::<Vec<_>>());
        let names = names.map_err(|what| lines.malformed(what))?;
        if let Some((i, name)) = twice(&names) {
            let what = format!("the header names {} twice, the second time as column {}", shown_name(name), i + 1);
            return Err(lines.malformed(what));
        }
        return Ok(Some(names));
    }
    Ok(None)
}

/// Which of the columns have fractions in the first lines.
fn fractions(path: &Path, width: usize) -> Result<Vec<bool>, DataError> {
    let (mut lines, mut fields) = (Lines::open(path)?, Fields::default());
    header(&mut lines, &mut fields)?;
    let mut found = vec![false; width];
    for _ in 0..LOOK {
        let Some(line) = lines.next_line()? else { break };
        if fields.split(line, b',').is_ok() && fields.len() == width {
            for (found, text) in found.iter_mut().zip(fields.iter()) {
                *found |= fraction(text);
            }
        }
    }
    Ok(found)
}

/// Whether a field is a number that is not just digits, whatever their sign and number: a whole number that is no id does not make a column
/// dense, it is a wrong id.
fn fraction(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.iter().all(u8::is_ascii_digit) && std::str::from_utf8(text).is_ok_and(|t| t.parse::<f64>().is_ok())
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|x: &f64| x.is_finite())
}

fn decimal(text: &[u8]) -> Option<u32> {
    // The standard parser takes a plus sign, too.
    std::str::from_utf8(text).ok().filter(|t| !t.starts_with('+'))?.parse().ok()
}

impl Reader for CsvReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        while rows.len() < n {
            let Some(line) = self.lines.next_line()? else { break };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let cut = self.fields.split(line, b',');
            if let Err(what) = cut.and_then(|()| self.take(rows)) {
                return Err(self.lines.malformed(what));
            }
        }
        Ok(())
    }
}

/// Writes a file.
pub struct CsvWriter {
    dialect: Dialect,
    text: TextWriter,
    layout: Layout,
    rows: u64,
}

impl CsvWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold other than one id; for [`Dialect::DeepRec`] also if the columns are other than
    /// Criteo's.
    pub fn create(path: &Path, layout: &Layout, dialect: Dialect) -> Result<Self, DataError> {
        match dialect {
            Dialect::DeepRec => layout.check_criteo(path, "DeepRec's csv")?,
            Dialect::Named => layout.check_single(path, "csv")?,
        }
        let mut text = TextWriter::create(path)?;
        if dialect == Dialect::Named {
            let names = [&layout.label].into_iter().chain(&layout.dense).chain(layout.ids.iter().map(|c| &c.name));
            for (i, name) in names.enumerate() {
                if name.contains(['\n', '\r']) {
                    return Err(wrong(path, format!("column {name:?} has a line end in its name, which csv cannot hold here")));
                }
                if i > 0 {
                    text.line().push(',');
                }
                let plain = !name.is_empty() && name.trim() == name && !name.contains([',', '"', '\u{feff}']);
                match plain {
                    true => text.line().push_str(name),
                    false => text.whole(format!("\"{}\"", name.replace('"', "\"\""))),
                }
            }
            text.end()?;
        }
        Ok(CsvWriter { dialect, text, layout: layout.clone(), rows: 0 })
    }
}

impl Writer for CsvWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        for i in 0..rows.len() {
            self.rows += 1;
            self.text.whole(rows.labels[i]);
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                Place { path: self.text.path(), row: self.rows }.finite(name, x, "csv")?;
                self.text.line().push(',');
                if !x.is_nan() {
                    self.text.number(x, self.layout.numbers);
                }
            }
            for bags in &rows.ids {
                self.text.line().push(',');
                if let [id] = bags.bag(i) {
                    let _ = match self.dialect {
                        Dialect::Named => write!(self.text.line(), "{id}"),
                        Dialect::DeepRec => write!(self.text.line(), "{id:08x}"),
                    };
                }
            }
            self.text.end()?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        self.text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{
        Format,
        testing::{Kind, arbitrary, fuzz_cases, python, read_all, round_trip, same, write_all},
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(fuzz_cases(48))]

        #[test]
        fn what_was_written_is_read(
            floats in arbitrary(Kind { numbers: Numbers::Float32, many: false, ..Kind::ANY }),
            doubles in arbitrary(Kind { many: false, ..Kind::ANY }),
            criteo in arbitrary(Kind { largest_id: u32::MAX, ..Kind::CRITEO_INT32 }),
            packed: bool,
            chunk in 1usize..40,
        ) {
            for (mut layout, rows) in [floats, doubles] {
                let back = round_trip(Format::Csv, if packed { "a.csv.gz" } else { "a.csv" }, &layout, &rows, chunk, &Columns::default());
                layout.numbers = Numbers::Float64;
                prop_assert!(back.0 == layout, "{:?} {:?}", back.0, layout);
                let narrow = |r: &Rows| Rows { dense: r.dense.iter().map(|&x| f64::from(x as f32)).collect(), ..r.clone() };
                prop_assert!(same(&back.1, &rows) || same(&narrow(&back.1), &rows));
            }
            let (layout, rows) = criteo;
            let back = round_trip(Format::DeepRec, "train.csv", &layout, &rows, chunk, &Columns::default());
            prop_assert!(same(&back.1, &rows));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..500), "(label,I1,C1\n)?[01,\\n\"-9a-f.]{0,200}".prop_map(String::into_bytes)]) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.csv");
            std::fs::write(&path, &bytes).unwrap();
            for format in [Format::Csv, Format::DeepRec] {
                let _ = read_all(format, &path, 7, &Columns::default());
            }
        }
    }

    #[test]
    fn names_with_commas_and_quotes_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let names = ["a,b", " c", "d\"e", "\u{feff}f", "ü"];
        let layout = Layout {
            label: "y".into(),
            dense: vec![],
            numbers: Numbers::Float64,
            ids: names.map(|n| IdColumn { name: n.into(), hotness: Hotness::One }).to_vec(),
        };
        let mut rows = Rows::new(&layout);
        rows.labels.push(1.0);
        rows.ids.iter_mut().for_each(|b| b.push([7]));
        write_all(Format::Csv, &path, &layout, &rows, 1).unwrap();
        let back = read_all(Format::Csv, &path, 1, &Columns::default()).unwrap();
        assert!(back.0 == layout && same(&back.1, &rows), "{:?}", back.0);
    }

    #[test]
    fn files_of_others_are_read_and_what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let read = |text: &[u8], columns: &Columns| {
            std::fs::write(&path, text).unwrap();
            read_all(Format::Csv, &path, 9, columns).map_err(|e| e.to_string())
        };
        let text = b"\xef\xbb\xbfclick,price,user,I9\r\n1,0.5,7,\r\n\r\n0, 2 ,\"8\",-3";
        let (layout, rows) = read(text, &Columns::default()).unwrap();
        assert_eq!((layout.dense.join(" "), layout.ids[0].name.as_str(), rows.len()), ("price I9".into(), "user", 2));
        assert_eq!((rows.dense[0], rows.dense[1].is_nan(), &rows.dense[2..]), (0.5, true, &[2.0, -3.0][..]));
        assert_eq!((&rows.labels[..], &rows.ids[0].indices[..]), (&[1.0, 0.0][..], &[7, 8][..]));
        for (bad, what) in [
            ("1,2", "has 2 fields; must have 3, one for each column"),
            ("2,1,1", "column label is \"2\"; must be 0 or 1, since it is the label"),
            (",1,1", "column label is \"\"; must be 0 or 1, since it is the label"),
            ("1,x,1", "column I1 is \"x\"; must be a number or nothing"),
            ("1,inf,1", "column I1 is \"inf\"; must be a number or nothing"),
            (
                "1,1,-1",
                "column C1 is \"-1\"; must be a whole number below 2^32 (an id) or nothing (name dense columns with --dense)",
            ),
            ("1,1,68fd1e64", "column C1 is \"68fd1e64\"; must be a whole number below 2^32 (an id) or nothing"),
            ("1,\"1,1", "the quote of field 2 is not closed on its line; close it, or double it if it is part of the text"),
        ] {
            let error = read(format!("label,I1,C1\n0,1,1\n{bad}\n").as_bytes(), &Columns::default()).unwrap_err();
            assert_eq!(error, format!("{}:3: {what}", path.display()));
        }
        assert!(read(b"", &Columns::default()).unwrap_err().ends_with("the file is empty; must start with a header line"));
        assert!(
            read(b"y,a,a\n", &Columns::default())
                .unwrap_err()
                .ends_with(":1: the header names a twice, the second time as column 3")
        );
        std::fs::write(&path, "1,2\n").unwrap();
        let error = read_all(Format::DeepRec, &path, 9, &Columns::default()).unwrap_err().to_string();
        assert!(error.ends_with(":1: has 2 fields; must have 40, one for each column"), "{error}");
    }

    /// A column of ids does not become one of numbers by one that is too large, and none of a sign.
    #[test]
    fn only_fractions_make_a_column_dense() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_all(Format::Csv, &path, 9, &Columns::default()).map_err(|e| e.to_string())
        };
        for id in ["5000000000", "4294967296", "-5000000000", "-1", "+7", "99999999999999999999999"] {
            let right = "a whole number below 2^32 (an id) or nothing (name dense columns with --dense)";
            let error = read(&format!("label,user\n1,{id}\n")).unwrap_err();
            assert_eq!(error, format!("{}:2: column user is \"{id}\"; must be {right}", path.display()));
        }
        for x in ["0.5", "-1.0", "1e3", ".5", "5.", "1E-7"] {
            let (layout, rows) = read(&format!("label,x,user\n1,{x},4294967295\n0,7,\n")).unwrap();
            assert_eq!((layout.dense.join(" "), rows.dense[0]), ("x".into(), x.parse().unwrap()));
        }
        for x in ["nan", "inf", "-inf"] {
            assert!(read(&format!("label,x\n1,{x}\n")).unwrap_err().ends_with("; must be a number or nothing"));
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
        std::fs::write(&path, "label,I1\n-0,1\n-0.0,-0\n1.0,2\n").unwrap();
        let (layout, mut rows) = read_all(Format::Csv, &path, 9, &Columns::default()).unwrap();
        write_all(Format::Csv, &to, &layout, &rows, 2).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "label,I1\n0,1\n0,-0\n1,2\n");
        let write = |layout: &Layout, rows: &Rows| write_all(Format::Csv, &to, layout, rows, 2).unwrap_err().to_string();
        rows.dense[2] = f64::INFINITY;
        let what = "row 3: column I1 is inf; must be finite, since csv holds no other number";
        assert_eq!(write(&layout, &rows), format!("{}: {what}", to.display()));
        let wide = Layout::numbered(300_000, Numbers::Float64, []);
        let mut rows = Rows::new(&wide);
        rows.labels.push(0.0);
        rows.dense.resize(300_000, 0.125);
        let error = write(&wide, &rows);
        assert!(error.contains("; must be at most 1048576, since no longer one is read; use another format"), "{error}");
    }

    /// What pandas makes of a data frame, missing values included, and what it reads of ours.
    #[test]
    fn pandas_and_we_read_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"
import sys, pandas as pd
d = sys.argv[1]
f = pd.DataFrame({"label": [1, 0, 1], "price": [0.1, None, 1e-7], "user": pd.array([4294967295, None, 3], "UInt32")})
f.to_csv(d + "/a.csv", index=False)
"#;
        if !python(&["pandas"], script, &[dir.path()]) {
            return;
        }
        let (layout, rows) = read_all(Format::Csv, &dir.path().join("a.csv"), 2, &Columns::default()).unwrap();
        assert_eq!((rows.dense[0], rows.dense[1].is_nan(), rows.dense[2]), (0.1, true, 1e-7));
        assert_eq!((rows.ids[0].bag(0), rows.ids[0].bag(1)), (&[u32::MAX][..], &[][..]));
        write_all(Format::Csv, &dir.path().join("b.csv"), &layout, &rows, 2).unwrap();
        let script = r#"
import sys, pandas as pd
d = sys.argv[1]
a, b = (pd.read_csv(d + name, dtype={"user": "UInt32"}) for name in ("/a.csv", "/b.csv"))
pd.testing.assert_frame_equal(a, b, check_exact=True)
"#;
        python(&["pandas"], script, &[dir.path()]);
    }
}
