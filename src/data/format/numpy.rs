//! A plain array of numpy's, `.npy`: a row a sample, the label first, then the dense columns, then
//! the ids, of any type of numbers.
//!
//! An array has no names: they and what each column is are in a description beside the file.
//! Without one, an array of 40 columns is taken for Criteo's, and in any other the columns are
//! called 0, 1, 2, ...; the user says which is the label.

use super::{
    Reader, Writer,
    capacity::check_fixed,
    columns::Columns,
    sidecar::{Largest, Sidecar, fixed},
};
use crate::data::{
    DataError,
    ids::ToId,
    npy::{Array, ArrayWriter, Type},
    rows::{Hotness, IdColumn, Layout, Numbers, RowRef, Rows, io, wrong},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Reads an array.
pub struct NumpyReader {
    path: PathBuf,
    array: Array,
    layout: Layout,
    /// Columns of the array that hold the label, the dense values, and the first id of each
    /// categorical column.
    label: usize,
    dense: Vec<usize>,
    ids: Vec<usize>,
    to: ToId,
    next: u64,
}

impl NumpyReader {
    /// Opens an array.
    ///
    /// # Errors
    /// If it cannot be read, or its width is not that of its description, or columns were chosen
    /// that it does not have.
    pub fn open(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        let array = Array::open(path, "the array")?;
        let numbers = super::matrices::numbers(array.of());
        let described = Sidecar::read(path)?.filter(Sidecar::columns).map(|s| s.layout(numbers));
        let plain = columns.chooses_none();
        let layout = match described {
            Some(layout) => Some(layout),
            None if plain && array.width() == 40 => Some(Layout::criteo(numbers)),
            None => None,
        };
        let Some(layout) = layout else {
            super::matrices::few_columns(&array)?;
            let names: Vec<String> = (0..array.width()).map(|k| k.to_string()).collect();
            let chosen = columns.choose(path, &names, |_| false)?;
            let name = |&k: &usize| names[k].clone();
            let layout = Layout {
                label: name(&chosen.label),
                dense: chosen.dense.iter().map(name).collect(),
                numbers,
                ids: chosen
                    .categorical
                    .iter()
                    .map(|k| IdColumn { name: name(k), hotness: Hotness::One })
                    .collect(),
            };
            let (label, dense, ids) = (chosen.label, chosen.dense, chosen.categorical);
            return Ok(NumpyReader {
                path: path.to_owned(),
                array,
                layout,
                label,
                dense,
                ids,
                to: columns.to_id(),
                next: 0,
            });
        };
        columns.unused(path, "an array with a description")?;
        check_fixed(&layout, path, "an array")?;
        let mut width = 1 + layout.dense.len();
        let mut ids = Vec::new();
        for column in &layout.ids {
            ids.push(width);
            width += many(column);
        }
        if width != array.width() {
            return Err(wrong(
                path,
                format!(
                    "the array has {} columns; its description asks for {width}",
                    array.width()
                ),
            ));
        }
        Ok(NumpyReader {
            path: path.to_owned(),
            array,
            label: 0,
            dense: (1..=layout.dense.len()).collect(),
            ids,
            to: columns.to_id(),
            layout,
            next: 0,
        })
    }
}

/// Columns of the array that a categorical column takes.
fn many(column: &IdColumn) -> usize {
    if let Hotness::Fixed(n) = column.hotness { n } else { 1 }
}

impl Reader for NumpyReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.array.rows())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.array.rows() - self.next).min(n as u64) as usize;
        self.array.read(n)?;
        for i in 0..n {
            let place = RowRef { path: &self.path, row: self.next + i as u64 + 1 };
            rows.labels.push(place.label(&self.layout.label, self.array.number(i, self.label))?);
            rows.dense.extend(self.dense.iter().map(|&k| self.array.number(i, k)));
            for ((bags, column), &first) in rows.ids.iter_mut().zip(&self.layout.ids).zip(&self.ids)
            {
                for k in first..first + many(column) {
                    bags.extend_keys(self.array.id(i, k, self.to, place, &column.name)?);
                }
                place.full(column, bags)?;
            }
        }
        self.next += n as u64;
        Ok(())
    }
}

/// Writes an array and its description: of int64 if all numbers are whole, and then what is missing
/// becomes 0, else of float64 with NaN.
pub struct NumpyWriter {
    path: PathBuf,
    layout: Layout,
    array: ArrayWriter,
    largest: Largest,
    rows: u64,
}

impl NumpyWriter {
    /// Starts an array.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold varying numbers of ids.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        check_fixed(layout, path, "an array")?;
        let width = 1 + layout.dense.len() + layout.ids.iter().map(many).sum::<usize>();
        let of = if layout.numbers == Numbers::Int32 { Type::Int(8) } else { Type::F64 };
        let array = File::create(path)
            .and_then(|f| ArrayWriter::new(f, of, Some(width as u64)))
            .map_err(io(path))?;
        Ok(NumpyWriter {
            path: path.to_owned(),
            layout: layout.clone(),
            array,
            largest: Largest::new(layout),
            rows: 0,
        })
    }
}

