//! Deciding between "slower" and "not slower" while measurements come in, without crying wolf.
//!
//! Looking at the data several times and stopping when they look significant finds differences
//! where there are none. So each look may only spend a part of the allowed chance of error: up to
//! the share t of the budget, `alpha t^2` in all (the power family of K. Kim & D. L. DeMets,
//! "Design and analysis of group sequential tests based on the type I error spending rate
//! function", Biometrika 74, 1987, after K. K. G. Lan & D. L. DeMets, Biometrika 70, 1983). What a
//! look spends is the level of its own test. By the union bound all looks together err with a
//! chance of at most alpha, however they depend on one another; exact joint limits would be a
//! little tighter.

use super::{
    StatsError,
    signed_rank::{fewest, signed_rank},
    student::{self, check_share},
    welch,
};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Shares of the budget after which the data are looked at.
pub const LOOKS: [f64; 4] = [0.3, 0.5, 0.75, 1.0];

/// What counts as slower, and how sure one has to be. Slowdowns are shares of throughput: 0.03 is
/// "3 % fewer samples a second".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Criteria {
    /// A slowdown of this size must not slip through: "no regression" is only said when the
    /// slowdown is surely smaller.
    pub threshold: f64,
    /// Slowdowns up to here are nobody's business: "regression" is only said when the slowdown is
    /// surely greater. Below the threshold or equal.
    pub tolerance: f64,
    /// Chance that each of the two sentences is right when said, over all looks.
    pub confidence: f64,
}

/// What is known after a look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Finding {
    /// Slowdown as estimated; negative = faster.
    pub slowdown: f64,
    /// The slowdown is surely not below this; `None` if nothing is sure.
    pub low: Option<f64>,
    /// The slowdown is surely not above this; `None` if nothing is sure.
    pub high: Option<f64>,
    /// The smallest slowdown that such data would have shown to be a regression, with the
    /// criteria's confidence; `None` if none.
    pub detectable: Option<f64>,
    /// Chance of error that this look could spend on each bound.
    pub alpha: f64,
    /// What follows.
    pub decision: Decision,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Surely slower by more than the tolerance.
    Regression,
    /// Surely not slower by the threshold, and not surely slower by more than the tolerance.
    NoRegression,
    /// Neither is sure.
    Undecided,
}

/// A comparison in the making.
#[derive(Debug, Clone)]
pub struct Sequential {
    criteria: Criteria,
    spent: f64,
}

/// A difference of logarithms of rates, the new over the old, with one-sided bounds.
#[derive(Debug, Clone, Copy)]
struct Difference {
    estimate: f64,
    low: f64,
    high: f64,
}

impl Sequential {
    /// Nothing measured yet.
    ///
    /// # Errors
    /// For a confidence outside (0, 1).
    pub fn new(criteria: Criteria) -> Result<Self, StatsError> {
        check_share(criteria.confidence)?;
        Ok(Sequential { criteria, spent: 0.0 })
    }

    /// Looks at paired measurements after the share `time` of the budget: `ln(new rate / old rate)`
    /// of each block in which a coin decided the order, by signed ranks. `None` if there are too
    /// few blocks for what this look may spend; then it spends nothing.
    ///
    /// # Errors
    /// For values that are not finite.
    pub fn look_paired(
        &mut self,
        log_ratios: &[f64],
        time: f64,
    ) -> Result<Option<Finding>, StatsError> {
        let alpha = self.allowance(time);
        if log_ratios.len() < fewest(alpha) {
            return Ok(None);
        }
        self.spent += alpha;
        let shift = signed_rank(log_ratios, alpha)?;
        let difference = Difference { estimate: shift.estimate, low: shift.low, high: shift.high };
        Ok(Some(self.find(difference, alpha)))
    }

    /// Looks at two independent sets of rates after the share `time` of the budget, by Welch's test
    /// of their logarithms. `None` if there are fewer than 3 rates in either; then it spends
    /// nothing.
    ///
    /// # Errors
    /// For rates that are not above 0.
    pub fn look_unpaired(
        &mut self,
        old: &[f64],
        new: &[f64],
        time: f64,
    ) -> Result<Option<Finding>, StatsError> {
        if old.len().min(new.len()) < 3 {
            return Ok(None);
        }
        let alpha = self.allowance(time);
        self.spent += alpha;
        let logs = |x: &[f64]| x.iter().map(|x| x.ln()).collect::<Vec<_>>();
        let test = welch(&logs(old), &logs(new), 0.5)?;
        let half = student::quantile(test.freedom, 1.0 - alpha)? * test.standard_error;
        let estimate = test.difference.estimate;
        Ok(Some(
            self.find(Difference { estimate, low: estimate - half, high: estimate + half }, alpha),
        ))
    }

