//! Typed reading of the flat table.

use super::{error::WorkloadError, keys, tree::Tree, words::Words};
use crate::{backend::Device, optim::rules};
use std::{cell::RefCell, collections::BTreeSet, path::PathBuf};
use toml_edit::Value;

/// Hands out typed values and remembers which keys had a meaning.
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    pub fn new(tree: &'a Tree) -> Self {
        Reader { tree, asked: RefCell::new(BTreeSet::new()) }
    }

    /// The value of `key`, if given.
    pub fn opt<T: FromToml>(&self, key: &'static str) -> Result<Option<T>, WorkloadError> {
        debug_assert!(keys::belongs_to(key).is_some(), "{key} is not in keys.rs");
        self.asked.borrow_mut().insert(key);
        let Some(entry) = self.tree.get(key) else { return Ok(None) };
        T::from_toml(&entry.value).map(Some).map_err(|what| self.tree.error(key, what))
    }

    /// The value of `key`, or `default`.
    pub fn or<T: FromToml>(&self, key: &'static str, default: T) -> Result<T, WorkloadError> {
        Ok(self.opt(key)?.unwrap_or(default))
    }

    /// The value of `key`, which must be given.
    pub fn must<T: FromToml>(&self, key: &'static str) -> Result<T, WorkloadError> {
        match self.opt(key)? {
            Some(value) => Ok(value),
            None => Err(self.tree.error(key, format!("missing; must be {}", T::what()))),
        }
    }

    /// The word of `key`, which must be given and be one of `words`.
    pub fn must_word(
        &self,
        key: &'static str,
        words: &[&'static str],
    ) -> Result<&'static str, WorkloadError> {
        self.asked.borrow_mut().insert(key);
        let Some(entry) = self.tree.get(key) else {
            return Err(self.tree.error(key, format!("missing; must be {}", one_of(words))));
        };
        word_of(&entry.value, words).map_err(|what| self.tree.error(key, what))
    }

    /// The value of a rule's key, or its default.
    pub fn setting(&self, key: &'static rules::Key) -> Result<rules::Value, WorkloadError> {
        let (path, rules::Range { holds, says, .. }) = (key.path, key.range);
        Ok(match (key.default)() {
            rules::Value::Number(x) => {
                rules::Value::Number(self.within(path, self.or(path, x)?, holds, says)?)
            }
            rules::Value::Count(n) => {
                let right = |n| holds(n as f64);
                rules::Value::Count(self.within(path, self.or(path, n)?, right, says)?)
            }
            rules::Value::Flag(b) => rules::Value::Flag(self.or(path, b)?),
            rules::Value::Word(_) if self.tree.get(path).is_some() => {
                rules::Value::Word(self.must_word(path, key.words)?)
            }
            rules::Value::Word(word) => {
                self.asked.borrow_mut().insert(path);
                rules::Value::Word(word)
            }
        })
    }

    /// Refuses `key` unless `right`; `what` says what is wrong and what would be right.
    pub fn check(
        &self,
        key: &str,
        right: bool,
        what: impl FnOnce() -> String,
    ) -> Result<(), WorkloadError> {
        if right { Ok(()) } else { Err(self.tree.error(key, what())) }
    }

    /// The error that `key` is wrong.
    pub fn error(&self, key: &str, what: impl Into<String>) -> WorkloadError {
        self.tree.error(key, what)
    }

    /// A number that must lie where `range` says.
    pub fn within<T: std::fmt::Display + Copy>(
        &self,
        key: &'static str,
        value: T,
        right: impl FnOnce(T) -> bool,
        range: &str,
    ) -> Result<T, WorkloadError> {
        self.check(key, right(value), || format!("is {value}; must be {range}"))?;
        Ok(value)
    }

    /// Like [`Reader::within`] for a value that need not be there.
    pub fn within_opt<T: std::fmt::Display + Copy>(
        &self,
        key: &'static str,
        value: Option<T>,
        right: impl FnOnce(T) -> bool,
        range: &str,
    ) -> Result<Option<T>, WorkloadError> {
        value.map(|v| self.within(key, v, right, range)).transpose()
    }

    /// Refuses keys that were given but that nothing asked for: they would have no effect.
    pub fn finish(self) -> Result<(), WorkloadError> {
        let asked = self.asked.into_inner();
        match self.tree.given().find(|k| !asked.contains(k)) {
            None => Ok(()),
            Some(key) => {
                let home = keys::belongs_to(key).unwrap_or_default();
                Err(self
                    .tree
                    .error(key, format!("has no effect here, it belongs to {home}; remove it")))
            }
        }
    }
}

/// A type that a TOML value can become.
pub(super) trait FromToml: Sized {
    /// What the value must be, as a phrase after "must be".
    fn what() -> String;
    /// The value, or what is wrong with it.
    fn from_toml(value: &Value) -> Result<Self, String>;
}

/// "is STRING; must be ..." for a value of the wrong type.
fn wrong<T: FromToml>(value: &Value) -> String {
    format!("is {}; must be {}", shown(value), T::what())
}

/// A value as it may stand in a one-line message.
fn shown(value: &Value) -> String {
    let mut text: String = value.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 40 {
        text = text.chars().take(37).chain("...".chars()).collect();
    }
    text
}

