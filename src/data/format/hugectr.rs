//! HugeCTR's raw files (HugeCTR user guide, "Raw"; `float_label_dense = true`): no header; of each
//! sample the label and the dense features as 32-bit fractions, then the ids of all columns, each
//! of 32 bits, without offsets; a column of several ids has a fixed number of them.
//!
//! HugeCTR is told of the columns in its own configuration. Here they are Criteo's unless a
//! description lies beside the file. That may also say that label and dense features are whole
//! numbers of 32 bits (`"float_label_dense": false`), which a file cannot.

use super::{
    Reader, Writer,
    capacity::check_fixed,
    sidecar::{Largest, Sidecar, fixed},
};
use crate::{
    data::{
        DataError,
        rows::{Hotness, Layout, Numbers, RowRef, Rows, io, wrong},
    },
    host::MappedFile,
};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Bytes of each number.
const SIZE: usize = 4;

/// Numbers of a sample.
fn width(layout: &Layout) -> usize {
    let ids = layout.ids.iter().map(|c| if let Hotness::Fixed(n) = c.hotness { n } else { 1 });
    1 + layout.dense.len() + ids.sum::<usize>()
}

/// Reads a file.
pub struct HugeCtrReader {
    path: PathBuf,
    file: MappedFile,
    layout: Layout,
    /// Whether label and dense features are fractions.
    fractions: bool,
    next: u64,
}

/// Samples that are looked at to tell whether their label and dense features are whole numbers.
const LOOK: usize = 1000;

/// Whether the words of labels and dense features, read as fractions, can only be whole numbers:
/// small ones are no fractions that anybody has.
fn whole(words: impl Iterator<Item = [u8; SIZE]>) -> bool {
    let mut small = false;
    for word in words {
        let (x, bits) = (f32::from_le_bytes(word), i32::from_le_bytes(word));
        small |= (1..1 << 23).contains(&bits);
        // Below 2^28, or, as a negative number, NaN.
        if x.is_nan() && bits > 0 || x.abs() > 2.5e-29 {
            return false;
        }
    }
    small
}

impl HugeCtrReader {
    /// Opens a file, which is mapped.
    ///
    /// # Errors
    /// If it cannot be read, its size is no multiple of a sample's, or it holds whole numbers where
    /// nothing says so.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let described = Sidecar::read(path)?;
        let said = described.as_ref().and_then(|d| d.float_label_dense);
        let numbers = if said == Some(false) { Numbers::Int32 } else { Numbers::Float32 };
        let layout = match described {
            Some(described) if described.columns() => described.layout(numbers),
            _ => Layout::criteo(numbers),
        };
        check_fixed(&layout, path, "a raw file of HugeCTR's")?;
        let file = MappedFile::open(path).map_err(io(path))?;
        let (bytes, sample) = (file.bytes().len(), SIZE * width(&layout));
        if bytes % sample != 0 {
            let what = format!(
                "{bytes} bytes are {} samples of {sample} bytes ({} dense and {} categorical columns) and {} more; must be a multiple of \
                 {sample} (is the file cut short, or a FILE.columns.json missing?)",
                bytes / sample,
                layout.dense.len(),
                layout.ids.len(),
                bytes % sample
            );
            return Err(wrong(path, what));
        }
        let all = file.bytes().chunks_exact(sample).take(LOOK);
        let first =
            all.flat_map(|s| s.as_chunks::<SIZE>().0[..=layout.dense.len()].iter().copied());
        if said.is_none() && whole(first) {
            let beside = super::sidecar::beside(path);
            let what = format!(
                "label and dense are whole numbers here, not fractions (HugeCTR's float_label_dense = false); \
                 {beside} must say so: {{\"float_label_dense\": false}}, for other columns than Criteo's beside their names",
                beside = beside.display()
            );
            return Err(wrong(path, what));
        }
        let fractions = said != Some(false);
        Ok(HugeCtrReader { path: path.to_owned(), file, layout, fractions, next: 0 })
    }

    fn samples(&self) -> u64 {
        (self.file.bytes().len() / (SIZE * width(&self.layout))) as u64
    }
}

