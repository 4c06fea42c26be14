//! Whether runs converge like a reference: MLPerf's test of reference convergence points (RCP), and
//! the other side of it.
//!
//! A reference point is the epochs that many runs of the reference took at one batch size. With m
//! their mean without fastest and slowest and s the standard deviation of all of them (divided by
//! n), the mean of a submission is accepted from `m - t s sqrt(1/n + 1/k)` on, t the 0.95 quantile
//! of Student's distribution with n + k - 2 degrees of freedom, n the reference's runs without two,
//! k the submission's without two. MLPerf's rcp_checker (mlcommons/logging, `rcp_checker.py`) finds
//! the same limit by bisection to 1e-4. It lets any slow convergence pass; we judge slowness too,
//! by the mirrored limit `m + t s sqrt(1/n + 1/k)`.

use super::{Score, mean, olympic_mean, score};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Chance to call a submission too fast (or too slow) that converges like the reference.
const ALPHA: f64 = 0.05;

/// Epochs to target of the reference's runs at one batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferencePoint {
    /// Samples a step.
    pub batch_size: u64,
    /// Epochs to target of each run, in any order.
    pub epochs: Vec<f64>,
}

/// The reference points of a benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// By batch size; without those that MLPerf prunes.
    kept: Vec<Point>,
    /// Runs of a submission.
    runs: usize,
}

/// Mean and spread at one batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    batch_size: u64,
    mean: f64,
    stdev: f64,
    /// Runs that count.
    runs: usize,
}

/// What a submission's mean is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accepted {
    /// Mean epochs of the reference.
    pub mean: f64,
    /// Standard deviation of single runs.
    pub stdev: f64,
    /// The least mean that is accepted.
    pub fastest: f64,
    /// The greatest mean that is like the reference's.
    pub slowest: f64,
    /// Where the reference comes from.
    pub from: Origin,
}

/// Where the reference for a batch size comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A point at this batch size.
    Point,
    /// Between the points at these batch sizes, linearly.
    Between(u64, u64),
    /// Below all points: the one at this, the smallest batch size. Only slower convergence than
    /// there tells nothing.
    Smallest(u64),
}

/// How a submission converges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Convergence {
    /// Faster than the reference by more than chance; MLPerf rejects it.
    TooFast(Judged),
    /// Like the reference.
    Like(Judged),
    /// Slower than the reference by more than chance; MLPerf lets it pass.
    TooSlow(Judged),
    /// More runs missed the target than are allowed.
    NotConverged {
        /// Runs that missed it.
        missed: usize,
        /// All runs.
        runs: usize,
    },
}

/// A submission's mean beside its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Mean epochs of the submission without fastest and slowest.
    pub mean: f64,
    /// What it was held against.
    pub accepted: Accepted,
    /// What MLPerf multiplies the score with: reference's mean over the submission's, at least 1.
    pub scaling: f64,
}

/// Why a submission cannot be judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RcpError {
    /// No reference.
    #[error("there is no reference point")]
    None,
    /// Not enough runs in a point.
    #[error("the reference point at batch size {batch_size} has {runs} runs; it needs at least 3")]
    TooFewRuns {
        /// Of the point.
        batch_size: u64,
        /// In the point.
        runs: usize,
    },
    /// A number of epochs that cannot be.
    #[error(
        "the reference point at batch size {batch_size} has a run of {epochs} epochs; epochs must be above 0"
    )]
    NotPositive {
        /// Of the point.
        batch_size: u64,
        /// The number.
        epochs: f64,
    },
    /// Two points at one batch size.
    #[error("there are two reference points at batch size {0}")]
    Twice(u64),
    /// Not enough runs to leave out two.
    #[error(
        "{0} runs of a submission; the fastest and the slowest do not count, so 3 is the least"
    )]
    Submission(usize),
    /// A batch size above all points.
    #[error(
        "batch size {batch_size} is above that of every reference point, {largest} at most: a point at {batch_size} is missing"
    )]
    Above {
        /// The submission's.
        batch_size: u64,
        /// Of the points that are not pruned.
        largest: u64,
    },
}

