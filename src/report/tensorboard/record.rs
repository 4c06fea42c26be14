//! TensorFlow's event files: protocol buffers of `Event` (tensorflow/core/util/event.proto,
//! framework/summary.proto), each in a frame with checksums (lib/io/record_writer.cc).

/// The event that a file begins with; `time` in seconds since 1970.
pub(super) fn version(time: f64) -> Vec<u8> {
    let mut event = time_of(time);
    text(&mut event, 3, b"brain.Event:2");
    event
}

/// One number of a curve.
pub(super) fn scalar(time: f64, step: u64, tag: &str, value: f32) -> Vec<u8> {
    let mut of = Vec::new();
    text(&mut of, 1, tag.as_bytes());
    key(&mut of, 2, FOUR_BYTES);
    of.extend(value.to_le_bytes());
    let mut summary = Vec::new();
    text(&mut summary, 1, &of);
    let mut event = time_of(time);
    key(&mut event, 2, NUMBER);
    varint(&mut event, step);
    text(&mut event, 5, &summary);
    event
}

/// An event in its frame: length, checksum of the length, event, checksum of the event.
pub(super) fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(event.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(event);
    out.extend(masked(crc32c(event)).to_le_bytes());
    out
}

// Wire types of protocol buffers.
const NUMBER: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

fn time_of(time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, EIGHT_BYTES);
    event.extend(time.to_le_bytes());
    event
}

fn text(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(to, field, BYTES);
    varint(to, bytes.len() as u64);
    to.extend(bytes);
}

fn key(to: &mut Vec<u8>, field: u64, kind: u64) {
    varint(to, field << 3 | kind);
}

fn varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

/// As record files have checksums, lest one of a checksum be taken (lib/hash/crc32c.h).
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), RFC 3720 section 12.1.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc, &b| TABLE[((crc ^ u32::from(b)) & 0xff) as usize] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    #[test]
    fn checksums_are_the_published_ones() {
        let rising: Vec<u8> = (0..32).collect();
        let cases: [(&[u8], u32); 4] = [
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ];
        for (bytes, crc) in cases {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
        }
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (n, bytes) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2])] {
            let mut out = Vec::new();
            varint(&mut out, n);
            assert_eq!(out, bytes);
        }
    }
}