impl Reader for HugeCtrReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.samples())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        self.file.check().map_err(io(&self.path))?;
        let n = (self.samples() - self.next).min(n as u64);
        let sample = SIZE * width(&self.layout);
        let bytes = &self.file.bytes()[self.next as usize * sample..][..n as usize * sample];
        for (record, row) in bytes.chunks_exact(sample).zip(self.next + 1..) {
            let (words, _) = record.as_chunks::<SIZE>();
            let place = RowRef { path: &self.path, row };
            let (numbers, mut ids) = words.split_at(1 + self.layout.dense.len());
            let number = |&word: &[u8; SIZE]| match self.fractions {
                true => f64::from(f32::from_le_bytes(word)),
                false => f64::from(i32::from_le_bytes(word)),
            };
            rows.labels.push(place.label(&self.layout.label, number(&numbers[0]))?);
            rows.dense.extend(numbers[1..].iter().map(number));
            for (bags, column) in rows.ids.iter_mut().zip(&self.layout.ids) {
                let many = if let Hotness::Fixed(n) = column.hotness { n } else { 1 };
                let own;
                (own, ids) = ids.split_at(many);
                bags.push(own.iter().map(|&id| u32::from_le_bytes(id)));
            }
        }
        self.next += n;
        Ok(())
    }
}

/// Writes a file and the description of its columns. What is missing becomes 0; dense values are
/// rounded to 32 bits.
pub struct HugeCtrWriter {
    path: PathBuf,
    file: BufWriter<File>,
    layout: Layout,
    largest: Largest,
    rows: u64,
}

impl HugeCtrWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold varying numbers of ids.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        check_fixed(layout, path, "a raw file of HugeCTR's")?;
        let file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io(path))?);
        Ok(HugeCtrWriter {
            path: path.to_owned(),
            file,
            layout: layout.clone(),
            largest: Largest::new(layout),
            rows: 0,
        })
    }
}

