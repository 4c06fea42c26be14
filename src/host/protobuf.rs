//! Protocol buffers, written field by field (protobuf.dev/programming-guides/encoding). Who writes a
//! message names the numbers that its definition gives the fields.

/// A message that is being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

// Wire types.
const NUMBER: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    /// Adds a whole number (`int64`, `uint64`, an enum).
    #[must_use]
    pub fn number(mut self, field: u64, n: u64) -> Self {
        self.key(field, NUMBER);
        self.varint(n);
        self
    }

    /// Adds a `float`.
    #[must_use]
    pub fn float(mut self, field: u64, x: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.0.extend(x.to_le_bytes());
        self
    }

    /// Adds a `double`.
    #[must_use]
    pub fn double(mut self, field: u64, x: f64) -> Self {
        self.key(field, EIGHT_BYTES);
        self.0.extend(x.to_le_bytes());
        self
    }

    /// Adds a `string` or `bytes`.
    #[must_use]
    pub fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.head(field, bytes.len() as u64);
        message.0.extend(bytes);
        message
    }

    /// Adds a message within this one.
    #[must_use]
    pub fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// Adds whole numbers one behind the other in one field.
    #[must_use]
    pub fn packed(self, field: u64, numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut packed = Message::default();
        numbers.into_iter().for_each(|n| packed.varint(n));
        self.message(field, &packed)
    }

    /// Adds the head of a `string`, of `bytes` or of a message of `length` bytes, which are written
    /// behind this one by hand: what is large need not be in memory.
    #[must_use]
    pub fn head(mut self, field: u64, length: u64) -> Self {
        self.key(field, BYTES);
        self.varint(length);
        self
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// All that was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (n, bytes) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2])] {
            let mut out = Message::default();
            out.varint(n);
            assert_eq!(out.into_bytes(), bytes);
        }
    }

    /// The examples of the page on the encoding.
    #[test]
    fn messages_are_as_the_encoding_s_page_has_them() {
        let a = Message::default().number(1, 150);
        assert_eq!(a.clone().into_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, b"testing");
        assert_eq!(text.into_bytes(), b"\x12\x07testing");
        let within = Message::default().message(3, &a);
        assert_eq!(within.into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let packed = Message::default().packed(6, [3, 270, 86_942]);
        assert_eq!(packed.into_bytes(), [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
    }
}
