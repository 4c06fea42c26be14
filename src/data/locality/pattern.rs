//! An access pattern, and facebook's files of it.

use super::super::{DataError, preprocess::lines::shown};
use std::{fmt::Write, fs, path::Path};

/// How one table is read: its ids, and how soon they come again.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessPattern {
    /// All ids, in the order of their first access.
    pub ids: Vec<u32>,
    /// Stack distances that occur, in ascending order; 0 stands for the first access to an id.
    pub distances: Vec<u32>,
    /// Share of accesses with at most the distance at the same place; the last one is 1 but for
    /// rounding.
    pub cumulative: Vec<f64>,
}

impl AccessPattern {
    /// Checks that the three lists fit each other.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what would be right.
    pub fn new(ids: Vec<u32>, distances: Vec<u32>, cumulative: Vec<f64>) -> Result<Self, String> {
        let last = distances.last().copied().unwrap_or(0);
        if ids.is_empty() {
            Err("there is no id; at least one is needed".into())
        } else if distances.first() != Some(&0) {
            Err("the distances must begin with 0, the first access to an id".into())
        } else if !distances.is_sorted_by(|a, b| a < b) {
            Err("the distances must ascend".into())
        } else if last as usize > ids.len() {
            Err(format!(
                "the largest distance is {last}, but there are {} ids; it can be no larger",
                ids.len()
            ))
        } else if distances.len() != cumulative.len() {
            Err(format!(
                "there are {} distances but {} cumulative shares; must be as many",
                distances.len(),
                cumulative.len()
            ))
        } else if !cumulative.is_sorted_by(|a, b| a <= b)
            || cumulative.iter().any(|p| !(*p > 0.0 && *p < 1.0 + 1e-6))
        {
            Err("the cumulative shares must ascend and lie above 0 and not above 1".into())
        } else if cumulative.last().is_none_or(|p| *p < 1.0 - 1e-6) {
            Err("the last cumulative share must be 1".into())
        } else {
            Ok(AccessPattern { ids, distances, cumulative })
        }
    }

    /// Reads a file as facebook's program writes it (facebookresearch/dlrm, dlrm_data_pytorch.py,
    /// `read_dist_from_file`): three lines of numbers separated by commas: ids, distances,
    /// cumulative shares.
    ///
    /// # Errors
    /// If the file cannot be read, or does not hold that; the message names file and line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = fs::read_to_string(path)
            .map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let malformed = |line: usize, what: String| DataError::Malformed {
            path: path.to_owned(),
            line: line as u64,
            what,
        };
        let [ids, distances, cumulative] = lines[..] else {
            let what = format!(
                "{} lines with numbers; 3 are right: ids, stack distances, cumulative shares",
                lines.len()
            );
            return Err(malformed(lines.len().min(4), what));
        };
        let ids = numbers(ids, "an id from 0 to 4294967295").map_err(|what| malformed(1, what))?;
        let distances = numbers(distances, "a distance from 0 to 4294967295")
            .map_err(|what| malformed(2, what))?;
        let cumulative =
            numbers(cumulative, "a share from 0 to 1").map_err(|what| malformed(3, what))?;
        AccessPattern::new(ids, distances, cumulative)
            .map_err(|what| DataError::Invalid(format!("{}: {what}", path.display())))
    }

    /// The same as text, which [`AccessPattern::read`] reads back to the bit.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        line(&mut text, &self.ids);
        line(&mut text, &self.distances);
        line(&mut text, &self.cumulative);
        text
    }
}

fn numbers<T: std::str::FromStr>(line: &str, right: &str) -> Result<Vec<T>, String> {
    let number = |(i, field): (usize, &str)| {
        field.trim().parse().map_err(|_| {
            format!("number {} is {}; {right} is right", i + 1, shown(field.trim().as_bytes()))
        })
    };
    line.split(',').enumerate().map(number).collect()
}

fn line<T: std::fmt::Display>(to: &mut String, numbers: &[T]) {
    for (i, x) in numbers.iter().enumerate() {
        let _ = write!(to, "{}{x}", if i == 0 { "" } else { ", " });
    }
    to.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dist_emb_0.log");
        let pattern =
            AccessPattern::new(vec![7, 0, u32::MAX], vec![0, 1, 3], vec![0.1, 1.0 / 3.0, 1.0])
                .unwrap();
        fs::write(&path, pattern.to_text()).unwrap();
        assert_eq!(AccessPattern::read(&path).unwrap(), pattern);
        assert_eq!(pattern.to_text().lines().next(), Some("7, 0, 4294967295"));
    }

    #[test]
    fn wrong_files_are_named_with_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.log");
        for (text, expected) in [
            ("", "0 lines with numbers; 3 are right"),
            ("1, 2\n0, 1\n", "2 lines with numbers"),
            ("1, x\n0\n1\n", "d.log:1: number 2 is \"x\"; an id"),
            ("1\n0, -1\n1\n", "d.log:2: number 2 is \"-1\""),
            ("1\n0\none\n", "d.log:3: number 1 is \"one\"; a share"),
            ("1\n1\n1\n", "must begin with 0"),
            ("1\n0, 2\n0.5, 1\n", "the largest distance is 2, but there are 1 ids"),
            ("1, 2\n0, 2, 1\n0.5, 0.6, 1\n", "must ascend"),
            ("1\n0, 1\n1\n", "2 distances but 1 cumulative"),
            ("1\n0, 1\n0.5, NaN\n", "must ascend"),
            ("1\n0, 1\n0.5, 0.9\n", "must be 1"),
        ] {
            fs::write(&path, text).unwrap();
            let error = AccessPattern::read(&path).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains("d.log") && !error.contains('\n'),
                "{text:?}: {error}"
            );
        }
        assert!(
            AccessPattern::read(&dir.path().join("none")).unwrap_err().to_string().contains("none")
        );
    }
}
