//! Records of delimited text: a line each, or several where a quoted field holds line ends.
//!
//! A quote that nothing closes costs its own line and no other: what was read ahead in search of
//! its end is read again as lines of their own.

use super::{
    super::DataError,
    fields::{Fields, Uncut},
    lines::{LONGEST, Lines},
};
use std::{collections::VecDeque, path::Path};

/// A file of delimited text, read record by record; knows its place for messages.
pub(crate) struct Records {
    lines: Lines,
    delimiter: u8,
    comment: Option<u8>,
    fields: Fields,
    /// Fields that a record of several lines must have to be one; `None` = any number.
    width: Option<usize>,
    /// Line at which the record handed out last begins.
    first: u64,
    /// Lines that were read ahead, by their numbers.
    again: VecDeque<(u64, Vec<u8>)>,
}

impl Records {
    /// Opens `path`, in which `delimiter` separates fields. Lines that start with `comment`, and
    /// blank ones, are left out.
    ///
    /// # Errors
    /// As [`Lines::open`].
    pub fn open(path: &Path, delimiter: u8, comment: Option<u8>) -> Result<Self, DataError> {
        Ok(Records {
            lines: Lines::open(path)?,
            delimiter,
            comment,
            fields: Fields::default(),
            width: None,
            first: 0,
            again: VecDeque::new(),
        })
    }

    /// Says how many fields a record has: several lines that make another number are none.
    pub fn set_width(&mut self, width: usize) {
        self.width = Some(width);
    }

    /// The fields of the next record, or what is wrong with it; `None` after the last.
    ///
    /// # Errors
    /// As [`Lines::next_line`].
    pub fn next_record(&mut self) -> Result<Option<Result<&Fields, String>>, DataError> {
        loop {
            let kept = self.again.pop_front();
            let line = match &kept {
                Some((_, line)) => &line[..],
                None => match self.lines.next_line()? {
                    Some(line) => line,
                    None => return Ok(None),
                },
            };
            if line.trim_ascii().is_empty()
                || (self.comment.is_some() && line.first().copied() == self.comment)
            {
                continue;
            }
            let cut = self.fields.split(line, self.delimiter);
            let bytes = line.len();
            self.first = kept.as_ref().map_or(self.lines.number(), |(number, _)| *number);
            return Ok(Some(match cut {
                Ok(()) => Ok(&self.fields),
                Err(Uncut::Open(field)) => match self.join(field, bytes)? {
                    Ok(()) => Ok(&self.fields),
                    Err(what) => Err(what),
                },
                Err(wrong) => Err(wrong.what()),
            }));
        }
    }

    /// Reads on until the quote of `field` is closed; `bytes` of the record have been read. What is
    /// wrong if that makes no record: then the lines will be read again.
    fn join(&mut self, field: usize, mut bytes: usize) -> Result<Result<(), String>, DataError> {
        let mut ahead: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let what = loop {
            let next = match self.again.pop_front() {
                Some(kept) => Some(kept),
                None => match self.lines.next_line()? {
                    Some(line) => {
                        let line = line.to_vec();
                        Some((self.lines.number(), line))
                    }
                    None => None,
                },
            };
            let Some((number, line)) = next else { break Uncut::Open(field).what() };
            bytes += 1 + line.len();
            let cut = self.fields.go_on(&line, self.delimiter);
            ahead.push_back((number, line));
            match cut {
                Ok(()) => match self.width.filter(|&width| width != self.fields.len()) {
                    None => return Ok(Ok(())),
                    Some(width) => {
                        break format!(
                            "the quote of field {field} is closed on line {number}, which makes {} fields; must have {width}, or the quote be doubled if it is part of the text",
                            self.fields.len()
                        );
                    }
                },
                Err(Uncut::Open(_)) if bytes <= LONGEST => {}
                Err(_) => break Uncut::Open(field).what(),
            }
        };
        ahead.append(&mut self.again);
        self.again = ahead;
        Ok(Err(what))
    }

    /// An error at the record handed out last.
    pub fn malformed(&self, what: String) -> DataError {
        match self.first == self.lines.number() {
            true => self.lines.malformed(what),
            false => {
                let path = self.lines.path().to_owned();
                DataError::Malformed { path, line: self.first, what }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The records of `text` as (line, fields or what is wrong).
    fn records(text: &str, width: Option<usize>) -> Vec<(u64, Result<Vec<String>, String>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let mut records = Records::open(&path, b',', Some(b'#')).unwrap();
        width.into_iter().for_each(|w| records.set_width(w));
        let mut all = Vec::new();
        while let Some(record) = records.next_record().unwrap() {
            let fields = record.map(|fields| {
                fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect()
            });
            all.push((records.first, fields));
        }
        all
    }

    fn right(line: u64, fields: &[&str]) -> (u64, Result<Vec<String>, String>) {
        (line, Ok(fields.iter().map(|f| f.to_string()).collect()))
    }

    #[test]
    fn quoted_fields_hold_line_ends_and_the_lines_are_counted() {
        let text = "a,b\n\n#c\n1,\"x\r\n\r\n #y\",\n\"\n\",2\n3,\"say \"\"x\"\"\nz\"\n";
        let expected = [
            right(1, &["a", "b"]),
            right(4, &["1", "x\n\n #y", ""]),
            right(7, &["\n", "2"]),
            right(9, &["3", "say \"x\"\nz"]),
        ];
        assert_eq!(records(text, None), expected);
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_own_line() {
        let open = "the quote of field 2 is not closed on its line; close it, or double it if it is part of the text";
        // To the end of the file, before a good quote, before a closing quote too many fields away.
        for (text, what) in [
            ("1,\"x\n2,y\n3,z\n", open),
            ("1,\"x\n2,\"y\"\n3,z\n", open),
            (
                "1,\"x\n2,\"\n3,z\n",
                "the quote of field 2 is closed on line 2, which makes 2 fields; must have 3, or the quote be doubled if it is part of the text",
            ),
        ] {
            let width = if what == open { None } else { Some(3) };
            let found = records(text, width);
            assert_eq!(found[0], (1, Err(what.to_owned())), "{text}");
            assert_eq!(found.len(), 3, "{text}: {found:?}");
            assert_eq!((found[1].0, found[2].clone()), (2, right(3, &["3", "z"])), "{text}");
        }
        // No more is read ahead than a line may have.
        let long = format!("1,\"x\n{}3,z\n", "2,y\n".repeat(LONGEST / 3));
        let found = records(&long, None);
        assert_eq!((&found[0].1, found.len()), (&Err(open.to_owned()), LONGEST / 3 + 2));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back_whatever_it_holds(
            rows in prop::collection::vec(prop::collection::vec("[a-c \"\n,#]{0,6}", 3), 1..8),
        ) {
            let quoted = |f: &String| format!("\"{}\"", f.replace('"', "\"\""));
            let line = |r: &Vec<String>| r.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
            let text: String = rows.iter().map(line).collect();
            let found = records(&text, Some(3));
            let mut at = 1;
            prop_assert_eq!(found.len(), rows.len());
            for ((number, fields), row) in found.into_iter().zip(&rows) {
                prop_assert_eq!(number, at);
                prop_assert_eq!(&fields.unwrap(), row);
                at += line(row).matches('\n').count() as u64;
            }
        }
    }
}
