//! Loss scaling: gradients are made larger by a factor while they pass through f16, so that small
//! ones do not vanish, and smaller again before the update (Micikevicius et al. 2018,
//! arXiv:1710.03740, section 3.2).

use serde::{Deserialize, Serialize};

/// How the factor is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossScaleSpec {
    /// No scaling.
    Off,
    /// Always the same factor (OneFlow's DLRM: 1024).
    Static {
        /// The factor.
        scale: f64,
    },
    /// Halved when a gradient overflows, doubled after so many steps without (torch's GradScaler,
    /// OneFlow's DynamicLossScalePolicy).
    Dynamic {
        /// The factor at start: 65,536 in torch, 2^30 in OneFlow.
        initial: f64,
        /// Steps in a row without overflow before it doubles; 2,000 in both.
        growth_steps: u64,
    },
}

/// The factor of the present step.
#[derive(Debug, Clone)]
pub struct LossScaler {
    spec: LossScaleSpec,
    state: LossScale,
    /// Steps in a row without overflow.
    good: u64,
}

/// All that a loss scaler goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScalerState {
    /// The factor, and the steps that it cost.
    #[serde(flatten)]
    pub scale: LossScale,
    /// Steps in a row without overflow.
    pub good_steps: u64,
}

/// What is told of a loss scaler.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor.
    pub scale: f64,
    /// Steps whose update was skipped since a gradient overflowed.
    pub skipped_steps: u64,
}

impl LossScaler {
    /// A scaler at its start.
    pub fn new(spec: LossScaleSpec) -> Self {
        let scale = match spec {
            LossScaleSpec::Off => 1.0,
            LossScaleSpec::Static { scale } => scale,
            LossScaleSpec::Dynamic { initial, .. } => initial,
        };
        LossScaler { spec, state: LossScale { scale, skipped_steps: 0 }, good: 0 }
    }

    /// Whether gradients are scaled and checked at all.
    pub fn is_on(&self) -> bool {
        self.spec != LossScaleSpec::Off
    }

    /// The factor by which the loss's gradient is to be multiplied.
    pub fn scale(&self) -> f64 {
        self.state.scale
    }

    /// The factor and the number of skipped steps; 1 and 0 without scaling.
    pub fn state(&self) -> LossScale {
        self.state
    }

    /// What [`LossScaler::go_on`] takes.
    pub fn position(&self) -> ScalerState {
        ScalerState { scale: self.state, good_steps: self.good }
    }

    /// Goes on where another one was.
    pub fn go_on(&mut self, from: ScalerState) {
        (self.state, self.good) = (from.scale, from.good_steps);
    }

    /// Adjusts the factor after a step. `overflow`: a gradient was not finite, and none is applied.
    pub fn update(&mut self, overflow: bool) {
        let LossScaleSpec::Dynamic { growth_steps, .. } = self.spec else {
            self.state.skipped_steps += u64::from(overflow);
            return;
        };
        if overflow {
            self.state.skipped_steps += 1;
            self.good = 0;
            self.state.scale = (self.state.scale / 2.0).max(*LossScaleSpec::RANGE.start());
        } else {
            self.good += 1;
            if self.good == growth_steps {
                self.good = 0;
                self.state.scale = (self.state.scale * 2.0).min(*LossScaleSpec::RANGE.end());
            }
        }
    }
}

impl LossScaleSpec {
    /// The factor never leaves this range, so that it and its inverse are f32.
    pub const RANGE: std::ops::RangeInclusive<f64> =
        1.0 / (1u64 << 24) as f64..=(1u64 << 60) as f64;

    /// Whether a factor may be used.
    pub fn allows(scale: f64) -> bool {
        Self::RANGE.contains(&scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_scale_falls_at_once_and_rises_slowly() {
        let mut s = LossScaler::new(LossScaleSpec::Dynamic { initial: 1024.0, growth_steps: 3 });
        let mut seen = Vec::new();
        for overflow in [true, true, false, false, true, false, false, false, false] {
            s.update(overflow);
            seen.push(s.scale());
        }
        assert_eq!(seen, [512.0, 256.0, 256.0, 256.0, 128.0, 128.0, 128.0, 256.0, 256.0]);
        assert_eq!(s.state(), LossScale { scale: 256.0, skipped_steps: 3 });
        let mut floor = LossScaler::new(LossScaleSpec::Dynamic { initial: 1.0, growth_steps: 1 });
        (0..100).for_each(|_| floor.update(true));
        assert!(LossScaleSpec::allows(floor.scale()));
        (0..1000).for_each(|_| floor.update(false));
        assert!(LossScaleSpec::allows(floor.scale()) && (floor.scale() as f32).is_finite());
    }

    #[test]
    fn a_static_scale_stays_and_counts() {
        let mut s = LossScaler::new(LossScaleSpec::Static { scale: 1024.0 });
        s.update(true);
        s.update(false);
        assert_eq!(s.state(), LossScale { scale: 1024.0, skipped_steps: 1 });
        assert_eq!(
            LossScaler::new(LossScaleSpec::Off).state(),
            LossScale { scale: 1.0, skipped_steps: 0 }
        );
    }
}
