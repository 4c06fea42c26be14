//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// A schedule that makes no sense. Messages name the key of the `[schedule]` section at fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("schedule.{key}: {what}")]
pub struct ScheduleError {
    /// The key.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// A schedule as a workload file states it. Formulas: `s` is the 1-based number of the update.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleSpec {
    /// The base rate throughout.
    Constant,
    /// facebookresearch/dlrm, dlrm_s_pytorch.py, `LRPolicyScheduler(W, S, D)`: `s < W`: `base * s /
    /// W`; `S <= s < S + D`: `max(1e-7, base * ((D - (s - S)) / D)^2)`; otherwise the base rate,
    /// after the decay the last rate.
    FacebookPolicy {
        /// W.
        warmup_steps: u64,
        /// S, at least W.
        decay_start_step: u64,
        /// D.
        decay_steps: u64,
        /// Reproduce the original's plateau with D > 0: the last warm-up rate `base * (W - 1) / W`
        /// instead of `base` between warm-up and decay (quirk `fb.lr-plateau`).
        plateau_quirk: bool,
    },
    /// OneFlow DLRM, NVIDIA: linear warm-up from 0 over `warmup_steps` (0-based: the first rate is
    /// exactly 0), base rate until `decay_start_step`, then `(base - end) * (1 - k /
    /// decay_steps)^power + end`.
    WarmupPolynomial {
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// First step (0-based) of the decay.
        decay_start_step: u64,
        /// Steps of the decay.
        decay_steps: u64,
        /// Exponent, 2 in MLPerf.
        power: f64,
        /// Rate at the end.
        end_rate: f64,
    },
    /// Times `gamma` at each milestone (in steps).
    MultiStep {
        /// Steps after which the rate falls.
        milestones: Vec<u64>,
        /// Factor.
        gamma: f64,
        /// Never below this.
        min_rate: f64,
    },
    /// Times `factor` after `patience` evaluations without improvement of the monitored metric by
    /// `min_delta`.
    ReduceOnPlateau {
        /// Factor.
        factor: f64,
        /// Evaluations without improvement before the rate falls (FuxiCTR: 1, that is at each).
        patience: u32,
        /// What counts as improvement.
        min_delta: f64,
        /// Never below this.
        min_rate: f64,
    },
}

/// The floor of facebook's decay (`min_lr` in dlrm_s_pytorch.py, `LRPolicyScheduler`).
const FACEBOOK_MIN_RATE: f64 = 1e-7;

/// A schedule in use.
///
/// ```
/// use dlrm_bench::optim::schedule::{Schedule, ScheduleSpec};
/// let spec = ScheduleSpec::MultiStep { milestones: vec![100], gamma: 0.1, min_rate: 1e-6 };
/// let schedule = Schedule::new(&spec, 0.5)?;
/// assert_eq!((schedule.rate(100), schedule.rate(101)), (0.5, 0.05));
/// # Ok::<(), dlrm_bench::optim::schedule::ScheduleError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    spec: ScheduleSpec,
    base: f64,
    plateau: ScheduleState,
}

/// What a schedule remembers: only `ReduceOnPlateau` does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The present rate.
    rate: f64,
    /// The best of the monitored metric; `None` before the first evaluation.
    best: Option<f64>,
    /// Evaluations since the last improvement or fall.
    waited: u32,
}

impl Schedule {
    /// A schedule at its start, around the base rate `base`.
    ///
    /// # Errors
    /// If the rates or counts contradict each other.
    pub fn new(spec: &ScheduleSpec, base: f64) -> Result<Self, ScheduleError> {
        if !(base.is_finite() && base >= 0.0) {
            return Err(error(
                "base",
                format!("the base rate is {base}; it must be a number that is not negative"),
            ));
        }
        check(spec, base)?;
        let plateau = ScheduleState { rate: base, best: None, waited: 0 };
        Ok(Schedule { spec: spec.clone(), base, plateau })
    }

    /// Rate of update `step`, counted from 1.
    pub fn rate(&self, step: u64) -> f64 {
        let base = self.base;
        match self.spec {
            ScheduleSpec::Constant => base,
            ScheduleSpec::FacebookPolicy {
                warmup_steps,
                decay_start_step,
                decay_steps,
                plateau_quirk,
            } => facebook(base, step, warmup_steps, decay_start_step, decay_steps, plateau_quirk),
            ScheduleSpec::WarmupPolynomial {
                warmup_steps,
                decay_start_step,
                decay_steps,
                power,
                end_rate,
            } => {
                let k = step.saturating_sub(1);
                if decay_steps > 0 && k >= decay_start_step {
                    let left =
                        1.0 - (k - decay_start_step).min(decay_steps) as f64 / decay_steps as f64;
                    (base - end_rate) * left.powf(power) + end_rate
                } else if k < warmup_steps {
                    base * (k as f64 / warmup_steps as f64)
                } else {
                    base
                }
            }
            ScheduleSpec::MultiStep { ref milestones, gamma, min_rate } => {
                let falls = milestones.partition_point(|&m| m < step);
                (0..falls).fold(base, |rate, _| rate * gamma).max(min_rate)
            }
            ScheduleSpec::ReduceOnPlateau { .. } => self.plateau.rate,
        }
    }

