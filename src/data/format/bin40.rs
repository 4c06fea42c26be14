//! facebook's and MLPerf's binary records (facebookresearch/dlrm, data_loader_terabyte.py:
//! `numpy_to_binary`, `CriteoBinDataset`): no header; 40 little-endian int32 a sample: the label,
//! I1..I13 before any logarithm, C1..C26.

use super::{Reader, Writer};
use crate::{
    data::{
        DataError,
        ids::ToId,
        preprocess::criteo::{DENSE, RECORD},
        rows::{Layout, Numbers, RowRef, Rows, io, wrong},
    },
    host::MappedFile,
};
use std::{
    cell::Cell,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// A page of memory; others are larger.
const PAGE: usize = 4096;
/// Bytes of a file that is read from one end to the other that stay in memory.
const BEHIND: usize = 8 << 20;
/// Bytes of a file that is read here and there that stay in memory: giving them back goes through
/// all of it.
const SCATTERED: usize = 512 << 20;

/// A file of records, mapped. Of what has been read a part stays in memory.
///
/// The system would take the pages back when memory is short, but counts them as the process's
/// until then, and so would a limit on it.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: MappedFile,
    held: Cell<Held>,
}

/// What of the mapping is likely to be in the process's memory.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Bytes, whole pages counted.
    bytes: usize,
    /// Where they begin, if they were asked for one behind the other.
    from: usize,
    /// Where the last ones end.
    to: usize,
    /// Whether they were asked for from all over the file.
    scattered: bool,
}