impl Reference {
    /// The reference made of `points`, for submissions of `runs` runs. As MLPerf does, drops points
    /// with a smaller batch size than the fastest one, and then points that converge slower than
    /// their neighbours let expect.
    ///
    /// # Errors
    /// If there is no point, two have one batch size, or one has fewer than 3 runs or epochs that
    /// are not above 0; or if `runs` < 3.
    pub fn new(points: &[ReferencePoint], runs: usize) -> Result<Self, RcpError> {
        if runs < 3 {
            return Err(RcpError::Submission(runs));
        }
        let mut all = points.iter().map(Point::of).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|p| p.batch_size);
        if let Some(pair) = all.windows(2).find(|w| w[0].batch_size == w[1].batch_size) {
            return Err(RcpError::Twice(pair[0].batch_size));
        }
        let fastest =
            all.iter().min_by(|a, b| a.mean.total_cmp(&b.mean)).ok_or(RcpError::None)?.batch_size;
        all.retain(|p| p.batch_size >= fastest);
        let mut i = 1;
        while i + 1 < all.len() {
            // After a removal the next point is judged by the new neighbours, but no earlier one
            // again (mlcommons/logging issue 368).
            let (mean, _) = between(&all[i - 1], &all[i + 1], all[i].batch_size);
            if all[i].mean > mean {
                all.remove(i);
            } else {
                i += 1;
            }
        }
        Ok(Reference { kept: all, runs })
    }

    /// Batch sizes of the points that are not pruned, ascending.
    pub fn batch_sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.kept.iter().map(|p| p.batch_size)
    }

    /// What a submission with `batch_size` is held against.
    ///
    /// # Errors
    /// If the batch size is above that of all points.
    pub fn at(&self, batch_size: u64) -> Result<Accepted, RcpError> {
        // `kept` is never empty.
        let largest = self.kept[self.kept.len() - 1].batch_size;
        let above = self.kept.partition_point(|p| p.batch_size < batch_size);
        let Some(next) = self.kept.get(above) else {
            return Err(RcpError::Above { batch_size, largest });
        };
        let (mean, stdev, counted, from) = if next.batch_size == batch_size {
            (next.mean, next.stdev, next.runs, Origin::Point)
        } else if above == 0 {
            (next.mean, next.stdev, next.runs, Origin::Smallest(next.batch_size))
        } else {
            let low = &self.kept[above - 1];
            let (mean, stdev) = between(low, next, batch_size);
            // MLPerf asks for twice as many runs of the reference as of a submission.
            (mean, stdev, 2 * self.runs, Origin::Between(low.batch_size, next.batch_size))
        };
        let margin = margin(stdev, counted, self.runs - 2);
        Ok(Accepted { mean, stdev, fastest: mean - margin, slowest: mean + margin, from })
    }

    /// Judges the epochs to target of a submission's runs, `None` for one that missed the target.
    /// One such run may take the place of the slowest. Limits are those for the number of runs
    /// given to [`Reference::new`], whatever the number of runs here: as MLPerf has it.
    ///
    /// # Errors
    /// As [`Reference::at`], and for fewer than 3 runs.
    pub fn judge(&self, batch_size: u64, epochs: &[Option<f64>]) -> Result<Convergence, RcpError> {
        if epochs.len() < 3 {
            return Err(RcpError::Submission(epochs.len()));
        }
        let mean = match score(epochs) {
            Score::Valid(mean) => mean,
            Score::Invalid { missed, runs } => {
                return Ok(Convergence::NotConverged { missed, runs });
            }
        };
        let accepted = self.at(batch_size)?;
        let judged = Judged { mean, accepted, scaling: (accepted.mean / mean).max(1.0) };
        // A smaller batch needs fewer epochs, so below all points only "too fast" means anything by
        // itself.
        let smallest = matches!(accepted.from, Origin::Smallest(_));
        Ok(match mean {
            m if m < accepted.fastest => Convergence::TooFast(judged),
            m if m > accepted.slowest && !smallest => Convergence::TooSlow(judged),
            _ => Convergence::Like(judged),
        })
    }
}

