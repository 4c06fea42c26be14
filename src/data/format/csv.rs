//! Delimited text. `csv`: a header line with names, ids in decimal digits. `deeprec`: DeepRec's
//! files for Criteo (modelzoo/DLRM), no header, `clicked,I1..I13,C1..C26`, the categories as in
//! Criteo's logs, 8 hexadecimal digits. In both an empty field is a missing value.

mod dates;

use super::{
    Reader, Writer,
    columns::{Columns, named_as_dense},
    leftovers::{Leftover, Seen},
    text::TextWriter,
    texts::TextIds,
};
use crate::data::{
    DataError,
    ids::ToId,
    preprocess::{
        criteo::hexadecimal,
        fields::{Fields, Words, number, truth, twice},
        lines::{shown, shown_name},
        records::Records,
    },
    rows::{Hotness, IdColumn, Layout, Numbers, RowRef, Rows, wrong},
};
use dates::Dates;
use std::{fmt::Write as _, path::Path};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// With a header line.
    Named,
    /// DeepRec's.
    DeepRec,
}

/// Reads a file, packed or not.
pub struct CsvReader {
    records: Records,
    take: Take,
    told: Vec<String>,
}

/// How a record becomes a row.
struct Take {
    dialect: Dialect,
    layout: Layout,
    /// Fields of a line, and which of them are read.
    width: usize,
    label: usize,
    dense: Vec<usize>,
    ids: Vec<usize>,
    dates: Dates,
    /// Which categorical columns are text, and what makes ids of it.
    text: Vec<bool>,
    texts: Option<TextIds>,
    to: ToId,
    positive: Vec<String>,
    words: Words,
}

impl CsvReader {
    /// Opens a file with a header line.
    ///
    /// # Errors
    /// If it cannot be read, or lacks a column.
    pub fn named(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        let mut records = Records::open(path, b',', None)?;
        let names = match header(&mut records)? {
            Some(names) => names,
            None => return Err(wrong(path, "the file is empty; must start with a header line")),
        };
        let words = Words::new(columns.missing.as_deref());
        let seen = look(path, names.len(), &words)?;
        let fraction = |i: usize| seen[i].fraction && !columns.worded.contains(&names[i]);
        let leftover = |i: usize| Leftover::among(&names[i], &seen[i]);
        let chosen = columns.choose_among(path, &names, fraction, |_| false, leftover)?;
        if let Some(name) = columns
            .worded
            .iter()
            .find(|name| !chosen.categorical.iter().any(|&i| names[i] == **name))
        {
            let name = shown_name(name);
            return Err(wrong(
                path,
                format!("column {name} is named as text (--text), but is no categorical column"),
            ));
        }
        let name = |&i: &usize| names[i].clone();
        let dates = chosen.dates.iter().map(|i| (name(i), *i)).collect();
        let dates = Dates::new(dates, columns.features());
        let id = |name: String| IdColumn { name, hotness: Hotness::One };
        let layout = Layout {
            label: names[chosen.label].clone(),
            dense: chosen.dense.iter().map(name).chain(dates.names(true)).collect(),
            numbers: Numbers::Float64,
            ids: chosen.categorical.iter().map(name).chain(dates.names(false)).map(id).collect(),
        };
        let text = |&i: &usize| {
            columns.texts.is_some() && (seen[i].text || columns.worded.contains(&names[i]))
        };
        let text = chosen.categorical.iter().map(text).collect();
        let width = names.len();
        records.set_width(width);
        let take = Take {
            dialect: Dialect::Named,
            layout,
            width,
            label: chosen.label,
            dense: chosen.dense,
            ids: chosen.categorical,
            dates,
            text,
            texts: columns.texts.clone(),
            to: columns.to_id(),
            positive: columns.positive.clone(),
            words,
        };
        Ok(CsvReader { records, take, told: chosen.told })
    }

