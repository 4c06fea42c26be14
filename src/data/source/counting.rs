//! What the columns of the training split hold, and which values of the evaluation split they do not,
//! counted in bounded memory where the rows are read before training.

use super::{
    super::{
        ColumnFacts, ColumnRole,
        cardinality::Cardinality,
        rows::{Layout, Rows},
    },
    hold_out::Side,
};
use std::collections::HashMap;

/// Values that are read for the counts alone: about a second's work. Larger files are counted only
/// where something else has their rows read before training.
const VALUES: u64 = 1 << 24;
/// Different values for evaluation that wait for the rest of the training split; where there are
/// more, how many stay unseen is not known.
const WAITING: usize = 1 << 17;

/// Whether so many `samples` are few enough to be read for the counts alone.
pub(super) fn few(samples: u64, layout: &Layout) -> bool {
    samples.saturating_mul((layout.dense.len() + layout.ids.len()) as u64) <= VALUES
}

/// Which split rows are of.
#[derive(Clone, Copy)]
pub(super) enum Of<'a> {
    Train,
    Eval,
    /// Of the training files, of which these sides are for training and for evaluation.
    Both(&'a [Side; 2]),
}

impl<'a> Of<'a> {
    /// What the files of split number `split` (training, evaluation, test) are; `None` where they
    /// are not counted.
    pub fn split(split: usize, sides: Option<&'a [Side; 2]>) -> Option<Of<'a>> {
        match (split, sides) {
            (0, Some(sides)) => Some(Of::Both(sides)),
            (0, None) => Some(Of::Train),
            // What is held out lies in the training files, and has been counted there.
            (1, None) => Some(Of::Eval),
            _ => None,
        }
    }
}

/// Counts of all columns, dense ones first.
pub(super) struct Counting {
    layout: Layout,
    columns: Vec<Counts>,
    samples: u64,
}

#[derive(Clone)]
struct Counts {
    missing: u64,
    train: Cardinality,
    /// How often a value for evaluation came that training did not hold until then; `None` once
    /// there are too many.
    waiting: Option<HashMap<u64, u64>>,
}

impl Counts {
    fn value(&mut self, value: u64, eval: bool) {
        if !eval {
            self.train.add(value);
            return;
        }
        // Where only an estimate is left, nobody knows.
        let Some(seen) = self.train.has(value) else {
            self.waiting = None;
            return;
        };
        let Some(waiting) = self.waiting.as_mut().filter(|_| !seen) else { return };
        *waiting.entry(value).or_default() += 1;
        if waiting.len() > WAITING {
            self.waiting = None;
        }
    }

    fn unseen(&self) -> Option<u64> {
        self.waiting
            .as_ref()?
            .iter()
            .try_fold(0, |all, (&value, n)| Some(all + if self.train.has(value)? { 0 } else { *n }))
    }
}

impl Counting {
    /// Nothing counted yet of files of `layout`.
    pub fn new(layout: &Layout) -> Self {
        let counts =
            Counts { missing: 0, train: Cardinality::default(), waiting: Some(HashMap::new()) };
        let columns = vec![counts; layout.dense.len() + layout.ids.len()];
        Counting { layout: layout.clone(), columns, samples: 0 }
    }

    /// Takes rows of a split's files, the first of which is sample `first` of them.
    pub fn add(&mut self, rows: &Rows, of: Of<'_>, first: u64) {
        let eval = |i: usize| match of {
            Of::Train => false,
            Of::Eval => true,
            Of::Both([_, held_out]) => held_out.has(first + i as u64),
        };
        let (dense, ids) = self.columns.split_at_mut(self.layout.dense.len());
        for i in 0..rows.len() {
            let eval = eval(i);
            self.samples += u64::from(!eval);
            for (counts, &x) in dense.iter_mut().zip(rows.dense_row(i)).filter(|_| !eval) {
                match x.is_nan() {
                    true => counts.missing += 1,
                    // -0 and 0 are one value.
                    false => counts.train.add((x + 0.0).to_bits()),
                }
            }
            for (counts, bags) in ids.iter_mut().zip(&rows.ids) {
                counts.missing += u64::from(bags.bag(i).is_empty() && !eval);
                bags.bag_keys(i).for_each(|id| counts.value(id, eval));
            }
        }
    }

    /// About how many rows each categorical column's table needs for its different ids, and some for
    /// what an estimate may be wrong by.
    pub fn different_ids(&self) -> Vec<usize> {
        let of = |counts: &Counts| {
            // What is missing is id 0.
            let n = counts.train.count() as usize + usize::from(counts.missing > 0);
            if counts.train.is_exact() { n.max(1) } else { n + n / 16 }
        };
        self.columns[self.layout.dense.len()..].iter().map(of).collect()
    }