    /// What has been saved for a look at `time`.
    fn allowance(&self, time: f64) -> f64 {
        (1.0 - self.criteria.confidence) * time.clamp(0.0, 1.0).powi(2) - self.spent
    }

    fn find(&self, d: Difference, alpha: f64) -> Finding {
        let Criteria { threshold, tolerance, confidence } = self.criteria;
        let slowdown = |log: f64| -log.exp_m1();
        let (low, high) = (slowdown(d.high), slowdown(d.low));
        let decision = match () {
            () if low > tolerance => Decision::Regression,
            () if high < threshold => Decision::NoRegression,
            () => Decision::Undecided,
        };
        // How far the upper bound lies from the estimate, and how far estimates scatter on top of
        // it.
        let z = |p: f64| Normal::standard().inverse_cdf(p);
        let reach = (d.high - d.estimate) * (1.0 + z(confidence) / z(1.0 - alpha));
        let detectable = slowdown((-tolerance).ln_1p() - reach);
        let known = |x: f64| Some(x).filter(|x| x.is_finite());
        Finding {
            slowdown: slowdown(d.estimate),
            low: known(low),
            high: known(high),
            detectable: known(detectable).filter(|d| *d < 1.0),
            alpha,
            decision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        random::philox::{Philox, Stream, unit_f64},
        stats::block_bootstrap::tests::autoregression,
    };

    const DEFAULT: Criteria = Criteria { threshold: 0.03, tolerance: 0.005, confidence: 0.99 };

    /// A machine's noise: rates of slices (log) that drift as an autoregression, with effects of
    /// single processes, a trend, and now and then another program that takes up to a third of the
    /// machine for some slices.
    struct Noise {
        drift: f64,
        process: f64,
        trend: f64,
        bursts: f64,
    }

    const QUIET: Noise = Noise { drift: 0.01, process: 0.01, trend: 0.02, bursts: 0.02 };
    const LOUD: Noise = Noise { drift: 0.05, process: 0.03, trend: 0.10, bursts: 0.10 };

    impl Noise {
        /// Log rates of `n` slices in order of time.
        fn slices(&self, seed: u64, n: usize) -> Vec<f64> {
            let drift = autoregression(3 * seed + 1, n, 0.9);
            let process = autoregression(3 * seed + 2, n, 0.0);
            let uniform = Philox::new(seed, Stream::Bootstrap, 1);
            let mut burst: Option<(f64, usize)> = None;
            (0..n)
                .map(|i| {
                    let [begins, depth] = uniform.block_u64(i as u64).map(unit_f64);
                    burst = burst.filter(|b| b.1 > 0).map(|(d, left)| (d, left - 1));
                    if begins < self.bursts {
                        burst = Some((depth / 3.0, 1 + (10.0 * depth) as usize));
                    }
                    let trend = self.trend * i as f64 / n as f64;
                    self.drift * drift[i]
                        + self.process * process[i]
                        + trend
                        + burst.map_or(0.0, |b| (1.0 - b.0).ln())
                })
                .collect()
        }

        /// A whole comparison of `blocks` blocks of four slices, as the gate makes it.
        fn gate(&self, seed: u64, blocks: usize, slowdown: f64) -> Finding {
            let slices = self.slices(seed, 4 * blocks);
            let coins = Philox::new(seed, Stream::Bootstrap, 2);
            let ratios: Vec<f64> = slices
                .chunks(4)
                .enumerate()
                .map(|(i, s)| {
                    let sign = if coins.block(i as u64)[0].is_multiple_of(2) { 1.0 } else { -1.0 };
                    sign * (s[1] + s[2] - s[0] - s[3]) / 2.0 + (1.0 - slowdown).ln()
                })
                .collect();
            let mut sequential = Sequential::new(DEFAULT).unwrap();
            let mut last = None;
            for time in LOOKS {
                let so_far = (blocks as f64 * time) as usize;
                if let Some(finding) = sequential.look_paired(&ratios[..so_far], time).unwrap() {
                    last = Some(finding);
                    if finding.decision != Decision::Undecided {
                        break;
                    }
                }
            }
            last.expect("the last look has enough blocks")
        }

        fn count(
            &self,
            blocks: usize,
            slowdown: f64,
            runs: u64,
            what: impl Fn(&Finding) -> bool,
        ) -> usize {
            (0..runs).filter(|&seed| what(&self.gate(seed, blocks, slowdown))).count()
        }
    }

    /// The promise: 200 comparisons of a thing with itself, at most 1 % of them called a
    /// regression.
    #[test]
    fn a_a_does_not_cry_wolf() {
        for (noise, blocks) in [(&QUIET, 10), (&QUIET, 30), (&LOUD, 12), (&LOUD, 40)] {
            let wolves = noise.count(blocks, 0.0, 200, |f| f.decision == Decision::Regression);
            assert!(wolves <= 2, "{wolves} of 200 with {blocks} blocks");
        }
        // The tolerance hides part of it: right at the tolerance the chance is still below 1 % (of
        // 2000: 20, and chance).
        let wolves =
            LOUD.count(30, DEFAULT.tolerance, 2000, |f| f.decision == Decision::Regression);
        assert!(wolves <= 30, "{wolves} of 2000");
    }

    #[test]
    fn slowdowns_are_caught_or_called_open() {
        let caught = QUIET.count(30, 0.05, 200, |f| f.decision == Decision::Regression);
        assert!(caught >= 190, "{caught} of 200 at 5 %");
        let settled = QUIET.count(30, 0.0, 200, |f| f.decision == Decision::NoRegression);
        assert!(settled >= 180, "{settled} of 200 without a slowdown");
        for (noise, blocks) in [(&QUIET, 12), (&QUIET, 30), (&QUIET, 60), (&LOUD, 30), (&LOUD, 60)]
        {
            let wrong = noise.count(blocks, 0.02, 200, |f| {
                f.decision == Decision::NoRegression && f.detectable.is_some_and(|d| d < 0.02)
            });
            assert!(
                wrong <= 2,
                "{wrong} of 200 miss 2 % with a detectable effect below, {blocks} blocks"
            );
            // 1 % of 600 are 6; 14 are more than three standard deviations above.
            let missed = noise
                .count(blocks, DEFAULT.threshold, 600, |f| f.decision == Decision::NoRegression);
            assert!(missed <= 14, "{missed} of 600 miss the threshold, {blocks} blocks");
        }
    }

    #[test]
    fn what_is_called_detectable_is_detected() {
        let detectable = QUIET.gate(1, 30, 0.0).detectable.unwrap();
        let mut all: Vec<f64> =
            (0..100).filter_map(|s| QUIET.gate(s, 30, 0.02).detectable).collect();
        all.sort_unstable_by(f64::total_cmp);
        let typical = all[all.len() / 2];
        assert!((typical / 4.0..typical * 4.0).contains(&detectable), "{detectable} {typical}");
        let caught = QUIET.count(30, typical, 200, |f| f.decision == Decision::Regression);
        assert!(caught >= 180, "{caught} of 200 at {typical}");
    }

    #[test]
    fn looks_spend_no_more_than_there_is() {
        let mut sequential = Sequential::new(DEFAULT).unwrap();
        let mut spent = 0.0;
        let ratios: Vec<f64> = (0..40).map(|i| 0.04 * f64::from(i % 2) - 0.05).collect();
        for time in LOOKS {
            // Too few blocks spend nothing, and leave it to the next look.
            let n = if time < 0.4 { 3 } else { 40 };
            spent += sequential.look_paired(&ratios[..n], time).unwrap().map_or(0.0, |f| f.alpha);
        }
        assert!((spent - 0.01).abs() < 1e-12, "{spent}");
        assert!(Sequential::new(Criteria { confidence: 1.0, ..DEFAULT }).is_err());
    }

    #[test]
    fn unpaired_looks_agree_with_welch() {
        let old: Vec<f64> = (0..12).map(|i| 100.0 + f64::from(i % 3)).collect();
        let slower: Vec<f64> = old.iter().map(|x| 0.9 * x).collect();
        let look = |new: &[f64]| {
            Sequential::new(DEFAULT).unwrap().look_unpaired(&old, new, 1.0).unwrap().unwrap()
        };
        let f = look(&slower);
        assert!(f.decision == Decision::Regression && (f.slowdown - 0.1).abs() < 1e-9, "{f:?}");
        assert_eq!(look(&old).decision, Decision::NoRegression);
        assert!(look(&old).low.unwrap() < 0.0);
        assert_eq!(Sequential::new(DEFAULT).unwrap().look_unpaired(&old, &old[..2], 1.0), Ok(None));
    }
}