    /// Opens a file of DeepRec's.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn deeprec(path: &Path) -> Result<Self, DataError> {
        let layout = Layout { label: "clicked".into(), ..Layout::criteo(Numbers::Float64) };
        let take = Take {
            dialect: Dialect::DeepRec,
            layout,
            width: 40,
            label: 0,
            dense: (1..14).collect(),
            ids: (14..40).collect(),
            dates: Dates::default(),
            text: vec![false; 26],
            texts: None,
            to: ToId::default(),
            positive: Vec::new(),
            words: Words::new(None),
        };
        Ok(CsvReader { records: Records::open(path, b',', None)?, take, told: Vec::new() })
    }
}

impl Take {
    /// Takes the fields of a record as a row.
    fn take(&mut self, fields: &Fields, rows: &mut Rows) -> Result<(), String> {
        let layout = &self.layout;
        if fields.len() != self.width {
            return Err(format!(
                "has {} fields; must have {}, one for each column",
                fields.len(),
                self.width
            ));
        }
        self.dates.read(fields, &self.words)?;
        let wrong = |i: usize, name: &str, right: &str| amiss(fields, i, name, right);
        let label = match number(fields.get(self.label)) {
            _ if !self.positive.is_empty() => {
                let text = fields.get(self.label);
                if self.words.missing(text) {
                    return Err(wrong(self.label, &layout.label, "a value, since it is the label"));
                }
                f32::from(self.positive.iter().any(|p| p.as_bytes() == text))
            }
            // -0 is 0, and written so.
            Some(0.0) => 0.0,
            Some(1.0) => 1.0,
            _ => {
                let right =
                    "0 or 1, since it is the label; --positive names other values that mean 1";
                return Err(wrong(self.label, &layout.label, right));
            }
        };
        for (&i, name) in self.dense.iter().zip(&layout.dense) {
            let text = fields.get(i);
            rows.dense.push(match self.words.missing(text) {
                true => f64::NAN,
                false => {
                    number(text).ok_or_else(|| wrong(i, name, "a finite number or nothing"))?
                }
            });
        }
        let (columns, features) = rows.ids.split_at_mut(self.ids.len());
        self.dates.put(&mut rows.dense, features);
        for (k, bags) in columns.iter_mut().enumerate() {
            bags.push_keys(self.category(fields, k)?);
        }
        rows.labels.push(label);
        Ok(())
    }

    /// The id of a record in categorical column `k`, if it has one.
    fn category(&self, fields: &Fields, k: usize) -> Result<Option<u64>, String> {
        let (i, name) = (self.ids[k], &self.layout.ids[k].name);
        let (text, wrong) = (fields.get(i), |right: &str| amiss(fields, i, name, right));
        match (&self.texts, self.dialect) {
            (Some(texts), _) if self.text[k] => {
                let id = texts.0.id(k, Some(text).filter(|text| !self.words.missing(text)));
                Ok(id.map(u64::from))
            }
            (texts, Dialect::Named) => self.id(text).map_err(|what| match what {
                Some(what) => format!("column {} {what}", shown_name(name)),
                None => {
                    let advice = match (number(text), texts) {
                        (Some(_), _) => " (name dense columns with --dense)",
                        (None, Some(_)) => {
                            " (the first lines hold no text; --text takes it as such)"
                        }
                        (None, None) => "",
                    };
                    wrong(&format!("a whole number below 2^32 (an id) or nothing{advice}"))
                }
            }),
            (_, Dialect::DeepRec) if text.is_empty() => Ok(None),
            (_, Dialect::DeepRec) => hexadecimal(text)
                .map(|id| Some(id.into()))
                .ok_or_else(|| wrong("up to 8 hexadecimal digits or nothing")),
        }
    }

    /// The id in a field, if there is one: a whole number or a truth value, as in parquet.
    ///
    /// # Errors
    /// What is wrong with a whole number that is none; `None` if it is something else.
    fn id(&self, text: &[u8]) -> Result<Option<u64>, Option<String>> {
        if self.words.missing(text) {
            return Ok(None);
        }
        if let Some(truth) = truth(text) {
            return Ok(Some(truth.into()));
        }
        let text = std::str::from_utf8(text).map_err(|_| None)?;
        let fraction = text.parse().is_ok_and(|x: f64| x.fract() != 0.0 || x.is_infinite());
        self.to.text(text).map_err(|what| what.filter(|_| !fraction))
    }
}