    /// What has been counted of the columns, with the `rows` of their tables; nothing but that where
    /// no row was read.
    pub fn facts(&self, rows: &[usize]) -> Vec<ColumnFacts> {
        let layout = &self.layout;
        let names = layout.dense.iter().chain(layout.ids.iter().map(|c| &c.name));
        let facts = |(at, (name, counts)): (usize, (&String, &Counts))| {
            let k = at.checked_sub(layout.dense.len());
            let counted = self.samples > 0;
            ColumnFacts {
                name: name.clone(),
                role: if k.is_some() { ColumnRole::Categorical } else { ColumnRole::Dense },
                distinct: counted.then(|| counts.train.count()),
                estimated: counted && !counts.train.is_exact(),
                missing: counted.then(|| counts.missing as f64 / self.samples as f64),
                rows: k.map(|k| rows[k] as u64),
                unseen: k.filter(|_| counted).and_then(|_| counts.unseen()),
            }
        };
        names.zip(&self.columns).enumerate().map(facts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::{Hotness, Numbers};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn rows(samples: &[(Option<u8>, Vec<u32>)]) -> Rows {
        let mut rows = Rows::new(&layout());
        for (x, ids) in samples {
            rows.labels.push(0.0);
            rows.dense.push(x.map_or(f64::NAN, f64::from));
            rows.ids[0].push(ids.iter().copied());
        }
        rows
    }

    fn layout() -> Layout {
        Layout::numbered(1, Numbers::Int32, [Hotness::Any])
    }

    proptest! {
        /// Against sets of all values, whatever the split and the pieces in which rows come.
        #[test]
        fn counts_are_those_of_sets(
            samples in prop::collection::vec(
                (prop::option::of(0u8..9), prop::collection::vec(0u32..30, 0..3)), 2..80),
            every in 2u32..7,
            held_out: bool,
            cut in 1usize..80,
        ) {
            let sides = Side::of_every(every);
            let is_eval = |i: usize| if held_out { sides[1].has(i as u64) } else { i >= cut };
            let mut counting = Counting::new(&layout());
            for (n, part) in samples.chunks(cut).enumerate() {
                let of = match (held_out, n) {
                    (true, _) => Of::Both(&sides),
                    (false, 0) => Of::Train,
                    (false, _) => Of::Eval,
                };
                counting.add(&rows(part), of, (n * cut) as u64);
            }
            let side = |eval| samples.iter().enumerate().filter(move |(i, _)| is_eval(*i) == eval).map(|(_, s)| s);
            let ids: HashSet<u32> = side(false).flat_map(|(_, ids)| ids.clone()).collect();
            let n = side(false).count();
            prop_assume!(n > 0);
            let share = |missing: usize| Some(missing as f64 / n as f64);
            let facts = counting.facts(&[30]);
            let numbers: HashSet<u8> = side(false).filter_map(|(x, _)| *x).collect();
            prop_assert_eq!((facts[0].distinct, facts[0].unseen), (Some(numbers.len() as u64), None));
            prop_assert_eq!(facts[0].missing, share(side(false).filter(|(x, _)| x.is_none()).count()));
            prop_assert_eq!((facts[1].distinct, facts[1].rows, facts[1].estimated), (Some(ids.len() as u64), Some(30), false));
            prop_assert_eq!(facts[1].missing, share(side(false).filter(|(_, ids)| ids.is_empty()).count()));
            let unseen = side(true).flat_map(|(_, ids)| ids).filter(|id| !ids.contains(id)).count();
            prop_assert_eq!(facts[1].unseen, Some(unseen as u64));
        }
    }

    #[test]
    fn what_is_too_much_is_estimated_or_unknown() {
        let many: Vec<(Option<u8>, Vec<u32>)> = (0..140_000).map(|i| (None, vec![i])).collect();
        let mut counting = Counting::new(&layout());
        assert_eq!(counting.facts(&[1])[1].distinct, None);
        counting.add(&rows(&many), Of::Train, 0);
        counting.add(&rows(&many[..10]), Of::Eval, 0);
        let facts = &counting.facts(&[140_000])[1];
        assert!(facts.estimated && facts.unseen.is_none());
        assert!(facts.distinct.unwrap().abs_diff(140_000) < 7000, "{facts:?}");
        let mut counting = Counting::new(&layout());
        counting.add(&rows(&many[..1]), Of::Train, 0);
        counting.add(&rows(&many), Of::Eval, 0);
        assert_eq!(
            (counting.facts(&[9])[1].distinct, counting.facts(&[9])[1].unseen),
            (Some(1), None)
        );
        assert!(few(1 << 23, &layout()) && !few((1 << 23) + 1, &layout()));
    }
}
