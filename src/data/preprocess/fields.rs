//! A record of delimited text, cut into fields.

use std::collections::HashSet;

/// The fields of a record, without the spaces around them and without quotes.
#[derive(Default)]
pub(crate) struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uncut {
    /// The quote of this field, counted from 1, is not closed on its line.
    Open(usize),
    /// What is wrong, and what would be right.
    Wrong(String),
}

impl Uncut {
    /// The sentence of it, where nothing that follows closes the quote.
    pub fn what(self) -> String {
        match self {
            Uncut::Open(field) => format!(
                "the quote of field {field} is not closed on its line; close it, or double it if it is part of the text"
            ),
            Uncut::Wrong(what) => what,
        }
    }
}

impl Fields {
    /// Cuts `line` at each `delimiter` outside quotes (`"`, doubled within).
    ///
    /// # Errors
    /// If a quote is not closed, which [`Fields::go_on`] may mend, or text follows a closing one.
    pub fn split(&mut self, line: &[u8], delimiter: u8) -> Result<(), Uncut> {
        self.text.clear();
        self.ends.clear();
        self.cut(Some(line), delimiter)
    }

    /// Goes on with the next line where the quote of a field was not closed.
    ///
    /// # Errors
    /// As [`Fields::split`].
    pub fn go_on(&mut self, line: &[u8], delimiter: u8) -> Result<(), Uncut> {
        self.text.push(b'\n');
        let rest = self.quoted(line, delimiter)?;
        self.ends.push(self.text.len());
        self.cut(rest, delimiter)
    }

    fn cut(&mut self, mut rest: Option<&[u8]>, delimiter: u8) -> Result<(), Uncut> {
        let space = |c: u8| (c == b' ' || c == b'\t') && c != delimiter;
        while let Some(text) = rest {
            let text = &text[text.iter().take_while(|&&c| space(c)).count()..];
            rest = match text.strip_prefix(b"\"") {
                Some(quoted) => self.quoted(quoted, delimiter)?,
                None => {
                    let end = text.iter().position(|&c| c == delimiter);
                    let field = &text[..end.unwrap_or(text.len())];
                    let trailing = field.iter().rev().take_while(|&&c| space(c)).count();
                    self.text.extend_from_slice(&field[..field.len() - trailing]);
                    end.map(|e| &text[e + 1..])
                }
            };
            self.ends.push(self.text.len());
        }
        Ok(())
    }

