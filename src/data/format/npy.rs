//! numpy's arrays: `.npy` files, and the members of an `.npz`, which is a zip archive of them (numpy/lib/format.py: magic, version,
//! length of the header, a Python dictionary as text, the elements).

use crate::data::{
    DataError,
    rows::{Place, io, wrong},
};
use flate2::{Crc, read::DeflateDecoder};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipArchive};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers are damage: there is no need for one.
const LONGEST_HEADER: usize = 1 << 16;
/// Bytes of the headers that are written: a multiple of 64, as numpy pads them, with room for any number of rows.
const HEADER: usize = 128;

/// Type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `|b1`
    Bool,
    /// Signed, of 1, 2, 4 or 8 bytes.
    Int(usize),
    /// Unsigned, of as many.
    Unsigned(usize),
    /// `<f4`
    F32,
    /// `<f8`
    F64,
}

impl Type {
    fn parse(descr: &str) -> Option<Type> {
        let (order, kind) = descr.split_at_checked(1)?;
        let known = matches!(order, "<" | "|");
        match kind.split_at_checked(1).filter(|_| known)? {
            ("b", "1") => Some(Type::Bool),
            ("f", "4") => Some(Type::F32),
            ("f", "8") => Some(Type::F64),
            (kind @ ("i" | "u"), size @ ("1" | "2" | "4" | "8")) => {
                let size = size.parse().ok()?;
                Some(if kind == "i" { Type::Int(size) } else { Type::Unsigned(size) })
            }
            _ => None,
        }
    }

    fn descr(self) -> String {
        match self {
            Type::Bool => "|b1".into(),
            Type::Int(n) => format!("{}i{n}", if n == 1 { '|' } else { '<' }),
            Type::Unsigned(n) => format!("{}u{n}", if n == 1 { '|' } else { '<' }),
            Type::F32 => "<f4".into(),
            Type::F64 => "<f8".into(),
        }
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Type::Bool => 1,
            Type::Int(n) | Type::Unsigned(n) => n,
            Type::F32 => 4,
            Type::F64 => 8,
        }
    }

    /// The element in `bytes` as a number.
    fn number(self, bytes: &[u8]) -> f64 {
        match self {
            Type::F32 => f64::from(f32::from_le_bytes(word(bytes))),
            Type::F64 => f64::from_le_bytes(word(bytes)),
            Type::Int(_) => self.integer(bytes) as f64,
            Type::Bool | Type::Unsigned(_) => self.integer(bytes) as u64 as f64,
        }
    }

    /// The element in `bytes`, of a type of whole numbers; those beyond 2^63 are negative.
    fn integer(self, bytes: &[u8]) -> i64 {
        let bits = u64::from_le_bytes(word(bytes));
        match self {
            // Up to the sign bit and back, which copies it down.
            Type::Int(n) => (bits << (64 - 8 * n)) as i64 >> (64 - 8 * n),
            _ => bits as i64,
        }
    }
}

/// `bytes` filled up with zeros.
fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut word = [0; N];
    word.iter_mut().zip(bytes).for_each(|(w, &b)| *w = b);
    word
}

/// What stands in front of the elements.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    of: Type,
    /// Columns one after another.
    fortran: bool,
    shape: Vec<u64>,
}

impl Header {
    /// Reads it, and leaves `from` at the first element.
    fn read(from: &mut impl Read) -> Result<Header, String> {
        let mut start = [0; 10];
        let mut fill = |bytes: &mut [u8]| from.read_exact(bytes).map_err(|e| format!("its header cannot be read: {e}"));
        fill(&mut start)?;
        if &start[..6] != MAGIC {
            return Err("it does not start like an array of numpy".into());
        }
        let len = match start[6] {
            1 => usize::from(u16::from_le_bytes([start[8], start[9]])),
            2 | 3 => {
                let mut high = [0; 2];
                fill(&mut high)?;
                u32::from_le_bytes([start[8], start[9], high[0], high[1]]) as usize
            }
            v => return Err(format!("it is of version {v} of numpy's format; 1, 2 and 3 are known")),
        };
        if len > LONGEST_HEADER {
            return Err(format!("its header is {len} bytes long; must be at most {LONGEST_HEADER}"));
        }
        let mut text = vec![0; len];
        fill(&mut text)?;
        Header::parse(&String::from_utf8_lossy(&text))
    }

