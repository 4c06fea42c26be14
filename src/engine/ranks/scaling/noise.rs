//! Delays that hold a rank up, as those of an operating system do (Petrini, Kerbyson & Pakin 2003,
//! doi:10.1145/1048935.1050204), and what waiting for the slowest rank makes of them.

use crate::random::philox::{Philox, Stream, unit_f64};

/// Delays that are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Mean delay of a rank, as a share of what it does itself.
    pub jitter: f64,
    /// Where draws begin.
    pub seed: u64,
    /// Steps that are simulated.
    pub steps: u32,
}

impl Noise {
    /// No delays.
    pub const NONE: Noise = Noise { jitter: 0.0, seed: 0, steps: 0 };

    /// Seconds that delays add to a step on average. A step waits for its slowest rank; rank `r`
    /// takes `own[r] (1 + jitter x)`, `x` drawn from the exponential distribution of mean 1, for
    /// each rank and step anew.
    ///
    /// So `R` equal ranks wait for `jitter (1 + 1/2 + ... + 1/R)` of what one does.
    pub fn adds(&self, own: &[f64]) -> f64 {
        if self.jitter == 0.0 || self.steps == 0 {
            return 0.0;
        }
        let slowest = own.iter().copied().fold(0.0, f64::max);
        let step = |step: u32| {
            let draws = Philox::new(self.seed, Stream::Jitter, step.into());
            let pairs = own.chunks(2).enumerate().map(|(block, pair)| {
                let words = draws.block_u64(block as u64);
                let late = |(own, word): (&f64, u64)| {
                    own * (1.0 - self.jitter * (1.0 - unit_f64(word)).ln())
                };
                pair.iter().zip(words).map(late).fold(0.0, f64::max)
            });
            pairs.fold(0.0, f64::max) - slowest
        };
        (0..self.steps).map(step).sum::<f64>() / f64::from(self.steps)
    }
}
