//! Reading of arrays, row by row.

use super::header::{Header, Type};
use crate::data::{
    DataError,
    ids::ToId,
    rows::{RowRef, io, wrong},
};
use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// A matrix that is read row by row.
pub struct Array {
    path: PathBuf,
    /// How it is called in messages.
    name: String,
    of: Type,
    rows: u64,
    width: usize,
    next: u64,
    from: Elements,
    bytes: Vec<u8>,
}

/// Where the elements are.
pub enum Elements {
    /// Row after row.
    Rows(Box<dyn Read + Send>),
    /// Column after column: rows of it lie all over the array, and are gathered once it has been
    /// unpacked, which is put off until the first is read.
    Packed(Box<dyn Read + Send>),
    /// Column after column, from this byte on.
    Columns { file: File, start: u64, scratch: Vec<u8> },
}

impl Array {
    /// Opens a `.npy` file.
    ///
    /// # Errors
    /// If it cannot be read, or is no array of numbers with one or two dimensions.
    pub fn open(path: &Path, name: &str) -> Result<Self, DataError> {
        let mut file = BufReader::new(File::open(path).map_err(io(path))?);
        let header =
            Header::read(&mut file).map_err(|what| wrong(path, format!("no array: {what}")))?;
        let start = file.stream_position().map_err(io(path))?;
        let length = file.get_ref().metadata().map_err(io(path))?.len();
        let from = match header.fortran && header.shape.len() > 1 {
            true => Elements::Columns { file: file.into_inner(), start, scratch: Vec::new() },
            false => Elements::Rows(Box::new(file)),
        };
        Array::new(path, name, &header, from, length.saturating_sub(start))
    }

    /// An array of `bytes` bytes of elements, which `header` describes.
    ///
    /// # Errors
    /// If it has other than one or two dimensions, or they do not fit the bytes.
    pub(in crate::data) fn new(
        path: &Path,
        name: &str,
        header: &Header,
        from: Elements,
        bytes: u64,
    ) -> Result<Self, DataError> {
        let (rows, width) = match header.shape[..] {
            [rows] => (rows, 1),
            [rows, width] => (rows, width),
            _ => {
                return Err(wrong(
                    path,
                    format!("{name} has {} dimensions; must have 1 or 2", header.shape.len()),
                ));
            }
        };
        let needed = rows.checked_mul(width).and_then(|n| n.checked_mul(header.of.size() as u64));
        match usize::try_from(width) {
            Ok(width) if needed == Some(bytes) && width <= 1 << 24 => Ok(Array {
                path: path.to_owned(),
                name: name.to_owned(),
                of: header.of,
                rows,
                width,
                next: 0,
                from,
                bytes: Vec::new(),
            }),
            _ => {
                let what = format!(
                    "{name} should have {rows} rows of {width}, but has {bytes} bytes; is the file cut short?"
                );
                Err(wrong(path, what))
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Type of the elements.
    pub fn of(&self) -> Type {
        self.of
    }

    /// Reads the next `n` rows, which there must be; [`Array::number`] and [`Array::id`] then tell
    /// their elements.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(&mut self, n: usize) -> Result<(), DataError> {
        if let Elements::Packed(from) = &mut self.from {
            let mut file = tempfile::tempfile().map_err(io(std::env::temp_dir()))?;
            std::io::copy(from, &mut file)
                .map_err(|e| wrong(&self.path, format!("{} cannot be read: {e}", self.name)))?;
            self.from = Elements::Columns { file, start: 0, scratch: Vec::new() };
        }
        let size = self.of.size();
        // The header says how much it is, and may say anything.
        self.bytes.clear();
        let bytes = n
            .checked_mul(self.width * size)
            .filter(|&all| self.bytes.try_reserve_exact(all).is_ok());
        let Some(bytes) = bytes else {
            let (name, width) = (&self.name, self.width);
            return Err(wrong(
                &self.path,
                format!(
                    "{name}: there is no memory for {n} rows of {width} elements of {size} bytes"
                ),
            ));
        };
        self.bytes.resize(bytes, 0);
        let done = match &mut self.from {
            // What was packed has been unpacked above.
            Elements::Rows(from) | Elements::Packed(from) => from.read_exact(&mut self.bytes),
            Elements::Columns { file, start, scratch } => {
                scratch.resize(n * size, 0);
                (0..self.width).try_for_each(|k| {
                    file.seek(SeekFrom::Start(
                        *start + (k as u64 * self.rows + self.next) * size as u64,
                    ))?;
                    file.read_exact(scratch)?;
                    let places = self.bytes.chunks_exact_mut(size).skip(k).step_by(self.width);
                    places
                        .zip(scratch.chunks_exact(size))
                        .for_each(|(to, from)| to.copy_from_slice(from));
                    Ok::<(), std::io::Error>(())
                })
            }
        };
        done.map_err(|e| {
            wrong(&self.path, format!("{} cannot be read after row {}: {e}", self.name, self.next))
        })?;
        self.next += n as u64;
        Ok(())
    }

    /// The bytes of the rows read last, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn element(&self, row: usize, column: usize) -> &[u8] {
        let size = self.of.size();
        &self.bytes[(row * self.width + column) * size..][..size]
    }

    /// Element `column` of row `row` of those read last.
    pub fn number(&self, row: usize, column: usize) -> f64 {
        self.of.number(self.element(row, column))
    }

    /// The same as an id, named `name` in messages; `None` where it is missing (NaN).
    ///
    /// # Errors
    /// If it is none.
    pub fn id(
        &self,
        row: usize,
        column: usize,
        to: ToId,
        place: RowRef,
        name: &str,
    ) -> Result<Option<u64>, DataError> {
        place.id(name, self.of.id(self.element(row, column), to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a header says is believed only as far as there is memory.
    #[test]
    fn rows_that_do_not_fit_into_memory_are_an_error() {
        let (rows, width) = (u64::from(u32::MAX), 1u64 << 24);
        let header = Header { of: Type::F64, fortran: false, shape: vec![rows, width] };
        let from = Elements::Rows(Box::new(std::io::empty()));
        let mut array =
            Array::new(Path::new("a.npz"), "C1", &header, from, rows * width * 8).unwrap();
        let error = array.read(rows as usize).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.npz: C1: there is no memory for 4294967295 rows of 16777216 elements of 8 bytes"
        );
        let error = array.read(1).unwrap_err().to_string();
        assert!(error.starts_with("a.npz: C1 cannot be read after row 0: "), "{error}");
    }
}
