//! What stands in front of an array's elements (numpy/lib/format.py): magic, version, length, a
//! Python dictionary as text.

use crate::data::ids::ToId;
use std::io::Read;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers are damage: there is no need for one.
const LONGEST_HEADER: usize = 1 << 16;

/// Type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `|b1`
    Bool,
    /// Signed, of 1, 2, 4 or 8 bytes.
    Int(usize),
    /// Unsigned, of as many.
    Unsigned(usize),
    /// `<f2`
    F16,
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
            ("f", "2") => Some(Type::F16),
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
            Type::F16 => "<f2".into(),
            Type::F32 => "<f4".into(),
            Type::F64 => "<f8".into(),
        }
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Type::Bool => 1,
            Type::Int(n) | Type::Unsigned(n) => n,
            Type::F16 => 2,
            Type::F32 => 4,
            Type::F64 => 8,
        }
    }

    /// Whether the elements are fractions.
    pub fn fraction(self) -> bool {
        matches!(self, Type::F16 | Type::F32 | Type::F64)
    }

    /// The type that numpy calls `name`: `bool`, `int8`, `uint32`, `float16`, ...
    pub fn named(name: &str) -> Option<Type> {
        let bits = |prefix: &str| {
            name.strip_prefix(prefix)
                .filter(|n| ["8", "16", "32", "64"].contains(n))?
                .parse::<usize>()
                .ok()
        };
        match (bits("int"), bits("uint"), bits("float"), name) {
            (Some(n), ..) => Some(Type::Int(n / 8)),
            (_, Some(n), ..) => Some(Type::Unsigned(n / 8)),
            (_, _, Some(16), _) => Some(Type::F16),
            (_, _, Some(32), _) => Some(Type::F32),
            (_, _, Some(64), _) => Some(Type::F64),
            (.., "bool") => Some(Type::Bool),
            _ => None,
        }
    }

    /// The element in `bytes` as a number.
    pub fn number(self, bytes: &[u8]) -> f64 {
        match self {
            Type::F16 => f64::from(half::f16::from_le_bytes(word(bytes))),
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

impl Type {
    /// The element in `bytes` as an id; `None` where it is missing (NaN).
    ///
    /// # Errors
    /// If it is none, for a message that names the column before.
    pub fn id(self, bytes: &[u8], to: ToId) -> Result<Option<u64>, String> {
        match self {
            Type::Int(n) => to.narrow(self.integer(bytes), n).map(Some),
            Type::Bool | Type::Unsigned(_) => to.whole(self.integer(bytes), true).map(Some),
            Type::F16 | Type::F32 | Type::F64 => to.fraction(self.number(bytes)),
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
pub struct Header {
    /// Type of the elements.
    pub of: Type,
    /// Columns one after another.
    pub fortran: bool,
    /// Sizes of the dimensions.
    pub shape: Vec<u64>,
}

impl Header {
    /// Reads it, and leaves `from` at the first element.
    pub fn read(from: &mut impl Read) -> Result<Header, String> {
        let mut start = [0; 10];
        let mut fill = |bytes: &mut [u8]| {
            from.read_exact(bytes).map_err(|e| format!("its header cannot be read: {e}"))
        };
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
            v => {
                return Err(format!(
                    "it is of version {v} of numpy's format; 1, 2 and 3 are known"
                ));
            }
        };
        if len > LONGEST_HEADER {
            return Err(format!(
                "its header is {len} bytes long; must be at most {LONGEST_HEADER}"
            ));
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
        let bad = || {
            format!(
                "its header is {:?}, which is none of numpy's",
                text.trim().chars().take(80).collect::<String>()
            )
        };
        let descr = after("descr").ok_or_else(bad)?;
        let quoted = descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map(|(d, _)| d);
        let of = quoted.and_then(Type::parse).ok_or_else(|| {
            let shown: String = quoted.unwrap_or(descr).chars().take(24).collect();
            format!("its elements are of type {shown:?}; must be little-endian whole numbers or fractions (i1 to i8, u1 to u8, f2 to f8, b1)")
        })?;
        let order = after("fortran_order").ok_or_else(bad)?;
        let fortran = order.starts_with("True");
        if !fortran && !order.starts_with("False") {
            return Err(bad());
        }
        let shape = after("shape")
            .and_then(|s| s.strip_prefix('(')?.split_once(')'))
            .map(|(s, _)| s)
            .ok_or_else(bad)?;
        let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
        let shape = sizes
            .map(|s| s.trim_end_matches('L').parse())
            .collect::<Result<Vec<u64>, _>>()
            .map_err(|_| bad())?;
        Ok(Header { of, fortran, shape })
    }

    /// Bytes of the headers that are written: a multiple of 64, as numpy pads them, with room for
    /// any number of rows.
    pub const BYTES: usize = 128;

    /// Of the same elements with rows for columns.
    pub fn transposed(self) -> Self {
        Header { fortran: !self.fortran, shape: self.shape.into_iter().rev().collect(), ..self }
    }

    /// As [`Header::BYTES`] bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let shape: String = match &self.shape[..] {
            [n] => format!("({n},)"),
            many => format!("({})", many.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        };
        let order = if self.fortran { "True" } else { "False" };
        let text = format!(
            "{{'descr': '{}', 'fortran_order': {order}, 'shape': {shape}, }}",
            self.of.descr()
        );
        let mut bytes =
            [MAGIC, &[1, 0], &((Header::BYTES - 10) as u16).to_le_bytes(), text.as_bytes()]
                .concat();
        bytes.resize(Header::BYTES - 1, b' ');
        bytes.push(b'\n');
        bytes
    }
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
        assert_eq!(
            parse("{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), }"),
            header(Type::Unsigned(1), false, &[3])
        );
        assert_eq!(
            parse("{'shape':(),'descr':'|b1','fortran_order':False}"),
            header(Type::Bool, false, &[])
        );
        for bad in [
            "",
            "{'descr': '<f8'}",
            "{'descr': '<f8', 'fortran_order': 3, 'shape': (1,)}",
            "{'descr': '<f8', 'fortran_order': True, 'shape': (-1,)}",
        ] {
            assert!(parse(bad).unwrap_err().contains("which is none of numpy's"), "{bad}");
        }
        for of in [">i4", "<f1", "|O", "<i3", "<U5", "ß"] {
            let text = format!("{{'descr': '{of}', 'fortran_order': False, 'shape': (1,)}}");
            assert!(
                parse(&text).unwrap_err().contains(&format!("of type {of:?}; must be")),
                "{of}"
            );
        }
        for of in [
            Type::Bool,
            Type::Int(1),
            Type::Int(8),
            Type::Unsigned(1),
            Type::Unsigned(4),
            Type::F16,
            Type::F32,
            Type::F64,
        ] {
            for shape in [vec![7], vec![u64::MAX, u64::MAX]] {
                let header = Header { of, fortran: false, shape };
                assert_eq!(header.bytes().len(), Header::BYTES);
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
            (Type::F16, &[0, 0xbc], -1.0),
            (Type::F32, &[0, 0, 0x80, 0xbf], -1.0),
        ] {
            assert_eq!(of.number(bytes), number, "{of:?}");
        }
    }

    #[test]
    fn types_have_the_names_that_numpy_gives_them() {
        for (name, of) in [
            ("bool", Type::Bool),
            ("int8", Type::Int(1)),
            ("uint64", Type::Unsigned(8)),
            ("float16", Type::F16),
            ("float64", Type::F64),
        ] {
            assert_eq!(Type::named(name), Some(of));
        }
        for name in ["", "int", "int9", "float8", "float", "uint128", "Bool", "object"] {
            assert_eq!(Type::named(name), None, "{name}");
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
