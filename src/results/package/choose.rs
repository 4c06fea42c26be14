//! Which runs of many are submitted.

use super::Packaged;
use crate::{
    results::tree::Ending,
    stats::{self, Score},
};
use std::cmp::Ordering;

/// The order of time; of runs that began in the same second, of their seeds.
pub(super) fn in_time(a: &Packaged, b: &Packaged) -> Ordering {
    let key =
        |p: &Packaged| (p.record.started.clone(), p.record.workload.seed, p.record.run.clone());
    key(a).cmp(&key(b))
}

/// The runs in order of time; if there are more than `wanted`, so many in a row. The rules forbid
/// to pick runs, but allow the window of consecutive runs whose score is the median of all windows'
/// scores.
pub(super) fn runs(mut runs: Vec<Packaged>, wanted: usize) -> Vec<Packaged> {
    runs.sort_by(in_time);
    if runs.len() <= wanted {
        return runs;
    }
    let seconds: Vec<Option<f64>> =
        runs.iter().map(|p| p.run.seconds.filter(|_| p.run.ending == Ending::Converged)).collect();
    let start = window(&seconds, wanted);
    runs.drain(start..start + wanted).collect()
}

/// Where the window of `wanted` runs with the median score starts; of two middle ones the slower,
/// without any score the last.
fn window(seconds: &[Option<f64>], wanted: usize) -> usize {
    let mut scores: Vec<(f64, usize)> = seconds
        .windows(wanted)
        .enumerate()
        .filter_map(|(start, window)| match stats::score(window) {
            Score::Valid(score) => Some((score, start)),
            Score::Invalid { .. } => None,
        })
        .collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    scores.get(scores.len() / 2).map_or(seconds.len() - wanted, |(_, start)| *start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_with_the_median_score_is_taken() {
        let runs = |seconds: &[f64]| seconds.iter().map(|&s| Some(s)).collect::<Vec<_>>();
        // Scores of windows of three are their middle values: 2, 3, 4.
        assert_eq!(window(&runs(&[1.0, 2.0, 3.0, 4.0, 5.0]), 3), 1);
        // 2, 2, 9, 9: the slower of the middle ones.
        assert_eq!(window(&runs(&[1.0, 2.0, 3.0, 9.0, 10.0, 9.0]), 3), 2);
        assert_eq!(window(&[None, None, None, None], 3), 1);
    }
}
