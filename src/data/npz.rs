//! Writes numpy's `.npz`: a zip of `.npy` files (numpy's format description, NEP 1, version 1.0), stored without packing, the same bytes
//! for the same arrays.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// A file that arrays are added to.
pub struct Npz(ZipWriter<BufWriter<File>>);

impl Npz {
    /// A new file, in place of one that is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> io::Result<Npz> {
        Ok(Npz(ZipWriter::new(BufWriter::with_capacity(1 << 20, File::create(path)?))))
    }

    /// Starts an array of 32-bit integers, row-major; its elements are then written, little-endian.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn start_i32(&mut self, name: &str, shape: &[u64]) -> io::Result<&mut impl Write> {
        let elements: u64 = shape.iter().product();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(elements * 4 > u64::from(u32::MAX / 2));
        self.0.start_file(format!("{name}.npy"), options).map_err(io::Error::other)?;
        self.0.write_all(&header("<i4", shape))?;
        Ok(&mut self.0)
    }

    /// Ends the file and brings it to the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish().map_err(io::Error::other)?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

/// Magic, version, length, then a Python dict as text, filled up to a multiple of 64 bytes.
fn header(descr: &str, shape: &[u64]) -> Vec<u8> {
    let mut sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    sizes.truncate(sizes.len().saturating_sub(if shape.len() == 1 { 1 } else { 2 }));
    let mut dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let unpadded = 10 + dict.len() + 1;
    dict.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    dict.push('\n');
    [b"\x93NUMPY\x01\x00", &(dict.len() as u16).to_le_bytes()[..], dict.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As numpy 2.4 writes them.
    #[test]
    fn headers_are_numpys() {
        let text = |shape: &[u64]| String::from_utf8_lossy(&header("<i4", shape)[10..]).trim_end().to_owned();
        assert_eq!(text(&[26]), "{'descr': '<i4', 'fortran_order': False, 'shape': (26,), }");
        assert_eq!(text(&[8, 13]), "{'descr': '<i4', 'fortran_order': False, 'shape': (8, 13), }");
        assert_eq!(text(&[]), "{'descr': '<i4', 'fortran_order': False, 'shape': (), }");
        for shape in [&[1][..], &[123_456_789, 26]] {
            let bytes = header("<i4", shape);
            assert!(bytes.len().is_multiple_of(64) && bytes.ends_with(b"\n") && bytes.starts_with(b"\x93NUMPY\x01\x00"));
            assert_eq!(u16::from_le_bytes([bytes[8], bytes[9]]) as usize, bytes.len() - 10);
        }
    }
}
