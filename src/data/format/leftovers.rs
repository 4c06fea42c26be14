//! Columns that are no features: row indices that programs write along with their tables.
//!
//! pandas stores a table's index as a column, and says so in a parquet file's own metadata; read
//! again by another program, or written as csv, it is one column more, without a name or with one
//! that tells. An id that no other row has teaches a model nothing and costs a table of as many
//! rows, so such a column is left out, and that is told, unless it is named.

use crate::data::{
    DataError,
    preprocess::{
        fields::{Words, missing, number},
        lines::shown_name,
        records::Records,
    },
};

/// The key of a parquet file's metadata under which pandas describes its table.
pub(super) const PANDAS: &str = "pandas";

/// Rows that are looked at to tell whether a column counts them.
pub(super) const LOOK: usize = 100;

/// Why a column is no feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) enum Leftover {
    /// The file's metadata name it, or its name is the one that such a column gets.
    Index,
    /// It has no name.
    Nameless,
    /// It has a name of such columns, and its values count the rows.
    Counts,
}

impl Leftover {
    /// The column `name` by its name alone.
    pub fn named(name: &str) -> Option<Leftover> {
        let number =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let between = |start, end| name.strip_prefix(start).and_then(|n: &str| n.strip_suffix(end));
        match name.trim() {
            "" => Some(Leftover::Nameless),
            // What pandas calls a column without a name when it reads it.
            _ if between("Unnamed: ", "").is_some_and(number) => Some(Leftover::Nameless),
            "__null_dask_index__" => Some(Leftover::Index),
            _ if between("__index_level_", "__").is_some_and(number) => Some(Leftover::Index),
            _ => None,
        }
    }

    /// The column `name`, of which the first values are `seen`.
    pub fn among(name: &str, seen: &Seen) -> Option<Leftover> {
        let counts = || Leftover::may_count(name) && counting(&seen.values);
        Leftover::named(name).or_else(|| counts().then_some(Leftover::Counts))
    }

    /// Whether the column `name` is one if its values count the rows.
    pub fn may_count(name: &str) -> bool {
        const NAMES: [&str; 14] = [
            "index",
            "level_0",
            "id",
            "row",
            "rowid",
            "row_id",
            "row_nr",
            "rownum",
            "row_num",
            "row_number",
            "row_index",
            "rowindex",
            "sample_id",
            "_c0",
        ];
        NAMES.iter().any(|n| name.eq_ignore_ascii_case(n))
    }

    /// Why it is no feature.
    pub fn why(self) -> &'static str {
        match self {
            Leftover::Index => "it is an index of rows that pandas has stored",
            Leftover::Nameless => "it has no name, as an index of rows that was written along",
            Leftover::Counts => "its values count the rows",
        }
    }

    /// What is told of the column `name`.
    pub fn told(self, name: &str) -> String {
        let why = self.why();
        let name = shown_name(name);
        format!("column {name} is left out, since it is no feature: {why} (name it to keep it)")
    }
}

/// What the first lines of a text tell of a column.
#[derive(Debug, Clone, Default)]
pub(in crate::data) struct Seen {
    /// Whether one of them is a number that is not just digits.
    pub fraction: bool,
    /// Whether one of them is text: no number, no truth value, nor a word for what is missing.
    pub text: bool,
    /// Whole numbers.
    values: Vec<Option<i64>>,
}

impl Seen {
    /// Looks at the first records that are left in `records`, of `width` fields.
    ///
    /// # Errors
    /// If they cannot be read. What is malformed is passed over: whoever reads it will say so.
    pub fn first(records: &mut Records, width: usize) -> Result<Vec<Seen>, DataError> {
        Seen::first_with(records, width, &Words::new(None))
    }

    /// The same where `words` say that a value is missing.
    ///
    /// # Errors
    /// As [`Seen::first`].
    pub fn first_with(
        records: &mut Records,
        width: usize,
        words: &Words,
    ) -> Result<Vec<Seen>, DataError> {
        let mut seen = vec![Seen::default(); width];
        records.set_width(width);
        for _ in 0..LOOK {
            let Some(record) = records.next_record()? else { break };
            let Some(fields) = record.ok().filter(|fields| fields.len() == width) else { continue };
            for (seen, text) in seen.iter_mut().zip(fields.iter()) {
                seen.fraction |= fraction(text);
                seen.text |= !words.missing(text) && number(text).is_none();
                let text = std::str::from_utf8(text).ok();
                seen.values.push(text.and_then(|t| t.parse().ok()));
            }
        }
        Ok(seen)
    }
}

/// Whether a field is a number that is not just digits, whatever their sign and number: a whole
/// number that is no id does not make a column dense, it is a wrong id.
fn fraction(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.iter().all(u8::is_ascii_digit)
        && !missing(text)
        && std::str::from_utf8(text).is_ok_and(|t| t.parse::<f64>().is_ok())
}

/// Whether `values`, the first ones of a column, go up by one from row to row.
pub(in crate::data) fn counting(values: &[Option<i64>]) -> bool {
    let next = |pair: &[Option<i64>]| pair[0].and_then(|x| x.checked_add(1)) == pair[1];
    values.len() > 1 && values[0].is_some() && values.windows(2).all(next)
}

/// The columns of a parquet file that its metadata, `text`, call an index. They name nothing where
/// they are none of pandas'.
pub(super) fn indices(text: &str) -> Vec<String> {
    let metadata: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let columns = metadata["index_columns"].as_array().into_iter().flatten();
    // One that is a range has no column, but a description.
    columns.filter_map(|c| c.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_known_by_name_values_or_metadata() {
        for (name, found) in [
            ("", Some(Leftover::Nameless)),
            ("Unnamed: 0", Some(Leftover::Nameless)),
            ("Unnamed: 0.1", Some(Leftover::Nameless)),
            ("Unnamed: 17", Some(Leftover::Nameless)),
            ("Unnamed: x", None),
            ("__index_level_0__", Some(Leftover::Index)),
            ("__index_level_x__", None),
            ("__null_dask_index__", Some(Leftover::Index)),
            ("index", None),
            ("C1", None),
        ] {
            assert_eq!(Leftover::named(name), found, "{name}");
        }
        assert!(Leftover::may_count("Index") && !Leftover::may_count("user_id"));
        let counts =
            |values: &[i64]| counting(&values.iter().map(|&x| Some(x)).collect::<Vec<_>>());
        assert!(counts(&[0, 1, 2]) && counts(&[7, 8]) && counts(&[-1, 0]));
        assert!(!counts(&[0, 1, 3]) && !counts(&[0, 0]) && !counts(&[5]) && !counts(&[]));
        assert!(!counting(&[None, None]) && !counting(&[Some(1), None]));
        assert!(!counts(&[i64::MAX, i64::MIN]));
        let pandas = r#"{"index_columns": ["user", {"kind": "range", "start": 0}], "columns": []}"#;
        assert_eq!(indices(pandas), ["user"]);
        assert!(indices("").is_empty() && indices("[]").is_empty() && indices("{}").is_empty());
    }
}