impl Writer for NumpyWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let whole = self.layout.numbers == Numbers::Int32;
        let mut row = Vec::new();
        for i in 0..rows.len() {
            self.rows += 1;
            let place = RowRef { path: &self.path, row: self.rows };
            row.clear();
            row.push(f64::from(rows.labels[i]));
            row.extend_from_slice(rows.dense_row(i));
            for (k, column) in self.layout.ids.iter().enumerate() {
                match rows.ids[k].bag(i) {
                    [] if column.hotness == Hotness::One => row.push(f64::NAN),
                    bag => {
                        for id in fixed(column, bag).map_err(|what| place.error(what))? {
                            self.largest.see(k, id);
                            row.push(id.into());
                        }
                    }
                }
            }
            // A cast makes 0 of NaN; all numbers here are whole and below 2^32.
            let bytes = |&x: &f64| if whole { (x as i64).to_le_bytes() } else { x.to_le_bytes() };
            row.iter().try_for_each(|x| self.array.write(&bytes(x))).map_err(io(&self.path))?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        self.array.finish(self.rows).map_err(io(&self.path))?;
        Sidecar::new(&self.layout, self.largest.rows()).write(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{
        Format,
        testing::{Kind, arbitrary, fuzz_cases, python, read_all, same, write_all, zeroed},
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(fuzz_cases(32))]

        #[test]
        fn what_was_written_is_read(
            floats in arbitrary(Kind { numbers: Numbers::Float64, many: false, ..Kind::ANY }),
            whole in arbitrary(Kind { numbers: Numbers::Int32, many: false, ..Kind::ANY }),
            chunk in 1usize..40,
        ) {
            for (mut layout, rows) in [floats, whole] {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("a.npy");
                write_all(Format::Numpy, &path, &layout, &rows, chunk).unwrap();
                let back = read_all(Format::Numpy, &path, chunk + 1, &Columns::default()).unwrap();
                let want = if layout.numbers == Numbers::Int32 { zeroed(&rows) } else { rows };
                // 64 bits hold both.
                layout.numbers = Numbers::Float64;
                prop_assert!(back.0 == layout && same(&back.1, &want));
            }
        }

        #[test]
        fn no_damage_makes_it_panic(spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.npy");
            let layout = Layout::numbered(2, Numbers::Float64, [Hotness::One, Hotness::Fixed(2)]);
            let mut rows = Rows::new(&layout);
            for i in 0..9 {
                rows.labels.push(1.0);
                rows.dense.extend([0.5, f64::NAN]);
                rows.ids[0].push([i]);
                rows.ids[1].push([i, 3]);
            }
            write_all(Format::Numpy, &path, &layout, &rows, 4).unwrap();
            for file in super::super::files(&path, Format::Numpy, &layout) {
                let mut bytes = std::fs::read(&file).unwrap();
                for (at, byte) in &spoilt {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if cut.index(4) == 0 {
                    let at = cut.index(bytes.len());
                    bytes.truncate(at);
                }
                std::fs::write(file, bytes).unwrap();
                if let Err(e) = read_all(Format::Numpy, &path, 7, &Columns::default()) {
                    prop_assert!(!e.to_string().contains('\n'), "{}", e);
                }
            }
        }
    }

    #[test]
    fn arrays_of_numpy_are_read_with_or_without_a_description() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"
import sys, numpy as np
d, i = sys.argv[1], np.arange(6)
np.save(d + "/criteo.npy", np.concatenate([(i % 2)[:, None], np.full((6, 13), 4), np.full((6, 26), 5) + i[:, None]], 1).astype(np.int32))
np.save(d + "/own.npy", np.asfortranarray(np.stack([i * 2, i / 4, i % 2], 1).astype(np.float32)))
"#;
        if !python(&["numpy"], script, &[dir.path()]) {
            return;
        }
        let (layout, rows) =
            read_all(Format::Numpy, &dir.path().join("criteo.npy"), 4, &Columns::default())
                .unwrap();
        assert_eq!((layout, rows.labels.len()), (Layout::criteo(Numbers::Int32), 6));
        assert!(
            rows.dense.iter().all(|&x| x == 4.0)
                && rows.ids.iter().all(|b| b.indices == [5, 6, 7, 8, 9, 10])
        );
        let own = dir.path().join("own.npy");
        let open = |columns: &Columns| {
            read_all(Format::Numpy, &own, 4, columns).map_err(|e| e.to_string())
        };
        assert!(open(&Columns::default()).unwrap_err().ends_with("name the label, one of 0, 1, 2"));
        let columns =
            Columns { label: Some("2".into()), dense: vec!["1".into()], ..Columns::default() };
        let (layout, rows) = open(&columns).unwrap();
        assert_eq!(
            (layout.label, layout.dense, layout.ids[0].name.as_str()),
            ("2".into(), vec!["1".into()], "0")
        );
        assert_eq!(
            (&rows.labels[..], &rows.ids[0].indices[..]),
            (&[0.0, 1.0, 0.0, 1.0, 0.0, 1.0][..], &[0, 2, 4, 6, 8, 10][..])
        );
        let columns = Columns { label: Some("0".into()), ..Columns::default() };
        assert!(
            open(&columns)
                .unwrap_err()
                .ends_with("row 2: the label (column 0) is 2; must be 0 or 1")
        );
    }
}