    /// What [`Schedule::go_on`] takes.
    pub fn state(&self) -> ScheduleState {
        self.plateau
    }

    /// Goes on where another one was.
    pub fn go_on(&mut self, from: ScheduleState) {
        self.plateau = from;
    }

    /// Tells the schedule the monitored metric of an evaluation (more is better). Only
    /// `ReduceOnPlateau` listens; an improvement is a value of at least `best + min_delta`, as in
    /// FuxiCTR, and NaN is none.
    pub fn on_eval(&mut self, monitored: f64) {
        let ScheduleSpec::ReduceOnPlateau { factor, patience, min_delta, min_rate } = self.spec
        else {
            return;
        };
        let p = &mut self.plateau;
        if monitored >= p.best.unwrap_or(f64::NEG_INFINITY) + min_delta {
            (p.best, p.waited) = (Some(monitored), 0);
            return;
        }
        p.waited += 1;
        if p.waited >= patience {
            (p.rate, p.waited) = ((p.rate * factor).max(min_rate), 0);
        }
    }
}

/// `W`, `S`, `D` of facebook's `LRPolicyScheduler`; `s` counts from 1.
fn facebook(base: f64, s: u64, warmup: u64, start: u64, decay: u64, plateau_quirk: bool) -> f64 {
    if s < warmup {
        base * (s as f64 / warmup as f64)
    } else if decay == 0 {
        base
    } else if s >= start {
        // After the decay the last rate stays.
        let done = (s - start).min(decay - 1);
        (base * ((decay - done) as f64 / decay as f64).powi(2)).max(FACEBOOK_MIN_RATE)
    } else if plateau_quirk {
        base * ((warmup - 1) as f64 / warmup as f64)
    } else {
        base
    }
}

fn error(key: &'static str, what: String) -> ScheduleError {
    ScheduleError { key, what }
}

fn check(spec: &ScheduleSpec, base: f64) -> Result<(), ScheduleError> {
    match *spec {
        ScheduleSpec::Constant => Ok(()),
        ScheduleSpec::FacebookPolicy {
            warmup_steps,
            decay_start_step,
            decay_steps,
            plateau_quirk,
        } => {
            warmup_ends_first(warmup_steps, decay_start_step)?;
            if plateau_quirk && decay_steps > 0 && warmup_steps < 2 && decay_start_step > 1 {
                let what = "the quirk fb.lr-plateau repeats the last rate of the warm-up, and there is none: the original stops \
                            here with an AttributeError; give at least 2 warm-up steps, or leave the quirk out";
                return Err(error("warmup_steps", what.into()));
            }
            Ok(())
        }
        ScheduleSpec::WarmupPolynomial {
            warmup_steps,
            decay_start_step,
            decay_steps,
            power,
            end_rate,
        } => {
            if decay_steps > 0 {
                warmup_ends_first(warmup_steps, decay_start_step)?;
            }
            if !(power.is_finite() && power > 0.0) {
                return Err(error(
                    "power",
                    format!("it is {power}; it must be above 0, 2 in MLPerf"),
                ));
            }
            within("end_rate", end_rate, base)
        }
        ScheduleSpec::MultiStep { ref milestones, gamma, min_rate } => {
            if !milestones.is_sorted_by(|a, b| a < b) {
                return Err(error(
                    "milestones",
                    format!("{milestones:?} must ascend, each step once"),
                ));
            }
            shrinks("gamma", gamma)?;
            within("min_rate", min_rate, base)
        }
        ScheduleSpec::ReduceOnPlateau { factor, patience, min_delta, min_rate } => {
            if patience == 0 {
                let what = "it is 0; give at least 1, which lowers the rate at each evaluation without improvement";
                return Err(error("patience", what.into()));
            }
            if !(min_delta.is_finite() && min_delta >= 0.0) {
                return Err(error(
                    "min_delta",
                    format!("it is {min_delta}; it must not be negative"),
                ));
            }
            shrinks("factor", factor)?;
            within("min_rate", min_rate, base)
        }
    }
}

