//! Types of values: how each is read from TOML, written back, and described.

use super::{nearest::nearest, words::Words};
use crate::{backend::Device, data::source::paths::Paths, host::Size};
use serde_json::{Value as Json, json};
use std::{path::PathBuf, slice};
use toml_edit::{Array, Value};

/// A type that a key's value can have.
pub(super) trait TomlValue: Sized + Clone + Send + Sync + 'static {
    /// What the value must be, as a phrase after "must be".
    fn what() -> String;
    /// The value, or what is wrong with it.
    fn from_toml(value: &Value) -> Result<Self, String>;
    /// The value as it is written; `None` leaves the key out.
    fn to_toml(&self) -> Option<Value>;
    /// Its type as the document names it.
    fn type_name() -> String;
    /// Its JSON schema.
    fn schema() -> Json;
    /// The words that it may be, if it is one.
    fn words() -> Vec<&'static str> {
        Vec::new()
    }
}

/// "is STRING; must be ..." for a value of the wrong type.
pub(super) fn wrong<T: TomlValue>(value: &Value) -> String {
    format!("is {}; must be {}", shown(value), T::what())
}

/// A value as it may stand in a one-line message.
pub(super) fn shown(value: &Value) -> String {
    let mut text: String = value.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 40 {
        text = text.chars().take(37).chain("...".chars()).collect();
    }
    text
}

macro_rules! whole_number {
    ($($t:ty),*) => {$(
        impl TomlValue for $t {
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
            fn to_toml(&self) -> Option<Value> {
                // It came from a file or a default, both within i64.
                Some(Value::from(*self as i64))
            }
            fn type_name() -> String {
                "integer".to_owned()
            }
            fn schema() -> Json {
                let most = (Self::MAX as u64).min(i64::MAX as u64);
                json!({"type": "integer", "minimum": 0, "maximum": most})
            }
        }
    )*};
}
whole_number!(u32, u64, usize);

impl TomlValue for f64 {
    fn what() -> String {
        "a number".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let x = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        x.filter(|x| x.is_finite()).ok_or_else(|| wrong::<Self>(value))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
    fn type_name() -> String {
        "number".to_owned()
    }
    fn schema() -> Json {
        json!({"type": "number"})
    }
}

impl TomlValue for f32 {
    fn what() -> String {
        f64::what()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        Some(f64::from_toml(value)? as f32)
            .filter(|x| x.is_finite())
            .ok_or_else(|| wrong::<Self>(value))
    }
    fn to_toml(&self) -> Option<Value> {
        // The shortest decimal that is this f32, rather than the digits of its f64.
        Some(Value::from(self.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(*self))))
    }
    fn type_name() -> String {
        f64::type_name()
    }
    fn schema() -> Json {
        f64::schema()
    }
}

impl TomlValue for bool {
    fn what() -> String {
        "true or false".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong::<Self>(value))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
    fn type_name() -> String {
        "true, false".to_owned()
    }
    fn schema() -> Json {
        json!({"type": "boolean"})
    }
}

impl TomlValue for String {
    fn what() -> String {
        r#"a string ("...")"#.to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| wrong::<Self>(value))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.as_str()))
    }
    fn type_name() -> String {
        "string".to_owned()
    }
    fn schema() -> Json {
        json!({"type": "string"})
    }
}

impl TomlValue for Device {
    fn what() -> String {
        Device::WORDS.to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_str().and_then(|word| word.parse().ok()).ok_or_else(|| wrong::<Self>(value))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.to_string()))
    }
    fn type_name() -> String {
        "`cpu`, `cuda:N` or `auto`".to_owned()
    }
    fn schema() -> Json {
        json!({"type": "string", "pattern": "^(cpu|auto|(cuda|npu):[0-9]+)$"})
    }
}

impl TomlValue for Size {
    fn what() -> String {
        Size::WHAT.to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let bytes = value.as_integer().and_then(|n| u64::try_from(n).ok()).map(Size);
        let size = bytes.or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        size.ok_or_else(|| wrong::<Self>(value))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.to_string()))
    }
    fn type_name() -> String {
        "size, as `2GiB`".to_owned()
    }
    fn schema() -> Json {
        json!({"anyOf": [
            {"type": "string", "pattern": "^[0-9]+ ?([KMG](iB)?)?$"},
            {"type": "integer", "minimum": 0}
        ]})
    }
}

impl TomlValue for char {
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
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.to_string()))
    }
    fn type_name() -> String {
        "one character".to_owned()
    }
    fn schema() -> Json {
        json!({"type": "string", "minLength": 1, "maxLength": 1})
    }
}

impl TomlValue for PathBuf {
    fn what() -> String {
        "a path as a string".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value.as_str().filter(|s| !s.is_empty()).ok_or_else(|| wrong::<Self>(value))?;
        expand(text, &|name| std::env::var(name).ok()).map(PathBuf::from)
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.to_string_lossy().as_ref()))
    }
    fn type_name() -> String {
        "path".to_owned()
    }
    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

/// The environment's variables that a path names, those of which `${` is closed.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

/// `${NAME}` takes the value of the environment's variable NAME.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
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

