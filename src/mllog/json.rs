//! JSON as Python's `json.dumps` writes it, since MLPerf's tools compare and quote raw lines.

use serde::Serialize;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// `value` with `", "` and `": "` between items, non-ASCII characters escaped, floats as Python's
/// `repr` prints them.
pub(super) fn dumps(value: &impl Serialize) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Python))?;
    String::from_utf8(out).map_err(|e| serde::ser::Error::custom(e.to_string()))
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }

    fn write_f64<W: ?Sized + Write>(&mut self, w: &mut W, value: f64) -> io::Result<()> {
        w.write_all(repr(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        w: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut units = [0u16; 2];
        for c in fragment.chars() {
            if c.is_ascii() {
                w.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(w, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// Shortest digits that read back as `value`; an exponent of two digits at least below 1e-4 and
/// from 1e16 on (CPython, `float.__repr__`). Finite values only: serde_json writes the others as
/// null before it comes here.
fn repr(value: f64) -> String {
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_python_s() {
        // Right-hand sides: Python 3.11, repr(x).
        for (x, expected) in [
            (1e-8, "1e-08"),
            (1.5e-8, "1.5e-08"),
            (0.0001, "0.0001"),
            (0.00009, "9e-05"),
            (18.0, "18.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.80275, "0.80275"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (9999999999999998.0, "9999999999999998.0"),
            (62426824.25, "62426824.25"),
            (-1e-300, "-1e-300"),
        ] {
            assert_eq!(repr(x), expected);
            assert_eq!(expected.parse::<f64>().unwrap().to_bits(), x.to_bits());
        }
    }

    #[test]
    fn separators_and_escapes_are_python_s() {
        let value = json!({"a": [1, 2.5, null], "b": {"c": "Zürich 🦀 \"x\"\n"}});
        let expected = r#"{"a": [1, 2.5, null], "b": {"c": "Z\u00fcrich \ud83e\udd80 \"x\"\n"}}"#;
        assert_eq!(dumps(&value).unwrap(), expected);
    }
}
