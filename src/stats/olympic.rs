//! Means over runs: MLPerf's score, which leaves out the fastest and the slowest, and the plain
//! mean with its interval.

use super::Interval;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Mean of `values` without one smallest and one largest; `None` for fewer than 3.
///
/// ```
/// assert_eq!(dlrm_bench::stats::olympic_mean(&[1.0, 9.0, 5.0, 100.0]), Some(7.0));
/// ```
pub fn olympic_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.as_slice() {
        [_, middle @ .., _] => mean(middle),
        _ => None,
    }
}

/// Mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean of independent, about normal `values` with Student's interval, `mean +- t s / sqrt(n)`, s
/// with n - 1 degrees of freedom; `None` for fewer than 2 values or a confidence outside (0, 1).
pub fn mean_interval(values: &[f64], confidence: f64) -> Option<Interval> {
    let n = values.len() as f64;
    if values.len() < 2 || !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let estimate = mean(values)?;
    let variance = values.iter().map(|x| (x - estimate).powi(2)).sum::<f64>() / (n - 1.0);
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.5 + confidence / 2.0);
    let half = t * (variance / n).sqrt();
    Some(Interval { estimate, low: estimate - half, high: estimate + half, confidence })
}

/// MLPerf's score of a set of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// The mean that counts.
    Valid(f64),
    /// Too many runs missed the target.
    Invalid {
        /// Runs that missed it.
        missed: usize,
        /// All runs.
        runs: usize,
    },
}

/// MLPerf's score: the mean time to target without the fastest and the slowest run. `None` stands
/// for a run that missed the target: one may take the place of the slowest, two invalidate the set
/// (training_policies, training_rules.adoc, "Benchmark results"). With fewer than 3 runs there is
/// nothing to leave out: the score is the plain mean, and none may miss.
///
/// ```
/// use dlrm_bench::stats::{Score, score};
/// assert_eq!(score(&[Some(3.0), None, Some(1.0), Some(2.0)]), Score::Valid(2.5));
/// assert_eq!(score(&[Some(3.0), None, None, Some(2.0)]), Score::Invalid { missed: 2, runs: 4 });
/// ```
pub fn score(times: &[Option<f64>]) -> Score {
    let missed = times.iter().filter(|t| t.is_none()).count();
    let invalid = Score::Invalid { missed, runs: times.len() };
    let all: Vec<f64> = times.iter().map(|t| t.unwrap_or(f64::INFINITY)).collect();
    match (missed, times.len()) {
        (0, 1 | 2) => mean(&all).map_or(invalid, Score::Valid),
        (0 | 1, 3..) => olympic_mean(&all).map_or(invalid, Score::Valid),
        _ => invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_set_has_the_published_mean() {
        // Minutes of NVIDIA's ten runs of round 3.1 on one DGX H100.
        let minutes =
            [3.8773, 3.8551, 3.8772, 3.8637, 3.8712, 3.8816, 3.6175, 3.8513, 3.6249, 3.8684];
        assert!((olympic_mean(&minutes).unwrap() - 3.8361).abs() < 1e-4);
        assert_eq!(olympic_mean(&minutes[..2]), None);
        assert_eq!((mean(&[]), mean(&[2.0, 4.0])), (None, Some(3.0)));
    }

    #[test]
    fn few_runs_have_a_plain_mean_and_none_may_miss() {
        assert_eq!(score(&[Some(4.0)]), Score::Valid(4.0));
        assert_eq!(score(&[Some(4.0), Some(5.0)]), Score::Valid(4.5));
        assert_eq!(score(&[Some(4.0), None]), Score::Invalid { missed: 1, runs: 2 });
        assert_eq!(score(&[Some(4.0), None, Some(6.0)]), Score::Valid(6.0));
        assert_eq!(score(&[]), Score::Invalid { missed: 0, runs: 0 });
    }

    #[test]
    fn intervals_are_student_s() {
        // t(0.975, 4) = 2.776445105, from tables; s of 1..5 is sqrt(2.5).
        let i = mean_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        assert!(
            (i.high - 3.0 - 2.776_445_105 * 0.5f64.sqrt()).abs() < 1e-8
                && (i.low + i.high - 6.0).abs() < 1e-12
        );
        assert!(mean_interval(&[1.0], 0.95).is_none() && mean_interval(&[1.0, 2.0], 1.0).is_none());
    }

    proptest! {
        #[test]
        fn outliers_do_not_move_it(values in prop::collection::vec(-1e3f64..1e3, 3..20), shift in 0.0f64..1e6) {
            let plain = olympic_mean(&values).unwrap();
            let total: f64 = values.iter().sum();
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
            prop_assert!((plain - (total - low - high) / (values.len() - 2) as f64).abs() < 1e-9);
            prop_assert!(low - 1e-9 <= plain && plain <= high + 1e-9);
            let mut moved = values.clone();
            let top = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
            moved[top] += shift;
            prop_assert!((olympic_mean(&moved).unwrap() - plain).abs() < 1e-9);
        }

        #[test]
        fn a_run_that_missed_is_the_slowest(values in prop::collection::vec(1.0f64..1e3, 2..12)) {
            let mut with_miss: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
            with_miss.push(None);
            let mut with_slow = values.clone();
            with_slow.push(1e9);
            prop_assert_eq!(score(&with_miss), Score::Valid(olympic_mean(&with_slow).unwrap()));
        }
    }
}
