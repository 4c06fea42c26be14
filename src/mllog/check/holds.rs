//! Whether a line, by itself, is as a rule wants it.
//!
//! MLPerf's rules are Python expressions, so true and false count as 1 and 0, and a string is never
//! a number.

use super::{Broken, Check};
use crate::mllog::parse::Event;
use serde_json::Value;

/// A value as Python takes it in a comparison of numbers.
pub(super) fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(n) => n.as_f64(),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        _ => None,
    }
}

/// A value in a message; long ones are cut.
pub(super) fn shown(value: Option<&Value>) -> String {
    let text = value.map_or("missing".into(), Value::to_string);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Python's `==`.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| equal(v, w)))
        }
        _ => a == b || number(Some(a)).is_some_and(|x| Some(x) == number(Some(b))),
    }
}

/// Python's `bool`.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        Value::Bool(_) | Value::Number(_) => number(Some(value)) != Some(0.0),
    }
}

/// What `event` breaks of a `check` that looks at nothing else.
pub(super) fn broken(check: &Check, event: &Event) -> Option<(Broken, String)> {
    let value = event.value.as_ref();
    let x = number(value);
    let wrong = |right: bool, must: &str| {
        (!right)
            .then(|| (Broken::Value, format!("{} is {}; must be {must}", event.key, shown(value))))
    };
    match *check {
        Check::NotEmpty => wrong(value.is_none_or(|v| v != ""), "something"),
        Check::Given => wrong(value.is_some_and(truthy), "something"),
        Check::Is(expected) => {
            let must = match value {
                Some(Value::Number(n)) if widened(n.as_f64(), expected) => {
                    format!("{expected:e}, in 64 bits: this is what 32 bits make of it")
                }
                _ if expected != 0.0 && expected.abs() < 1e-3 => format!("{expected:e}"),
                _ => expected.to_string(),
            };
            wrong(x == Some(expected), &must)
        }
        Check::OneOf(words) => {
            let must = words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ");
            let must = if words.len() == 1 { must } else { format!("one of {must}") };
            wrong(value.and_then(Value::as_str).is_some_and(|v| words.contains(&v)), &must)
        }
        Check::Positive => wrong(x.is_some_and(|x| x > 0.0), "a number above 0"),
        Check::NotNegative => wrong(x.is_some_and(|x| x >= 0.0), "a number, 0 or above"),
        Check::Share => wrong(x.is_some_and(|x| (0.0..=1.0).contains(&x)), "a number from 0 to 1"),
        Check::Whole => wrong(x.is_some_and(|x| (x.round() - x).abs() < 1e-5), "a whole number"),
        Check::Seed => {
            let number = x.or_else(|| {
                value.and_then(Value::as_str)?.trim().parse::<i128>().ok().map(|n| n as f64)
            });
            wrong(number.is_some_and(|x| x.trunc() >= 0.0), "a whole number, 0 or above")
        }
        Check::Flag => wrong(x.is_some_and(|x| x == 0.0 || x == 1.0), "true or false"),
        _ => metadata(check, event),
    }
}

fn metadata(check: &Check, event: &Event) -> Option<(Broken, String)> {
    let key = &event.key;
    let has = |name: &str| event.meta(name).is_some();
    let wrong = |right: bool, what: String| (!right).then_some((Broken::Metadata, what));
    let number_where_there = |name: &str, right: fn(f64) -> bool, must: &str| {
        let value = event.meta(name)?;
        let what =
            format!("{key} has {name} {} in its metadata; must be {must}", shown(Some(value)));
        wrong(number(Some(value)).is_some_and(right), what)
    };
    match *check {
        Check::Has(names) => wrong(
            names.iter().any(|n| has(n)),
            format!("{key} has no {} in its metadata", names.join(" or ")),
        ),
        Check::HasGiven(name) => wrong(
            event.meta(name).is_some_and(truthy),
            format!("{key} has no {name}, or an empty one, in its metadata"),
        ),
        Check::HasWith(first, second) => wrong(
            !has(first) || has(second),
            format!("{key} has {first} in its metadata; must have {second} too"),
        ),
        Check::HasPositive(name) => number_where_there(name, |x| x > 0.0, "a number above 0"),
        Check::HasNotNegative(name) => {
            number_where_there(name, |x| x >= 0.0, "a number, 0 or above")
        }
        Check::HasOneOf(name, words) => {
            let found = event.meta(name);
            let right = found.and_then(Value::as_str).is_some_and(|v| words.contains(&v));
            wrong(
                right,
                format!(
                    "{key} has {name} {} in its metadata; must be {}",
                    shown(found),
                    words.join(" or ")
                ),
            )
        }
        // The judge, who knows the lines before this one, has dealt with these.
        _ => None,
    }
}

/// Whether `x` is `expected` after a detour through 32 bits.
pub(super) fn widened(x: Option<f64>, expected: f64) -> bool {
    x.is_some_and(|x| x != expected && x == f64::from(expected as f32))
}
