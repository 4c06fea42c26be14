//! numpy's archives, `.npz`: a zip of `.npy` files ([`super::npy`]), as `np.savez` and
//! `np.savez_compressed` write them.

use super::{
    DataError,
    npy::{Array, ArrayWriter, Elements, Header, Type},
    rows::{io, repeated, twice, wrong},
};
use flate2::{Crc, read::DeflateDecoder};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Opens the member `name` of the archive at `path`; `None` if there is none.
///
/// # Errors
/// As [`Array::open`], and if the archive is damaged or packed in a way other than `np.savez` and
/// `np.savez_compressed` do.
pub fn member(path: &Path, name: &str) -> Result<Option<Array>, DataError> {
    find(path, name, false)
}

/// Names of the arrays of the archive at `path`.
///
/// # Errors
/// If it cannot be read or is no archive.
pub fn names(path: &Path) -> Result<Vec<String>, DataError> {
    let archive = ZipArchive::new(BufReader::new(File::open(path).map_err(io(path))?));
    let archive =
        archive.map_err(|e| wrong(path, format!("no archive of numpy: {}", one_line(&e))))?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|n| n.ok()?.strip_suffix(".npy").map(str::to_owned))
        .collect();
    match repeated(names.iter().map(|n| &**n)) {
        Some(name) => Err(wrong(path, twice(name))),
        None => Ok(names),
    }
}

/// The same with rows for columns.
///
/// # Errors
/// As [`member`].
pub fn transposed_member(path: &Path, name: &str) -> Result<Option<Array>, DataError> {
    find(path, name, true)
}

fn find(path: &Path, name: &str, transposed: bool) -> Result<Option<Array>, DataError> {
    let damaged =
        |e: &dyn std::fmt::Display| wrong(path, format!("no archive of numpy: {}", one_line(e)));
    let mut archive = ZipArchive::new(BufReader::new(File::open(path).map_err(io(path))?))
        .map_err(|e| damaged(&e))?;
    let Some(index) = archive.index_for_name(&format!("{name}.npy")) else { return Ok(None) };
    let (start, packed, size, method, sum) = {
        let entry = archive.by_index_raw(index).map_err(|e| damaged(&e))?;
        let start = entry.data_start().ok_or_else(|| damaged(&"an entry has no place"))?;
        (start, entry.compressed_size(), entry.size(), entry.compression(), entry.crc32())
    };
    let mut file = File::open(path).map_err(io(path))?;
    file.seek(SeekFrom::Start(start)).map_err(io(path))?;
    let packed = BufReader::with_capacity(1 << 16, file).take(packed);
    let data: Box<dyn Read + Send> = match method {
        CompressionMethod::Stored => Box::new(packed),
        CompressionMethod::Deflated => Box::new(DeflateDecoder::new(packed)),
        other => {
            return Err(wrong(
                path,
                format!("{name} is packed by {other}; must be stored or deflated"),
            ));
        }
    };
    let mut data = Checked { from: data, sum: Crc::new(), left: size, want: sum };
    let header = Header::read(&mut data)
        .map_err(|what| wrong(path, format!("{name} is no array: {what}")))?;
    let header = if transposed { header.transposed() } else { header };
    let left = data.left;
    let from = match header.fortran && header.shape.len() > 1 {
        true => Elements::Packed(Box::new(data)),
        false => Elements::Rows(Box::new(data)),
    };
    Array::new(path, name, &header, from, left).map(Some)
}

/// A member of an archive, of known length, whose checksum is judged with its last byte.
struct Checked {
    from: Box<dyn Read + Send>,
    sum: Crc,
    left: u64,
    want: u32,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.from.read(&mut buffer[..most])?;
        self.sum.update(&buffer[..n]);
        self.left -= n as u64;
        if n > 0 && self.left == 0 && self.sum.sum() != self.want {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the checksum is wrong; the file is damaged",
            ));
        }
        Ok(n)
    }
}

fn one_line(e: &dyn std::fmt::Display) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether what goes into an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As `np.savez` leaves it.
    Stored,
    /// As `np.savez_compressed` does.
    Deflated,
}

/// An array on its way into an archive: it waits in a file without a name, since its length is
/// known only at the end.
pub struct Member {
    name: String,
    array: ArrayWriter,
}

