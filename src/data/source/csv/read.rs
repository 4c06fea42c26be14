//! Delimited files, sample by sample.

use super::layout::{Category, Layout, Roles, lay_out};
use crate::data::{
    DataError, dates,
    format::leftovers::{Leftover, Seen},
    preprocess::{
        fields::{self, Fields, Words},
        records::Records,
    },
    source::{
        config::{CsvConfig, DenseTransform, OnError},
        hold_out::Side,
    },
};
use std::path::{Path, PathBuf};

/// What one pass over files leaves.
#[derive(Default)]
pub(super) struct Pass {
    /// Those of the first file, or as they were given.
    pub roles: Option<Roles>,
    /// What was left out of it, a sentence each.
    pub told: Vec<String>,
    pub skipped: u64,
    samples: u64,
    taken: bool,
}

/// A sample as it stands in its file.
pub(super) struct Sample<'a> {
    pub label: f32,
    /// Dense values; NaN where there is none.
    pub dense: &'a [f64],
    /// All fields of its record.
    pub fields: &'a Fields,
    layout: &'a Layout,
    /// Moments of the columns of dates.
    moments: &'a [Option<i64>],
    words: &'a Words,
}

impl<'a> Sample<'a> {
    /// The categories; `None` where there is none.
    pub fn categories(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let (fields, moments, words) = (self.fields, self.moments, self.words);
        self.layout.categorical.iter().map(move |category| match *category {
            Category::Field(i) => Some(fields.get(i)).filter(|field| !words.missing(field)),
            Category::Date(k, feature) => {
                moments[k].map(|seconds| feature.category(seconds).as_bytes())
            }
        })
    }

    /// The field of the column `data.split_by`, if samples are split by one.
    pub fn split_by(&self) -> Option<&'a [u8]> {
        self.layout.split_by.map(|i| self.fields.get(i))
    }
}

/// Takes the samples of files as they are read.
pub(super) trait Sink {
    /// One sample.
    ///
    /// # Errors
    /// What is wrong with it, however malformed lines are met.
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), String>;
}

/// Reads files and gives each sample that is on `side` to `sink`. `roles` are those of the training
/// files, or `None` for these themselves.
pub(super) fn read(
    paths: &[PathBuf],
    c: &CsvConfig,
    roles: Option<&Roles>,
    side: Option<&Side>,
    sink: &mut impl Sink,
) -> Result<Pass, DataError> {
    let mut pass = Pass { roles: roles.cloned(), ..Pass::default() };
    let words = Words::new(c.missing.as_deref());
    for path in paths {
        read_file(path, c, &words, side, sink, &mut pass)?;
    }
    if let (Some(side), false) = (side, pass.taken) {
        return Err(invalid(&paths[0], &side.none_of(pass.samples)));
    }
    Ok(pass)
}

fn invalid(path: &Path, what: &str) -> DataError {
    DataError::Invalid(format!("{}: {what}", path.display()))
}

fn read_file(
    path: &Path,
    c: &CsvConfig,
    words: &Words,
    side: Option<&Side>,
    sink: &mut impl Sink,
    pass: &mut Pass,
) -> Result<(), DataError> {
    let mut records = Records::open(path, c.delimiter as u8, c.comment.map(|m| m as u8))?;
    let mut layout: Option<Layout> = None;
    if let Some(names) = &c.columns {
        // They have been named, whatever they are called.
        let (found, roles) =
            lay_out(names, c, pass.roles.as_ref(), |_| None).map_err(DataError::Invalid)?;
        records.set_width(found.width);
        (layout, pass.roles) = (Some(found), Some(roles));
    }
    let (mut dense, mut moments) = (Vec::new(), Vec::new());
    let (mut samples, mut skipped) = (0u64, 0);
    while let Some(record) = records.next_record()? {
        let Some(layout) = &layout else {
            let names = record.map(|fields| {
                fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect::<Vec<_>>()
            });
            let names = names.map_err(|what| records.malformed(what))?;
            let seen = look(path, c, names.len())?;
            let leftover = |i: usize| {
                let found = Leftover::among(&names[i], &seen[i])?;
                pass.told.push(found.told(&names[i]));
                Some(found)
            };
            let laid_out = lay_out(&names, c, pass.roles.as_ref(), leftover);
            let (found, roles) = laid_out.map_err(|what| records.malformed(what))?;
            records.set_width(found.width);
            (layout, pass.roles) = (Some(found), Some(roles));
            continue;
        };
        let parsed = record.and_then(|fields| {
            let label = parse(fields, layout, c, words, &mut dense, &mut moments)?;
            Ok((label, fields))
        });
        match parsed {
            Ok((label, fields)) => {
                samples += 1;
                if side.is_some_and(|side| !side.has(pass.samples + samples - 1)) {
                    continue;
                }
                pass.taken = true;
                let (dense, moments) = (&dense[..], &moments[..]);
                let sample = Sample { label, dense, fields, layout, moments, words };
                let taken = sink.sample(&sample);
                taken.map_err(|what| records.malformed(what))?;
            }
            Err(_) if c.on_error == OnError::Skip => skipped += 1,
            Err(what) => return Err(records.malformed(what)),
        }
    }
    if layout.is_none() {
        return Err(invalid(path, "the file is empty; must start with a header line"));
    }
    if samples == 0 {
        let what = if skipped > 0 {
            "every line is malformed"
        } else {
            "the file holds no samples below its header"
        };
        return Err(invalid(path, what));
    }
    pass.samples += samples;
    pass.skipped += skipped;
    Ok(())
}