/// What is wrong with field `i`, of the column `name`, and what would be right.
fn amiss(fields: &Fields, i: usize, name: &str, right: &str) -> String {
    format!("column {} is {}; must be {right}", shown_name(name), shown(fields.get(i)))
}

/// What the first lines below the header tell of the columns.
fn look(path: &Path, width: usize, words: &Words) -> Result<Vec<Seen>, DataError> {
    let mut records = Records::open(path, b',', None)?;
    let _header = records.next_record()?;
    Seen::first_with(&mut records, width, words)
}

/// The names in the first record.
fn header(records: &mut Records) -> Result<Option<Vec<String>>, DataError> {
    let Some(record) = records.next_record()? else { return Ok(None) };
    let names = record.map(|fields| {
        fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect::<Vec<_>>()
    });
    let names = names.map_err(|what| records.malformed(what))?;
    if let Some((i, name)) = twice(&names) {
        let what = format!(
            "the header names {} twice, the second time as column {}",
            shown_name(name),
            i + 1
        );
        return Err(records.malformed(what));
    }
    Ok(Some(names))
}

impl Reader for CsvReader {
    fn layout(&self) -> &Layout {
        &self.take.layout
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn told(&self) -> &[String] {
        &self.told
    }

    fn texts(&self) -> Vec<usize> {
        (0..self.take.ids.len()).filter(|&k| self.take.text[k]).collect()
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        while rows.len() < n {
            let Some(record) = self.records.next_record()? else { break };
            if let Err(what) = record.and_then(|fields| self.take.take(fields, rows)) {
                return Err(self.records.malformed(what));
            }
        }
        Ok(())
    }
}

/// Writes a file.
pub struct CsvWriter {
    dialect: Dialect,
    text: TextWriter,
    layout: Layout,
    rows: u64,
}

impl CsvWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold other than one id; for [`Dialect::DeepRec`]
    /// also if the columns are other than Criteo's.
    pub fn create(path: &Path, layout: &Layout, dialect: Dialect) -> Result<Self, DataError> {
        match dialect {
            Dialect::DeepRec => super::capacity::check_criteo(layout, path, "DeepRec's csv")?,
            Dialect::Named => super::capacity::check_single(layout, path, "csv")?,
        }
        let mut text = TextWriter::create(path)?;
        if dialect == Dialect::Named {
            let names = [&layout.label]
                .into_iter()
                .chain(&layout.dense)
                .chain(layout.ids.iter().map(|c| &c.name));
            for (i, name) in names.enumerate() {
                if name.contains(['\n', '\r']) {
                    return Err(wrong(
                        path,
                        format!(
                            "column {name:?} has a line end in its name, which csv cannot hold here"
                        ),
                    ));
                }
                if i > 0 {
                    text.line().push(',');
                }
                let plain = !name.is_empty()
                    && name.trim() == name
                    && !name.contains([',', '"', '\u{feff}']);
                match plain {
                    true => text.line().push_str(name),
                    false => text.whole(format!("\"{}\"", name.replace('"', "\"\""))),
                }
            }
            text.end()?;
        }
        Ok(CsvWriter { dialect, text, layout: layout.clone(), rows: 0 })
    }
}

impl Writer for CsvWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        for i in 0..rows.len() {
            self.rows += 1;
            self.text.whole(rows.labels[i]);
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                RowRef { path: self.text.path(), row: self.rows }.finite(name, x, "csv")?;
                self.text.line().push(',');
                if !x.is_nan() {
                    self.text.number(x, self.layout.numbers);
                    // A column of digits alone would be read as ids.
                    let mark = self.dialect == Dialect::Named && !named_as_dense(name);
                    if mark && x.fract() == 0.0 {
                        self.text.line().push_str(".0");
                    }
                }
            }
            for bags in &rows.ids {
                self.text.line().push(',');
                if let [id] = bags.bag(i) {
                    let _ = match self.dialect {
                        Dialect::Named => write!(self.text.line(), "{id}"),
                        Dialect::DeepRec => write!(self.text.line(), "{id:08x}"),
                    };
                }
            }
            self.text.end()?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        self.text.finish()
    }
}

#[cfg(test)]
mod tests;
