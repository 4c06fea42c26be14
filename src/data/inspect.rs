//! What a file holds: rows, labels, and for each column how much is missing, how many values
//! differ, and their range.

use super::{
    cardinality::Cardinality,
    json,
    rows::{Layout, Numbers, Rows},
    texts::Look,
};
use serde::Serialize;

/// What kind of column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers.
    Dense,
    /// Ids.
    Categorical,
    /// Text, of which training makes ids.
    Text,
}

/// What one column holds.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Rows without a value.
    pub missing: u64,
    /// Different values.
    pub distinct: u64,
    /// Whether `distinct` is exact; otherwise it is within some percent.
    pub distinct_is_exact: bool,
    /// Smallest value; none where all are missing, and of text.
    #[serde(serialize_with = "json::optional")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(serialize_with = "json::optional")]
    pub max: Option<f64>,
    /// Mean of the values of a dense column, mean number of ids of a categorical one.
    #[serde(serialize_with = "json::optional")]
    pub mean: Option<f64>,
    /// The most ids of a row; 1 for dense columns.
    pub most: u64,
}

/// What a file holds.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Rows.
    pub rows: u64,
    /// Rows with label 1.
    pub positives: u64,
    /// Dense columns, then categorical ones, in order.
    pub columns: Vec<ColumnFacts>,
}

/// Gathers facts chunk by chunk.
pub struct Inspector {
    layout: Layout,
    rows: u64,
    positives: u64,
    columns: Vec<Column>,
}

#[derive(Clone)]
struct Column {
    missing: u64,
    distinct: Cardinality,
    min: f64,
    max: f64,
    sum: f64,
    values: u64,
    most: u64,
}

impl Column {
    fn new() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Column {
            missing: 0,
            distinct: Cardinality::default(),
            min,
            max,
            sum: 0.0,
            values: 0,
            most: 0,
        }
    }

    fn add(&mut self, x: f64, key: u64) {
        self.distinct.add(key);
        (self.min, self.max) = (x.min(self.min), x.max(self.max));
        self.sum += x;
        self.values += 1;
    }
}

impl Inspector {
    /// Nothing seen yet of a file of `layout`.
    pub fn new(layout: &Layout) -> Self {
        let columns = vec![Column::new(); layout.dense.len() + layout.ids.len()];
        Inspector { layout: layout.clone(), rows: 0, positives: 0, columns }
    }

    /// Looks at some rows.
    pub fn add(&mut self, rows: &Rows) {
        self.rows += rows.len() as u64;
        self.positives += rows.labels.iter().filter(|&&y| y == 1.0).count() as u64;
        let (dense, ids) = self.columns.split_at_mut(self.layout.dense.len());
        let width = dense.len();
        for (k, column) in dense.iter_mut().enumerate() {
            column.most = 1;
            for &x in rows.dense.iter().skip(k).step_by(width) {
                // -0 and 0 are one value.
                if x.is_nan() { column.missing += 1 } else { column.add(x, (x + 0.0).to_bits()) }
            }
        }
        for (column, bags) in ids.iter_mut().zip(&rows.ids) {
            for i in 0..rows.labels.len() {
                let bag = bags.bag(i);
                column.missing += u64::from(bag.is_empty());
                column.most = column.most.max(bag.len() as u64);
                bag.iter().for_each(|&id| column.add(f64::from(id), u64::from(id)));
            }
        }
    }

    /// What has been seen.
    pub fn facts(&self) -> Facts {
        let dense = self.layout.dense.iter().map(|name| (name, Kind::Dense));
        let names = dense.chain(self.layout.ids.iter().map(|c| (&c.name, Kind::Categorical)));
        let facts = |((name, kind), c): ((&String, Kind), &Column)| ColumnFacts {
            name: name.clone(),
            kind,
            missing: c.missing,
            distinct: c.distinct.count(),
            distinct_is_exact: c.distinct.is_exact(),
            min: (c.values > 0).then_some(c.min),
            max: (c.values > 0).then_some(c.max),
            mean: match kind {
                Kind::Dense => (c.values > 0).then(|| c.sum / c.values as f64),
                Kind::Text => None,
                Kind::Categorical => (self.rows > 0).then(|| c.values as f64 / self.rows as f64),
            },
            most: c.most,
        };
        Facts {
            rows: self.rows,
            positives: self.positives,
            columns: names.zip(&self.columns).map(facts).collect(),
        }
    }

