//! Which samples of training files are picked for evaluation (`data.eval_share`): a share of them by
//! a hash of each row, or with `data.split_by` the last ones by a column.

use crate::data::{dates, preprocess::fields, rows::Rows};

/// Marks of samples, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: u64,
}

impl Bits {
    /// Appends a mark.
    pub fn push(&mut self, mark: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(last) = self.words.last_mut() {
            *last |= u64::from(mark) << (self.len % 64);
        }
        self.len += 1;
    }
}

/// The samples that were picked, by their numbers in the files.
#[derive(Debug)]
pub(super) struct Picked {
    bits: Bits,
    /// Marks before each word, and all of them.
    before: Vec<u64>,
    /// The key that picked them, as a message names it, and how, in words.
    key: String,
    told: String,
}

impl Picked {
    /// Those that `bits` mark, picked by `key`; `told` says how.
    pub fn new(bits: Bits, key: String, told: String) -> Self {
        let mut before = vec![0];
        for word in &bits.words {
            before.push(before[before.len() - 1] + u64::from(word.count_ones()));
        }
        Picked { bits, before, key, told }
    }

    /// Whether sample `at` is one.
    pub fn has(&self, at: u64) -> bool {
        self.bits.words.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.before[self.before.len() - 1]
    }

    /// The key that picked them.
    pub fn key(&self) -> String {
        self.key.clone()
    }

    /// How they were picked.
    pub fn told(&self) -> String {
        self.told.clone()
    }

    /// The number of the one before which `at` of those that were picked lie, or of the others.
    pub fn place(&self, at: u64, picked: bool) -> u64 {
        let before = |i: usize| match picked {
            true => self.before[i],
            false => 64 * i as u64 - self.before[i],
        };
        let (mut low, mut high) = (0, self.bits.words.len());
        // The last word before which at most `at` lie.
        while low + 1 < high {
            let middle = low.midpoint(high);
            if before(middle) <= at { low = middle } else { high = middle }
        }
        let mut word = match (self.bits.words.get(low), picked) {
            (Some(&word), true) => word,
            (Some(&word), false) => !word,
            (None, _) => 0,
        };
        for _ in before(low)..at {
            word &= word.wrapping_sub(1);
        }
        64 * low as u64 + u64::from(word.trailing_zeros())
    }
}

/// What orders samples: a number, or a moment in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key {
    Number(f64),
    Moment(i64),
}

impl Key {
    /// The key that a field of text is: a date if it looks like one, else a number.
    pub fn of(field: &[u8]) -> Option<Key> {
        match fields::number(field) {
            Some(x) => Some(Key::Number(x)),
            None => dates::parse(field).map(Key::Moment),
        }
    }
}

/// Picks samples while they are read.
pub(super) enum Picking {
    /// By hashes below this.
    Share { share: f64, bits: Bits },
    /// By a column, of which all values have to be known first.
    Last { share: f64, column: String, keys: Vec<f64>, moments: Option<bool> },
}

impl Picking {
    /// A `share` of the samples, by hashes, or the last ones by a column.
    pub fn new(share: f64, by: Option<&String>) -> Self {
        match by {
            None => Picking::Share { share, bits: Bits::default() },
            Some(column) => {
                Picking::Last { share, column: column.clone(), keys: Vec::new(), moments: None }
            }
        }
    }

    /// Takes the next sample by the hash of its row.
    pub fn hashed(&mut self, hash: u64) {
        if let Picking::Share { share, bits } = self {
            // The bits of a fingerprint are not all as good as one another.
            let spread = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits.push(((spread >> 11) as f64) < *share * (1u64 << 53) as f64);
        }
    }

    /// Takes the next sample by its value of the column.
    ///
    /// # Errors
    /// If it is not of the kind of those before.
    pub fn ordered(&mut self, key: Option<Key>) -> Result<(), String> {
        let Picking::Last { column, keys, moments, .. } = self else { return Ok(()) };
        let (key, moment) = match key {
            Some(Key::Number(x)) => (x, false),
            Some(Key::Moment(seconds)) => (seconds as f64, true),
            None => {
                return Err(format!(
                    "column \"{column}\" (data.split_by) is missing or neither a number nor a date; must be {}, in all rows",
                    dates::FORMS
                ));
            }
        };
        if *moments.get_or_insert(moment) != moment {
            return Err(format!(
                "column \"{column}\" (data.split_by) holds a number in one row and a date in another; must be of one kind in all rows"
            ));
        }
        keys.push(key);
        Ok(())
    }

