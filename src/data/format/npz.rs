//! facebook's preprocessed archives (facebookresearch/dlrm, data_utils.py: `kaggleAdDisplayChallenge_processed.npz`,
//! `terabyte_processed.npz`): `X_int` `[n, 13]` counts before any logarithm, `X_cat` `[n, 26]` contiguous ids, `y` `[n]`, and `counts`, the
//! number of ids of each column. Any number of columns is read and written.

use super::{Reader, Writer};
use crate::data::{
    DataError,
    npy::{Array, Type},
    npz::{Member, Packing, member, pack},
    rows::{Hotness, Layout, Numbers, Place, Rows, io, wrong},
};
use std::path::{Path, PathBuf};

/// What the dense columns of an array are.
pub(super) fn numbers(of: Type) -> Numbers {
    match of {
        Type::F16 | Type::F32 => Numbers::Float32,
        Type::F64 | Type::Int(8) | Type::Unsigned(4 | 8) => Numbers::Float64,
        Type::Bool | Type::Int(_) | Type::Unsigned(_) => Numbers::Int32,
    }
}

/// An id as the signed number of 32 bits that the arrays hold.
pub(super) fn narrow(id: u32, place: Place, name: &str) -> Result<i32, DataError> {
    i32::try_from(id)
        .map_err(|_| place.error(format!("column {name} is {id}; must be at most {}, since the array is of int32", i32::MAX)))
}

/// Reads an archive.
pub struct NpzReader {
    path: PathBuf,
    layout: Layout,
    labels: Array,
    dense: Array,
    ids: Array,
    next: u64,
}

impl NpzReader {
    /// Opens an archive.
    ///
    /// # Errors
    /// If it cannot be read, lacks an array, or its arrays differ in their numbers of rows.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let array = |name| {
            let array = member(path, name)?;
            array.ok_or_else(|| wrong(path, format!("there is no array {name}; must hold X_int, X_cat and y")))
        };
        let (dense, ids, labels) = (array("X_int")?, array("X_cat")?, array("y")?);
        let rows = [("X_int", dense.rows()), ("X_cat", ids.rows())];
        if let Some((name, n)) = rows.into_iter().find(|(_, n)| *n != labels.rows()) {
            return Err(wrong(path, format!("{name} has {n} rows and y has {}; must be equal", labels.rows())));
        }
        if labels.width() != 1 {
            return Err(wrong(path, format!("y is {} wide; must be 1", labels.width())));
        }
        let layout = Layout::numbered(dense.width(), numbers(dense.of()), vec![Hotness::One; ids.width()]);
        Ok(NpzReader { path: path.to_owned(), layout: Layout { label: "y".into(), ..layout }, labels, dense, ids, next: 0 })
    }
}

impl Reader for NpzReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.labels.rows())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.labels.rows() - self.next).min(n as u64) as usize;
        [&mut self.labels, &mut self.dense, &mut self.ids].into_iter().try_for_each(|a| a.read(n))?;
        for i in 0..n {
            let place = Place { path: &self.path, row: self.next + i as u64 + 1 };
            rows.labels.push(place.label(&self.layout.label, self.labels.number(i, 0))?);
            rows.dense.extend((0..self.dense.width()).map(|k| self.dense.number(i, k)));
            for (k, (bags, column)) in rows.ids.iter_mut().zip(&self.layout.ids).enumerate() {
                bags.push([self.ids.id(i, k, place, &column.name)?]);
            }
        }
        self.next += n as u64;
        Ok(())
    }
}

/// Writes an archive. What is missing becomes 0.
pub struct NpzWriter {
    path: PathBuf,
    layout: Layout,
    labels: Member,
    dense: Member,
    ids: Member,
    counts: Vec<u32>,
    rows: u64,
}

impl NpzWriter {
    /// Starts an archive.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold other than one id.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        layout.check_single(path, "facebook's npz")?;
        let array = |name, width| Member::new(path, name, Type::Int(4), width).map_err(io(path));
        Ok(NpzWriter {
            dense: array("X_int", Some(layout.dense.len() as u64))?,
            ids: array("X_cat", Some(layout.ids.len() as u64))?,
            labels: array("y", None)?,
            path: path.to_owned(),
            layout: layout.clone(),
            counts: vec![0; layout.ids.len()],
            rows: 0,
        })
    }
}

