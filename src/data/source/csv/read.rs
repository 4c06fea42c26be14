//! A delimited file, sample by sample.

use crate::data::{
    DataError,
    format::leftovers::{Leftover, Seen},
    preprocess::{
        fields::{self, Fields, missing, twice},
        lines::{Lines, shown_name},
    },
    source::{
        config::{CsvConfig, DenseTransform, OnError},
        hold_out::Side,
    },
};
use std::path::Path;

/// Names of the columns that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roles {
    pub dense: Vec<String>,
    pub categorical: Vec<String>,
}

/// Where the used columns stand in one file.
struct Layout {
    width: usize,
    label: usize,
    dense: Vec<usize>,
    categorical: Vec<usize>,
}

/// What one pass over a file leaves.
pub(super) struct Pass {
    pub roles: Roles,
    /// What was left out of it, a sentence each.
    pub told: Vec<String>,
    pub skipped: u64,
}

/// Takes the samples of a file as they are read.
pub(super) trait Sink {
    /// One sample: label, dense values as they stand in the file, categorical values as text.
    fn sample<'a>(
        &mut self,
        label: f32,
        dense: &[f64],
        categorical: impl Iterator<Item = &'a [u8]>,
    );
}

/// Reads `path` and gives each sample that is on `side` to `sink`. `roles` are those of the training
/// file, or `None` for that file itself.
pub(super) fn read(
    path: &Path,
    c: &CsvConfig,
    roles: Option<&Roles>,
    side: Option<Side>,
    sink: &mut impl Sink,
) -> Result<Pass, DataError> {
    let mut lines = Lines::open(path)?;
    let (mut fields, mut dense) = (Fields::default(), Vec::new());
    let mut layout: Option<(Layout, Roles)> = match &c.columns {
        None => None,
        // They have been named, whatever they are called.
        Some(names) => Some(lay_out(names, c, roles, |_| None).map_err(DataError::Invalid)?),
    };
    let mut told = Vec::new();
    let (mut samples, mut taken, mut skipped, mut first) = (0u64, false, 0, true);
    while let Some(line) = lines.next_line()? {
        let line = if std::mem::take(&mut first) {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        } else {
            line
        };
        if line.trim_ascii().is_empty()
            || c.comment.is_some_and(|m| line.first() == Some(&(m as u8)))
        {
            continue;
        }
        let cut = fields.split(line, c.delimiter as u8);
        let Some((layout, _)) = &layout else {
            let names = cut.map(|()| {
                fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect::<Vec<_>>()
            });
            let names = names.map_err(|what| lines.malformed(what))?;
            let seen = look(path, c, names.len())?;
            let leftover = |i: usize| {
                let found = Leftover::among(&names[i], &seen[i])?;
                told.push(found.told(&names[i]));
                Some(found)
            };
            let laid_out = lay_out(&names, c, roles, leftover);
            layout = Some(laid_out.map_err(|what| lines.malformed(what))?);
            continue;
        };
        match cut.and_then(|()| parse(&fields, layout, c, &mut dense)) {
            Ok(label) => {
                samples += 1;
                if side.is_some_and(|side| !side.has(samples - 1)) {
                    continue;
                }
                taken = true;
                let empty = c.missing_category.as_deref().unwrap_or_default().as_bytes();
                let value = |&i: &usize| match fields.get(i) {
                    [] => empty,
                    text => text,
                };
                sink.sample(label, &dense, layout.categorical.iter().map(value));
            }
            Err(_) if c.on_error == OnError::Skip => skipped += 1,
            Err(what) => return Err(lines.malformed(what)),
        }
    }
    let invalid = |what: &str| DataError::Invalid(format!("{}: {what}", path.display()));
    let Some((_, roles)) = layout else {
        return Err(invalid("the file is empty; must start with a header line"));
    };
    if samples == 0 {
        let what = if skipped > 0 {
            "every line is malformed"
        } else {
            "the file holds no samples below its header"
        };
        return Err(invalid(what));
    }
    if let (Some(side), false) = (side, taken) {
        return Err(invalid(&side.none_of(samples)));
    }
    Ok(Pass { roles, told, skipped })
}

