//! TensorFlow's event files: protocol buffers of `Event` (tensorflow/core/util/event.proto,
//! framework/summary.proto), each in a frame with checksums (lib/io/record_writer.cc).

use crate::host::protobuf::Message;

/// The event that a file begins with; `time` in seconds since 1970.
pub(super) fn version(time: f64) -> Vec<u8> {
    Message::default().double(1, time).bytes(3, b"brain.Event:2").into_bytes()
}

/// One number of a curve.
pub(super) fn scalar(time: f64, step: u64, tag: &str, value: f32) -> Vec<u8> {
    let of = Message::default().bytes(1, tag.as_bytes()).float(2, value);
    let summary = Message::default().message(1, &of);
    Message::default().double(1, time).number(2, step).message(5, &summary).into_bytes()
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
}
