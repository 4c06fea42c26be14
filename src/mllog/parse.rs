//! Reads MLPerf logs, ours and everybody's.
//!
//! What counts as a line is what MLPerf's own parser takes for one (mlcommons/logging,
//! mlperf_logging/compliance_checker/mlp_parser): the token `:::MLLOG ` may stand behind any prefix
//! (`[0] `, `0: `), and only what follows its last occurrence counts; lines without it are other
//! output. JSON may be compact or not, with keys in any order; lines may end in CRLF. Nothing here
//! judges a log: a line that the checker dies on is handed out with what is wrong, for a validator
//! to report and a reader to pass over.
//!
//! ```
//! use dlrm_bench::mllog::parse;
//! let log = b"training\n0: :::MLLOG {\"key\": \"seed\", \"time_ms\": 17, \"value\": 3, \"metadata\": {\"lineno\": 9}}\n:::MLLOG {oops\n";
//! let lines: Vec<_> = parse::lines(log).collect();
//! let event = lines[0].event.as_ref().unwrap();
//! assert_eq!((lines[0].number, event.key.as_str(), event.number(), event.meta_number("lineno")), (2, "seed", Some(3.0), Some(9.0)));
//! assert!(lines[1].number == 3 && lines[1].event.is_err());
//! ```

use serde_json::{Map, Value};
use std::borrow::Cow;

/// What makes a line one of MLPerf's. The space belongs to it.
pub const TOKEN: &str = ":::MLLOG ";

/// A line with the token.
#[derive(Debug, Clone, PartialEq)]
pub struct Line<'a> {
    /// Where it stands in the file, from 1; other output counts too, as in an editor.
    pub number: usize,
    /// The line without its end, prefix included; bytes that are not UTF-8 are replaced.
    pub text: Cow<'a, str>,
    /// What it says, or what is wrong with it.
    pub event: Result<Event, LineError>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Empty in nearly all logs.
    pub namespace: Option<String>,
    /// Milliseconds since 1970; always finite. Some writers make a float or a string of it.
    pub time_ms: f64,
    /// `INTERVAL_START`, `INTERVAL_END` or `POINT_IN_TIME`; some submitters write `INTERVAL_START`
    /// for `init_stop`, so do not rely on it.
    pub event_type: Option<String>,
    /// What happened.
    pub key: String,
    /// `None` if the line has no `value` at all (MLPerf's checker dies on that);
    /// `Some(Value::Null)` if it says null.
    pub value: Option<Value>,
    /// `None` if the line has no `metadata` at all (MLPerf's checker dies on that).
    pub metadata: Option<Value>,
}

/// What is wrong with a line that has the token.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LineError {
    /// MLPerf's parser takes the line for other output, without a word.
    #[error("no space after :::MLLOG; MLPerf's tools pass over such a line")]
    NoSpace,
    /// Not JSON.
    #[error("broken JSON in column {column}: {what}")]
    Json {
        /// The JSON reader's complaint.
        what: String,
        /// Bytes into the line, prefix included, from 1.
        column: usize,
    },
    /// JSON, but not `{...}`.
    #[error("after :::MLLOG stands {0}; must be an object, {{\"key\": ...}}")]
    NotAnObject(&'static str),
    /// `key` or `time_ms` is missing.
    #[error("no {0:?}; every line needs one")]
    Missing(&'static str),
    /// `key` is not a string.
    #[error("key is {0}; must be a string")]
    Key(String),
    /// `time_ms` is not a number.
    #[error("time_ms is {0}; must be a number, milliseconds since 1970")]
    Time(String),
}

/// All lines of `log` that have the token, in order. Never fails and never panics, whatever the
/// bytes.
pub fn lines(log: &[u8]) -> impl Iterator<Item = Line<'_>> {
    // Python reads a lone CR as the end of a line, and progress bars write it; for the number only
    // LF counts.
    let numbered = log.split(|&b| b == b'\n').zip(1..);
    numbered.flat_map(|(text, number)| {
        text.split(|&b| b == b'\r').filter_map(move |text| line(text, number))
    })
}

fn line(bytes: &[u8], number: usize) -> Option<Line<'_>> {
    let bare = TOKEN.trim_end().as_bytes();
    // Most lines of other people's logs are other output: no string is made of them.
    if !bytes.windows(bare.len()).any(|w| w == bare) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let event = match text.rfind(TOKEN) {
        Some(at) => event(&text[at + TOKEN.len()..], at + TOKEN.len()),
        None => Err(LineError::NoSpace),
    };
    Some(Line { number, text, event })
}

/// `json` begins `before` bytes into its line.
fn event(json: &str, before: usize) -> Result<Event, LineError> {
    let value: Value = serde_json::from_str(json).map_err(|e| {
        let what = e.to_string();
        // The reader counts from the start of the JSON, in a "line 1" that nobody knows.
        let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
        LineError::Json { what, column: before + e.column().max(1) }
    })?;
    let Value::Object(mut fields) = value else { return Err(LineError::NotAnObject(kind(&value))) };
    let key = match fields.remove("key") {
        None => return Err(LineError::Missing("key")),
        Some(Value::String(key)) => key,
        Some(other) => return Err(LineError::Key(other.to_string())),
    };
    let time = fields.remove("time_ms").ok_or(LineError::Missing("time_ms"))?;
    let time_ms = number(&time).ok_or_else(|| LineError::Time(time.to_string()))?;
    Ok(Event {
        namespace: text(&mut fields, "namespace"),
        time_ms,
        event_type: text(&mut fields, "event_type"),
        key,
        value: fields.remove("value"),
        metadata: fields.remove("metadata"),
    })
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A number, or a string that holds nothing but one; finite.
pub fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    number.filter(|n: &f64| n.is_finite())
}

impl Event {
    /// The value as a number; see [`number`].
    pub fn number(&self) -> Option<f64> {
        self.value.as_ref().and_then(number)
    }

    /// The value as a string.
    pub fn text(&self) -> Option<&str> {
        self.value.as_ref().and_then(Value::as_str)
    }

    /// An entry of the metadata.
    pub fn meta(&self, name: &str) -> Option<&Value> {
        self.metadata.as_ref().and_then(|m| m.get(name))
    }

    /// An entry of the metadata as a number; see [`number`].
    pub fn meta_number(&self, name: &str) -> Option<f64> {
        self.meta(name).and_then(number)
    }
}

#[cfg(test)]
mod tests;
