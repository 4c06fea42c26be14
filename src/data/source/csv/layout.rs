//! Which columns of a delimited file are used, and where they stand.

use crate::data::{
    format::leftovers::Leftover,
    preprocess::{fields::twice, lines::shown_name},
    source::config::{CsvConfig, DateFeature},
};

/// Names of the columns that are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roles {
    /// Columns of numbers, then features of dates.
    pub dense: Vec<String>,
    /// Columns of categories, then features of dates.
    pub categorical: Vec<String>,
    /// How many of the latter are columns.
    columns: usize,
}

/// Where the used columns stand in one file.
pub(super) struct Layout {
    pub width: usize,
    pub label: usize,
    pub dense: Vec<usize>,
    pub dates: Vec<usize>,
    pub categorical: Vec<Category>,
    /// The column by which samples are split.
    pub split_by: Option<usize>,
}

/// Where a category comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    /// The field of this number.
    Field(usize),
    /// The column of dates of this number among them, and what of it.
    Date(usize, DateFeature),
}

/// Finds the columns of `names`, the header. `leftover` says which of them is no feature unless it
/// is named.
///
/// # Errors
/// If a column is missing or there twice, or none is left.
pub(super) fn lay_out(
    names: &[String],
    c: &CsvConfig,
    roles: Option<&Roles>,
    leftover: impl FnMut(usize) -> Option<Leftover>,
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
    let all =
        |key, list: &[String]| list.iter().map(|n| find(key, n)).collect::<Result<Vec<_>, _>>();
    let label = find("data.label", &c.label)?;
    let (dates, features) = c.dates();
    let at = all("data.dates", dates)?;
    let split_by = c.held_out.split_by.as_ref().map(|n| find("data.split_by", n)).transpose()?;
    let roles = match roles {
        Some(roles) => roles.clone(),
        None => {
            // A name in `ignore` that does not exist is a slip, too.
            all("data.ignore", &c.ignore)?;
            let of_dates = |dense: bool| {
                let features = features.iter().filter(move |f| f.is_dense() == dense);
                dates.iter().flat_map(move |date| features.clone().map(move |f| f.column(date)))
            };
            let columns = categories(names, c, leftover);
            Roles {
                dense: c.dense.iter().cloned().chain(of_dates(true)).collect(),
                columns: columns.len(),
                categorical: columns.into_iter().chain(of_dates(false)).collect(),
            }
        }
    };
    let dense = all("data.dense", &c.dense)?;
    let fields = all("data.categorical", &roles.categorical[..roles.columns])?;
    let of_dates = (0..dates.len()).flat_map(|k| {
        features.iter().filter(|f| !f.is_dense()).map(move |&f| Category::Date(k, f))
    });
    let categorical: Vec<Category> =
        fields.into_iter().map(Category::Field).chain(of_dates).collect();
    if roles.dense.is_empty() && categorical.is_empty() {
        return Err("there is no column but the label and those ignored".to_owned());
    }
    let buckets = c.hash_buckets.as_ref().map_or(1, Vec::len);
    if buckets != 1 && buckets != categorical.len() {
        return Err(format!(
            "data.hash_buckets has {buckets} entries; must have one for each of the {} categorical columns, or one for all",
            categorical.len()
        ));
    }
    Ok((Layout { width: names.len(), label, dense, dates: at, categorical, split_by }, roles))
}

/// The columns of categories: as they are named, or all that are nothing else.
fn categories(
    names: &[String],
    c: &CsvConfig,
    mut leftover: impl FnMut(usize) -> Option<Leftover>,
) -> Vec<String> {
    if !c.categorical.is_empty() {
        return c.categorical.clone();
    }
    let other = [&c.dense[..], &c.ignore, c.dates().0];
    let free = |n: &String| {
        *n != c.label
            && c.held_out.split_by.as_ref() != Some(n)
            && !other.iter().any(|names| names.contains(n))
    };
    let free = names.iter().enumerate().filter(|(_, n)| free(n));
    let features = free.filter(|&(i, _)| leftover(i).is_none());
    features.map(|(_, n)| n.clone()).collect()
}
