//! Which columns of a file to take, where its columns have names.

use super::{Format, leftovers::Leftover, texts::TextIds};
use crate::data::{
    DataError,
    ids::ToId,
    preprocess::lines::shown_name,
    rows::{twice, wrong},
    source::config::DateFeature,
};
use std::path::Path;

/// What a user says of the columns; empty lists leave it to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The label; `None` = the first of [`LABELS`] that the file has.
    pub label: Option<String>,
    /// Dense columns.
    pub dense: Vec<String>,
    /// Categorical columns.
    pub categorical: Vec<String>,
    /// Columns to leave alone.
    pub ignore: Vec<String>,
    /// Values of the label that mean 1, all others mean 0; if empty, labels are the numbers 0 and 1.
    pub positive: Vec<String>,
    /// Words of text that say that a value is missing; `None` = those of pandas and others.
    pub missing: Option<Vec<String>>,
    /// Columns of dates, and the features that are made of each, all of them if it is empty; of
    /// csv and parquet.
    pub dates: (Vec<String>, Vec<DateFeature>),
    /// Whether categorical columns may be text; of parquet.
    pub text: bool,
    /// Categorical columns of csv that are text although their first lines hold none.
    pub worded: Vec<String>,
    /// What makes ids of text in categorical columns of csv and parquet, where that is known when a
    /// file is opened. Columns of parquet that hold dates by their type are dates then, too.
    pub texts: Option<TextIds>,
    /// Whether dense columns may be dates, which are then seconds since 1970; of parquet.
    pub moments: bool,
    /// Whether all columns have been named, so that the file's others are left alone.
    pub only: bool,
    /// Ids modulo this, those of parquet files with all of their 64 bits.
    pub range: Option<u32>,
    /// Whether ids are keys of 64 bits.
    pub keys: bool,
}

/// What the label is called in the files of OneFlow and FuxiCTR, DeepRec, BARS, facebook.
pub const LABELS: [&str; 4] = ["label", "clicked", "click", "y"];

/// Numbers of the columns that were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The label.
    pub label: usize,
    /// Dense columns.
    pub dense: Vec<usize>,
    /// Categorical columns.
    pub categorical: Vec<usize>,
    /// Columns of dates.
    pub dates: Vec<usize>,
    /// What is to be told of columns that were left out, a sentence each.
    pub told: Vec<String>,
}