/// A key that may be left out; then it is off.
impl<T: TomlValue> TomlValue for Option<T> {
    fn what() -> String {
        T::what()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }
    fn to_toml(&self) -> Option<Value> {
        self.as_ref()?.to_toml()
    }
    fn type_name() -> String {
        T::type_name()
    }
    fn schema() -> Json {
        T::schema()
    }
    fn words() -> Vec<&'static str> {
        T::words()
    }
}

/// Lists: each entry in turn; a lone value is a list of one.
impl<T: TomlValue> TomlValue for Vec<T> {
    fn what() -> String {
        format!("a list ([...]), each entry {}", T::what())
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        match value.as_array() {
            None => T::from_toml(value).map(|v| vec![v]).map_err(|what| {
                // What is no value of an entry is no list either; other reasons are worth telling.
                if what.starts_with("is ") { wrong::<Self>(value) } else { what }
            }),
            Some(list) => list
                .iter()
                .enumerate()
                .map(|(i, v)| T::from_toml(v).map_err(|what| format!("entry {} {what}", i + 1)))
                .collect(),
        }
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(T::to_toml).collect::<Array>()))
    }
    fn type_name() -> String {
        match T::type_name().as_str() {
            "true, false" => "list of true, false".to_owned(),
            name if name.starts_with('`') => format!("list of {name}"),
            name => format!("list of {name}s"),
        }
    }
    fn schema() -> Json {
        json!({"anyOf": [T::schema(), {"type": "array", "items": T::schema()}]})
    }
}

/// Paths: one as it is, several as a list; none leaves the key out.
impl TomlValue for Paths {
    fn what() -> String {
        "a path as a string, or a list of some".to_owned()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        Vec::from_toml(value).map(Paths)
    }
    fn to_toml(&self) -> Option<Value> {
        match &self.0[..] {
            [] => None,
            [one] => one.to_toml(),
            _ => self.0.to_toml(),
        }
    }
    fn type_name() -> String {
        Vec::<PathBuf>::type_name()
    }
    fn schema() -> Json {
        Vec::<PathBuf>::schema()
    }
}

/// The weights of class 0 and class 1.
impl TomlValue for [f32; 2] {
    fn what() -> String {
        Vec::<f32>::what()
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        match Vec::<f32>::from_toml(value)?[..] {
            [w0, w1] if w0 >= 0.0 && w1 >= 0.0 && w0 + w1 > 0.0 => Ok([w0, w1]),
            _ => {
                Err("must be two weights, of class 0 and class 1, not negative and not both 0"
                    .into())
            }
        }
    }
    fn to_toml(&self) -> Option<Value> {
        self.to_vec().to_toml()
    }
    fn type_name() -> String {
        "list of 2 numbers".to_owned()
    }
    fn schema() -> Json {
        let weight = json!({"type": "number", "minimum": 0});
        json!({"type": "array", "items": weight, "minItems": 2, "maxItems": 2})
    }
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|w| format!("\"{w}\"")).collect();
    join_or(&words)
}

/// `a, b or c`.
pub(super) fn join_or(words: &[String]) -> String {
    match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// "is STRING; must be ..." for a word that is none of `words`, with the one that was likely meant.
pub(super) fn no_such_word(value: &Value, words: &[&str]) -> String {
    let near = value.as_str().and_then(|s| nearest(s, words.iter().copied()));
    let hint = near.map(|n| format!(" (did you mean \"{n}\"?)")).unwrap_or_default();
    format!("is {}; must be {}{hint}", shown(value), one_of(words))
}

/// One of a fixed set of words.
impl<T: Words> TomlValue for T {
    fn what() -> String {
        one_of(&Self::words())
    }
    fn from_toml(value: &Value) -> Result<Self, String> {
        let found = value.as_str().and_then(T::of_word);
        found.ok_or_else(|| no_such_word(value, &Self::words()))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.word()))
    }
    fn type_name() -> String {
        join_or(&Self::words().iter().map(|w| format!("`{w}`")).collect::<Vec<_>>())
    }
    fn schema() -> Json {
        json!({"enum": Self::words()})
    }
    fn words() -> Vec<&'static str> {
        T::variants().into_iter().map(|(word, _)| word).collect()
    }
}

/// A number that a range may hold.
pub(super) trait Number:
    Copy + PartialOrd + std::fmt::Display + Into<Json> + Send + Sync
{
}
impl Number for u32 {}
impl Number for u64 {}
impl Number for usize {}
impl Number for f32 {}
impl Number for f64 {}

/// A value of numbers, each of which must lie in the key's range.
pub(super) trait Numbers: TomlValue {
    /// Their type.
    type Number: Number + 'static;
    /// They.
    fn numbers(&self) -> &[Self::Number];
}

macro_rules! single {
    ($($t:ty),*) => {$(
        impl Numbers for $t {
            type Number = $t;
            fn numbers(&self) -> &[$t] {
                slice::from_ref(self)
            }
        }
    )*};
}
single!(u32, u64, usize, f32, f64);

impl<T: Numbers> Numbers for Option<T> {
    type Number = T::Number;
    fn numbers(&self) -> &[T::Number] {
        self.as_ref().map_or(&[], T::numbers)
    }
}

impl<T: Number + TomlValue> Numbers for Vec<T> {
    type Number = T;
    fn numbers(&self) -> &[T] {
        self
    }
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
