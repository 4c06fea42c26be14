//! `--filter`: which rows are shown.

use crate::results::tree::{Ending, Run};
use std::str::FromStr;

/// What a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Any of the others.
    Any,
    System,
    Workload,
    Engine,
    Precision,
    Org,
    Batch,
    Round,
    Ending,
    Path,
}

const FIELDS: [(&str, Field); 9] = [
    ("system", Field::System),
    ("workload", Field::Workload),
    ("engine", Field::Engine),
    ("precision", Field::Precision),
    ("org", Field::Org),
    ("batch", Field::Batch),
    ("round", Field::Round),
    ("ending", Field::Ending),
    ("path", Field::Path),
];

/// `KEY=TEXT`, `KEY!=TEXT` or `TEXT`: keeps runs whose KEY (or anything, without one) holds TEXT,
/// upper or lower case. `*` and `?` make TEXT a pattern for the whole value.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    field: Field,
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
        let field = match FIELDS.iter().find(|(n, _)| *n == name) {
            Some((_, field)) => *field,
            None if name.is_empty() => Field::Any,
            None => {
                let known: Vec<&str> = FIELDS.iter().map(|(n, _)| *n).collect();
                return Err(format!("no key {name:?}; must be one of {}", known.join(", ")));
            }
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
        let any = match self.field {
            Field::Any => {
                FIELDS.iter().any(|(_, field)| values(run, *field).iter().any(|v| matches(v)))
            }
            // A batch of 64 is not one of 640.
            Field::Batch if self.pattern.is_none() => {
                values(run, Field::Batch).contains(&self.text)
            }
            field => values(run, field).iter().any(|v| matches(v)),
        };
        any == self.keep
    }
}

fn values(run: &Run, field: Field) -> Vec<String> {
    let one = |value: &Option<String>| value.iter().cloned().collect();
    match field {
        Field::Any => Vec::new(),
        Field::System => run.system.names().map(str::to_owned).collect(),
        Field::Workload => vec![run.workload.clone(), run.task.benchmark.clone()],
        Field::Engine => one(&run.engine),
        Field::Precision => one(&run.precision),
        Field::Org => one(&run.system.org),
        Field::Batch => one(&run.batch.map(|b| b.to_string())),
        Field::Round => one(&run.system.round),
        Field::Ending => vec![
            match run.ending {
                Ending::Converged => "converged",
                Ending::NotConverged => "not_converged",
                Ending::Finished => "finished",
                Ending::Unfinished => "unfinished",
            }
            .to_owned(),
        ],
        Field::Path => vec![run.path.clone()],
    }
}