/// What the first records below the header tell of the `width` columns.
fn look(path: &Path, c: &CsvConfig, width: usize) -> Result<Vec<Seen>, DataError> {
    let mut records = Records::open(path, c.delimiter as u8, c.comment.map(|m| m as u8))?;
    let _header = records.next_record()?;
    Seen::first(&mut records, width)
}

/// The label of a record; its dense values go to `dense`, its dates to `moments`.
fn parse(
    fields: &Fields,
    layout: &Layout,
    c: &CsvConfig,
    words: &Words,
    dense: &mut Vec<f64>,
    moments: &mut Vec<Option<i64>>,
) -> Result<f32, String> {
    if fields.len() != layout.width {
        return Err(format!(
            "has {} fields; must have {}, one for each column",
            fields.len(),
            layout.width
        ));
    }
    dense.clear();
    for (&i, name) in layout.dense.iter().zip(&c.dense) {
        dense.push(number(fields, i, name, c.dense_transform, words)?);
    }
    moments.clear();
    let (dates, features) = c.dates();
    for (&i, name) in layout.dates.iter().zip(dates) {
        moments.push(moment(fields, i, name, words)?);
    }
    for (moment, name) in moments.iter().zip(dates) {
        for feature in features.iter().filter(|f| f.is_dense()) {
            dense.push(match moment {
                Some(seconds) => in_domain(
                    feature.of(*seconds) as f64,
                    &feature.column(name),
                    c.dense_transform,
                )?,
                None => f64::NAN,
            });
        }
    }
    label(fields, layout.label, c)
}

fn label(record: &Fields, i: usize, c: &CsvConfig) -> Result<f32, String> {
    let text = record.get(i);
    if text.is_empty() {
        return Err(format!("the label (column \"{}\") is empty", c.label));
    }
    if !c.positive.is_empty() {
        return Ok(if c.positive.iter().any(|p| p.as_bytes() == text) { 1.0 } else { 0.0 });
    }
    match fields::number(text) {
        Some(y) if y == 0.0 || y == 1.0 => Ok(y as f32),
        _ => Err(format!(
            "the label (column \"{}\") is \"{}\"; must be 0 or 1, or name data.positive",
            c.label,
            record.shown(i)
        )),
    }
}

/// A dense value before its transform; NaN where there is none.
fn number(
    record: &Fields,
    i: usize,
    name: &str,
    transform: DenseTransform,
    words: &Words,
) -> Result<f64, String> {
    let text = record.get(i);
    if words.missing(text) {
        return Ok(f64::NAN);
    }
    let x = fields::number(text).filter(|x| (*x as f32).is_finite());
    let x = x.ok_or_else(|| {
        let date = match dates::parse(text) {
            Some(_) => "; a date is a column of data.dates",
            None => "",
        };
        format!("column \"{name}\" is \"{}\"; must be a number{date}", record.shown(i))
    })?;
    in_domain(x, name, transform)
}

/// Refuses a number of which the transform has no value.
fn in_domain(x: f64, name: &str, transform: DenseTransform) -> Result<f64, String> {
    let above = |least: f64, word: &str| {
        if x > least {
            Ok(x)
        } else {
            Err(format!(
                "column \"{name}\" is {x}; must be above {least} for dense_transform = \"{word}\""
            ))
        }
    };
    match transform {
        DenseTransform::LogPlus2 => above(-2.0, "log_plus2"),
        DenseTransform::LogPlus3 => above(-3.0, "log_plus3"),
        _ => Ok(x),
    }
}

/// A moment in seconds since 1970; `None` where there is none.
fn moment(record: &Fields, i: usize, name: &str, words: &Words) -> Result<Option<i64>, String> {
    let text = record.get(i);
    if words.missing(text) {
        return Ok(None);
    }
    let forms = dates::FORMS;
    let wrong = || format!("column \"{name}\" is \"{}\"; must be {forms}", record.shown(i));
    dates::parse(text).map(Some).ok_or_else(wrong)
}
