//! Numbers of a model looked at from outside: what lies in a tensor, what layers give.

use serde::{Deserialize, Serialize};

/// What a layer gave for some samples.
#[derive(Debug, Clone, Copy)]
pub struct LayerOutput<'a> {
    /// The layer: its parameters' name without `.weight`, or what is no layer with parameters.
    pub name: &'a str,
    /// Numbers of a sample.
    pub cols: usize,
    /// Whether they have passed a ReLU last.
    pub relu: bool,
    /// `[samples, cols]`.
    pub values: &'a [f32],
}

/// Hears of the outputs of layers, one after another.
pub type LookAt<'a> = dyn FnMut(LayerOutput<'_>) + 'a;

/// What numbers there are in a tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The tensor's name.
    pub name: String,
    /// Numbers, all of them.
    pub numbers: u64,
    /// Those that are NaN.
    pub nan: u64,
    /// Those that are infinite.
    pub infinite: u64,
    /// Those that are 0.
    pub zero: u64,
    /// The smallest finite one.
    pub min: Option<f32>,
    /// The largest finite one.
    pub max: Option<f32>,
}

impl Summary {
    /// Of no numbers.
    pub fn new(name: &str) -> Self {
        Summary { name: name.to_owned(), ..Summary::default() }
    }

    /// Adds numbers.
    pub fn add(&mut self, values: &[f32]) {
        self.numbers += values.len() as u64;
        for &v in values {
            if v.is_finite() {
                self.zero += u64::from(v == 0.0);
                self.min = Some(self.min.map_or(v, |m| m.min(v)));
                self.max = Some(self.max.map_or(v, |m| m.max(v)));
            } else if v.is_nan() {
                self.nan += 1;
            } else {
                self.infinite += 1;
            }
        }
    }

    /// Whether all numbers are finite.
    pub fn is_finite(&self) -> bool {
        self.nan + self.infinite == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_by_what_they_are() {
        let mut s = Summary::new("x");
        assert!(s.is_finite() && s.min.is_none());
        s.add(&[0.0, -2.0, f32::NAN]);
        s.add(&[f32::INFINITY, 3.0, -0.0, f32::NEG_INFINITY]);
        assert_eq!((s.numbers, s.nan, s.infinite, s.zero), (7, 1, 2, 2));
        assert_eq!((s.min, s.max), (Some(-2.0), Some(3.0)));
        assert!(!s.is_finite());
    }
}