/// Whether a column is dense by its name, `I` and a number as in Criteo's logs.
pub(super) fn named_as_dense(name: &str) -> bool {
    name.strip_prefix('I').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

impl Columns {
    /// Chooses among the columns of `path`. `names` are all of them; `fraction` says whether the
    /// values of one are fractions.
    ///
    /// What is not said is guessed: `I` and a number is a dense column, as in Criteo's logs, and so
    /// is one of fractions; all others are categorical.
    ///
    /// # Errors
    /// If a column is missing or has two roles.
    pub fn choose(
        &self,
        path: &Path,
        names: &[String],
        fraction: impl Fn(usize) -> bool,
    ) -> Result<Chosen, DataError> {
        self.choose_among(path, names, fraction, |_| false, |i| Leftover::named(&names[i]))
    }

    /// The same where `hashed` says whether the values of a column are too large to be anything but
    /// hashes, whatever its name is: such a column is categorical. `leftover` says whether one is
    /// no feature: it is left out unless it is named.
    ///
    /// # Errors
    /// As [`Columns::choose`].
    pub(in crate::data) fn choose_among(
        &self,
        path: &Path,
        names: &[String],
        fraction: impl Fn(usize) -> bool,
        hashed: impl Fn(usize) -> bool,
        leftover: impl Fn(usize) -> Option<Leftover>,
    ) -> Result<Chosen, DataError> {
        let shown = || names.iter().take(50).map(|n| shown_name(n)).collect::<Vec<_>>().join(", ");
        let missing = |name: &str| {
            wrong(
                path,
                format!("there is no column {}; the columns are {}", shown_name(name), shown()),
            )
        };
        let find = |name: &String| {
            let mut places = names.iter().enumerate().filter(|(_, n)| *n == name);
            match (places.next(), places.next()) {
                (Some(_), Some(_)) => Err(wrong(path, twice(name))),
                (Some((at, _)), None) => Ok(at),
                (None, _) => Err(missing(name)),
            }
        };
        let label = match &self.label {
            Some(name) => find(name)?,
            None => {
                LABELS.iter().find_map(|l| names.iter().position(|n| n == l)).ok_or_else(|| {
                    wrong(
                        path,
                        format!(
                            "no column is called {}; name the label, one of {}",
                            LABELS.join(", "),
                            shown()
                        ),
                    )
                })?
            }
        };
        let all = |list: &[String]| list.iter().map(find).collect::<Result<Vec<_>, _>>();
        let (mut dense, mut categorical) = (all(&self.dense)?, all(&self.categorical)?);
        if let Some(none) = self.worded.iter().find(|name| !names.contains(name)) {
            return Err(missing(none));
        }
        // A struct of parquet's has as many columns of its name as it has fields.
        let mut ignored = Vec::new();
        for name in &self.ignore {
            let before = ignored.len();
            ignored.extend((0..names.len()).filter(|&i| names[i] == *name));
            if ignored.len() == before {
                return Err(missing(name));
            }
        }
        let dates = all(&self.dates.0)?;
        let mut given: Vec<usize> = [&[label][..], &dense, &categorical, &ignored, &dates].concat();
        given.sort_unstable();
        if let Some(twice) = given.windows(2).find(|w| w[0] == w[1]) {
            return Err(wrong(
                path,
                format!(
                    "column {} has two roles; name each column once",
                    shown_name(&names[twice[0]])
                ),
            ));
        }
        let mut told = Vec::new();
        let (guess_dense, guess_categorical) =
            (!self.only && self.dense.is_empty(), !self.only && self.categorical.is_empty());
        for (i, name) in names.iter().enumerate().filter(|(i, _)| given.binary_search(i).is_err()) {
            let role = match (named_as_dense(name) || fraction(i)) && !hashed(i) {
                true if guess_dense => &mut dense,
                // Whoever names the dense columns has named all of them.
                _ if guess_categorical => &mut categorical,
                _ => continue,
            };
            match leftover(i) {
                None => role.push(i),
                Some(leftover) => told.push(leftover.told(name)),
            }
        }
        if dense.is_empty() && categorical.is_empty() && dates.is_empty() {
            return Err(wrong(path, "there is no column but the label and those ignored"));
        }
        Ok(Chosen { label, dense, categorical, dates, told })
    }

    /// The features that are made of each column of dates.
    pub(super) fn features(&self) -> &[DateFeature] {
        match &self.dates.1[..] {
            [] => &DateFeature::ALL,
            features => features,
        }
    }

    /// What becomes of the numbers of categorical columns.
    pub(in crate::data) fn to_id(&self) -> ToId {
        ToId { keys: self.keys, ..ToId::modulo(self.range) }
    }

    /// Whether the columns are left to the file.
    pub fn chooses_none(&self) -> bool {
        Columns { range: None, text: false, texts: None, ..self.clone() } == Columns::default()
    }

    /// Refuses words for labels and for what is missing where a format holds no such words.
    ///
    /// # Errors
    /// If some are named.
    pub(super) fn check_words(&self, path: &Path, format: Format) -> Result<(), DataError> {
        let word = format.word();
        if !self.positive.is_empty() && !matches!(format, Format::Csv | Format::Parquet) {
            let what = format!(
                "values of the label were named (--positive), but labels of {word} are the numbers 0 and 1; name none"
            );
            return Err(wrong(path, what));
        }
        if !self.worded.is_empty() && format != Format::Csv {
            let what = format!(
                "columns of text were named (--text), but those of {word} tell themselves what they are; name none"
            );
            return Err(wrong(path, what));
        }
        if !self.dates.0.is_empty() && !matches!(format, Format::Csv | Format::Parquet) {
            let what =
                format!("columns of dates were named (--dates), but {word} holds none; name none");
            return Err(wrong(path, what));
        }
        if self.missing.is_some() && !matches!(format, Format::Csv | Format::Parquet) {
            let what = format!(
                "words for what is missing were named (--missing), but {word} holds no such words; name none"
            );
            return Err(wrong(path, what));
        }
        Ok(())
    }

    /// Refuses choices for a format whose columns are fixed.
    ///
    /// # Errors
    /// If anything was chosen.
    pub fn unused(&self, path: &Path, format: &str) -> Result<(), DataError> {
        match self.chooses_none() {
            true => Ok(()),
            false => Err(wrong(
                path,
                format!(
                    "columns were chosen by name, but those of {format} have no names; choose none"
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(columns: &Columns, names: &[&str]) -> Result<Chosen, String> {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        columns
            .choose(Path::new("f"), &names, |i| names[i].starts_with("price"))
            .map_err(|e| e.to_string())
    }

    fn chosen(label: usize, dense: &[usize], categorical: &[usize]) -> Chosen {
        let (dates, told) = (Vec::new(), Vec::new());
        Chosen { label, dense: dense.to_vec(), categorical: categorical.to_vec(), dates, told }
    }

    #[test]
    fn what_is_no_feature_is_left_out_and_told_unless_it_is_named() {
        let names = ["", "label", "a", "__index_level_0__"];
        let found = choose(&Columns::default(), &names).unwrap();
        assert_eq!((found.dense, found.categorical), (vec![], vec![2]));
        let first = "column \"\" is left out, since it is no feature: it has no name, as an index of \
                     rows that was written along (name it to keep it)";
        assert_eq!((found.told.len(), &*found.told[0]), (2, first));
        let named = Columns { categorical: list(&["", "a"]), ..Columns::default() };
        assert_eq!(choose(&named, &names).unwrap(), chosen(1, &[], &[0, 2]));
        let ignored = Columns { ignore: list(&["", "__index_level_0__"]), ..Columns::default() };
        assert_eq!(choose(&ignored, &names).unwrap(), chosen(1, &[], &[2]));
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn what_is_not_said_is_guessed() {
        let names = ["clicked", "I1", "I12", "C1", "price", "user", "I", "Ix"];
        let guessed = choose(&Columns::default(), &names).unwrap();
        assert_eq!(guessed, chosen(0, &[1, 2, 4], &[3, 5, 6, 7]));
        let said = Columns {
            label: Some("user".into()),
            ignore: list(&["clicked"]),
            ..Columns::default()
        };
        assert_eq!(choose(&said, &names).unwrap(), chosen(5, &[1, 2, 4], &[3, 6, 7]));
        let said = Columns { dense: list(&["user"]), ..Columns::default() };
        assert_eq!(choose(&said, &names).unwrap(), chosen(0, &[5], &[1, 2, 3, 4, 6, 7]));
        let said = Columns { categorical: list(&["user", "C1"]), ..Columns::default() };
        assert_eq!(choose(&said, &names).unwrap(), chosen(0, &[1, 2, 4], &[5, 3]));
    }

    #[test]
    fn columns_that_are_not_there_or_twice_are_named() {
        let said = |dense: &[&str], categorical: &[&str]| {
            let c = Columns {
                dense: list(dense),
                categorical: list(categorical),
                ..Columns::default()
            };
            choose(&c, &["y", "a", "b"]).unwrap_err()
        };
        assert_eq!(said(&["x"], &[]), "f: there is no column x; the columns are y, a, b");
        assert_eq!(said(&["a"], &["b", "a"]), "f: column a has two roles; name each column once");
        let error = choose(&Columns::default(), &["a"]).unwrap_err();
        assert_eq!(
            error,
            "f: no column is called label, clicked, click, y; name the label, one of a"
        );
        let ignore = Columns { ignore: list(&["a", "b"]), ..Columns::default() };
        assert!(choose(&ignore, &["y", "a", "b"]).unwrap_err().contains("no column but the label"));
        // A name that several columns have is that of all of them.
        let ignore = Columns { ignore: list(&["s"]), ..Columns::default() };
        assert_eq!(choose(&ignore, &["y", "s", "a", "s"]).unwrap(), chosen(0, &[], &[2]));
        let ignore = Columns { ignore: list(&["t"]), ..Columns::default() };
        assert_eq!(
            choose(&ignore, &["y", "s"]).unwrap_err(),
            "f: there is no column t; the columns are y, s"
        );
        let long = "0".repeat(400_000);
        assert!(choose(&Columns::default(), &[&long]).unwrap_err().len() < 200);
        assert!(ignore.unused(Path::new("f.bin"), "bin40").is_err());
        Columns::default().unused(Path::new("f.bin"), "bin40").unwrap();
    }
}
