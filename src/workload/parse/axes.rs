//! `[sweep]`: several values for keys.

use super::{
    error::WorkloadError,
    keys,
    tree::{OTHERWISE, unknown_key, unknown_section},
};
use crate::workload::sweep::{self, Axis};
use std::path::Path;
use toml_edit::Item;

/// The axes of `[sweep]`: `"train.batch_size" = [512, 2048]`, with or without the quotes.
pub(super) fn axes(
    path: &Path,
    item: &Item,
    line: usize,
    line_of: &dyn Fn(usize) -> usize,
) -> Result<Vec<Axis>, WorkloadError> {
    let refuse = |key: &str, line: usize, what: String| WorkloadError::InFile {
        path: path.to_path_buf(),
        line,
        key: key.to_owned(),
        what,
    };
    let mut found: Vec<Axis> = Vec::new();
    // Tables within tables are keys that were written without quotes.
    let mut open: Vec<(String, usize, &Item)> = vec![(String::new(), line, item)];
    while let Some((key, line, item)) = open.pop() {
        let of = format!("{}.{key}", sweep::SECTION).trim_end_matches('.').to_owned();
        let Some(table) = item.as_table_like() else {
            let axis = axis(&key, item).map_err(|what| refuse(&of, line, what))?;
            if found.iter().any(|a| a.key == axis.key) {
                return Err(refuse(&of, line, "stands here twice".to_owned()));
            }
            found.push(axis);
            continue;
        };
        if table.is_empty() {
            return Err(refuse(&of, line, "is empty; must hold lists of values".to_owned()));
        }
        let within: Vec<_> = table
            .iter()
            .map(|(name, item)| {
                let span = table.key(name).and_then(|k| k.span());
                let full = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                (full, span.map_or(line, |s| line_of(s.start)), item)
            })
            .collect();
        // The first in the file is looked at first.
        open.extend(within.into_iter().rev());
    }
    Ok(found)
}

/// One axis, or what is wrong with it.
fn axis(key: &str, item: &Item) -> Result<Axis, String> {
    let (section, name) = key.split_once('.').ok_or(
        "the key must name its section, as in \"train.batch_size\" = [512, 2048]".to_owned(),
    )?;
    if !keys::SECTIONS.contains(&section) {
        return Err(unknown_section(section));
    }
    let within = name.strip_prefix(OTHERWISE).and_then(|rest| rest.strip_prefix('.'));
    if !keys::exists(&format!("{section}.{}", within.unwrap_or(name))) {
        return Err(unknown_key(section, within.unwrap_or(name)));
    }
    let list = item.as_array().ok_or("must be a list of values, as in [512, 2048]")?;
    let values = list.iter().map(|v| v.clone().decorated("", "").to_string()).collect();
    let axis = Axis { key: key.to_owned(), values };
    axis.check()?;
    Ok(axis)
}