    /// `{'descr': '<f8', 'fortran_order': False, 'shape': (8000, 26), }`
    fn parse(text: &str) -> Result<Header, String> {
        let after = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}'"))?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let bad = || format!("its header is {:?}, which is none of numpy's", text.trim().chars().take(80).collect::<String>());
        let descr = after("descr").ok_or_else(bad)?;
        let quoted = descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map(|(d, _)| d);
        let of = quoted.and_then(Type::parse).ok_or_else(|| {
            let shown: String = quoted.unwrap_or(descr).chars().take(24).collect();
            format!("its elements are of type {shown:?}; must be little-endian whole numbers or fractions (i1 to i8, u1 to u8, f4, f8, b1)")
        })?;
        let order = after("fortran_order").ok_or_else(bad)?;
        let fortran = order.starts_with("True");
        if !fortran && !order.starts_with("False") {
            return Err(bad());
        }
        let shape = after("shape").and_then(|s| s.strip_prefix('(')?.split_once(')')).map(|(s, _)| s).ok_or_else(bad)?;
        let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
        let shape = sizes.map(|s| s.trim_end_matches('L').parse()).collect::<Result<Vec<u64>, _>>().map_err(|_| bad())?;
        Ok(Header { of, fortran, shape })
    }

    /// As [`HEADER`] bytes.
    fn bytes(&self) -> Vec<u8> {
        let shape: String = match &self.shape[..] {
            [n] => format!("({n},)"),
            many => format!("({})", many.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        };
        let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}", self.of.descr());
        let mut bytes = [MAGIC, &[1, 0], &((HEADER - 10) as u16).to_le_bytes(), text.as_bytes()].concat();
        bytes.resize(HEADER - 1, b' ');
        bytes.push(b'\n');
        bytes
    }
}

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

enum Elements {
    /// Row after row.
    Rows(Box<dyn Read + Send>),
    /// Column after column, unpacked if need be, from this byte on.
    Columns { file: File, start: u64, scratch: Vec<u8> },
}

impl Array {
    /// Opens a `.npy` file.
    ///
    /// # Errors
    /// If it cannot be read, or is no array of numbers with one or two dimensions.
    pub fn open(path: &Path, name: &str) -> Result<Self, DataError> {
        let mut file = BufReader::new(File::open(path).map_err(io(path))?);
        let header = Header::read(&mut file).map_err(|what| wrong(path, format!("no array: {what}")))?;
        let start = file.stream_position().map_err(io(path))?;
        let length = file.get_ref().metadata().map_err(io(path))?.len();
        let from = match header.fortran && header.shape.len() > 1 {
            true => Elements::Columns { file: file.into_inner(), start, scratch: Vec::new() },
            false => Elements::Rows(Box::new(file)),
        };
        Array::new(path, name, &header, from, length.saturating_sub(start))
    }

    /// Opens the member `name` of the archive at `path`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Array::open`], and if the archive is damaged or packed in a way other than `np.savez` and `np.savez_compressed` do.
    pub fn member(path: &Path, name: &str) -> Result<Option<Self>, DataError> {
        let damaged = |e: &dyn std::fmt::Display| wrong(path, format!("no archive of numpy: {}", one_line(e)));
        let mut archive = ZipArchive::new(BufReader::new(File::open(path).map_err(io(path))?)).map_err(|e| damaged(&e))?;
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
            other => return Err(wrong(path, format!("{name} is packed by {other}; must be stored or deflated"))),
        };
        let mut data = Checked { from: data, sum: Crc::new(), left: size, want: sum };
        let header = Header::read(&mut data).map_err(|what| wrong(path, format!("{name} is no array: {what}")))?;
        let left = data.left;
        let from = match header.fortran && header.shape.len() > 1 {
            true => {
                // Rows of it lie all over the array: unpacked, they can be gathered.
                let mut file = tempfile::tempfile().map_err(io(std::env::temp_dir()))?;
                std::io::copy(&mut data, &mut file).map_err(|e| wrong(path, format!("{name} cannot be read: {e}")))?;
                Elements::Columns { file, start: 0, scratch: Vec::new() }
            }
            false => Elements::Rows(Box::new(data)),
        };
        Array::new(path, name, &header, from, left).map(Some)
    }

    fn new(path: &Path, name: &str, header: &Header, from: Elements, bytes: u64) -> Result<Self, DataError> {
        let (rows, width) = match header.shape[..] {
            [rows] => (rows, 1),
            [rows, width] => (rows, width),
            _ => return Err(wrong(path, format!("{name} has {} dimensions; must have 1 or 2", header.shape.len()))),
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
                let what = format!("{name} should have {rows} rows of {width}, but has {bytes} bytes; is the file cut short?");
                Err(wrong(path, what))
            }
        }
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

    /// Reads the next `n` rows, which there must be; [`Array::number`] and [`Array::id`] then tell their elements.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(&mut self, n: usize) -> Result<(), DataError> {
        let size = self.of.size();
        self.bytes.resize(n * self.width * size, 0);
        let done = match &mut self.from {
            Elements::Rows(from) => from.read_exact(&mut self.bytes),
            Elements::Columns { file, start, scratch } => {
                scratch.resize(n * size, 0);
                (0..self.width).try_for_each(|k| {
                    file.seek(SeekFrom::Start(*start + (k as u64 * self.rows + self.next) * size as u64))?;
                    file.read_exact(scratch)?;
                    let places = self.bytes.chunks_exact_mut(size).skip(k).step_by(self.width);
                    places.zip(scratch.chunks_exact(size)).for_each(|(to, from)| to.copy_from_slice(from));
                    Ok::<(), std::io::Error>(())
                })
            }
        };
        done.map_err(|e| wrong(&self.path, format!("{} cannot be read after row {}: {e}", self.name, self.next)))?;
        self.next += n as u64;
        Ok(())
    }

    fn element(&self, row: usize, column: usize) -> &[u8] {
        let size = self.of.size();
        &self.bytes[(row * self.width + column) * size..][..size]
    }

    /// Element `column` of row `row` of those read last.
    pub fn number(&self, row: usize, column: usize) -> f64 {
        self.of.number(self.element(row, column))
    }

    /// The same as an id, named `name` in messages.
    ///
    /// # Errors
    /// If it is none.
    pub fn id(&self, row: usize, column: usize, place: Place, name: &str) -> Result<u32, DataError> {
        let bytes = self.element(row, column);
        match self.of {
            Type::F32 | Type::F64 => {
                let x = self.of.number(bytes);
                match x as i64 {
                    i if i as f64 == x => place.id(name, i),
                    _ => Err(place.error(format!("column {name} is {x}; must be a whole number, since it is an id"))),
                }
            }
            _ => place.id(name, self.of.integer(bytes)),
        }
    }
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
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the checksum is wrong; the file is damaged"));
        }
        Ok(n)
    }
}

