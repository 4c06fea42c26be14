//! The pages of a column chunk as they lie in the file, looked at before the parquet crate makes
//! room for what they say they unpack to: a page of a hundred bytes may claim two gigabytes.

use super::shared::{Piece, Shared};
use parquet::{
    basic::Compression,
    errors::{ParquetError, Result},
    file::{
        metadata::ColumnChunkMetaData,
        reader::{ChunkReader, Length},
    },
};
use std::io::{BufRead, BufReader};

/// Claims of up to so many bytes are believed: they hurt nobody.
const HARMLESS: u64 = 16 << 20;

/// A file, read for one column chunk.
pub(super) struct Chunk {
    file: Shared,
    /// What the file's metadata say all pages of the chunk unpack to.
    unpacked: u64,
    /// The most bytes that a packed one unpacks to.
    ratio: u64,
}

impl Chunk {
    pub(super) fn new(file: Shared, chunk: &ColumnChunkMetaData) -> Self {
        let unpacked = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
        Chunk { file, unpacked, ratio: ratio(chunk.compression()) }
    }

    /// Refuses a page that claims to unpack to more than it can.
    fn check(&self, header: &[u8]) -> Result<()> {
        // What is no header is told by the parquet crate.
        let Some(Sizes { unpacked, packed }) = Sizes::of(header) else { return Ok(()) };
        let most = self.unpacked.min(packed.saturating_mul(self.ratio)).max(HARMLESS);
        if unpacked <= most {
            return Ok(());
        }
        Err(ParquetError::General(format!(
            "a page of {packed} bytes claims to unpack to {unpacked}, its column chunk to {}; the file is damaged",
            self.unpacked
        )))
    }
}

/// The most bytes that one packed byte can stand for: a copy of 64 bytes is two of snappy's, a byte
/// of a length up to 255 of LZ4's, deflate packs 258 bytes in two bits.
fn ratio(codec: Compression) -> u64 {
    match codec {
        Compression::UNCOMPRESSED => 1,
        Compression::SNAPPY => 32,
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        Compression::GZIP(_) => 1032,
        // Runs have no such bound.
        _ => u64::MAX,
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Chunk {
    type T = BufReader<Piece>;

    /// Headers are what the crate reads so; pages are read as bytes.
    fn get_read(&self, start: u64) -> Result<BufReader<Piece>> {
        let mut read = self.file.get_read(start)?;
        self.check(read.fill_buf()?)?;
        Ok(read)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        self.file.get_bytes(start, length)
    }
}

/// What the header of a page says of its bytes.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    unpacked: u64,
    packed: u64,
}

impl Sizes {
    /// Fields 2 and 3 of the `PageHeader` at the start of `bytes`, in thrift's compact protocol
    /// (apache/parquet-format, parquet.thrift); field 1, the page's type, is a number as they are.
    fn of(bytes: &[u8]) -> Option<Sizes> {
        const I32: u8 = 5;
        let mut bytes = bytes.iter().copied();
        let (mut field, mut unpacked) = (0, None);
        loop {
            let head = bytes.next()?;
            field = match head >> 4 {
                0 => number(&mut bytes)?,
                further => field + i64::from(further),
            };
            if head & 15 != I32 {
                return None;
            }
            let value = u64::try_from(number(&mut bytes)?).ok()?;
            match field {
                1 => {}
                2 => unpacked = Some(value),
                3 => return Some(Sizes { unpacked: unpacked?, packed: value }),
                _ => return None,
            }
        }
    }
}

/// A number: seven bits a byte, the lowest first, then zigzag.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut bits = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = bytes.next()?;
        bits |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page's header up to its sizes.
    fn header(unpacked: u64, packed: u64) -> Vec<u8> {
        let mut bytes = vec![0x15, 0];
        for value in [unpacked, packed] {
            bytes.push(0x15);
            let mut bits = value << 1;
            while bits > 127 {
                bytes.push(bits as u8 | 128);
                bits >>= 7;
            }
            bytes.push(bits as u8);
        }
        bytes
    }

    #[test]
    fn sizes_are_read_of_headers_and_of_nothing_else() {
        for sizes in [(0, 0), (63, 64), (1 << 20, 127), ((1 << 31) - 1, 1 << 30)] {
            let (unpacked, packed) = sizes;
            let bytes = header(unpacked, packed);
            assert_eq!(Sizes::of(&bytes), Some(Sizes { unpacked, packed }));
            for cut in 0..bytes.len() {
                assert_eq!(Sizes::of(&bytes[..cut]), None);
            }
        }
        for none in [&[0][..], &[0x35, 0, 0x15, 0], &[0x15, 0, 0x18, 1], &[255; 20]] {
            assert_eq!(Sizes::of(none), None, "{none:?}");
        }
    }

    #[test]
    fn claims_are_bounded_by_the_codec_and_by_the_metadata() {
        let file = || Shared::new(tempfile::tempfile().unwrap(), 0);
        let of = |unpacked, codec| Chunk { file: file(), unpacked, ratio: ratio(codec) };
        let (large, huge) = (1 << 27, (1 << 31) - 1);
        let snappy = of(u64::MAX, Compression::SNAPPY);
        assert!(snappy.check(&header(HARMLESS, 1)).is_ok());
        assert!(snappy.check(&header(large, large / 32)).is_ok());
        let said = snappy.check(&header(huge, 100)).unwrap_err().to_string();
        assert!(said.contains("a page of 100 bytes claims to unpack to 2147483647"), "{said}");
        let lz4 = of(u64::MAX, Compression::LZ4_RAW);
        assert!(lz4.check(&header(large, large / 256)).is_ok());
        assert!(lz4.check(&header(large, large / 257)).is_err());
        let zstd = |unpacked| of(unpacked, Compression::ZSTD(Default::default()));
        assert!(zstd(large).check(&header(large, 100)).is_ok());
        assert!(zstd(large - 1).check(&header(large, 100)).is_err());
    }
}