    /// The same where categorical column `k` is text, of which `look` tells.
    pub fn facts_of_text(&self, text: &[(usize, Look)]) -> Facts {
        let mut facts = self.facts();
        for (k, look) in text {
            let column = &mut facts.columns[self.layout.dense.len() + k];
            *column = ColumnFacts {
                kind: Kind::Text,
                distinct: look.distinct.count(),
                distinct_is_exact: look.distinct.is_exact(),
                min: None,
                max: None,
                mean: None,
                ..column.clone()
            };
        }
        facts
    }
}

/// How often the values of a column fall between bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// The column.
    pub column: String,
    /// Bin `i` holds values from `bounds[i]` to below `bounds[i + 1]`; the last one holds its upper
    /// bound, too.
    pub bounds: Vec<f64>,
    /// Values in each bin.
    pub counts: Vec<u64>,
    #[serde(skip)]
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Dense(usize),
    Ids(usize),
}

/// Bins of equal width, at most.
const BINS: usize = 20;

impl Histogram {
    /// An empty histogram of the column `name` of a file with `facts`; `None` if there is no such
    /// column, or no value in it. Fractions have bins of equal width; whole numbers have one for
    /// each value if they are few, else bounds double.
    pub fn new(layout: &Layout, facts: &Facts, name: &str) -> Option<Self> {
        let k = facts.columns.iter().position(|c| c.name == name)?;
        let (min, max) = facts.columns[k].min.zip(facts.columns[k].max)?;
        let at =
            if k < layout.dense.len() { At::Dense(k) } else { At::Ids(k - layout.dense.len()) };
        let whole = matches!(at, At::Ids(_)) || layout.numbers == Numbers::Int32;
        let bounds: Vec<f64> = if !(max - min).is_finite() {
            return None;
        } else if min == max {
            vec![min, max]
        } else if whole && max - min < BINS as f64 {
            (0..=(max - min) as usize + 1).map(|i| min + i as f64).collect()
        } else if whole {
            doubling(min, max)
        } else {
            (0..=BINS)
                .map(|i| if i == BINS { max } else { min + (max - min) * i as f64 / BINS as f64 })
                .collect()
        };
        let counts = vec![0; bounds.len() - 1];
        Some(Histogram { column: name.to_owned(), bounds, counts, at })
    }

    /// Counts the values in some rows.
    pub fn add(&mut self, rows: &Rows) {
        match self.at {
            At::Dense(k) => {
                let width = rows.width().max(1);
                rows.dense
                    .iter()
                    .skip(k)
                    .step_by(width)
                    .filter(|x| !x.is_nan())
                    .for_each(|&x| count(&self.bounds, &mut self.counts, x));
            }
            At::Ids(k) => rows.ids[k]
                .indices
                .iter()
                .for_each(|&id| count(&self.bounds, &mut self.counts, f64::from(id))),
        }
    }
}

fn count(bounds: &[f64], counts: &mut [u64], x: f64) {
    let bin = bounds.partition_point(|&b| b <= x).saturating_sub(1).min(counts.len() - 1);
    counts[bin] += 1;
}