impl Writer for HugeCtrWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let mut record = Vec::with_capacity(SIZE * width(&self.layout));
        for i in 0..rows.len() {
            self.rows += 1;
            let place = RowRef { path: &self.path, row: self.rows };
            record.clear();
            record.extend(rows.labels[i].to_le_bytes());
            record.extend(
                rows.dense_row(i)
                    .iter()
                    .flat_map(|&x| if x.is_nan() { 0.0f32 } else { x as f32 }.to_le_bytes()),
            );
            for (k, column) in self.layout.ids.iter().enumerate() {
                for id in fixed(column, rows.ids[k].bag(i)).map_err(|what| place.error(what))? {
                    self.largest.see(k, id);
                    record.extend(id.to_le_bytes());
                }
            }
            self.file.write_all(&record).map_err(io(&self.path))?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), DataError> {
        self.file.flush().map_err(io(&self.path))?;
        Sidecar::new(&self.layout, self.largest.rows()).write(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        format::{
            Format,
            columns::Columns,
            sidecar::beside,
            testing::{Kind, arbitrary, fuzz_cases, python, read_all, same, write_all, zeroed},
        },
        rows::IdColumn,
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(fuzz_cases(32))]

        #[test]
        fn what_was_written_is_read(
            rows in arbitrary(Kind { numbers: Numbers::Float32, many: false, ..Kind::ANY }),
            chunk in 1usize..40,
        ) {
            let (layout, rows) = rows;
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.raw");
            write_all(Format::HugeCtr, &path, &layout, &rows, chunk).unwrap();
            let back = read_all(Format::HugeCtr, &path, chunk + 1, &Columns::default()).unwrap();
            let want = Rows { dense: zeroed(&rows).dense.iter().map(|&x| f64::from(x as f32)).collect(), ..zeroed(&rows) };
            prop_assert!(back.0 == layout && same(&back.1, &want));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), whole: bool, columns in "[ -~]{0,60}", described: bool) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.raw");
            let cut = if whole { bytes.len() / 160 * 160 } else { bytes.len() };
            std::fs::write(&path, &bytes[..cut]).unwrap();
            if described {
                std::fs::write(beside(&path), format!("{{\"label\":\"y\",\"dense\":[{columns}],\"categorical\":[]}}")).unwrap();
            }
            if let Err(e) = read_all(Format::HugeCtr, &path, 7, &Columns::default()) {
                prop_assert!(!e.to_string().contains('\n'), "{}", e);
            }
        }
    }

    #[test]
    fn numpy_sees_the_same_samples() {
        let dir = tempfile::tempdir().unwrap();
        let mut layout = Layout::numbered(1, Numbers::Float32, [Hotness::One]);
        layout.ids.push(IdColumn { name: "tags".into(), hotness: Hotness::Fixed(2) });
        let mut rows = Rows::new(&layout);
        for i in 0..5u32 {
            rows.labels.push((i % 2) as f32);
            rows.dense.push(f64::from(i) / 2.0);
            rows.ids[0].push([i + 4_000_000_000]);
            rows.ids[1].push([i, 9]);
        }
        write_all(Format::HugeCtr, &dir.path().join("a.raw"), &layout, &rows, 2).unwrap();
        let script = r#"
import sys, json, numpy as np
d = sys.argv[1]
of = np.dtype([("label", "<f4"), ("dense", "<f4", 1), ("C1", "<u4"), ("tags", "<u4", 2)])
a = np.fromfile(d + "/a.raw", of)
assert len(a) == 5 and a["label"].tolist() == [0, 1, 0, 1, 0] and a["dense"][:, 0].tolist() == [0, .5, 1, 1.5, 2]
assert a["C1"].tolist() == [i + 4000000000 for i in range(5)] and a["tags"].tolist() == [[i, 9] for i in range(5)]
assert [c["rows"] for c in json.load(open(d + "/a.raw.columns.json"))["categorical"]] == [4000000005, 10]
# Criteo's columns, as HugeCTR's preprocessing for MLPerf writes them.
b = np.zeros((3, 40), "<u4"); b[:, 0] = np.array([0, 1, 1], "<f4").view("<u4"); b[:, 1:14] = np.full((3, 13), .25, "<f4").view("<u4"); b[:, 14:] = 7
b.tofile(d + "/b.raw")
"#;
        if python(&["numpy"], script, &[dir.path()]) {
            let (layout, rows) =
                read_all(Format::HugeCtr, &dir.path().join("b.raw"), 9, &Columns::default())
                    .unwrap();
            assert_eq!(
                (layout.dense.len(), layout.ids.len(), &rows.labels[..]),
                (13, 26, &[0.0, 1.0, 1.0][..])
            );
            assert!(
                rows.dense.iter().all(|&x| x == 0.25)
                    && rows.ids.iter().all(|b| b.indices == [7, 7, 7])
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.raw");
        let open = || {
            let error = read_all(Format::HugeCtr, &path, 9, &Columns::default())
                .map(drop)
                .unwrap_err()
                .to_string();
            error.replace(dir.path().to_str().unwrap(), "D")
        };
        std::fs::write(&path, [0; 170]).unwrap();
        assert!(open().starts_with(
            "D/a.raw: 170 bytes are 1 samples of 160 bytes (13 dense and 26 categorical columns) and 10 more; must"
        ));
        std::fs::write(&path, [1; 160]).unwrap();
        assert!(
            open().starts_with("D/a.raw: row 1: the label (column label) is 0.00000000000000000000000000000000000002"),
            "{}",
            open()
        );
        std::fs::write(beside(&path), "{}").unwrap();
        assert_eq!(open(), "D/a.raw.columns.json: describes no columns but the label");
        std::fs::write(
            beside(&path),
            r#"{"label": "y", "dense": [], "categorical": [{"name": "a", "ids": 0, "rows": 1}]}"#,
        )
        .unwrap();
        assert!(open().contains("column a: ids must be from 1 to 1048576"), "{}", open());
        std::fs::write(beside(&path), r#"{"label": "y", "dense": [], "categorical": [{"name": "a", "many": true, "rows": 1}]}"#)
            .unwrap();
        assert!(
            open().contains("holds a fixed number of ids a column, but a may hold any"),
            "{}",
            open()
        );
    }
}
