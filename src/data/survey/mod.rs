//! What the columns of a file hold, whatever it is meant for: of text and parquet, before anybody has
//! said which column is the label and which are numbers.

pub mod files;
pub mod text;

use super::{
    cardinality::Cardinality,
    dates,
    preprocess::fields::{missing, number},
};

/// A column of which no more different values than these have been seen has all of them told.
pub const FEW: usize = 32;

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Rows.
    pub rows: u64,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub holds: Holds,
    /// Rows without a value.
    pub missing: u64,
    /// Different values, counted to 131,072 and estimated beyond.
    pub distinct: u64,
    /// Least and largest of the numbers.
    pub range: Option<(f64, f64)>,
    /// Mean of the numbers.
    pub mean: f64,
    /// All different values and how often each came, in the order in which they came; `None` where
    /// they are more than [`FEW`].
    pub few: Option<Vec<(String, u64)>>,
    /// Whether dates have a time of day.
    pub clock: bool,
    /// Why it is no feature, as an index of rows is; what follows the column's name.
    pub no_feature: Option<&'static str>,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Nothing: every value is missing.
    Nothing,
    /// Whole numbers.
    Whole,
    /// Numbers, of which some are fractions.
    Fractions,
    /// Numbers of 64 bits of which some are beyond 2^53, as hashes are.
    Hashes,
    /// Text, at least in one row.
    Text,
    /// Dates, which are no plain numbers.
    Dates,
    /// Lists of ids.
    Lists,
    /// What no model is trained on here: nested columns, decimal fractions.
    Other,
}

/// Gathers what a column holds, value by value.
#[derive(Debug, Clone)]
pub(super) struct Gathered {
    missing: u64,
    values: u64,
    /// Values that are text, and fractions.
    texts: u64,
    fractions: u64,
    /// Texts that are dates, while all of them are; and whether one has a time of day.
    dates: u64,
    clock: bool,
    distinct: Cardinality,
    min: f64,
    max: f64,
    sum: f64,
    few: Option<Vec<(Box<[u8]>, u64)>>,
}

impl Default for Gathered {
    fn default() -> Self {
        Gathered {
            missing: 0,
            values: 0,
            texts: 0,
            fractions: 0,
            dates: 0,
            clock: false,
            distinct: Cardinality::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            few: Some(Vec::new()),
        }
    }
}

impl Gathered {
    /// Takes a field of text.
    pub fn text(&mut self, field: &[u8]) {
        if missing(field) {
            self.missing += 1;
            return;
        }
        match number(field) {
            Some(x) => self.add(x),
            None => {
                if self.dates == self.texts
                    && let Some(seconds) = dates::parse(field)
                {
                    self.dates += 1;
                    self.clock |= seconds % 86_400 != 0;
                }
                self.texts += 1;
            }
        }
        self.value(field, farmhash::fingerprint64(field));
    }

    /// Takes a number, NaN where there is none.
    pub fn number(&mut self, x: f64) {
        if x.is_nan() {
            self.missing += 1;
            return;
        }
        self.add(x);
        // -0 and 0 are one value.
        let bits = (x + 0.0).to_bits();
        match self.few {
            Some(_) => self.value((x + 0.0).to_string().as_bytes(), bits),
            None => self.value(&[], bits),
        }
    }

    fn add(&mut self, x: f64) {
        self.fractions += u64::from(x.fract() != 0.0);
        (self.min, self.max) = (self.min.min(x), self.max.max(x));
        self.sum += x;
    }

    fn value(&mut self, text: &[u8], key: u64) {
        self.values += 1;
        self.distinct.add(key);
        let Some(few) = &mut self.few else { return };
        match few.iter().position(|(value, _)| **value == *text) {
            Some(at) => few[at].1 += 1,
            None if few.len() < FEW => few.push((text.into(), 1)),
            None => self.few = None,
        }
    }

    /// What has been gathered of the column `name`.
    pub fn column(self, name: String) -> Column {
        let numbers = self.values - self.texts;
        let holds = match self {
            Gathered { values: 0, .. } => Holds::Nothing,
            Gathered { texts: n @ 1.., dates, values, .. } if n == dates && n == values => {
                Holds::Dates
            }
            Gathered { texts: 1.., .. } => Holds::Text,
            Gathered { fractions: 1.., .. } => Holds::Fractions,
            _ => Holds::Whole,
        };
        let shown = |(value, count): (Box<[u8]>, u64)| {
            (String::from_utf8_lossy(&value).into_owned(), count)
        };
        Column {
            name,
            holds,
            missing: self.missing,
            distinct: self.distinct.count(),
            range: (numbers > 0).then_some((self.min, self.max)),
            mean: self.sum / numbers.max(1) as f64,
            few: self.few.map(|few| few.into_iter().map(shown).collect()),
            clock: self.clock,
            no_feature: None,
        }
    }

    /// Takes a moment, in seconds since 1970; `None` where there is none.
    pub fn moment(&mut self, seconds: Option<i64>) {
        match seconds {
            Some(seconds) => self.text(dates::shown(seconds).as_bytes()),
            None => self.missing += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> Column {
        let mut gathered = Gathered::default();
        fields.iter().for_each(|f| gathered.text(f.as_bytes()));
        gathered.column("c".into())
    }

    #[test]
    fn columns_are_told_by_their_values() {
        let c = of(&["1", "", "-2", "NA", "1"]);
        assert_eq!((c.holds, c.missing, c.distinct), (Holds::Whole, 2, 2));
        assert_eq!((c.range, c.mean), (Some((-2.0, 1.0)), 0.0));
        assert_eq!(c.few, Some(vec![("1".into(), 2), ("-2".into(), 1)]));
        assert_eq!(of(&["1", "2.5"]).holds, Holds::Fractions);
        let c = of(&["1", "2.5", "a"]);
        assert_eq!((c.holds, c.range, c.mean), (Holds::Text, Some((1.0, 2.5)), 1.75));
        let c = of(&["2024-01-31", "", "2024-02-01 00:00"]);
        assert_eq!((c.holds, c.clock, c.missing), (Holds::Dates, false, 1));
        assert!(of(&["2024-01-31 10:00"]).clock);
        assert_eq!(of(&["2024-01-31", "x"]).holds, Holds::Text);
        assert_eq!(of(&["2024-01-31", "5"]).holds, Holds::Text);
        let c = of(&["", "nan"]);
        assert_eq!((c.holds, c.missing, c.range), (Holds::Nothing, 2, None));
        let many: Vec<String> = (0..=FEW).map(|i| i.to_string()).collect();
        let c = of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((c.distinct, c.few), (FEW as u64 + 1, None));
    }

    #[test]
    fn numbers_are_gathered_like_their_text() {
        let mut gathered = Gathered::default();
        [0.0, -0.0, f64::NAN, 3.0].into_iter().for_each(|x| gathered.number(x));
        let c = gathered.column("c".into());
        assert_eq!((c.holds, c.missing, c.distinct), (Holds::Whole, 1, 2));
        assert_eq!(c.few, Some(vec![("0".into(), 2), ("3".into(), 1)]));
    }
}
