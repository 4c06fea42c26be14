//! Several values for a key: `run --sweep KEY=VALUE,VALUE`, and the table `[sweep]` of a workload file.
//! The points of a sweep are all combinations of them.

use std::str::FromStr;

/// The section of a workload file that holds them.
pub const SECTION: &str = "sweep";

/// Points of a sweep at most.
pub const MOST_POINTS: usize = 10_000;

/// A key and the values that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// `section.key`.
    pub key: String,
    /// Values as they stand behind `--set KEY=`; at least one, none of them empty.
    pub values: Vec<String>,
}

impl FromStr for Axis {
    type Err = String;

    /// `KEY=VALUE,VALUE,...`: commas within brackets and quotes are part of a value.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "must be KEY=VALUE,VALUE,... as in train.batch_size=512,2048";
        let (key, values) = text.split_once('=').ok_or(wrong)?;
        let key = key.trim();
        if key.split_once('.').is_none_or(|(section, name)| section.is_empty() || name.is_empty()) {
            return Err(format!("the key must name its section; {wrong}"));
        }
        let axis = Axis { key: key.to_owned(), values: split(values)? };
        axis.check()?;
        Ok(axis)
    }
}

impl Axis {
    /// Refuses an axis without values, and values that are empty or stand twice.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.values.is_empty() || self.values.iter().any(String::is_empty) {
            return Err("an empty value; must be values with commas between them".to_owned());
        }
        let mut sorted: Vec<&String> = self.values.iter().collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(format!("{} twice; every value must be another", twice[0])),
            None => Ok(()),
        }
    }
}

/// Splits at commas outside brackets and quotes.
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut values, mut value) = (Vec::new(), String::new());
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            // An apostrophe within a bare word is none that opens a string.
            (None, '"' | '\'') if depth > 0 || value.trim().is_empty() => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth = depth.checked_sub(1).ok_or("a bracket is closed that was not opened")?;
            }
            (None, ',') if depth == 0 => {
                values.push(std::mem::take(&mut value).trim().to_owned());
                continue;
            }
            (None, _) => {}
        }
        value.push(c);
    }
    match (quote, depth) {
        (Some(_), _) => Err("a string is not closed".to_owned()),
        (None, 0) => {
            values.push(value.trim().to_owned());
            Ok(values)
        }
        (None, _) => Err("a bracket is not closed".to_owned()),
    }
}

/// All points: for each axis the number of its value. The last axis changes fastest.
///
/// # Errors
/// If there are more than [`MOST_POINTS`], in one sentence.
pub fn points(axes: &[Axis]) -> Result<Vec<Vec<usize>>, String> {
    let all = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.values.len()));
    let all = all.filter(|&n| n <= MOST_POINTS).ok_or_else(|| {
        let sizes: Vec<String> = axes.iter().map(|a| a.values.len().to_string()).collect();
        format!("a sweep of {} points; must be at most {MOST_POINTS}", sizes.join(" x "))
    })?;
    let place = |mut n: usize| {
        let mut point = vec![0; axes.len()];
        for (at, axis) in point.iter_mut().zip(axes).rev() {
            (*at, n) = (n % axis.values.len(), n / axis.values.len());
        }
        point
    };
    Ok((0..all).map(place).collect())
}

/// What a point sets, as overrides `KEY=VALUE`.
pub fn overrides(axes: &[Axis], point: &[usize]) -> Vec<String> {
    axes.iter().zip(point).map(|(axis, &at)| format!("{}={}", axis.key, axis.values[at])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Result<Axis, String> {
        text.parse()
    }

    #[test]
    fn values_are_split_at_commas_that_part_them() {
        for (text, values) in [
            ("train.batch_size=512,2048", vec!["512", "2048"]),
            ("engine.precision = fp32 , bf16", vec!["fp32", "bf16"]),
            ("model.top=[64,1],[128, 64, 1]", vec!["[64,1]", "[128, 64, 1]"]),
            (
                r#"data.train=["a,b", 'c]'],"d\",e",it's,'f'"#,
                vec![r#"["a,b", 'c]']"#, r#""d\",e""#, "it's", "'f'"],
            ),
            ("a.b=x=y,z", vec!["x=y", "z"]),
        ] {
            assert_eq!(axis(text).unwrap().values, values, "{text}");
        }
        for (text, error) in [
            ("train.batch_size", "must be KEY=VALUE,VALUE,..."),
            ("batch=1,2", "the key must name its section"),
            ("a.b=", "an empty value"),
            ("a.b=1,,2", "an empty value"),
            ("a.b=1,2,", "an empty value"),
            ("a.b=1,2,1", "1 twice"),
            ("a.b=[1,2", "a bracket is not closed"),
            ("a.b=1],2", "a bracket is closed that was not opened"),
            ("a.b='x,y", "a string is not closed"),
        ] {
            let said = axis(text).unwrap_err();
            assert!(said.starts_with(error), "{text}: {said}");
        }
    }

    #[test]
    fn points_are_all_combinations_in_order() {
        let axes = ["a.b=1,2", "c.d=x,y,z"].map(|a| axis(a).unwrap());
        let all = points(&axes).unwrap();
        let set: Vec<String> = all.iter().map(|p| overrides(&axes, p).join(" ")).collect();
        assert_eq!(
            set,
            [
                "a.b=1 c.d=x",
                "a.b=1 c.d=y",
                "a.b=1 c.d=z",
                "a.b=2 c.d=x",
                "a.b=2 c.d=y",
                "a.b=2 c.d=z"
            ]
        );
        let wide = Axis { key: "a.b".into(), values: (0..101).map(|i| i.to_string()).collect() };
        let error = points(&[wide.clone(), wide]).unwrap_err();
        assert_eq!(error, "a sweep of 101 x 101 points; must be at most 10000");
    }
}
