//! `--filter`: which rows are shown.

use super::{
    Fact, Field,
    field::{LOOKED_AT, order},
};
use crate::results::tree::Run;
use std::{cmp::Ordering, str::FromStr};

/// `KEY=TEXT`, `KEY!=TEXT` or `TEXT`: keeps runs whose KEY (or anything, without one) holds TEXT,
/// upper or lower case. `*` and `?` make TEXT a pattern for the whole value; a number is meant as a
/// whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// `None` = any of [`LOOKED_AT`].
    field: Option<Field>,
    keep: bool,
    text: String,
    pattern: Option<glob::Pattern>,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(filter: &str) -> Result<Self, String> {
        let (name, text) =
            filter.split_once('=').map_or(("", filter), |(name, text)| (name.trim(), text));
        let (name, keep) = name.strip_suffix('!').map_or((name, true), |name| (name, false));
        let field = match name {
            "" => None,
            name => match name.parse()? {
                Field::Figure(_) => {
                    return Err(format!("{name} is measured; a filter takes what was run"));
                }
                field => Some(field),
            },
        };
        let text = text.trim().to_lowercase();
        if text.is_empty() {
            return Err("no text to look for; must be KEY=TEXT, KEY!=TEXT or TEXT".into());
        }
        let pattern = match text.contains(['*', '?']) {
            true => {
                Some(glob::Pattern::new(&text).map_err(|e| format!("not a pattern: {}", e.msg))?)
            }
            false => None,
        };
        Ok(Filter { field, keep, text, pattern })
    }
}

impl Filter {
    /// Whether the run is shown.
    pub fn keeps(&self, run: &Run) -> bool {
        let matches = |value: &str| {
            let value = value.to_lowercase();
            self.pattern.as_ref().map_or_else(|| value.contains(&self.text), |p| p.matches(&value))
        };
        // A batch of 64 is not one of 640.
        let is = |field: &Field, value: &str| match field {
            Field::Fact(Fact::Batch) if self.pattern.is_none() => value == self.text,
            Field::Key(_) if self.pattern.is_none() && value.parse::<f64>().is_ok() => {
                order(Some(value), Some(&self.text)) == Ordering::Equal
            }
            _ => matches(value),
        };
        let any = match &self.field {
            None => {
                LOOKED_AT.iter().any(|f| Field::Fact(*f).values(run).iter().any(|v| matches(v)))
            }
            Some(field) => field.values(run).iter().any(|v| is(field, v)),
        };
        any == self.keep
    }

    /// Refuses a key that neither workloads have nor any of `runs`.
    pub(in crate::results) fn check(&self, runs: &[Run]) -> Result<(), String> {
        self.field.as_ref().map_or(Ok(()), |field| field.check(runs))
    }
}
