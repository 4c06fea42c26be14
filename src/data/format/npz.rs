//! The archives of facebook's preprocessing (facebookresearch/dlrm, data_utils.py), which all hold
//! `X_int` `[n, 13]`, counts before any logarithm, ids `[n, 26]` and `y` `[n]`. Any number of
//! columns is read and written. The stages:
//!
//! - `{raw}_{d}.npz`: the log in numbers; ids as they stand there, modulo the range if one was
//!   given, in `X_cat_t`, transposed. int32, so that ids from 2^31 on are negative, as older
//!   versions of numpy left them.
//! - `{raw}_{d}_processed.npz`: contiguous ids in `X_cat`, of a day;
//!   `kaggleAdDisplayChallenge_processed.npz`, `terabyte_processed.npz`: of all days, with
//!   `counts`, the number of ids of each column.
//! - `{raw}_{d}_reordered.npz`: the same after a shuffle, all of float64 (`--memory-map`).

use super::{
    Writer,
    matrices::{Ids, Matrices},
};
use crate::data::{
    DataError,
    ids::ToId,
    npy::Type,
    npz::{Member, Packing, member, pack, transposed_member},
    rows::{Layout, RowRef, Rows, io, wrong},
};
use std::path::{Path, PathBuf};

/// An id as the signed number of 32 bits that the arrays hold.
pub(super) fn narrow(id: u32, place: RowRef, name: &str) -> Result<i32, DataError> {
    i32::try_from(id).map_err(|_| {
        place.error(format!(
            "column {name} is {id}; must be at most {}, since the array is of int32",
            i32::MAX
        ))
    })
}

/// What an archive is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `{raw}_{d}.npz`
    Day,
    /// `*_processed.npz`
    Processed,
    /// `{raw}_{d}_reordered.npz`
    Reordered,
}

/// Opens an archive of any stage.
///
/// # Errors
/// If it cannot be read, lacks an array, or its arrays differ in their numbers of rows.
pub fn open(path: &Path, to: ToId) -> Result<Matrices, DataError> {
    let array = |name| {
        let array = member(path, name)?;
        array.ok_or_else(|| {
            wrong(path, format!("there is no array {name}; must hold X_int, X_cat and y"))
        })
    };
    let dense = array("X_int")?;
    let ids = match transposed_member(path, "X_cat_t")? {
        Some(raw) if raw.of() == Type::Int(4) => Ids::Wrapped(raw),
        Some(raw) => Ids::Together(raw),
        None => Ids::Together(array("X_cat")?),
    };
    Matrices::new("y", array("y")?, dense, ids, to)
}

/// Writes an archive. What is missing becomes 0.
pub struct NpzWriter {
    path: PathBuf,
    stage: Stage,
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
    pub fn create(path: &Path, stage: Stage, layout: &Layout) -> Result<Self, DataError> {
        super::capacity::check_single(layout, path, "facebook's npz")?;
        let of = if stage == Stage::Reordered { Type::F64 } else { Type::Int(4) };
        let array = |name, width| Member::new(path, name, of, width).map_err(io(path));
        let width = Some(layout.ids.len() as u64);
        Ok(NpzWriter {
            dense: array("X_int", Some(layout.dense.len() as u64))?,
            ids: if stage == Stage::Day {
                array("X_cat_t", width)?.transposed()
            } else {
                array("X_cat", width)?
            },
            labels: array("y", None)?,
            path: path.to_owned(),
            stage,
            layout: layout.clone(),
            counts: vec![0; layout.ids.len()],
            rows: 0,
        })
    }

    /// A number in the form of the stage.
    fn put(stage: Stage, to: &mut Member, x: i32) -> std::io::Result<()> {
        if stage == Stage::Reordered {
            to.write(&f64::from(x).to_le_bytes())
        } else {
            to.write(&x.to_le_bytes())
        }
    }
}

