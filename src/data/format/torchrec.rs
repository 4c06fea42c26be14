//! TorchRec's files for Criteo (torchrec/datasets/criteo.py and the reference of MLPerf's
//! dlrm_dcnv2): of one day `PREFIX_dense.npy` (f32, logarithms already taken), `PREFIX_labels.npy`
//! (i32), and the ids as `PREFIX_sparse.npy` (i32, one a column) or `PREFIX_sparse_multi_hot.npz`
//! (arrays `0`, `1`, ... of i32, one a table, with a fixed number of ids a sample).

use super::{
    Writer,
    capacity::check_fixed,
    matrices::{self, Matrices},
    npz::narrow,
};
use crate::data::{
    DataError,
    ids::ToId,
    npy::{Array, ArrayWriter, Type},
    npz::{self, Packing},
    preprocess::lines::shown_name,
    rows::{Hotness, IdColumn, Layout, RowRef, Rows, io, wrong},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

const DENSE: &str = "_dense.npy";
const LABELS: &str = "_labels.npy";
const SPARSE: &str = "_sparse.npy";
const MULTI_HOT: &str = "_sparse_multi_hot.npz";
/// Endings that name such a set of files.
pub const ENDINGS: [&str; 4] = [DENSE, LABELS, SPARSE, MULTI_HOT];

/// The file of the set named by `path` (any of its files, or what they have in common) that ends in
/// `ending`.
fn part(path: &Path, ending: &str) -> PathBuf {
    matrices::part(path, &ENDINGS, ending)
}

/// Whether the ids take the form of an archive.
fn multi_hot(layout: &Layout) -> bool {
    layout.ids.iter().any(|c| c.hotness != Hotness::One)
}

/// The files of the set for samples of `layout`.
pub fn files(path: &Path, layout: &Layout) -> Vec<PathBuf> {
    let ids = if multi_hot(layout) { MULTI_HOT } else { SPARSE };
    [DENSE, ids, LABELS].map(|e| part(path, e)).to_vec()
}

/// Opens the files. Where both forms of ids are there, `path` decides: the archive is taken if it
/// is named.
///
/// # Errors
/// If one is missing or damaged, or they differ in their numbers of rows.
pub fn open(path: &Path, to: ToId) -> Result<Matrices, DataError> {
    let (one, many) = (part(path, SPARSE), part(path, MULTI_HOT));
    let labels = Array::open(&part(path, LABELS), "the array of labels")?;
    let dense = Array::open(&part(path, DENSE), "the array of dense features")?;
    let ids = if path == many || !one.exists() && many.exists() {
        let tables = tables(&many)?.into_iter().map(|name| {
            let table = npz::member(&many, &name)?;
            table.ok_or_else(|| wrong(&many, format!("there is no array {name}")))
        });
        matrices::Ids::Apart(tables.collect::<Result<_, _>>()?)
    } else {
        matrices::Ids::Together(Array::open(&one, "the array of ids")?)
    };
    Matrices::new("label", labels, dense, ids, to)
}

/// The names of the arrays of an archive in the order of the tables: `0`, `1` and so on, with zeros
/// in front or not, or `arr_0`, as numpy calls them.
///
/// # Errors
/// If one is missing or there twice, or one has another name.
fn tables(archive: &Path) -> Result<Vec<String>, DataError> {
    let mut names: Vec<(usize, String)> = Vec::new();
    for name in npz::names(archive)? {
        let digits = name.strip_prefix("arr_").unwrap_or(&name);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse().ok().filter(|_| plain) {
            Some(table) => names.push((table, name)),
            None => {
                let what = format!(
                    "there is an array {}; must be one a table, called 0, 1 and so on",
                    shown_name(&name)
                );
                return Err(wrong(archive, what));
            }
        }
    }
    names.sort_unstable();
    for (table, (number, name)) in names.iter().enumerate() {
        if *number > table {
            let last = names[names.len() - 1].0;
            let what = format!("there is no array {table}, though others up to {last} are there");
            return Err(wrong(archive, what));
        }
        if *number < table {
            return Err(wrong(archive, format!("array {name} is there twice; must be there once")));
        }
    }
    if names.is_empty() {
        return Err(wrong(
            archive,
            "there is no array; must be one a table, called 0, 1 and so on",
        ));
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// Writes a set. What is missing becomes 0.
pub struct TorchRecWriter {
    path: PathBuf,
    layout: Layout,
    dense: ArrayWriter,
    labels: ArrayWriter,
    ids: Ids,
    rows: u64,
}

enum Ids {
    One(ArrayWriter),
    Many(Vec<npz::Member>),
}

impl TorchRecWriter {
    /// Starts the files.
    ///
    /// # Errors
    /// If they cannot be written, or a column may hold varying numbers of ids.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        check_fixed(layout, path, "a set of TorchRec's")?;
        let array = |ending, of, width| {
            let file = part(path, ending);
            let array = File::create(&file).and_then(|f| ArrayWriter::new(f, of, Some(width)));
            array.map_err(io(file))
        };
        let tables = || layout.ids.iter().enumerate();
        let ids = if multi_hot(layout) {
            let width = |h| if let Hotness::Fixed(n) = h { n } else { 1 };
            let member = |(k, c): (usize, &IdColumn)| {
                npz::Member::new(path, &k.to_string(), Type::Int(4), Some(width(c.hotness) as u64))
            };
            Ids::Many(tables().map(member).collect::<Result<_, _>>().map_err(io(path))?)
        } else {
            Ids::One(array(SPARSE, Type::Int(4), layout.ids.len() as u64)?)
        };
        let dense = array(DENSE, Type::F32, layout.dense.len() as u64)?;
        Ok(TorchRecWriter {
            path: path.to_owned(),
            dense,
            labels: array(LABELS, Type::Int(4), 1)?,
            ids,
            layout: layout.clone(),
            rows: 0,
        })
    }
}

impl Writer for TorchRecWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let sparse =
            part(&self.path, if matches!(self.ids, Ids::One(_)) { SPARSE } else { MULTI_HOT });
        let (dense, labels) = (part(&self.path, DENSE), part(&self.path, LABELS));
        for i in 0..rows.len() {
            self.rows += 1;
            let place = RowRef { path: &sparse, row: self.rows };
            self.labels.write(&(rows.labels[i] as i32).to_le_bytes()).map_err(io(&labels))?;
            for &x in rows.dense_row(i) {
                let x = if x.is_nan() { 0.0 } else { x as f32 };
                self.dense.write(&x.to_le_bytes()).map_err(io(&dense))?;
            }
            for (k, column) in self.layout.ids.iter().enumerate() {
                match &mut self.ids {
                    Ids::One(array) => {
                        let id = narrow(rows.id(k, i), place, &column.name)?;
                        array.write(&id.to_le_bytes()).map_err(io(&sparse))?;
                    }
                    Ids::Many(members) => {
                        let most = if let Hotness::Fixed(n) = column.hotness { n } else { 1 };
                        let bag = rows.ids[k].bag(i);
                        if bag.len() != most && !(most == 1 && bag.is_empty()) {
                            let n = bag.len();
                            return Err(place.error(format!(
                                "column {} holds {n} ids; must hold {most}, as in every row",
                                column.name
                            )));
                        }
                        let bag: &[u32] = if bag.is_empty() { &[0] } else { bag };
                        for &id in bag {
                            members[k]
                                .write(&narrow(id, place, &column.name)?.to_le_bytes())
                                .map_err(io(&sparse))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let TorchRecWriter { path, dense, labels, ids, rows, .. } = *self;
        dense.finish(rows).map_err(io(part(&path, DENSE)))?;
        match ids {
            Ids::One(array) => array.finish(rows).map(drop).map_err(io(part(&path, SPARSE)))?,
            Ids::Many(members) => {
                let ids = part(&path, MULTI_HOT);
                npz::pack(&ids, Packing::Deflated, members.into_iter().map(|m| (m, rows)))
                    .map_err(io(ids))?;
            }
        }
        labels.finish(rows).map(drop).map_err(io(part(&path, LABELS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{
        Format,
        columns::Columns,
        testing::{Kind, arbitrary, fuzz_cases, python, read_all, round_trip, same, write_all},
    };
    use crate::data::{npy::Header, rows::Numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(fuzz_cases(32))]

        #[test]
        fn what_was_written_is_read(
            rows in arbitrary(Kind { numbers: Numbers::Float32, many: false, missing: false, largest_id: i32::MAX as u32, criteo: false }),
            hot in 1usize..4,
            chunk in 1usize..40,
        ) {
            let (mut layout, mut rows) = rows;
            let back = round_trip(Format::TorchRec, "day_0_dense.npy", &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0 == layout && same(&back.1, &rows));
            // And with several ids in each table but the first.
            for (k, (column, bags)) in layout.ids.iter_mut().zip(&mut rows.ids).enumerate().skip(1) {
                column.hotness = Hotness::Fixed(hot + k);
                let all: Vec<u32> = bags.indices.clone();
                bags.clear();
                all.iter().for_each(|&id| bags.push((0..hot + k).map(|j| if j == 0 { id } else { j as u32 })));
            }
            let back = round_trip(Format::TorchRec, "day_0", &layout, &rows, chunk, &Columns::default());
            prop_assert!(back.0 == layout && same(&back.1, &rows));
        }

        #[test]
        fn no_damage_makes_it_panic(
            spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..6),
            many: bool,
            cut in any::<prop::sample::Index>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a_dense.npy");
            let layout = Layout::numbered(2, Numbers::Float32, [Hotness::One, if many { Hotness::Fixed(2) } else { Hotness::One }]);
            let mut rows = Rows::new(&layout);
            for i in 0..9 {
                rows.labels.push(1.0);
                rows.dense.extend([0.5, 2.0]);
                rows.ids[0].push([i]);
                rows.ids[1].push([i; 2].into_iter().take(1 + usize::from(many)));
            }
            write_all(Format::TorchRec, &path, &layout, &rows, 4).unwrap();
            let all = files(&path, &layout);
            for (file, at, byte) in spoilt {
                let mut bytes = std::fs::read(file.get(&all)).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                std::fs::write(file.get(&all), bytes).unwrap();
            }
            if cut.index(4) == 0 {
                let bytes = std::fs::read(cut.get(&all)).unwrap();
                std::fs::write(cut.get(&all), &bytes[..cut.index(bytes.len())]).unwrap();
            }
            if let Err(e) = read_all(Format::TorchRec, &path, 7, &Columns::default()) {
                prop_assert!(!e.to_string().contains('\n'), "{}", e);
            }
        }
    }

    #[test]
    fn numpy_and_we_read_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::numbered(2, Numbers::Float32, [Hotness::One, Hotness::Fixed(3)]);
        let mut rows = Rows::new(&layout);
        for i in 0..5u32 {
            rows.labels.push((i % 2) as f32);
            rows.dense.extend([f64::from(i) / 4.0, -1.5]);
            rows.ids[0].push([i * 10]);
            rows.ids[1].push([i, 7, 1 << 30]);
        }
        write_all(Format::TorchRec, &dir.path().join("day_0"), &layout, &rows, 2).unwrap();
        let script = r#"
import sys, numpy as np
d = sys.argv[1]
dense, labels, sparse = np.load(d + "/day_0_dense.npy"), np.load(d + "/day_0_labels.npy"), np.load(d + "/day_0_sparse_multi_hot.npz")
assert dense.dtype == np.float32 and dense.tolist() == [[i / 4, -1.5] for i in range(5)], dense
assert labels.dtype == np.int32 and labels.tolist() == [[i % 2] for i in range(5)], labels
assert sparse.files == ["0", "1"] and sparse["0"].tolist() == [[i * 10] for i in range(5)], sparse["0"]
assert sparse["1"].dtype == np.int32 and sparse["1"].tolist() == [[i, 7, 1 << 30] for i in range(5)]
# As TorchRec's preprocessing writes them; once more in other types and in columns' order, once with one dimension of labels.
np.save(d + "/day_1_dense.npy", dense); np.save(d + "/day_1_labels.npy", labels.reshape(-1))
np.savez(d + "/day_1_sparse_multi_hot.npz", **{k: v for k, v in sparse.items()})
np.save(d + "/day_2_dense.npy", np.asfortranarray(dense)); np.save(d + "/day_2_labels.npy", labels.astype(np.float32))
np.savez_compressed(d + "/day_2_sparse_multi_hot.npz", **{k: np.asfortranarray(v.astype(np.uint64)) for k, v in sparse.items()})
np.save(d + "/day_3_dense.npy", dense); np.save(d + "/day_3_labels.npy", labels); np.save(d + "/day_3_sparse.npy", sparse["1"])
"#;
        if !python(&["numpy"], script, &[dir.path()]) {
            return;
        }
        for day in ["day_0", "day_1_labels.npy", "day_2_sparse_multi_hot.npz"] {
            let back =
                read_all(Format::TorchRec, &dir.path().join(day), 2, &Columns::default()).unwrap();
            assert!(back.0 == layout && same(&back.1, &rows), "{day}");
        }
        let (layout, one) = read_all(
            Format::TorchRec,
            &dir.path().join("day_3_sparse.npy"),
            9,
            &Columns::default(),
        )
        .unwrap();
        assert_eq!((layout.ids.len(), one.ids[2].indices.clone()), (3, vec![1 << 30; 5]));
    }

    #[test]
    fn sets_that_do_not_fit_are_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::numbered(1, Numbers::Float32, [Hotness::One]);
        let mut rows = Rows::new(&layout);
        rows.labels.push(1.0);
        rows.dense.push(0.5);
        rows.ids[0].push([3]);
        let path = dir.path().join("a_dense.npy");
        write_all(Format::TorchRec, &path, &layout, &rows, 1).unwrap();
        let open = || {
            read_all(Format::TorchRec, &path, 9, &Columns::default())
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        let sparse = dir.path().join("a_sparse.npy");
        let good = std::fs::read(&sparse).unwrap();
        std::fs::write(&sparse, &good[..good.len() - 1]).unwrap();
        assert!(
            open().ends_with("a_sparse.npy: the array of ids should have 1 rows of 1, but has 3 bytes; is the file cut short?")
        );
        let mut negative = good.clone();
        negative[131] = 0x80;
        std::fs::write(&sparse, &negative).unwrap();
        assert!(
            open().contains("a_sparse.npy: row 1: column C1 is -2147483645; must be an id"),
            "{}",
            open()
        );
        std::fs::write(&sparse, b"text").unwrap();
        assert!(open().contains("a_sparse.npy: no array: its header cannot be read"));
        std::fs::remove_file(&sparse).unwrap();
        assert!(open().contains("a_sparse.npy: No such file"));
        // No ids, and no end of dense columns, which are those that have names.
        let many = dir.path().join("a_sparse_multi_hot.npz");
        let none = npz::Member::new(&many, "0", Type::Int(4), Some(0)).unwrap();
        npz::pack(&many, Packing::Stored, [(none, 1)]).unwrap();
        assert!(
            open().ends_with("a_sparse_multi_hot.npz: 0 has no ids a row; must have one or more"),
            "{}",
            open()
        );
        for (file, width) in [("a_labels.npy", 1), ("a_dense.npy", 1 << 21), ("a_sparse.npy", 1)] {
            let of = if width == 1 { Type::Int(4) } else { Type::F32 };
            let header = Header { of, fortran: false, shape: vec![0, width] };
            std::fs::write(dir.path().join(file), header.bytes()).unwrap();
        }
        assert!(
            open().ends_with("a_dense.npy: the array of dense features has 2097152 columns; must have at most 1048576"),
            "{}",
            open()
        );
        let any = Layout::numbered(1, Numbers::Float32, [Hotness::Any]);
        assert!(
            TorchRecWriter::create(&path, &any)
                .err()
                .unwrap()
                .to_string()
                .contains("but C1 may hold any")
        );
    }
}