fn warmup_ends_first(warmup: u64, start: u64) -> Result<(), ScheduleError> {
    if start < warmup {
        let what = format!(
            "it is {start}, within the {warmup} steps of warm-up; the decay must start at {warmup} or later"
        );
        return Err(error("decay_start_step", what));
    }
    Ok(())
}

fn shrinks(key: &'static str, factor: f64) -> Result<(), ScheduleError> {
    if !(factor > 0.0 && factor < 1.0) {
        return Err(error(
            key,
            format!("it is {factor}; a factor that lowers the rate lies between 0 and 1"),
        ));
    }
    Ok(())
}

fn within(key: &'static str, rate: f64, base: f64) -> Result<(), ScheduleError> {
    if !(0.0..=base).contains(&rate) {
        return Err(error(
            key,
            format!("it is {rate}; it must lie between 0 and the base rate {base}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(spec: &ScheduleSpec, base: f64, steps: &[u64]) -> Vec<f64> {
        let schedule = Schedule::new(spec, base).unwrap();
        steps.iter().map(|&s| schedule.rate(s)).collect()
    }

    fn refusal(spec: ScheduleSpec, base: f64) -> String {
        Schedule::new(&spec, base).unwrap_err().to_string()
    }

    #[track_caller]
    fn near(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((g - w).abs() <= 1e-12 * w.abs(), "entry {i}: {g} is not {w}");
        }
    }

    fn policy(w: u64, s: u64, d: u64, plateau_quirk: bool) -> ScheduleSpec {
        ScheduleSpec::FacebookPolicy {
            warmup_steps: w,
            decay_start_step: s,
            decay_steps: d,
            plateau_quirk,
        }
    }

    fn oneflow() -> ScheduleSpec {
        ScheduleSpec::WarmupPolynomial {
            warmup_steps: 2750,
            decay_start_step: 49315,
            decay_steps: 27772,
            power: 2.0,
            end_rate: 0.0,
        }
    }

    /// `--learning-rate=0.5 --lr-num-warmup-steps=5 --lr-decay-start-step=10
    /// --lr-num-decay-steps=6`: the original's rates, by hand.
    #[test]
    fn facebooks_policy_with_its_plateau() {
        let steps: Vec<u64> = (1..=18).collect();
        let part = |left: f64| 0.5 * (left / 6.0) * (left / 6.0);
        let mut want = vec![0.1, 0.2, 0.3, 0.4];
        want.extend([0.4; 5]); // 5 to 9: frozen at the last rate of the warm-up
        want.extend([part(6.0), part(5.0), part(4.0), part(3.0), part(2.0), part(1.0)]); // 10 to 15
        want.extend([part(1.0); 3]); // after the decay
        near(&rates(&policy(5, 10, 6, true), 0.5, &steps), &want);
        want[4..9].fill(0.5);
        near(&rates(&policy(5, 10, 6, false), 0.5, &steps), &want);
    }

    #[test]
    fn facebooks_policy_at_its_edges() {
        // No decay: the base rate from W on, with and without the quirk.
        for quirk in [false, true] {
            near(
                &rates(&policy(4, 4, 0, quirk), 1.0, &[1, 3, 4, 5, 1000]),
                &[0.25, 0.75, 1.0, 1.0, 1.0],
            );
            near(&rates(&policy(0, 0, 0, quirk), 1.0, &[1, 2]), &[1.0, 1.0]);
        }
        // The floor.
        near(&rates(&policy(0, 1, 10_000, true), 0.1, &[1, 10_000, 20_000]), &[0.1, 1e-7, 1e-7]);
        assert!(
            refusal(policy(5, 4, 6, false), 0.5)
                .starts_with("schedule.decay_start_step: it is 4, within the 5 steps")
        );
        assert!(
            refusal(policy(5, 0, 0, false), 0.5).contains("decay_start_step"),
            "the original refuses this without decay too"
        );
        // The original has no rate to repeat.
        assert!(refusal(policy(0, 10, 6, true), 0.5).contains("AttributeError"));
        assert!(refusal(policy(1, 10, 6, true), 0.5).contains("AttributeError"));
        assert!(Schedule::new(&policy(0, 10, 6, false), 0.5).is_ok());
    }

    #[test]
    fn oneflows_terabyte_schedule() {
        let want = [0.0, 24.0 / 2750.0, 24.0 * 2749.0 / 2750.0, 24.0, 24.0];
        near(&rates(&oneflow(), 24.0, &[1, 2, 2750, 2751, 49315]), &want);
        let decay = |k: f64| 24.0 * (1.0 - k / 27772.0) * (1.0 - k / 27772.0);
        near(&rates(&oneflow(), 24.0, &[49316, 49317, 60000]), &[24.0, decay(1.0), decay(10684.0)]);
        // The last of 75,000 steps.
        assert!((rates(&oneflow(), 24.0, &[75_000])[0] - 0.1357).abs() < 5e-5);
        assert_eq!(rates(&oneflow(), 24.0, &[49315 + 27772 + 1, u64::MAX]), [0.0, 0.0]);
    }

    #[test]
    fn nvidias_and_other_polynomials() {
        let spec = |power, end_rate| ScheduleSpec::WarmupPolynomial {
            warmup_steps: 4,
            decay_start_step: 6,
            decay_steps: 4,
            power,
            end_rate,
        };
        near(
            &rates(&spec(1.0, 0.2), 1.0, &[1, 2, 4, 5, 7, 8, 10, 11, 99]),
            &[0.0, 0.25, 0.75, 1.0, 1.0, 0.8, 0.4, 0.2, 0.2],
        );
        let constant = ScheduleSpec::WarmupPolynomial {
            warmup_steps: 2,
            decay_start_step: 0,
            decay_steps: 0,
            power: 2.0,
            end_rate: 0.0,
        };
        near(&rates(&constant, 1.0, &[1, 2, 3, 1_000_000]), &[0.0, 0.5, 1.0, 1.0]);
        assert!(refusal(spec(0.0, 0.0), 1.0).starts_with("schedule.power"));
        assert!(refusal(spec(2.0, 1.5), 1.0).starts_with("schedule.end_rate"));
        assert!(refusal(spec(2.0, 0.0), f64::NAN).starts_with("schedule.base"));
    }

    #[test]
    fn milestones_lower_the_rate_of_the_next_step() {
        let spec =
            |milestones, gamma| ScheduleSpec::MultiStep { milestones, gamma, min_rate: 1e-6 };
        let steps = [1, 3668, 3669, 7336, 7337, 11_004, 11_005, 99_999];
        let want = [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6];
        near(&rates(&spec(vec![3668, 7336, 11_004], 0.1), 1e-3, &steps), &want);
        near(&rates(&spec(vec![1, 2, 3, 4, 5], 0.1), 1e-3, &[6]), &[1e-6]);
        near(&rates(&spec(vec![], 0.1), 1e-3, &[6]), &[1e-3]);
        assert!(refusal(spec(vec![2, 2], 0.1), 1e-3).starts_with("schedule.milestones"));
        assert!(refusal(spec(vec![2], 1.0), 1e-3).starts_with("schedule.gamma"));
        assert!(refusal(spec(vec![2], 0.1), 1e-7).starts_with("schedule.min_rate"));
    }

    fn plateau(patience: u32) -> ScheduleSpec {
        ScheduleSpec::ReduceOnPlateau { factor: 0.1, patience, min_delta: 1e-6, min_rate: 1e-6 }
    }

    /// The rate after each of a row of evaluations.
    fn follow(patience: u32, monitored: &[f64]) -> Vec<f64> {
        let mut schedule = Schedule::new(&plateau(patience), 1e-3).unwrap();
        let mut rates = vec![];
        for &m in monitored {
            schedule.on_eval(m);
            rates.push(schedule.rate(rates.len() as u64 + 1));
        }
        rates
    }

    #[test]
    fn fuxictr_lowers_the_rate_at_each_evaluation_without_improvement() {
        let aucs = [0.80, 0.81, 0.81, 0.82, 0.82 + 1e-7, 0.0, f64::NAN, 0.83];
        near(&follow(1, &aucs), &[1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6]);
    }

    #[test]
    fn patience_counts_from_the_last_improvement_or_fall() {
        near(
            &follow(2, &[0.8, 0.7, 0.9, 0.8, 0.8, 0.8, 0.8]),
            &[1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5],
        );
        assert!(refusal(plateau(0), 1e-3).starts_with("schedule.patience"));
        // Other schedules do not listen.
        let mut constant = Schedule::new(&ScheduleSpec::Constant, 0.1).unwrap();
        [0.5, 0.4, 0.3].into_iter().for_each(|m| constant.on_eval(m));
        assert_eq!(constant.rate(9), 0.1);
    }

    proptest! {
        #[test]
        fn rates_stay_between_zero_and_the_base(
            step in 1u64..1_000, w in 0u64..50, plus in 0u64..50, d in 0u64..50, quirk in any::<bool>(),
        ) {
            if let Ok(s) = Schedule::new(&policy(w, w + plus, d, quirk), 0.5) {
                let floor = if s.rate(step) < 1e-6 { 1e-7 } else { 0.0 };
                prop_assert!((floor..=0.5).contains(&s.rate(step)));
            }
        }
    }
}
