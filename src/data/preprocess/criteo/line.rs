//! One line of Criteo's logs: `label \t I1..I13 (decimal or empty) \t C1..C26 (hexadecimal or
//! empty)`.

use super::{super::lines::shown, DENSE, TABLES};

/// A line as numbers; what is missing is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// 0 or 1.
    pub label: u8,
    /// I1..I13, possibly negative.
    pub dense: [i32; DENSE],
    /// C1..C26, as they are in the log.
    pub ids: [u32; TABLES],
    /// Which columns are empty: bit 0 is I1, bit 13 is C1.
    pub missing: u64,
}

impl Default for Line {
    fn default() -> Self {
        Line { label: 0, dense: [0; DENSE], ids: [0; TABLES], missing: 0 }
    }
}

/// Reads one line (without its end) into `out`.
///
/// # Errors
/// What is wrong and what would be right.
pub fn parse(text: &[u8], out: &mut Line) -> Result<(), String> {
    let mut fields = text.split(|&b| b == b'\t');
    let complete = read(&mut fields, out).map_err(|e| not_utf8(text).unwrap_or(e))?;
    if complete && fields.next().is_none() {
        return Ok(());
    }
    let columns = text.split(|&b| b == b'\t').count();
    let hint = if columns == DENSE + TABLES { "; is this a test file without labels?" } else { "" };
    Err(not_utf8(text).unwrap_or_else(|| {
        let all = 1 + DENSE + TABLES;
        format!("{columns} columns; {all} are right (label, {DENSE} integers, {TABLES} hexadecimal ids, separated by tabs){hint}")
    }))
}

/// Whether all columns are there; an error if one cannot be read.
fn read<'a>(fields: &mut impl Iterator<Item = &'a [u8]>, out: &mut Line) -> Result<bool, String> {
    // Columns are counted before any is judged, so that a shifted line is told by its length.
    let mut columns = [&[][..]; 1 + DENSE + TABLES];
    for column in &mut columns {
        match fields.next() {
            Some(field) => *column = field,
            None => return Ok(false),
        }
    }
    let (label, rest) = (columns[0], &columns[1..]);
    out.missing =
        rest.iter().enumerate().fold(0, |bits, (i, field)| bits | u64::from(field.is_empty()) << i);
    out.label = match label {
        b"0" => 0,
        b"1" => 1,
        _ => return Err(format!("column 1 (label) is {}; 0 or 1 is right", shown(label))),
    };
    for (i, (x, field)) in out.dense.iter_mut().zip(rest).enumerate() {
        *x = integer(field).ok_or_else(|| {
            format!(
                "column {} (I{}) is {}; an integer of 32 bits or nothing is right",
                i + 2,
                i + 1,
                shown(field)
            )
        })?;
    }
    for (i, (x, field)) in out.ids.iter_mut().zip(&rest[DENSE..]).enumerate() {
        *x = hexadecimal(field).ok_or_else(|| {
            let column = i + 2 + DENSE;
            format!(
                "column {column} (C{}) is {}; up to 8 hexadecimal digits or nothing are right",
                i + 1,
                shown(field)
            )
        })?;
    }
    Ok(true)
}

fn integer(field: &[u8]) -> Option<i32> {
    let (negative, digits) = match field {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    let mut x = 0i64;
    for &d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        x = 10 * x + i64::from(d - b'0');
    }
    i32::try_from(if negative { -x } else { x }).ok()
}

/// Up to 8 hexadecimal digits; 0 for none.
pub(in crate::data) fn hexadecimal(field: &[u8]) -> Option<u32> {
    if field.len() > 8 {
        return None;
    }
    let mut x = 0u32;
    for &d in field {
        let digit = match d {
            b'0'..=b'9' => d - b'0',
            b'a'..=b'f' => d - b'a' + 10,
            b'A'..=b'F' => d - b'A' + 10,
            _ => return None,
        };
        x = x << 4 | u32::from(digit);
    }
    Some(x)
}

fn not_utf8(text: &[u8]) -> Option<String> {
    let error = std::str::from_utf8(text).err()?;
    Some(format!(
        "byte {} of the line is not UTF-8 text; is this a Criteo log (tab-separated text, or gzip of it)?",
        error.valid_up_to() + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            label in 0u8..2,
            dense: [Option<i32>; DENSE],
            ids in prop::collection::vec(any::<Option<u32>>(), TABLES),
        ) {
            let mut text = label.to_string();
            dense.iter().for_each(|x| text += &x.map_or("\t".into(), |x| format!("\t{x}")));
            ids.iter().for_each(|x| text += &x.map_or("\t".into(), |x| format!("\t{x:08x}")));
            let mut line = Line { label: 9, dense: [9; DENSE], ids: [9; TABLES], missing: 9 };
            parse(text.as_bytes(), &mut line).unwrap();
            prop_assert_eq!(line.label, label);
            let all = dense.iter().map(Option::is_none).chain(ids.iter().map(Option::is_none));
            prop_assert_eq!(line.missing, all.enumerate().fold(0, |bits, (i, none)| bits | u64::from(none) << i));
            prop_assert_eq!(line.dense, dense.map(Option::unwrap_or_default));
            prop_assert_eq!(line.ids.to_vec(), ids.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>) {
            let _ = parse(&text, &mut Line::default());
        }
    }
}
