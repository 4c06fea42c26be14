//! Criteo's raw logs: `label \t I1..I13 (decimal or empty) \t C1..C26 (8 hexadecimal digits or
//! empty)`, no header. Ids are taken as they stand; `data preprocess` numbers them.

use super::{Reader, Writer, text::TextWriter};
use crate::data::{
    DataError,
    preprocess::{
        Lines,
        criteo::{DENSE, Line, parse},
    },
    rows::{Layout, Numbers, RowRef, Rows},
};
use std::{fmt::Write as _, path::Path};

/// Reads a log, packed by gzip or not.
pub struct CriteoReader {
    lines: Lines,
    layout: Layout,
}

impl CriteoReader {
    /// Opens a log.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Ok(CriteoReader { lines: Lines::open(path)?, layout: Layout::criteo(Numbers::Int32) })
    }
}

impl Reader for CriteoReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let mut parsed = Line::default();
        while rows.len() < n {
            let Some(text) = self.lines.next_line()? else { break };
            if let Err(what) = parse(text, &mut parsed) {
                return Err(self.lines.malformed(what));
            }
            let there = |column: usize| parsed.missing >> column & 1 == 0;
            rows.labels.push(f32::from(parsed.label));
            rows.dense.extend(
                parsed
                    .dense
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| if there(i) { f64::from(x) } else { f64::NAN }),
            );
            for (j, (bags, &id)) in rows.ids.iter_mut().zip(&parsed.ids).enumerate() {
                bags.push(there(DENSE + j).then_some(id));
            }
        }
        Ok(())
    }
}

/// Writes a log.
pub struct CriteoWriter {
    text: TextWriter,
    layout: Layout,
    rows: u64,
}

impl CriteoWriter {
    /// Starts a log.
    ///
    /// # Errors
    /// If it cannot be written, or the columns are other than Criteo's.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        super::capacity::check_criteo(layout, path, "a Criteo log")?;
        Ok(CriteoWriter { text: TextWriter::create(path)?, layout: layout.clone(), rows: 0 })
    }
}

impl Writer for CriteoWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        for i in 0..rows.len() {
            self.rows += 1;
            self.text.whole(rows.labels[i]);
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                self.text.line().push('\t');
                if !x.is_nan() {
                    let place = RowRef { path: self.text.path(), row: self.rows };
                    let x = place.whole(name, x, "a Criteo log")?;
                    self.text.whole(x);
                }
            }
            for bags in &rows.ids {
                self.text.line().push('\t');
                if let [id] = bags.bag(i) {
                    let _ = write!(self.text.line(), "{id:08x}");
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
        columns::Columns,
        testing::{Kind, arbitrary, fuzz_cases, read_all, round_trip, same, write_all},
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(fuzz_cases(32))]

        #[test]
        fn what_was_written_is_read(rows in arbitrary(Kind { largest_id: u32::MAX, ..Kind::CRITEO_INT32 }), packed: bool, chunk in 1usize..40) {
            let (layout, rows) = rows;
            let name = if packed { "day_0.tsv.gz" } else { "train.tsv" };
            let back = round_trip(Format::Criteo, name, &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0 == layout && same(&back.1, &rows));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..500), "[01\\t\\n-9a-f]{0,300}".prop_map(String::into_bytes)]) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.tsv");
            std::fs::write(&path, &bytes).unwrap();
            let _ = read_all(Format::Criteo, &path, 7, &Columns::default());
        }
    }

    /// Lines of Criteo come back byte for byte.
    #[test]
    fn a_log_of_criteo_comes_back_as_it_was() {
        for name in ["kaggle_8000.txt", "terabyte_1000.txt"] {
            let path =
                Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/criteo_sample"))
                    .join(name);
            if !path.exists() {
                eprintln!("skipped: {} is not there", path.display());
                continue;
            }
            let (layout, rows) = read_all(Format::Criteo, &path, 999, &Columns::default()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let again = dir.path().join("again.tsv");
            write_all(Format::Criteo, &again, &layout, &rows, 100).unwrap();
            assert!(std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap(), "{name}");
        }
    }

    #[test]
    fn lines_that_do_not_fit_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tsv");
        std::fs::write(&path, format!("1{}\n2{}\n", "\t".repeat(39), "\t".repeat(39))).unwrap();
        let error =
            read_all(Format::Criteo, &path, 9, &Columns::default()).unwrap_err().to_string();
        assert!(error.ends_with("a.tsv:2: column 1 (label) is \"2\"; 0 or 1 is right"), "{error}");
    }
}
