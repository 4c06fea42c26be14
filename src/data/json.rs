//! Numbers that JSON has no word for: infinite ones and NaN are written as text (`"-inf"`), where
//! the JSON crate would write `null`, which says that there is no number.

use serde::Serializer;

/// Writes `x`.
///
/// # Errors
/// If `to` cannot take it.
pub fn number<S: Serializer>(x: &f64, to: S) -> Result<S::Ok, S::Error> {
    if x.is_finite() {
        to.serialize_f64(*x)
    } else {
        to.serialize_str(&x.to_string().to_ascii_lowercase())
    }
}

/// Writes `x`, or `null` where there is no number.
///
/// # Errors
/// If `to` cannot take it.
pub fn optional<S: Serializer>(x: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match x {
        Some(x) => number(x, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_said_in_words() {
        #[derive(serde::Serialize)]
        struct Row {
            #[serde(serialize_with = "number")]
            a: f64,
            #[serde(serialize_with = "optional")]
            b: Option<f64>,
        }
        let text = |a, b| serde_json::to_string(&Row { a, b }).unwrap();
        assert_eq!(text(1.5, None), r#"{"a":1.5,"b":null}"#);
        assert_eq!(text(f64::NEG_INFINITY, Some(f64::NAN)), r#"{"a":"-inf","b":"nan"}"#);
        assert_eq!(text(f64::INFINITY, Some(-0.0)), r#"{"a":"inf","b":-0.0}"#);
    }
}