/// `t s sqrt(1/n + 1/k)`: how far the mean of `submission` runs may lie from the mean of
/// `reference` runs, both taken from runs of standard deviation `stdev`, one-sided at 5 %. With
/// `submission` = 1 it is the margin of a single run. 0 where both are single runs, which tells
/// nothing.
pub fn margin(stdev: f64, reference: usize, submission: usize) -> f64 {
    let (n, k) = (reference as f64, submission as f64);
    let t = StudentsT::new(0.0, 1.0, n + k - 2.0).map_or(0.0, |t| t.inverse_cdf(1.0 - ALPHA));
    t * stdev * (1.0 / n + 1.0 / k).sqrt()
}

impl Point {
    fn of(point: &ReferencePoint) -> Result<Self, RcpError> {
        let ReferencePoint { batch_size, epochs } = point;
        let batch_size = *batch_size;
        if let Some(&epochs) = epochs.iter().find(|e| !(**e > 0.0 && e.is_finite())) {
            return Err(RcpError::NotPositive { batch_size, epochs });
        }
        let too_few = RcpError::TooFewRuns { batch_size, runs: epochs.len() };
        let (Some(olympic), Some(all)) = (olympic_mean(epochs), mean(epochs)) else {
            return Err(too_few);
        };
        let variance = epochs.iter().map(|e| (e - all).powi(2)).sum::<f64>() / epochs.len() as f64;
        Ok(Point { batch_size, mean: olympic, stdev: variance.sqrt(), runs: epochs.len() - 2 })
    }
}

