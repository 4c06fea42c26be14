//! Writing of arrays, row by row.

use super::header::{Header, Type};
use std::{
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
};

/// An array that is written row by row.
pub struct ArrayWriter {
    file: BufWriter<File>,
    header: Header,
    transposed: bool,
}

impl ArrayWriter {
    /// Starts an array of rows of `width` elements; `None` for one without a second dimension.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn new(file: File, of: Type, width: Option<u64>) -> std::io::Result<Self> {
        let header = Header { of, fortran: false, shape: [0].into_iter().chain(width).collect() };
        let mut file = BufWriter::with_capacity(1 << 18, file);
        file.write_all(&header.bytes())?;
        Ok(ArrayWriter { file, header, transposed: false })
    }

    /// The array will have its rows for columns, without an element moved (numpy's
    /// `fortran_order`).
    pub fn transposed(self) -> Self {
        ArrayWriter { transposed: true, ..self }
    }

    /// Appends the bytes of elements.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Writes the number of rows into the header, and returns the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self, rows: u64) -> std::io::Result<File> {
        self.header.shape[0] = rows;
        self.file.seek(SeekFrom::Start(0))?;
        let header = if self.transposed { self.header.transposed() } else { self.header };
        self.file.write_all(&header.bytes())?;
        self.file.into_inner().map_err(std::io::IntoInnerError::into_error)
    }
}
