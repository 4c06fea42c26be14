//! A delimited file, sample by sample.

use crate::data::{
    DataError,
    preprocess::{
        fields::{Fields, twice},
        lines::{Lines, shown_name},
    },
    source::config::{CsvConfig, DenseTransform, OnError},
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

/// Reads `path` and gives each sample to `sink`. `roles` are those of the training file, or `None`
/// for that file itself.
pub(super) fn read(
    path: &Path,
    c: &CsvConfig,
    roles: Option<&Roles>,
    sink: &mut impl Sink,
) -> Result<Pass, DataError> {
    let mut lines = Lines::open(path)?;
    let (mut fields, mut dense) = (Fields::default(), Vec::new());
    let mut layout: Option<(Layout, Roles)> = match &c.columns {
        None => None,
        Some(names) => Some(lay_out(names, c, roles).map_err(DataError::Invalid)?),
    };
    let (mut samples, mut skipped, mut first) = (0u64, 0, true);
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
            layout = Some(
                names.and_then(|n| lay_out(&n, c, roles)).map_err(|what| lines.malformed(what))?,
            );
            continue;
        };
        match cut.and_then(|()| parse(&fields, layout, c, &mut dense)) {
            Ok(label) => {
                samples += 1;
                sink.sample(label, &dense, layout.categorical.iter().map(|&i| fields.get(i)));
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
    Ok(Pass { roles, skipped })
}

/// Finds the columns of `names`, the header.
fn lay_out(
    names: &[String],
    c: &CsvConfig,
    roles: Option<&Roles>,
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
            let free =
                |n: &&String| **n != c.label && !c.dense.contains(n) && !c.ignore.contains(n);
            let categorical = if c.categorical.is_empty() {
                names.iter().filter(free).cloned().collect()
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

fn label(fields: &Fields, i: usize, c: &CsvConfig) -> Result<f32, String> {
    let text = fields.get(i);
    if text.is_empty() {
        return Err(format!("the label (column \"{}\") is empty", c.label));
    }
    if !c.positive.is_empty() {
        return Ok(if c.positive.iter().any(|p| p.as_bytes() == text) { 1.0 } else { 0.0 });
    }
    match std::str::from_utf8(text).ok().and_then(|t| t.parse::<f32>().ok()) {
        Some(y) if y == 0.0 || y == 1.0 => Ok(y),
        _ => Err(format!(
            "the label (column \"{}\") is \"{}\"; must be 0 or 1, or name data.positive",
            c.label,
            fields.shown(i)
        )),
    }
}

/// A dense value before its transform; nothing is 0.
fn number(fields: &Fields, i: usize, name: &str, transform: DenseTransform) -> Result<f64, String> {
    let text = fields.get(i);
    if text.is_empty() {
        return Ok(0.0);
    }
    let x = std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse::<f64>().ok())
        .filter(|x| (*x as f32).is_finite());
    let x =
        x.ok_or_else(|| format!("column \"{name}\" is \"{}\"; must be a number", fields.shown(i)))?;
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