    /// What was picked.
    pub fn finish(self) -> Picked {
        match self {
            Picking::Share { share, bits } => Picked::new(
                bits,
                format!("data.eval_share = {share}"),
                format!(
                    "a share of {share} of the rows is held out for evaluation, by hashes of the rows (data.eval_share)"
                ),
            ),
            Picking::Last { share, column, keys, moments } => {
                let from = cut(&keys, share);
                let mut bits = Bits::default();
                keys.iter().for_each(|&key| bits.push(from.is_some_and(|from| key >= from)));
                let value = match (from, moments) {
                    (Some(seconds), Some(true)) => dates::shown(seconds as i64),
                    (Some(number), _) => number.to_string(),
                    (None, _) => "nowhere".to_owned(),
                };
                let told = format!(
                    "rows whose {column} is {value} or later are held out for evaluation (data.split_by, data.eval_share = {share})"
                );
                Picked::new(bits, format!("data.split_by = \"{column}\""), told)
            }
        }
    }
}

/// A number that is the same for rows of the same values, and hardly for others.
pub(super) fn hash(rows: &Rows, i: usize) -> u64 {
    let mix = |hash: u64, x: u64| {
        let hash = (hash ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ hash >> 29
    };
    // -0 and 0 are one value, and nothing is one.
    let number = |x: f64| if x.is_nan() { u64::MAX } else { (x + 0.0).to_bits() };
    let numbers = [f64::from(rows.labels[i])].into_iter().chain(rows.dense_row(i).iter().copied());
    let hash = numbers.fold(0x51_7c_c1_b7_27_22_0a_95, |hash, x| mix(hash, number(x)));
    rows.ids
        .iter()
        .fold(hash, |hash, bags| bags.bag_keys(i).fold(mix(hash, bags.bag(i).len() as u64), mix))
}

/// The value from which on about `share` of the samples lie: rows of one value stay together.
/// `None` if all have one.
fn cut(keys: &[f64], share: f64) -> Option<f64> {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    if first == last {
        return None;
    }
    let n = sorted.len();
    let wanted = n - ((n as f64 * share).round() as usize).clamp(1, n - 1);
    let value = sorted[wanted];
    // The cut before the value's rows, or behind them, whichever is nearer.
    let (low, high) =
        (sorted.partition_point(|&x| x < value), sorted.partition_point(|&x| x <= value));
    let behind = low == 0 || (high < n && high - wanted < wanted - low);
    Some(if behind { sorted[high] } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn about_a_share_is_picked_and_the_same_rows_in_any_order() {
        let picked = |rows: &mut dyn Iterator<Item = u64>| {
            let mut picking = Picking::new(0.2, None);
            rows.for_each(|row| picking.hashed(farmhash::fingerprint64(&row.to_le_bytes())));
            picking.finish()
        };
        let (forth, back) = (picked(&mut (0..20_000)), picked(&mut (0..20_000).rev()));
        // Five deviations of a binomial of 20,000 and 0.2 are 283.
        assert!(forth.count().abs_diff(4000) < 283, "{}", forth.count());
        assert!((0..20_000).all(|i| forth.has(i) == back.has(19_999 - i)));
    }

    proptest! {
        #[test]
        fn the_last_ones_are_picked_and_equal_ones_stay_together(
            keys in prop::collection::vec(0u32..40, 1..300),
            share in 0.01f64..0.99,
        ) {
            let mut picking = Picking::new(share, Some(&"day".to_owned()));
            for &key in &keys {
                picking.ordered(Some(Key::Number(key.into()))).unwrap();
            }
            let picked = picking.finish();
            let n = keys.len();
            let held: Vec<u32> = (0..n).filter(|&i| picked.has(i as u64)).map(|i| keys[i]).collect();
            let kept: Vec<u32> = (0..n).filter(|&i| !picked.has(i as u64)).map(|i| keys[i]).collect();
            let one = keys.iter().all(|&k| k == keys[0]);
            prop_assert_eq!(held.is_empty(), one);
            prop_assert!(!kept.is_empty());
            if let (Some(most), Some(least)) = (kept.iter().max(), held.iter().min()) {
                prop_assert!(most < least);
                // No other cut is nearer to the share than the rows of one value.
                let most_alike = (0..40).map(|k| keys.iter().filter(|&&x| x == k).count()).max().unwrap();
                let off = (held.len() as f64 - share * n as f64).abs();
                prop_assert!(off <= most_alike as f64 + 1.0, "{off}");
            }
        }
    }

    #[test]
    fn keys_are_of_one_kind() {
        let mut picking = Picking::new(0.5, Some(&"t".to_owned()));
        picking.ordered(Key::of(b"2024-01-31 10:00")).unwrap();
        assert!(picking.ordered(Key::of(b"7")).unwrap_err().contains("of one kind"));
        assert!(
            picking.ordered(Key::of(b"x")).unwrap_err().contains("neither a number nor a date")
        );
        picking.ordered(Key::of(b"2024-02-01")).unwrap();
        let told = picking.finish().told();
        assert!(told.starts_with("rows whose t is 2024-02-01 or later are held out"), "{told}");
    }
}
