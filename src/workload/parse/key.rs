//! What a key of a workload file is: one declaration from which it is read, written and described.

use super::{
    error::WorkloadError,
    tree::Tree,
    value::{Number, Numbers, TomlValue, no_such_word, one_of},
};
use crate::workload::Workload;
use serde_json::Value as Json;
use std::ops::{Bound, RangeBounds};
use toml_edit::Value;

/// A setting under which a key has a meaning: another key is one of some words, or is given at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The other key, `section.name`.
    pub key: &'static str,
    /// The words; empty = any value.
    pub words: &'static [&'static str],
}

/// What a key has where it is left out.
#[derive(Debug, Clone)]
pub enum Fallback {
    /// It must be given.
    Required,
    /// Nothing: what it says is off.
    Off,
    /// This value.
    Value(Value),
    /// What follows from the data, the machine or other keys, in words.
    Follows(&'static str),
}

/// All that is said of a key.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `section.name`.
    pub name: &'static str,
    /// Any one of these makes it mean something; empty = it always does.
    pub when: Vec<Setting>,
    /// Its type, as the document names it.
    pub type_name: String,
    /// Its range in words; empty = none.
    pub range: String,
    /// What it has where it is left out.
    pub fallback: Fallback,
    /// The words that it may be; empty = it is no word.
    pub words: Vec<&'static str>,
    /// What it means.
    pub says: &'static str,
    /// JSON schema of its value.
    pub schema: Json,
}

/// A key. One name may have several, under different settings.
pub(super) struct Key {
    pub facts: Facts,
    pub access: Box<dyn Access>,
}

impl Key {
    /// Adds the settings under which it has a meaning, unless it has some of its own.
    pub fn under(mut self, when: &[Setting]) -> Key {
        if self.facts.when.is_empty() {
            self.facts.when = when.to_vec();
        }
        self
    }
}

/// How a key's value goes into a workload and comes out.
pub(super) trait Access: Send + Sync {
    /// Whether the key has a meaning in `w`.
    fn applies(&self, w: &mut Workload) -> bool;
    /// Whether its default asks other keys, so that they must have been read.
    fn follows(&self) -> bool;
    /// Reads it, or takes its default.
    fn read(&self, tree: &Tree, w: &mut Workload) -> Result<(), WorkloadError>;
    /// Its value in `w`, if it has one.
    fn write(&self, w: &mut Workload) -> Option<Value>;
}

/// Where a value lies; `None` while the key has no meaning.
pub(super) type Lens<T> = fn(&mut Workload) -> Option<&mut T>;

enum Slot<T> {
    Lens(Lens<T>),
    /// Keys that decide what there is.
    Split {
        applies: fn(&Workload) -> bool,
        get: fn(&Workload) -> Option<T>,
        set: fn(&mut Workload, T),
    },
}

enum Absent<T> {
    Required,
    Value(T),
    Follows(fn(&Workload) -> Option<T>),
}

type Parse<T> = Box<dyn Fn(&Value) -> Result<T, String> + Send + Sync>;
type Check<T> = Box<dyn Fn(&T, &Workload) -> Result<(), String> + Send + Sync>;

/// A key being declared; [`Field::says`] ends it.
pub(super) struct Field<T> {
    facts: Facts,
    slot: Slot<T>,
    default: Absent<T>,
    parse: Parse<T>,
    what: String,
    checks: Vec<Check<T>>,
}

/// Declares the key `name`, whose value lies where `lens` says.
pub(super) fn key<T: TomlValue>(name: &'static str, lens: Lens<T>) -> Field<T> {
    field(name, Slot::Lens(lens))
}

/// Declares a key that decides what there is. It has a meaning while `applies`; `get` tells its
/// value, if it is written; `set` takes it in.
pub(super) fn split<T: TomlValue>(
    name: &'static str,
    applies: fn(&Workload) -> bool,
    get: fn(&Workload) -> Option<T>,
    set: fn(&mut Workload, T),
) -> Field<T> {
    field(name, Slot::Split { applies, get, set })
}