    /// Takes a field after its opening quote; returns what follows its delimiter.
    fn quoted<'a>(&mut self, text: &'a [u8], delimiter: u8) -> Result<Option<&'a [u8]>, Uncut> {
        let space = |c: u8| (c == b' ' || c == b'\t') && c != delimiter;
        let number = self.ends.len() + 1;
        let mut at = 0;
        loop {
            let Some(n) = text[at..].iter().position(|&c| c == b'"') else {
                self.text.extend_from_slice(&text[at..]);
                return Err(Uncut::Open(number));
            };
            self.text.extend_from_slice(&text[at..at + n]);
            at += n + 1;
            if text.get(at) != Some(&b'"') {
                break;
            }
            self.text.push(b'"');
            at += 1;
        }
        let after = &text[at..];
        let after = &after[after.iter().take_while(|&&c| space(c)).count()..];
        match after.split_first() {
            None => Ok(None),
            Some((&c, rest)) if c == delimiter => Ok(Some(rest)),
            Some(_) => Err(Uncut::Wrong(format!(
                "text follows the closing quote of field {number}; a quote within a field must be doubled"
            ))),
        }
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Field `i`, counted from 0.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    /// Field `i` for a message.
    pub fn shown(&self, i: usize) -> String {
        String::from_utf8_lossy(self.get(i)).chars().take(40).collect()
    }

    /// A number that is the same for the same fields, and hardly for others.
    pub fn fingerprint(&self) -> u64 {
        let mix = |hash: u64, end: &usize| (hash ^ *end as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.ends.iter().fold(farmhash::fingerprint64(&self.text), mix)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// Whether a field says that there is no value: it is empty, or holds a word by which pandas, R,
/// Hive and others say so.
pub(crate) fn missing(field: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] = [b"nan", b"na", b"n/a", b"null", b"none", b"<na>", b"\\n"];
    field.is_empty()
        || (field.len() < 5 && WORDS.iter().any(|word| field.eq_ignore_ascii_case(word)))
}

/// Words that say that a value is missing.
#[derive(Debug, Clone)]
pub(crate) struct Words(Option<Vec<Vec<u8>>>);

impl Words {
    /// These, or those of [`missing`]; in either case nothing says so, too.
    pub fn new(words: Option<&[String]>) -> Self {
        Words(words.map(|words| words.iter().map(|w| w.clone().into_bytes()).collect()))
    }

    /// Whether a field holds no value. Capitals and small letters are alike.
    pub fn missing(&self, field: &[u8]) -> bool {
        match &self.0 {
            None => missing(field),
            Some(words) => {
                field.is_empty() || words.iter().any(|word| field.eq_ignore_ascii_case(word))
            }
        }
    }
}

/// The number that a field holds: a finite one, or a truth value, which is 0 or 1.
pub(crate) fn number(field: &[u8]) -> Option<f64> {
    match truth(field) {
        Some(truth) => Some(f64::from(u8::from(truth))),
        None => std::str::from_utf8(field).ok()?.parse().ok().filter(|x: &f64| x.is_finite()),
    }
}

/// The truth value that a field holds, as pandas or polars write it.
pub(crate) fn truth(field: &[u8]) -> Option<bool> {
    match field {
        _ if field.eq_ignore_ascii_case(b"true") => Some(true),
        _ if field.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// The first name that stands among `names` a second time, and where.
pub(crate) fn twice(names: &[String]) -> Option<(usize, &str)> {
    let mut seen = HashSet::new();
    names.iter().enumerate().find(|(_, n)| !seen.insert(n.as_str())).map(|(i, n)| (i, n.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str, delimiter: u8) -> Result<Vec<String>, String> {
        let mut f = Fields::default();
        f.split(line.as_bytes(), delimiter).map_err(Uncut::what)?;
        Ok(f.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect())
    }

    #[test]
    fn words_for_nothing_and_for_truth_are_known() {
        for field in ["", "NaN", "nan", "NA", "null", "NULL", "None", "<NA>", "N/A", "\\N"] {
            assert!(missing(field.as_bytes()), "{field}");
        }
        assert!(!missing(b"0") && !missing(b"nano") && !missing(b"no"));
        assert_eq!(
            (number(b"True"), number(b"false"), number(b"2.5")),
            (Some(1.0), Some(0.0), Some(2.5))
        );
        assert_eq!(
            (number(b"inf"), number(b"nan"), number(b""), number(b"x")),
            (None, None, None, None)
        );
    }

    #[test]
    fn spaces_quotes_and_empty_fields() {
        assert_eq!(split("39, State-gov ,,x", b',').unwrap(), ["39", "State-gov", "", "x"]);
        assert_eq!(split("", b',').unwrap(), [""]);
        assert_eq!(split("a,", b',').unwrap(), ["a", ""]);
        assert_eq!(split(r#" "a,b" ,"say ""x""","#, b',').unwrap(), ["a,b", r#"say "x""#, ""]);
        assert_eq!(split("a\t\tb c", b'\t').unwrap(), ["a", "", "b c"]);
        assert!(split(r#"a,"b"#, b',').unwrap_err().contains("field 2 is not closed"));
        assert!(
            split(r#""a"b,c"#, b',')
                .unwrap_err()
                .contains("text follows the closing quote of field 1")
        );
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(fields in prop::collection::vec("[ -~]{0,8}", 1..6)) {
            let line = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect::<Vec<_>>().join(" ; ");
            prop_assert_eq!(split(&line, b';').unwrap(), fields);
        }
    }
}