macro_rules! whole_number {
    ($($t:ty),*) => {$(
        impl FromToml for $t {
            fn what() -> String {
                "a whole number that is not negative".to_owned()
            }
            fn from_toml(value: &Value) -> Result<Self, String> {
                let n = value.as_integer().ok_or_else(|| wrong::<Self>(value))?;
                if n < 0 {
                    return Err(wrong::<Self>(value));
                }
                Self::try_from(n).map_err(|_| format!("is {n}; must be at most {}", Self::MAX))
            }
        }
    )*};
}
whole_number!(u32, u64, usize);

impl FromToml for f64 {
    fn what() -> String {
        "a number".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let x = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        x.filter(|x| x.is_finite()).ok_or_else(|| wrong::<Self>(value))
    }
}

impl FromToml for f32 {
    fn what() -> String {
        f64::what()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        Some(f64::from_toml(value)? as f32)
            .filter(|x| x.is_finite())
            .ok_or_else(|| wrong::<Self>(value))
    }
}

impl FromToml for bool {
    fn what() -> String {
        "true or false".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong::<Self>(value))
    }
}

impl FromToml for String {
    fn what() -> String {
        r#"a string ("...")"#.to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| wrong::<Self>(value))
    }
}

impl FromToml for Device {
    fn what() -> String {
        Device::WORDS.to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_str().and_then(|word| word.parse().ok()).ok_or_else(|| wrong::<Self>(value))
    }
}

impl FromToml for char {
    fn what() -> String {
        "a string of one character".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let mut chars = value.as_str().unwrap_or_default().chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(wrong::<Self>(value)),
        }
    }
}

impl FromToml for PathBuf {
    fn what() -> String {
        "a path as a string".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value.as_str().filter(|s| !s.is_empty()).ok_or_else(|| wrong::<Self>(value))?;
        expand(text, &|name| std::env::var(name).ok()).map(PathBuf::from)
    }
}

/// `${NAME}` takes the value of the environment's variable NAME.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}') else {
            return Err(format!("is \"{text}\"; ${{ must be closed, as in ${{DATA}}/train.csv"));
        };
        let name = &rest[start + 2..start + end];
        match variable(name) {
            Some(value) if value.contains("${") => {
                return Err(format!(
                    "the environment variable {name} must not hold ${{ itself, but is \"{value}\""
                ));
            }
            Some(value) if !value.is_empty() => out.push_str(&value),
            _ => {
                return Err(format!(
                    "needs the environment variable {name}, which is not set; set it, or write the path out"
                ));
            }
        }
        rest = &rest[start + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Lists: each entry in turn; a lone value is a list of one.
impl<T: FromToml> FromToml for Vec<T> {
    fn what() -> String {
        format!("a list ([...]), each entry {}", T::what())
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        match value.as_array() {
            None => T::from_toml(value).map(|v| vec![v]).map_err(|_| wrong::<Self>(value)),
            Some(list) => list
                .iter()
                .enumerate()
                .map(|(i, v)| T::from_toml(v).map_err(|what| format!("entry {} {what}", i + 1)))
                .collect(),
        }
    }
}

/// One of a fixed set of words.
impl<T: Words> FromToml for T {
    fn what() -> String {
        one_of(&T::WORDS.iter().map(|(w, _)| *w).collect::<Vec<_>>())
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let word = word_of(value, &T::WORDS.iter().map(|(w, _)| *w).collect::<Vec<_>>())?;
        let found = T::WORDS.iter().find(|(w, _)| *w == word);
        found.map(|(_, t)| *t).ok_or_else(|| wrong::<Self>(value))
    }
}

/// `"a", "b" or "c"`.
fn one_of(words: &[&str]) -> String {
    keys::listed(words.iter().copied())
}

/// The one of `words` that a value is, or what is wrong with it.
fn word_of(value: &Value, words: &[&'static str]) -> Result<&'static str, String> {
    let given = value.as_str();
    given.and_then(|s| words.iter().find(|w| **w == s)).copied().ok_or_else(|| {
        let near = given.and_then(|s| keys::nearest(s, words.iter().copied()));
        let hint = near.map(|n| format!(" (did you mean \"{n}\"?)")).unwrap_or_default();
        format!("is {}; must be {}{hint}", shown(value), one_of(words))
    })
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn paths_take_the_environment() {
        let env = |name: &str| match name {
            "DATA" => Some("/d".to_owned()),
            "LOOP" => Some("${DATA}".to_owned()),
            _ => None,
        };
        assert_eq!(expand("${DATA}/x/${DATA}.csv", &env).as_deref(), Ok("/d/x//d.csv"));
        assert_eq!(expand("plain $HOME", &env).as_deref(), Ok("plain $HOME"));
        assert!(
            expand("${NOPE}/x", &env).is_err_and(|e| e.contains("variable NOPE, which is not set"))
        );
        assert!(expand("${DATA/x", &env).is_err_and(|e| e.contains("must be closed")));
        assert!(expand("${LOOP}", &env).is_err_and(|e| e.contains("must not hold ${")));
    }
}