impl Records {
    /// Maps a file.
    ///
    /// # Errors
    /// If it cannot be read, or its size is no multiple of a record.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = MappedFile::open(path).map_err(io(path))?;
        let (bytes, over) = (file.bytes().len(), file.bytes().len() % RECORD);
        if over != 0 {
            let what = format!(
                "{bytes} bytes are {} records of {RECORD} bytes and {over} more; must be a multiple of {RECORD} (is the file cut short?)",
                bytes / RECORD
            );
            return Err(wrong(path, what));
        }
        Ok(Records { path: path.to_owned(), file, held: Cell::default() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records.
    pub fn len(&self) -> u64 {
        (self.file.bytes().len() / RECORD) as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records `start..start + n`, which the file has.
    ///
    /// # Errors
    /// If the file has been cut short since.
    pub fn range(&self, start: u64, n: usize) -> Result<&[[u8; RECORD]], DataError> {
        self.file.check().map_err(io(&self.path))?;
        self.hold(start as usize * RECORD, n * RECORD);
        let (records, _) = self.file.bytes().as_chunks();
        Ok(&records[start as usize..start as usize + n])
    }
}

impl Records {
    /// Counts bytes that are about to be read, and gives back those before them once they are many.
    fn hold(&self, start: usize, bytes: usize) {
        let mut held = self.held.get();
        if start == 0 && held.to > 0 {
            // A new epoch.
            self.file.release(0..self.file.bytes().len());
            held = Held::default();
        }
        held.scattered |= start != held.to;
        if held.bytes > if held.scattered { SCATTERED } else { BEHIND } {
            let all = 0..self.file.bytes().len();
            self.file.release(if held.scattered { all } else { held.from..start });
            held = Held { from: start, ..Held::default() };
        }
        held.bytes += bytes.max(PAGE);
        held.to = start + bytes;
        self.held.set(held);
    }
}

/// Number `column` of a record.
pub fn number(record: &[u8; RECORD], column: usize) -> i32 {
    let at = 4 * column;
    i32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

/// Bytes of a number.
const SIZE: usize = 4;

/// Reads records.
pub struct Bin40Reader {
    records: Records,
    to: ToId,
    layout: Layout,
    next: u64,
}

impl Bin40Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Records::open`].
    pub fn open(path: &Path, to: ToId) -> Result<Self, DataError> {
        Ok(Bin40Reader {
            records: Records::open(path)?,
            to,
            layout: Layout::criteo(Numbers::Int32),
            next: 0,
        })
    }
}

impl Reader for Bin40Reader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.records.len())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.records.len() - self.next).min(n as u64) as usize;
        let records = self.records.range(self.next, n)?;
        for (record, row) in records.iter().zip(self.next + 1..) {
            let place = RowRef { path: self.records.path(), row };
            rows.labels.push(place.label(&self.layout.label, number(record, 0).into())?);
            rows.dense.extend((0..DENSE).map(|k| f64::from(number(record, 1 + k))));
            for (k, (bags, column)) in rows.ids.iter_mut().zip(&self.layout.ids).enumerate() {
                let id = self.to.narrow(number(record, 1 + DENSE + k).into(), SIZE);
                bags.push_keys([place.id(&column.name, id)?]);
            }
        }
        self.next += n as u64;
        Ok(())
    }
}

/// Writes records. What is missing becomes 0, as facebook's preprocessing has it.
pub struct Bin40Writer {
    path: PathBuf,
    file: BufWriter<File>,
    layout: Layout,
    rows: u64,
}

impl Bin40Writer {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or the columns are other than Criteo's.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        super::capacity::check_criteo(layout, path, "bin40")?;
        let file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io(path))?);
        Ok(Bin40Writer { path: path.to_owned(), file, layout: layout.clone(), rows: 0 })
    }
}

impl Writer for Bin40Writer {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let mut record = [0u8; RECORD];
        for i in 0..rows.len() {
            self.rows += 1;
            let place = RowRef { path: &self.path, row: self.rows };
            let mut put =
                |at: usize, x: i32| record[4 * at..4 * at + 4].copy_from_slice(&x.to_le_bytes());
            put(0, rows.labels[i] as i32);
            for (k, (&x, name)) in rows.dense_row(i).iter().zip(&self.layout.dense).enumerate() {
                put(1 + k, place.whole(name, x, "bin40")?);
            }
            for (k, column) in self.layout.ids.iter().enumerate() {
                let id = rows.id(k, i);
                let id = i32::try_from(id).map_err(|_| {
                    place.error(format!(
                        "column {} is {id}; must be at most {}, since bin40 holds no larger id",
                        column.name,
                        i32::MAX
                    ))
                })?;
                put(1 + DENSE + k, id);
            }
            self.file.write_all(&record).map_err(io(&self.path))?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), DataError> {
        self.file.flush().map_err(io(&self.path))
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
        fn what_was_written_is_read(rows in arbitrary(Kind::CRITEO_INT32), chunk in 1usize..40) {
            let (layout, rows) = rows;
            let mut back = round_trip(Format::Bin40, "a.bin", &layout, &rows, chunk, &Columns::default());
            // The format has no word for what is missing.
            let mut want = rows.clone();
            want.dense.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = 0.0);
            for bags in &mut want.ids {
                let all: Vec<u32> = (0..want.labels.len()).map(|i| bags.bag(i).first().copied().unwrap_or(0)).collect();
                bags.clear();
                all.into_iter().for_each(|id| bags.push([id]));
            }
            back.0.numbers = layout.numbers;
            prop_assert_eq!(back.0, layout);
            prop_assert!(same(&back.1, &want));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..1000), whole: bool) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.bin");
            let cut = if whole { bytes.len() / RECORD * RECORD } else { bytes.len() };
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let _ = read_all(Format::Bin40, &path, 7, &Columns::default());
        }
    }

    /// A record by hand, byte for byte.
    #[test]
    fn a_record_is_forty_little_endian_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let layout = Layout::criteo(Numbers::Int32);
        let mut rows = Rows::new(&layout);
        rows.labels.push(1.0);
        rows.dense.extend((0..13).map(|k| f64::from(k * 256 - 1)));
        rows.ids.iter_mut().zip(0..).for_each(|(b, k)| b.push([k * 65536]));
        write_all(Format::Bin40, &path, &layout, &rows, 1).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 160);
        assert_eq!(bytes[..12], [1, 0, 0, 0, 255, 255, 255, 255, 255, 0, 0, 0]);
        assert_eq!(bytes[156..], [0, 0, 25, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let shown = path.display();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_all(Format::Bin40, &path, 7, &Columns::default()).unwrap_err().to_string()
        };
        let error = read(&[0; 1000]);
        let right = "1000 bytes are 6 records of 160 bytes and 40 more; must be a multiple of 160 (is the file cut short?)";
        assert_eq!(error, format!("{shown}: {right}"));
        let mut bytes = [0; 480];
        bytes[320] = 3;
        assert_eq!(
            read(&bytes),
            format!("{shown}: row 3: the label (column label) is 3; must be 0 or 1")
        );
        bytes[320] = 1;
        bytes[479] = 0x80;
        assert_eq!(
            read(&bytes),
            format!(
                "{shown}: row 3: column C26 is -2147483648; must be an id from 0 to 4294967295, or be taken modulo a \
                 number (--max-ind-range N, in a workload data.max_ind_range)"
            )
        );

        let write = |layout: &Layout, change: &dyn Fn(&mut Rows)| {
            let mut rows = Rows::new(layout);
            rows.labels.push(1.0);
            rows.dense.resize(layout.dense.len(), 1.0);
            rows.ids.iter_mut().for_each(|b| b.push([1]));
            change(&mut rows);
            write_all(Format::Bin40, &path, layout, &rows, 1).unwrap_err().to_string()
        };
        let criteo = Layout::criteo(Numbers::Int32);
        assert!(
            write(&criteo, &|r| r.dense[2] = 0.5)
                .contains("row 1: column I3 is 0.5; must be a whole number of 32 bits")
        );
        assert!(
            write(&criteo, &|r| r.ids[3].indices[0] = u32::MAX)
                .contains("row 1: column C4 is 4294967295; must be at most")
        );
        let other = Layout::numbered(2, Numbers::Int32, [crate::data::rows::Hotness::One; 3]);
        assert!(
            write(&other, &|_| {})
                .contains("13 dense and 26 categorical columns, but there are 2 and 3")
        );
        let many = Layout::numbered(13, Numbers::Int32, [crate::data::rows::Hotness::Any; 26]);
        assert!(write(&many, &|_| {}).contains("but C1 may hold others"));
    }
}
