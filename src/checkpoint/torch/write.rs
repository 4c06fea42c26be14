//! Writes a file as `torch.save` does.

use super::{super::ReadPart, pickle::Pickled};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// Numbers that are copied at once.
const PART: usize = 1 << 20;
/// The folder in the zip; any name does.
const FOLDER: &str = "archive";
/// Where the numbers of a tensor begin is a multiple of this (torch's `.storage_alignment`).
const ALIGNMENT: u16 = 64;
/// Larger entries are written with sizes of 64 bits.
const LARGE: u64 = u32::MAX as u64 / 2;

/// Writes `value` to `path`, whose tensors' numbers are those of `storages`, `storages[k]` of them,
/// which `read` copies out.
///
/// # Errors
/// If the file cannot be written or `read` fails.
pub fn write(
    path: &Path,
    value: &Pickled,
    storages: &[usize],
    read: &mut ReadPart<'_>,
) -> io::Result<()> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create(path)?));
    let pickle = value.to_bytes();
    // Torch makes one of the names and checksums of what is in the file: forty digits.
    let id: String = blake3::hash(&pickle).as_bytes().iter().map(|b| format!("{b:03}")).collect();
    let small = |zip: &mut ZipWriter<_>, name: &str, bytes: &[u8]| {
        entry(zip, name, bytes.len() as u64)?;
        zip.write_all(bytes)
    };
    small(&mut zip, "data.pkl", &pickle)?;
    small(&mut zip, ".format_version", b"1")?;
    small(&mut zip, ".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
    small(&mut zip, "byteorder", b"little")?;
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for (k, &numbers) in storages.iter().enumerate() {
        entry(&mut zip, &format!("data/{k}"), 4 * numbers as u64)?;
        for first in (0..numbers).step_by(PART) {
            values.resize(PART.min(numbers - first), 0.0);
            read(k, first, &mut values)?;
            bytes.clear();
            bytes.extend(values.iter().flat_map(|v: &f32| v.to_le_bytes()));
            zip.write_all(&bytes)?;
        }
    }
    small(&mut zip, "version", b"3\n")?;
    small(&mut zip, ".data/serialization_id", &id.as_bytes()[..40])?;
    zip.finish().map_err(io::Error::other)?.flush()
}

/// Begins an entry of `bytes` bytes.
fn entry(zip: &mut ZipWriter<BufWriter<File>>, name: &str, bytes: u64) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT)
        .large_file(bytes > LARGE);
    zip.start_file(format!("{FOLDER}/{name}"), options).map_err(io::Error::other)
}