/// What the first lines below the header tell of the `width` columns.
fn look(path: &Path, c: &CsvConfig, width: usize) -> Result<Vec<Seen>, DataError> {
    let mut lines = Lines::open(path)?;
    let comment = c.comment.map(|m| m as u8);
    while let Some(line) = lines.next_line()? {
        if !line.trim_ascii().is_empty() && line.first().copied() != comment {
            break;
        }
    }
    Seen::first(&mut lines, c.delimiter as u8, comment, width)
}

/// Finds the columns of `names`, the header. `leftover` says which of them is no feature unless it
/// is named.
fn lay_out(
    names: &[String],
    c: &CsvConfig,
    roles: Option<&Roles>,
    mut leftover: impl FnMut(usize) -> Option<Leftover>,
) -> Result<(Layout, Roles), String> {
    if let Some((i, name)) = twice(names) {
        return Err(format!(
            "the header names \"{}\" twice, the second time as column {}",
            shown_name(name),
            i + 1
        ));
    }
    let shown = || names.iter().take(50).map(|n| shown_name(n)).collect::<Vec<_>>().join(", ");
    let find = |key: &str, name: &String| {
        let at = names.iter().position(|n| n == name);
        at.ok_or_else(|| {
            format!("no column \"{}\" ({key}); the columns are {}", shown_name(name), shown())
        })
    };
    let label = find("data.label", &c.label)?;
    let roles = match roles {
        Some(roles) => roles.clone(),
        None => {
            // A name in `ignore` that does not exist is a slip, too.
            c.ignore.iter().try_for_each(|n| find("data.ignore", n).map(drop))?;
            let free = |n: &String| *n != c.label && !c.dense.contains(n) && !c.ignore.contains(n);
            let categorical = if c.categorical.is_empty() {
                let free = names.iter().enumerate().filter(|(_, n)| free(n));
                let features = free.filter(|&(i, _)| leftover(i).is_none());
                features.map(|(_, n)| n.clone()).collect()
            } else {
                c.categorical.clone()
            };
            Roles { dense: c.dense.clone(), categorical }
        }
    };
    let all =
        |key, list: &[String]| list.iter().map(|n| find(key, n)).collect::<Result<Vec<_>, _>>();
    let (dense, categorical) =
        (all("data.dense", &roles.dense)?, all("data.categorical", &roles.categorical)?);
    if dense.is_empty() && categorical.is_empty() {
        return Err("there is no column but the label and those ignored".to_owned());
    }
    let buckets = c.hash_buckets.as_ref().map_or(1, Vec::len);
    if buckets != 1 && buckets != categorical.len() {
        return Err(format!(
            "data.hash_buckets has {buckets} entries; must have one for each of the {} categorical columns, or one for all",
            categorical.len()
        ));
    }
    Ok((Layout { width: names.len(), label, dense, categorical }, roles))
}

/// The label of a line; its dense values go to `dense`.
fn parse(
    fields: &Fields,
    layout: &Layout,
    c: &CsvConfig,
    dense: &mut Vec<f64>,
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
        dense.push(number(fields, i, name, c.dense_transform)?);
    }
    label(fields, layout.label, c)
}

fn label(line: &Fields, i: usize, c: &CsvConfig) -> Result<f32, String> {
    let text = line.get(i);
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
            line.shown(i)
        )),
    }
}

/// A dense value before its transform; nothing is 0.
fn number(line: &Fields, i: usize, name: &str, transform: DenseTransform) -> Result<f64, String> {
    let text = line.get(i);
    if missing(text) {
        return Ok(0.0);
    }
    let x = fields::number(text).filter(|x| (*x as f32).is_finite());
    let x =
        x.ok_or_else(|| format!("column \"{name}\" is \"{}\"; must be a number", line.shown(i)))?;
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
