//! Learning-rate schedules.

use serde::Serialize;

/// A schedule as a workload file states it. Formulas: `s` is the 1-based number of the update.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleSpec {
    /// The base rate throughout.
    Constant,
    /// facebookresearch/dlrm, dlrm_s_pytorch.py, `LRPolicyScheduler(W, S, D)`: `s < W`: `base * s / W`;
    /// `S <= s < S + D`: `max(1e-7, base * ((D - (s - S)) / D)^2)`; otherwise the base rate, after the decay the last rate.
    FacebookPolicy {
        /// W.
        warmup_steps: u64,
        /// S, at least W.
        decay_start_step: u64,
        /// D.
        decay_steps: u64,
        /// Reproduce the original's plateau with D > 0: the last warm-up rate `base * (W - 1) / W` instead of `base`
        /// between warm-up and decay (quirk `fb.lr-plateau`).
        plateau_quirk: bool,
    },
    /// OneFlow DLRM, NVIDIA: linear warm-up from 0 over `warmup_steps` (0-based: the first rate is exactly 0), base rate until
    /// `decay_start_step`, then `(base - end) * (1 - k / decay_steps)^power + end`.
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
    /// Times `factor` after `patience` evaluations without improvement of the monitored metric by `min_delta`.
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