/// An array that is written row by row.
pub struct ArrayWriter {
    file: BufWriter<File>,
    header: Header,
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
        Ok(ArrayWriter { file, header })
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
        self.file.write_all(&self.header.bytes())?;
        self.file.into_inner().map_err(std::io::IntoInnerError::into_error)
    }
}

fn one_line(e: &dyn std::fmt::Display) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_of_numpy_are_understood() {
        let header = |of, fortran, shape: &[u64]| Ok(Header { of, fortran, shape: shape.to_vec() });
        let parse = Header::parse;
        let usual = "{'descr': '<f8', 'fortran_order': True, 'shape': (8000, 26), }   \n";
        assert_eq!(parse(usual), header(Type::F64, true, &[8000, 26]));
        assert_eq!(parse("{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), }"), header(Type::Unsigned(1), false, &[3]));
        assert_eq!(parse("{'shape':(),'descr':'|b1','fortran_order':False}"), header(Type::Bool, false, &[]));
        for bad in [
            "",
            "{'descr': '<f8'}",
            "{'descr': '<f8', 'fortran_order': 3, 'shape': (1,)}",
            "{'descr': '<f8', 'fortran_order': True, 'shape': (-1,)}",
        ] {
            assert!(parse(bad).unwrap_err().contains("which is none of numpy's"), "{bad}");
        }
        for of in [">i4", "<f2", "|O", "<i3", "<U5", "ß"] {
            let text = format!("{{'descr': '{of}', 'fortran_order': False, 'shape': (1,)}}");
            assert!(parse(&text).unwrap_err().contains(&format!("of type {of:?}; must be")), "{of}");
        }
        for of in [Type::Bool, Type::Int(1), Type::Int(8), Type::Unsigned(1), Type::Unsigned(4), Type::F32, Type::F64] {
            for shape in [vec![7], vec![u64::MAX, u64::MAX]] {
                let header = Header { of, fortran: false, shape };
                assert_eq!(header.bytes().len(), HEADER);
                assert_eq!(Header::read(&mut &header.bytes()[..]), Ok(header));
            }
        }
    }

    #[test]
    fn elements_keep_their_signs() {
        for (of, bytes, number) in [
            (Type::Int(1), &[0xff][..], -1.0),
            (Type::Unsigned(1), &[0xff], 255.0),
            (Type::Int(2), &[0, 0x80], -32768.0),
            (Type::Int(8), &[0xfe, 255, 255, 255, 255, 255, 255, 255], -2.0),
            (Type::Unsigned(8), &[0, 0, 0, 0, 0, 0, 0, 0x80], 9_223_372_036_854_775_808.0),
            (Type::Unsigned(4), &[0, 0, 0, 0x80], 2_147_483_648.0),
            (Type::Bool, &[1], 1.0),
            (Type::F32, &[0, 0, 0x80, 0xbf], -1.0),
        ] {
            assert_eq!(of.number(bytes), number, "{of:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\PC]{0,40}", start: bool) {
            let mut all = if start { [MAGIC, &[1, 0, 60, 0]].concat() } else { Vec::new() };
            all.extend(bytes);
            let _ = Header::read(&mut &all[..]);
            let _ = Header::parse(&text);
            let _ = Header::parse(&format!("{{'descr': '{text}', 'fortran_order': {text}, 'shape': ({text}), }}"));
        }
    }
}