fn field<T: TomlValue>(name: &'static str, slot: Slot<T>) -> Field<T> {
    Field {
        facts: Facts {
            name,
            when: Vec::new(),
            type_name: T::type_name(),
            range: String::new(),
            fallback: Fallback::Required,
            words: T::words(),
            says: "",
            schema: T::schema(),
        },
        slot,
        default: Absent::Required,
        parse: Box::new(T::from_toml),
        what: T::what(),
        checks: Vec::new(),
    }
}

impl<T: TomlValue> Field<T> {
    /// Its value where it is left out; it is required otherwise.
    pub fn or(mut self, value: T) -> Self {
        self.facts.fallback = value.to_toml().map_or(Fallback::Off, Fallback::Value);
        self.default = Absent::Value(value);
        self
    }

    /// Its value where it is left out follows from what was read; `None` leaves it out.
    pub fn or_by(mut self, value: fn(&Workload) -> Option<T>, words: &'static str) -> Self {
        self.facts.fallback =
            if words.is_empty() { Fallback::Off } else { Fallback::Follows(words) };
        self.default = Absent::Follows(value);
        self
    }

    /// How the document words a default.
    pub fn or_in_words(mut self, words: &'static str) -> Self {
        self.facts.fallback = Fallback::Follows(words);
        self
    }

    /// Refuses a value unless `right`, which tells what is wrong and what would be right. What
    /// stands before it in the list of keys has been read.
    pub fn check(mut self, right: fn(&T, &Workload) -> Result<(), String>) -> Self {
        self.checks.push(Box::new(right));
        self
    }

    /// Refuses an empty list, as `what` says.
    pub fn not_empty(mut self, what: &'static str) -> Self {
        for schema in self.facts.schema["anyOf"].as_array_mut().into_iter().flatten() {
            if schema.get("items").is_some() {
                schema["minItems"] = 1.into();
            }
        }
        self.checks.push(Box::new(move |list, _| match list.to_toml() {
            Some(Value::Array(entries)) if entries.is_empty() => Err(what.to_owned()),
            _ => Ok(()),
        }));
        self
    }

    /// The settings under which it has a meaning, any one of them.
    pub fn when(mut self, settings: &[Setting]) -> Self {
        self.facts.when = settings.to_vec();
        self
    }

    /// What it means: the end of its declaration.
    pub fn says(mut self, says: &'static str) -> Key {
        self.facts.says = says;
        Key { facts: self.facts.clone(), access: Box::new(self) }
    }
}

impl<T: Numbers> Field<T> {
    /// Each of its numbers must lie in `range`.
    pub fn within(self, range: impl RangeBounds<T::Number>) -> Self {
        let words = range_in_words(&range);
        self.within_as(range, words)
    }

    /// Like [`Field::within`], with the range in words as a message tells it.
    pub fn within_as(
        mut self,
        range: impl RangeBounds<T::Number>,
        words: impl Into<String>,
    ) -> Self {
        let words = words.into();
        self.facts.range = words.split(';').next().unwrap_or_default().to_owned();
        limit(&mut self.facts.schema, &range);
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.checks.push(Box::new(move |value, _| {
            match value.numbers().iter().find(|n| !range.contains(*n)) {
                Some(wrong) => Err(format!("is {wrong}; must be {words}")),
                None => Ok(()),
            }
        }));
        self
    }
}

impl Field<String> {
    /// The regular expression of what the checks let pass, for the schema.
    pub fn pattern(mut self, pattern: &'static str) -> Self {
        self.facts.schema["pattern"] = pattern.into();
        self
    }

    /// A string that must be one of `words`.
    pub fn one_of(mut self, words: &'static [&'static str]) -> Self {
        self.facts.words = words.to_vec();
        self.facts.schema = serde_json::json!({"enum": words});
        self.what = one_of(words);
        let quoted: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
        self.facts.type_name = super::value::join_or(&quoted);
        self.parse = Box::new(move |value| {
            let found = value.as_str().filter(|s| words.contains(s));
            found.map(str::to_owned).ok_or_else(|| no_such_word(value, words))
        });
        self
    }
}