/// Mean and standard deviation on the line between two points.
fn between(low: &Point, high: &Point, batch_size: u64) -> (f64, f64) {
    let share = (batch_size - low.batch_size) as f64 / (high.batch_size - low.batch_size) as f64;
    (low.mean + share * (high.mean - low.mean), low.stdev + share * (high.stdev - low.stdev))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(batch_size: u64, counts: &[(usize, f64)]) -> ReferencePoint {
        ReferencePoint {
            batch_size,
            epochs: counts.iter().flat_map(|&(n, e)| vec![e; n]).collect(),
        }
    }

    /// Epochs to converge, as counts, of mlperf-logging 4.1.68,
    /// rcp_checker/training_6.0.0/rcps_dlrm_dcnv2.json.
    fn dcnv2() -> Vec<ReferencePoint> {
        vec![
            point(32768, &[(1, 0.65), (24, 0.7), (5, 0.75)]),
            point(55296, &[(10, 0.7), (25, 0.75), (11, 0.8), (4, 0.9)]),
            point(65536, &[(2, 0.7), (12, 0.75), (8, 0.8), (4, 0.85), (3, 0.9), (1, 0.95)]),
            point(102400, &[(3, 0.8), (10, 0.85), (31, 0.9), (6, 0.95)]),
            point(135168, &[(5, 0.85), (35, 0.9), (42, 0.95), (6, 1.0)]),
            point(160000, &[(4, 0.9), (9, 0.95), (7, 1.0)]),
        ]
    }

    #[test]
    fn limits_are_those_of_mlperfs_checker() {
        let reference = Reference::new(&dcnv2(), 10).unwrap();
        assert_eq!(reference.batch_sizes().collect::<Vec<_>>(), [32768, 55296, 160000]);
        // Mean and least accepted mean, printed by `rcp_checker --verbose` of the same package.
        let expected = [
            (32768, 0.70714, 0.69268, Origin::Point),
            (55296, 0.76146, 0.72832, Origin::Point),
            (160000, 0.95833, 0.93192, Origin::Point),
            (65536, 0.78071, 0.74483, Origin::Between(55296, 160000)),
        ];
        for (batch_size, mean, fastest, from) in expected {
            let a = reference.at(batch_size).unwrap();
            assert!(
                (a.mean - mean).abs() < 1e-4 && (a.fastest - fastest).abs() < 1e-4,
                "{batch_size}: {a:?}"
            );
            assert_eq!(a.from, from);
        }
        assert_eq!(reference.at(16384).unwrap().from, Origin::Smallest(32768));
        let error = reference.at(160001).unwrap_err();
        assert_eq!(error, RcpError::Above { batch_size: 160001, largest: 160000 });
        assert!(error.to_string().ends_with("a point at 160001 is missing"));
    }

    #[test]
    fn too_fast_like_and_too_slow() {
        let reference = Reference::new(&dcnv2(), 10).unwrap();
        let judge = |batch, epochs: f64| reference.judge(batch, &[Some(epochs); 10]).unwrap();
        assert!(matches!(judge(55296, 0.728), Convergence::TooFast(_)));
        assert!(
            matches!(judge(55296, 0.729), Convergence::Like(j) if (j.scaling - 0.76146 / 0.729).abs() < 1e-4)
        );
        assert!(matches!(judge(55296, 0.79), Convergence::Like(j) if j.scaling == 1.0));
        assert!(matches!(judge(55296, 0.80), Convergence::TooSlow(_)));
        // Below all points a slow run tells nothing.
        assert!(matches!(judge(16384, 2.0), Convergence::Like(_)));
        assert!(matches!(judge(16384, 0.69), Convergence::TooFast(_)));
        let mut epochs = vec![Some(0.75); 9];
        epochs.push(None);
        assert!(matches!(reference.judge(55296, &epochs).unwrap(), Convergence::Like(_)));
        epochs.push(None);
        assert_eq!(
            reference.judge(55296, &epochs).unwrap(),
            Convergence::NotConverged { missed: 2, runs: 11 }
        );
        assert_eq!(reference.judge(55296, &[Some(1.0); 2]), Err(RcpError::Submission(2)));
    }

    #[test]
    fn points_without_spread_accept_their_mean_only() {
        let reference = Reference::new(&[point(10, &[(10, 0.5)])], 5).unwrap();
        let a = reference.at(10).unwrap();
        assert_eq!((a.fastest, a.slowest, a.stdev), (0.5, 0.5, 0.0));
    }

    #[test]
    fn what_is_no_reference_is_named() {
        let message =
            |points: &[ReferencePoint]| Reference::new(points, 10).unwrap_err().to_string();
        assert_eq!(message(&[]), "there is no reference point");
        assert!(
            message(&[point(8, &[(2, 0.5)])])
                .starts_with("the reference point at batch size 8 has 2 runs")
        );
        assert!(message(&[point(8, &[(2, 0.5), (1, f64::NAN)])]).contains("a run of NaN epochs"));
        assert!(
            message(&[point(8, &[(3, 0.5)]), point(8, &[(3, 0.6)])])
                .ends_with("two reference points at batch size 8")
        );
        assert_eq!(Reference::new(&dcnv2(), 2), Err(RcpError::Submission(2)));
    }

    proptest! {
        /// A kept point never lies above the line through its kept neighbours at the time of its
        /// judgement: between the ends of a convex set of points all are kept, and of any set the
        /// first kept is the fastest.
        #[test]
        fn pruning_keeps_convex_references(start in 0.2f64..1.0, slopes in prop::collection::vec(0.0f64..0.1, 1..6)) {
            let mut slopes = slopes;
            slopes.sort_unstable_by(f64::total_cmp);
            let mut at = start;
            let mut points = vec![point(100, &[(5, start)])];
            for (i, slope) in slopes.iter().enumerate() {
                at += slope + 1e-6 * (i + 1) as f64;
                points.push(point(100 * (i as u64 + 2), &[(5, at)]));
            }
            let reference = Reference::new(&points, 5).unwrap();
            prop_assert_eq!(reference.batch_sizes().count(), points.len());
            let slower = point(50, &[(5, start + 0.1)]);
            points.insert(0, slower);
            prop_assert_eq!(Reference::new(&points, 5).unwrap(), reference);
        }

        #[test]
        fn limits_lie_evenly_and_narrow_with_runs(stdev in 0.001f64..1.0, n in 3usize..50, k in 1usize..50) {
            let wide = margin(stdev, n, k);
            prop_assert!(wide > 0.0 && margin(stdev, n + 1, k) < wide && margin(stdev, n, k + 1) < wide);
            prop_assert!((margin(2.0 * stdev, n, k) - 2.0 * wide).abs() < 1e-9);
        }
    }
}