impl Member {
    /// Starts the array `name` of the archive that `path` will be.
    ///
    /// # Errors
    /// If no file can be made in the folder of `path`.
    pub fn new(path: &Path, name: &str, of: Type, width: Option<u64>) -> std::io::Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let array = ArrayWriter::new(tempfile::tempfile_in(folder)?, of, width)?;
        Ok(Member { name: name.to_owned(), array })
    }

    /// The array will have its rows for columns, as `np.transpose` makes it of the one that is
    /// written.
    pub fn transposed(self) -> Self {
        Member { array: self.array.transposed(), ..self }
    }

    /// Appends the bytes of elements.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.array.write(bytes)
    }
}

/// Writes the archive `path` of arrays, each with the number of its rows, and brings it to the
/// disk. The same arrays are the same bytes.
///
/// # Errors
/// If it cannot be written.
pub fn pack(
    path: &Path,
    packing: Packing,
    members: impl IntoIterator<Item = (Member, u64)>,
) -> std::io::Result<()> {
    let arrays =
        members.into_iter().map(|(Member { name, array }, rows)| Ok((name, array.finish(rows)?)));
    let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    zip(out, packing, arrays)?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

fn zip<W: Write + Seek>(
    out: W,
    packing: Packing,
    arrays: impl Iterator<Item = std::io::Result<(String, File)>>,
) -> std::io::Result<W> {
    let method = match packing {
        Packing::Stored => CompressionMethod::Stored,
        Packing::Deflated => CompressionMethod::Deflated,
    };
    let mut zip = ZipWriter::new(out);
    for array in arrays {
        let (name, mut file) = array?;
        let bytes = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(DateTime::default());
        let options = options.large_file(large(bytes));
        zip.start_file(format!("{name}.npy"), options).map_err(std::io::Error::other)?;
        std::io::copy(&mut file, &mut zip)?;
    }
    zip.finish().map_err(std::io::Error::other)
}

/// Whether four bytes may not be enough for the size of a member, packed or not.
fn large(bytes: u64) -> bool {
    bytes > u64::from(u32::MAX) / 2
}

/// Bytes of the archive that [`pack`] makes without packing of arrays with these names and bytes of
/// elements: what the zip format's "local file header", "central directory header" and "end of
/// central directory record" take, and their additions for 64-bit sizes and places.
pub fn stored_bytes<'a>(arrays: impl IntoIterator<Item = (&'a str, u64)>) -> u64 {
    const MOST: u64 = u32::MAX as u64;
    let (mut at, mut directory) = (0, 0);
    for (name, elements) in arrays {
        let (name, bytes) = ((name.len() + ".npy".len()) as u64, Header::BYTES as u64 + elements);
        let sizes = if large(bytes) { 16 } else { 0 };
        let place = if at >= MOST { 8 } else { 0 };
        directory += 46 + name + if sizes + place > 0 { 4 + sizes + place } else { 0 };
        at += 30 + name + if sizes > 0 { 4 + sizes } else { 0 } + bytes;
    }
    at + directory + 22 + if at.max(directory) > MOST { 56 + 20 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes bytes and keeps none.
    #[derive(Default)]
    struct Counting {
        at: u64,
        len: u64,
    }

    impl Write for Counting {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.at += bytes.len() as u64;
            self.len = self.len.max(self.at);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Counting {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            let to = match to {
                SeekFrom::Start(n) => Some(n),
                SeekFrom::End(n) => self.len.checked_add_signed(n),
                SeekFrom::Current(n) => self.at.checked_add_signed(n),
            };
            self.at = to.ok_or_else(|| std::io::Error::other("before the start"))?;
            Ok(self.at)
        }
    }

    /// Also where sizes and places do not fit into 32 bits: the arrays are holes in files, which
    /// take no disk.
    #[test]
    fn sizes_of_archives_are_known_beforehand() {
        let (half, header) = (u64::from(u32::MAX) / 2, Header::BYTES as u64);
        for arrays in [
            &[][..],
            &[("counts", 104)],
            &[("0", 7), ("10", 0), ("25", 1 << 20)],
            &[("a", half - header), ("b", 9)],
            &[("a", half - header + 1), ("b", half + 1000), ("c", 3)],
        ] {
            let file = |&(name, bytes): &(&str, u64)| {
                let file = tempfile::tempfile()?;
                file.set_len(header + bytes)?;
                Ok((name.to_owned(), file))
            };
            let written =
                zip(Counting::default(), Packing::Stored, arrays.iter().map(file)).unwrap();
            assert_eq!(stored_bytes(arrays.iter().copied()), written.len, "{arrays:?}");
        }
    }
}
