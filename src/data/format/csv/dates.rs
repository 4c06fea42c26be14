//! Columns of dates in delimited text, and what is made of each.

use crate::{
    batch::Bags,
    data::{
        dates,
        preprocess::{
            fields::{Fields, Words},
            lines::{shown, shown_name},
        },
        source::config::DateFeature,
    },
};

/// Columns of dates.
#[derive(Default)]
pub(super) struct Dates {
    /// Their names, and where they stand.
    columns: Vec<(String, usize)>,
    features: Vec<DateFeature>,
    /// Moments of the line at hand, in seconds since 1970.
    moments: Vec<Option<i64>>,
}

impl Dates {
    /// `columns` by name and place, of which `features` are made.
    pub fn new(columns: Vec<(String, usize)>, features: &[DateFeature]) -> Self {
        Dates { columns, features: features.to_vec(), moments: Vec::new() }
    }

    /// What the columns of the features are called, those of numbers or those of categories.
    pub fn names(&self, dense: bool) -> Vec<String> {
        let columns = self.columns.iter();
        columns.flat_map(|(name, _)| self.of(dense).map(|f| f.column(name))).collect()
    }

    fn of(&self, dense: bool) -> impl Iterator<Item = DateFeature> {
        self.features.iter().copied().filter(move |f| f.is_dense() == dense)
    }

    /// Reads the dates of a line.
    ///
    /// # Errors
    /// Which of them is none.
    pub fn read(&mut self, fields: &Fields, words: &Words) -> Result<(), String> {
        self.moments.clear();
        for (name, i) in &self.columns {
            let text = fields.get(*i);
            let moment = match words.missing(text) {
                true => None,
                false => Some(dates::parse(text).ok_or_else(|| {
                    let (name, text) = (shown_name(name), shown(text));
                    format!("column {name} is {text}; must be {}", dates::FORMS)
                })?),
            };
            self.moments.push(moment);
        }
        Ok(())
    }

    /// Appends their numbers to a line's dense values, and their categories to `ids`, a column each.
    /// As in training a category is one more than its number.
    pub fn put(&self, dense: &mut Vec<f64>, ids: &mut [Bags]) {
        let mut ids = ids.iter_mut();
        for moment in &self.moments {
            for feature in self.of(true) {
                dense.push(moment.map_or(f64::NAN, |seconds| feature.of(seconds) as f64));
            }
            for (feature, bags) in self.of(false).zip(&mut ids) {
                bags.push(moment.map(|seconds| feature.of(seconds) as u32 + 1));
            }
        }
    }
}