/// ..., -2, -1, 0, 1, 2, 4, ... as far as needed for whole numbers from `min` to `max`.
fn doubling(min: f64, max: f64) -> Vec<f64> {
    let mut bounds = Vec::new();
    let mut low = -1.0;
    while low > min {
        low *= 2.0;
    }
    while low <= -1.0 && min < 0.0 {
        bounds.push(low);
        low /= 2.0;
    }
    bounds.push(0.0);
    let mut high = 1.0;
    while high <= max {
        bounds.push(high);
        high *= 2.0;
    }
    bounds.push(high);
    let first = bounds.partition_point(|&b| b <= min).saturating_sub(1);
    let last = bounds.partition_point(|&b| b <= max).min(bounds.len() - 1);
    bounds[first..=last].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Hotness;

    fn facts(numbers: Numbers, values: &[f64]) -> (Layout, Facts, Rows) {
        let layout = Layout::numbered(1, numbers, [Hotness::Any]);
        let mut rows = Rows::new(&layout);
        for (i, &x) in values.iter().enumerate() {
            rows.labels.push((i % 3 == 0).into());
            rows.dense.push(x);
            rows.ids[0].push(vec![i as u32 / 2; i % 3]);
        }
        let mut inspector = Inspector::new(&layout);
        inspector.add(&rows);
        inspector.add(&Rows::new(&layout));
        (layout, inspector.facts(), rows)
    }

    #[test]
    fn facts_of_a_small_file() {
        let (_, facts, _) = facts(Numbers::Float64, &[1.0, -2.5, f64::NAN, 0.0, -0.0, 1.0]);
        assert_eq!((facts.rows, facts.positives), (6, 2));
        let [dense, ids] = &facts.columns[..] else { panic!() };
        assert_eq!(
            (dense.missing, dense.distinct, dense.min, dense.max, dense.mean),
            (1, 3, Some(-2.5), Some(1.0), Some(-0.1))
        );
        assert_eq!(
            (ids.missing, ids.distinct, ids.min, ids.max, ids.mean, ids.most),
            (2, 3, Some(0.0), Some(2.0), Some(1.0), 2)
        );
        assert!(dense.distinct_is_exact && ids.kind == Kind::Categorical);
        let (_, facts, _) = self::facts(Numbers::Int32, &[]);
        assert_eq!((facts.rows, facts.columns[0].min, facts.columns[1].mean), (0, None, None));
    }

    #[test]
    fn histograms_hold_every_value_once() {
        let histogram = |numbers, values: &[f64], column: &str| {
            let (layout, facts, rows) = facts(numbers, values);
            let mut h = Histogram::new(&layout, &facts, column)?;
            h.add(&rows);
            Some((h.bounds, h.counts))
        };
        let some = |bounds: &[f64], counts: &[u64]| Some((bounds.to_vec(), counts.to_vec()));
        let few = histogram(Numbers::Int32, &[3.0, 1.0, f64::NAN, 3.0], "I1");
        assert_eq!(few, some(&[1.0, 2.0, 3.0, 4.0], &[1, 0, 2]));
        let many = histogram(Numbers::Int32, &[-3.0, -1.0, 0.0, 1.0, 7.0, 8.0, 100.0], "I1");
        assert_eq!(
            many,
            some(
                &[-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0],
                &[1, 0, 1, 1, 1, 0, 1, 1, 0, 0, 1]
            )
        );
        assert_eq!(
            histogram(Numbers::Int32, &[5.0, 100.0], "I1").unwrap().0,
            [4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
        );
        assert_eq!(
            histogram(Numbers::Int32, &[-100.0, -5.0], "I1").unwrap().0,
            [-128.0, -64.0, -32.0, -16.0, -8.0, -4.0]
        );
        let (bounds, counts) = histogram(Numbers::Float32, &[0.0, 1.0, 0.5], "I1").unwrap();
        assert_eq!(
            (bounds.len(), counts[0], counts[10], counts[19], counts.iter().sum::<u64>()),
            (21, 1, 1, 1, 3)
        );
        assert_eq!(histogram(Numbers::Float32, &[2.0, 2.0], "I1"), some(&[2.0, 2.0], &[2]));
        assert_eq!(
            histogram(Numbers::Int32, &[0.0; 6], "C1"),
            some(&[0.0, 1.0, 2.0, 3.0], &[1, 2, 3])
        );
        assert_eq!(histogram(Numbers::Int32, &[1.0], "I2"), None);
        assert_eq!(histogram(Numbers::Int32, &[], "I1"), None);
        assert_eq!(histogram(Numbers::Int32, &[1.0], "C1"), None);
    }
}
