//! Where a series of measurements changes its level.

use super::StatsError;
use statrs::distribution::{ContinuousCDF, FisherSnedecor};
use std::ops::Range;

/// The fewest values on a side of a change.
const FEWEST: usize = 2;
/// Errors of a clock and of rounding, as a share of a value: what is steadier than this is taken for
/// as steady as this.
const LEAST_SPREAD: f64 = 1e-3;

/// Positions, ascending, at which the level of `values` changes: from there on it is another one.
/// With no change anywhere, one is found with a chance of about `alpha` at most.
///
/// The split into two that leaves the least variance is a change if the p of Fisher's F of both sides'
/// means (of logarithms), times the number of splits that were tried (Bonferroni), is below half of
/// `alpha`. If it is none, the same is asked of the best split into three: a level that was left and come
/// back to shows in no split into two. Then each part is split in the same way (binary segmentation:
/// A. J. Scott & M. Knott, "A cluster analysis method for grouping means in the analysis of variance",
/// Biometrics 30, 1974).
///
/// # Errors
/// For values that are not finite and above 0.
///
/// ```
/// use dlrm_bench::stats::changes;
/// let speeds = [100.0, 101.0, 99.0, 100.5, 90.0, 89.5, 90.5, 90.2];
/// assert_eq!(changes(&speeds, 0.01)?, [4]);
/// # Ok::<(), dlrm_bench::stats::StatsError>(())
/// ```
pub fn changes(values: &[f64], alpha: f64) -> Result<Vec<usize>, StatsError> {
    if let Some((at, &value)) =
        values.iter().enumerate().find(|(_, v)| !(v.is_finite() && **v > 0.0))
    {
        return Err(StatsError::NotAbove0 { at, value });
    }
    let sums = Sums::of(values.iter().map(|v| v.ln()));
    let mut found = Vec::new();
    segment(&sums, 0..values.len(), alpha, &mut found);
    found.sort_unstable();
    Ok(found)
}

fn segment(sums: &Sums, all: Range<usize>, alpha: f64, found: &mut Vec<usize>) {
    let Range { start, end } = all;
    let singles = (start + FEWEST..(end + 1).saturating_sub(FEWEST)).map(|at| vec![at]);
    let splits = significant(sums, &all, singles, alpha).or_else(|| {
        let second = |first: usize| {
            (first + FEWEST..(end + 1).saturating_sub(FEWEST)).map(move |at| vec![first, at])
        };
        let pairs = (start + FEWEST..end).flat_map(second);
        significant(sums, &all, pairs, alpha)
    });
    let Some(splits) = splits else { return };
    let ends = splits.iter().copied().chain(std::iter::once(end));
    let mut first = start;
    for next in ends {
        segment(sums, first..next, alpha, found);
        first = next;
    }
    found.extend(splits);
}

/// The best of some ways to split, if the levels of its parts are not one.
fn significant(
    sums: &Sums,
    all: &Range<usize>,
    ways: impl Iterator<Item = Vec<usize>>,
    alpha: f64,
) -> Option<Vec<usize>> {
    let left = |splits: &[usize]| -> f64 {
        let starts = std::iter::once(all.start).chain(splits.iter().copied());
        let ends = splits.iter().copied().chain(std::iter::once(all.end));
        starts.zip(ends).map(|(a, b)| sums.squares(a..b)).sum()
    };
    let (mut tried, mut best) = (0.0, None);
    for splits in ways {
        tried += 1.0;
        let squares = left(&splits);
        if best.as_ref().is_none_or(|(least, _)| squares < *least) {
            best = Some((squares, splits));
        }
    }
    let (squares, splits) = best?;
    let more = splits.len() as f64;
    let freedom = all.len() as f64 - 1.0 - more;
    let variance = (squares / freedom).max(LEAST_SPREAD * LEAST_SPREAD);
    let f = (sums.squares(all.clone()) - squares) / more / variance;
    let p = FisherSnedecor::new(more, freedom).ok()?.sf(f);
    (p * tried < alpha / 2.0).then_some(splits)
}

/// Sums of the first values and of their squares, less their mean.
struct Sums(Vec<(f64, f64)>);

impl Sums {
    fn of(values: impl ExactSizeIterator<Item = f64> + Clone) -> Self {
        let mean = values.clone().sum::<f64>() / values.len().max(1) as f64;
        let mut all = vec![(0.0, 0.0)];
        let (mut sum, mut squares) = (0.0, 0.0);
        for value in values {
            sum += value - mean;
            squares += (value - mean).powi(2);
            all.push((sum, squares));
        }
        Sums(all)
    }

    /// Sum of squares of the differences from the range's own mean.
    fn squares(&self, of: Range<usize>) -> f64 {
        let (a, b) = (self.0[of.start], self.0[of.end]);
        (b.1 - a.1 - (b.0 - a.0).powi(2) / of.len().max(1) as f64).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream};

    /// Normal numbers with a spread of 3%, around a level for each position.
    fn series(seed: u64, n: usize, level: impl Fn(usize) -> f64) -> Vec<f64> {
        let rng = Philox::new(seed, Stream::Order, 0);
        let uniform = |at: u64, half: usize| (f64::from(rng.block(at)[half]) + 0.5) / 2f64.powi(32);
        let normal = |k: usize| {
            let (u, v) = (uniform(k as u64, 0), uniform(k as u64, 1));
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..n).map(|k| level(k) * (1.0 + 0.03 * normal(k))).collect()
    }

    #[test]
    fn without_a_change_few_are_found() {
        for n in [4, 7, 12, 40] {
            let found = (0..400)
                .filter(|&seed| !changes(&series(seed, n, |_| 5e4), 0.01).unwrap().is_empty())
                .count();
            assert!(found <= 10, "{found} of 400 series of {n}");
        }
    }

    #[test]
    fn changes_are_found_where_they_are() {
        let (mut one, mut two) = (0, 0);
        for seed in 0..100 {
            let level = |k: usize| if k < 8 { 5e4 } else { 4.4e4 };
            one += usize::from(changes(&series(seed, 16, level), 0.01).unwrap() == [8]);
            let level = |k: usize| [5e4, 4e4, 5e4][k / 10];
            two += usize::from(changes(&series(seed + 1000, 30, level), 0.01).unwrap() == [10, 20]);
        }
        assert!(one >= 85 && two >= 95, "{one} {two}");
    }

    #[test]
    fn short_and_steady_series_are_no_riddle() {
        assert_eq!(changes(&[], 0.01), Ok(vec![]));
        assert_eq!(changes(&[1.0, 9.0, 9.0], 0.01), Ok(vec![]));
        assert_eq!(changes(&[1.0; 20], 0.01), Ok(vec![]));
        assert_eq!(changes(&[10.0, 10.0, 10.0, 9.0, 9.0, 9.0], 0.01), Ok(vec![3]));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(changes(&[1.0, wrong], 0.01).is_err());
        }
    }
}