impl<T: TomlValue> Access for Field<T> {
    fn applies(&self, w: &mut Workload) -> bool {
        match &self.slot {
            Slot::Lens(lens) => lens(w).is_some(),
            Slot::Split { applies, .. } => applies(w),
        }
    }

    fn follows(&self) -> bool {
        matches!(self.default, Absent::Follows(_))
    }

    fn read(&self, tree: &Tree, w: &mut Workload) -> Result<(), WorkloadError> {
        let error = |what: String| tree.error(self.facts.name, what);
        let value = match tree.get(self.facts.name) {
            Some(entry) => (self.parse)(&entry.value).map_err(error)?,
            None => match &self.default {
                Absent::Required => return Err(error(format!("missing; must be {}", self.what))),
                Absent::Value(value) => value.clone(),
                Absent::Follows(value) => match value(w) {
                    Some(value) => value,
                    None => return Ok(()),
                },
            },
        };
        for check in &self.checks {
            check(&value, w).map_err(error)?;
        }
        match &self.slot {
            Slot::Split { set, .. } => set(w, value),
            Slot::Lens(lens) => {
                if let Some(slot) = lens(w) {
                    *slot = value;
                }
            }
        }
        Ok(())
    }

    fn write(&self, w: &mut Workload) -> Option<Value> {
        match &self.slot {
            Slot::Lens(lens) => lens(w)?.to_toml(),
            Slot::Split { get, .. } => get(w)?.to_toml(),
        }
    }
}

/// Numbers above `low`.
pub(super) fn above<N>(low: N) -> (Bound<N>, Bound<N>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// Numbers above `low` and below `high`.
pub(super) fn between<N>(low: N, high: N) -> (Bound<N>, Bound<N>) {
    (Bound::Excluded(low), Bound::Excluded(high))
}

/// A range as a phrase after "must be".
fn range_in_words<N: Number>(range: &impl RangeBounds<N>) -> String {
    use Bound::*;
    match (range.start_bound(), range.end_bound()) {
        (Included(a), Included(b)) => format!("from {a} to {b}"),
        (Included(a), Excluded(b)) => format!("from {a} to below {b}"),
        (Included(a), Unbounded) if a.to_string() == "0" => "0 or more".to_owned(),
        (Included(a), Unbounded) => format!("at least {a}"),
        (Excluded(a), Unbounded) => format!("above {a}"),
        (Excluded(a), Excluded(b)) => format!("above {a} and below {b}"),
        (Excluded(a), Included(b)) => format!("above {a} and at most {b}"),
        (Unbounded, Included(b)) => format!("at most {b}"),
        (Unbounded, Excluded(b)) => format!("below {b}"),
        (Unbounded, Unbounded) => String::new(),
    }
}

/// Adds a range to a schema of numbers: of one, or of the entries of a list.
fn limit<N: Number>(schema: &mut Json, range: &impl RangeBounds<N>) {
    if let Some(either) = schema.get_mut("anyOf").and_then(Json::as_array_mut) {
        for one in either {
            let entries = one.get("items").is_some();
            limit(if entries { &mut one["items"] } else { one }, range);
        }
        return;
    }
    let Some(schema) = schema.as_object_mut() else { return };
    let bounds = [
        (range.start_bound(), "minimum", "exclusiveMinimum"),
        (range.end_bound(), "maximum", "exclusiveMaximum"),
    ];
    for (bound, inclusive, exclusive) in bounds {
        let (name, &n) = match bound {
            Bound::Included(n) => (inclusive, n),
            Bound::Excluded(n) => (exclusive, n),
            Bound::Unbounded => continue,
        };
        schema.shift_remove(inclusive);
        schema.insert(name.to_owned(), n.into());
    }
}