impl Writer for NpzWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        for i in 0..rows.len() {
            self.rows += 1;
            let place = Place { path: &self.path, row: self.rows };
            self.labels.write(&(rows.labels[i] as i32).to_le_bytes()).map_err(io(&self.path))?;
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                let x = place.whole(name, x, "facebook's npz")?;
                self.dense.write(&x.to_le_bytes()).map_err(io(&self.path))?;
            }
            for (k, column) in self.layout.ids.iter().enumerate() {
                let id = narrow(rows.id(k, i), place, &column.name)?;
                self.counts[k] = self.counts[k].max(id as u32 + 1);
                self.ids.write(&id.to_le_bytes()).map_err(io(&self.path))?;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let NpzWriter { path, labels, dense, ids, counts, rows, .. } = *self;
        // facebook's are int32; where a column has more ids than that, wider ones say the same.
        let wide = counts.iter().any(|&n| n > i32::MAX as u32);
        let write = || {
            let mut numbers = Member::new(&path, "counts", Type::Int(if wide { 8 } else { 4 }), None)?;
            for &n in &counts {
                if wide { numbers.write(&i64::from(n).to_le_bytes()) } else { numbers.write(&n.to_le_bytes()) }?;
            }
            pack(&path, Packing::Deflated, [(dense, rows), (ids, rows), (labels, rows), (numbers, counts.len() as u64)])
        };
        write().map_err(io(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{
        Format,
        columns::Columns,
        testing::{Kind, arbitrary, python, read_all, round_trip, same, write_all},
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_written_is_read(
            rows in arbitrary(Kind { numbers: Numbers::Int32, many: false, missing: false, largest_id: i32::MAX as u32, criteo: false }),
            chunk in 1usize..40,
        ) {
            let (layout, rows) = rows;
            let layout = Layout { label: "y".into(), ..layout };
            let back = round_trip(Format::Npz, "a.npz", &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0 == layout && same(&back.1, &rows));
        }

        #[test]
        fn no_damage_makes_it_panic(cut in any::<prop::sample::Index>(), bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.npz");
            let layout = Layout::criteo(Numbers::Int32);
            let mut rows = Rows::new(&layout);
            for i in 0..20 {
                rows.labels.push((i % 2) as f32);
                rows.dense.extend([f64::from(i); 13]);
                rows.ids.iter_mut().for_each(|b| b.push([i as u32]));
            }
            write_all(Format::Npz, &path, &layout, &rows, 9).unwrap();
            let mut all = std::fs::read(&path).unwrap();
            for (at, byte) in bytes {
                let at = at.index(all.len());
                all[at] = byte;
            }
            if cut.index(4) == 0 {
                all.truncate(cut.index(all.len()));
            }
            std::fs::write(&path, &all).unwrap();
            match read_all(Format::Npz, &path, 9, &Columns::default()) {
                Err(e) => prop_assert!(!e.to_string().contains('\n'), "{}", e),
                // What is not said to be damaged (a date, say) has all its samples as they were.
                Ok((_, read)) => prop_assert!(same(&read, &rows)),
            }
        }
    }

    #[test]
    fn counts_of_the_largest_id_keep_their_sign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One, Hotness::One]);
        for (largest, of) in [(i32::MAX as u32 - 1, Type::Int(4)), (i32::MAX as u32, Type::Int(8))] {
            let mut rows = Rows::new(&layout);
            rows.labels.push(1.0);
            rows.ids[0].push([largest]);
            rows.ids[1].push([3]);
            write_all(Format::Npz, &path, &layout, &rows, 1).unwrap();
            let mut counts = member(&path, "counts").unwrap().unwrap();
            counts.read(2).unwrap();
            assert_eq!(counts.of(), of);
            assert_eq!([counts.number(0, 0), counts.number(1, 0)], [f64::from(largest) + 1.0, 4.0]);
        }
    }

    /// What facebook's program wrote (X_cat as f64 in columns' order, deflated), against numpy's reading of it.
    #[test]
    fn an_archive_of_facebook_is_read_as_numpy_reads_it() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/reference/facebook/kaggle_8000_processed.npz"));
        if !path.exists() {
            eprintln!("skipped: {} is not there", path.display());
            return;
        }
        let (layout, rows) = read_all(Format::Npz, path, 777, &Columns::default()).unwrap();
        assert_eq!((layout.dense.len(), layout.ids.len(), rows.len(), layout.numbers), (13, 26, 8000, Numbers::Int32));
        // Ids are numbered by first appearance, so that every column starts with 0 and no id comes before the one below it.
        for bags in &rows.ids {
            let mut next = 0;
            for &id in &bags.indices {
                assert!(id <= next);
                next = next.max(id + 1);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let again = dir.path().join("again.npz");
        write_all(Format::Npz, &again, &layout, &rows, 1000).unwrap();
        let script = r#"
import sys, numpy as np
a, b = np.load(sys.argv[1]), np.load(sys.argv[2])
assert set(a.files) == set(b.files), (a.files, b.files)
for name in a.files:
    assert a[name].shape == b[name].shape and (a[name] == b[name]).all(), name
"#;
        python(&["numpy"], script, &[path, &again]);
    }

    #[test]
    fn archives_that_do_not_fit_are_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let open = || read_all(Format::Npz, &path, 9, &Columns::default()).map(drop).unwrap_err().to_string();
        std::fs::write(&path, b"").unwrap();
        assert!(open().contains("a.npz: no archive of numpy: "), "{}", open());
        let array = |name: &str, width, n: usize| {
            let mut m = Member::new(&path, name, Type::Int(4), width).unwrap();
            m.write(&vec![1; 4 * n]).unwrap();
            m
        };
        let two = |name| (array(name, Some(2), 6), 3);
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat")]).unwrap();
        assert!(open().ends_with("there is no array y; must hold X_int, X_cat and y"));
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat"), (array("y", None, 4), 4)]).unwrap();
        assert!(open().ends_with("X_int has 3 rows and y has 4; must be equal"));
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat"), two("y")]).unwrap();
        assert!(open().ends_with("y is 2 wide; must be 1"));
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat"), (array("y", None, 3), 3)]).unwrap();
        assert!(open().ends_with("row 1: the label (column y) is 16843009; must be 0 or 1"));
        pack(&path, Packing::Stored, [two("X_int"), (array("X_cat", Some(2), 6), 4), (array("y", None, 3), 3)]).unwrap();
        assert!(open().ends_with("X_cat should have 4 rows of 2, but has 24 bytes; is the file cut short?"));
    }
}