impl Writer for NpzWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let stage = self.stage;
        for i in 0..rows.len() {
            self.rows += 1;
            let place = RowRef { path: &self.path, row: self.rows };
            NpzWriter::put(stage, &mut self.labels, rows.labels[i] as i32)
                .map_err(io(&self.path))?;
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                let x = place.whole(name, x, "facebook's npz")?;
                NpzWriter::put(stage, &mut self.dense, x).map_err(io(&self.path))?;
            }
            for (k, column) in self.layout.ids.iter().enumerate() {
                let id = rows.id(k, i);
                let narrow =
                    if stage == Stage::Day { id as i32 } else { narrow(id, place, &column.name)? };
                self.counts[k] = self.counts[k].max(id.saturating_add(1));
                NpzWriter::put(stage, &mut self.ids, narrow).map_err(io(&self.path))?;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let NpzWriter { path, stage, labels, dense, ids, counts, rows, .. } = *self;
        let mut members = vec![(dense, rows), (ids, rows), (labels, rows)];
        let mut write = || {
            if stage == Stage::Processed {
                // facebook's are int32; where a column has more ids than that, wider ones say the
                // same.
                let wide = counts.iter().any(|&n| n > i32::MAX as u32);
                let mut numbers =
                    Member::new(&path, "counts", Type::Int(if wide { 8 } else { 4 }), None)?;
                for &n in &counts {
                    if wide {
                        numbers.write(&i64::from(n).to_le_bytes())
                    } else {
                        numbers.write(&n.to_le_bytes())
                    }?;
                }
                members.push((numbers, counts.len() as u64));
            }
            pack(&path, Packing::Deflated, members.drain(..))
        };
        write().map_err(io(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        format::{
            Format,
            columns::Columns,
            testing::{Kind, arbitrary, fuzz_cases, python, read_all, round_trip, same, write_all},
        },
        rows::{Hotness, Numbers},
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(fuzz_cases(32))]

        #[test]
        fn what_was_written_is_read(
            rows in arbitrary(Kind { numbers: Numbers::Int32, many: false, missing: false, largest_id: i32::MAX as u32, criteo: false }),
            chunk in 1usize..40,
        ) {
            let (layout, rows) = rows;
            let layout = Layout { label: "y".into(), ..layout };
            let back = round_trip(Format::Npz, "a.npz", &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0 == layout && same(&back.1, &rows));
            let back = round_trip(Format::NpzDay, "a.npz", &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0 == layout && same(&back.1, &rows));
            let back = round_trip(Format::NpzReordered, "a_reordered.npz", &layout, &rows, chunk, &Columns::default());
            let wide = Layout { numbers: Numbers::Float64, ..layout.clone() };
            prop_assert!(back.0 == wide && same(&back.1, &rows));
            let back = round_trip(Format::Intermediate, "a_intermediate_y.npy", &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0.ids == layout.ids && same(&back.1, &rows));
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

    /// All stages as the calls in data_utils.py write them.
    #[test]
    fn stages_of_facebook_and_ours_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let layout =
            Layout { label: "y".into(), ..Layout::numbered(2, Numbers::Int32, [Hotness::One; 3]) };
        let mut rows = Rows::new(&layout);
        for i in 0..7u32 {
            rows.labels.push((i % 2) as f32);
            rows.dense.extend([f64::from(i), -2.0]);
            rows.ids.iter_mut().zip(1..).for_each(|(b, k)| b.push([i * k]));
        }
        let mut raw = rows.clone();
        raw.ids[1].indices[3] = 0xdead_beef;
        let at = |name: &str| dir.path().join(name);
        write_all(Format::NpzDay, &at("day_0.npz"), &layout, &raw, 3).unwrap();
        write_all(Format::NpzReordered, &at("day_0_reordered.npz"), &layout, &rows, 3).unwrap();
        write_all(Format::Intermediate, &at("day_0_intermediate_s.npy"), &layout, &rows, 3)
            .unwrap();
        let script = r#"
import sys, numpy as np
d = sys.argv[1]
i = np.arange(7)
y, X_int, X_cat = (i % 2).astype(np.int32), np.stack([i, np.full(7, -2)], 1).astype(np.int32), np.stack([i, 2 * i, 3 * i], 1).astype(np.int32)
raw = X_cat.copy(); raw[3, 1] = np.uint32(0xdeadbeef).astype(np.int32)
def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all(), (a, b)
a = np.load(d + "/day_0.npz")
assert sorted(a.files) == ["X_cat_t", "X_int", "y"]
same(a["X_cat_t"], np.transpose(raw)); same(a["X_int"], X_int); same(a["y"], y)
assert not a["X_cat_t"].flags.c_contiguous
a = np.load(d + "/day_0_reordered.npz")
assert sorted(a.files) == ["X_cat", "X_int", "y"]
same(a["X_cat"], X_cat.astype(float)); same(a["X_int"], X_int.astype(float)); same(a["y"], y.astype(float))
for part, want in ("y", y), ("d", X_int), ("s", X_cat):
    same(np.load(d + f"/day_0_intermediate_{part}.npy"), want.astype(float))
    np.save(d + f"/day_1_intermediate_{part}.npy", want.astype(float))
np.savez_compressed(d + "/day_1.npz", X_int=X_int, X_cat_t=np.transpose(raw), y=y)
np.savez_compressed(d + "/day_2.npz", X_int=X_int, X_cat_t=np.ascontiguousarray(np.transpose(raw)), y=y)
np.savez_compressed(d + "/day_1_reordered.npz", X_cat=X_cat.astype(float), X_int=X_int.astype(float), y=y.astype(float))
"#;
        if !python(&["numpy"], script, &[dir.path()]) {
            return;
        }
        let read = |format, name| read_all(format, &at(name), 2, &Columns::default()).unwrap();
        for (format, name, want) in [
            (Format::Npz, "day_1.npz", &raw),
            (Format::NpzDay, "day_2.npz", &raw),
            (Format::NpzReordered, "day_1_reordered.npz", &rows),
            (Format::Intermediate, "day_1_intermediate_d.npy", &rows),
        ] {
            assert!(same(&read(format, name).1, want), "{name}");
        }
    }

    #[test]
    fn counts_of_the_largest_id_keep_their_sign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let layout = Layout::numbered(0, Numbers::Int32, [Hotness::One, Hotness::One]);
        for (largest, of) in [(i32::MAX as u32 - 1, Type::Int(4)), (i32::MAX as u32, Type::Int(8))]
        {
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

    /// What facebook's program wrote (X_cat as f64 in columns' order, deflated), against numpy's
    /// reading of it.
    #[test]
    fn an_archive_of_facebook_is_read_as_numpy_reads_it() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../shared/reference/facebook/kaggle_8000_processed.npz"
        ));
        if !path.exists() {
            eprintln!("skipped: {} is not there", path.display());
            return;
        }
        let (layout, rows) = read_all(Format::Npz, path, 777, &Columns::default()).unwrap();
        assert_eq!(
            (layout.dense.len(), layout.ids.len(), rows.len(), layout.numbers),
            (13, 26, 8000, Numbers::Int32)
        );
        // Ids are numbered by first appearance, so that every column starts with 0 and no id comes
        // before the one below it.
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
        let open = || {
            read_all(Format::Npz, &path, 9, &Columns::default()).map(drop).unwrap_err().to_string()
        };
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
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat"), (array("y", None, 4), 4)])
            .unwrap();
        assert!(open().ends_with("X_int has 3 rows and y has 4; must be equal"));
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat"), two("y")]).unwrap();
        assert!(open().ends_with("y is 2 wide; must be 1"));
        pack(&path, Packing::Stored, [two("X_int"), two("X_cat"), (array("y", None, 3), 3)])
            .unwrap();
        assert!(open().ends_with("row 1: the label (column y) is 16843009; must be 0 or 1"));
        pack(
            &path,
            Packing::Stored,
            [two("X_int"), (array("X_cat", Some(2), 6), 4), (array("y", None, 3), 3)],
        )
        .unwrap();
        assert!(
            open().ends_with(
                "X_cat should have 4 rows of 2, but has 24 bytes; is the file cut short?"
            )
        );
    }
}
