//! A run whose throughput is not one but two: another program came or went, a processor was throttled,
//! data fell out of a cache. A mean, and an interval around it, hide that.

use super::warmup_cut;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Blocks that a run is cut into.
const BLOCKS: usize = 40;
/// Steps of a block at least.
const LEAST: usize = 5;
/// Share of the blocks that either side has at least: what is shorter is no half of a run.
const SIDE: f64 = 0.2;
/// How many times the other side's rate makes a jump.
const RATIO: f64 = 1.5;
/// Share of either side's blocks that are nearer to their own side's median than to the other's.
const APART: f64 = 0.9;

/// Throughput before and after a step, in samples per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Jump {
    /// The first step of the second part, from 1, to a block of steps.
    pub step: u64,
    /// Median over blocks of steps before.
    pub before: f64,
    /// The same from then on.
    pub after: f64,
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.after < self.before { "fell" } else { "rose" };
        let (before, after) = (short(self.before), short(self.after));
        write!(
            f,
            "throughput {verb} from {before} to {after} samples/s at about step {}",
            self.step
        )
    }
}

/// Three digits: `270k`, `65.2k`, `1.52M`.
fn short(rate: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, suffix) = units.into_iter().find(|(u, _)| rate >= *u).unwrap_or((1.0, ""));
    let scaled = rate / unit;
    let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.digits$}{suffix}")
}

/// The step at which throughput changed for the rest of the run, if it did: the cut of the steps
/// behind the warm-up into two parts that leaves the least absolute deviations of the logarithms of
/// rates from the parts' medians, where the medians are half as much again apart and the parts do not
/// mix.
///
/// `samples[i]` and `seconds[i]` belong to step `i`. Runs of fewer than some 40 steps have none.
pub fn jump(samples: &[f64], seconds: &[f64]) -> Option<Jump> {
    let warmup = warmup_cut(samples.len());
    let steps = samples.len().min(seconds.len()).checked_sub(warmup)?;
    let length = (steps / BLOCKS).max(LEAST);
    let rate = |(samples, seconds): (&[f64], &[f64])| -> f64 {
        samples.iter().sum::<f64>() / seconds.iter().sum::<f64>()
    };
    let blocks = samples[warmup..].chunks_exact(length).zip(seconds[warmup..].chunks_exact(length));
    let rates: Vec<f64> = blocks.map(rate).collect();
    if rates.len() < 7 || rates.iter().any(|r| !(*r > 0.0 && r.is_finite())) {
        return None;
    }
    let logs: Vec<f64> = rates.iter().map(|r| r.ln()).collect();
    let least = ((SIDE * logs.len() as f64).ceil() as usize).max(2);
    let cost = |part: &[f64]| {
        let middle = median(part);
        part.iter().map(|x| (x - middle).abs()).sum::<f64>()
    };
    let cut = (least..=logs.len().checked_sub(least)?).min_by(|&a, &b| {
        let of = |cut: usize| cost(&logs[..cut]) + cost(&logs[cut..]);
        of(a).total_cmp(&of(b))
    })?;
    let (left, right) = logs.split_at(cut);
    let (before, after) = (median(left), median(right));
    let near = |part: &[f64], own: f64, other: f64| {
        let nearer = part.iter().filter(|x| (*x - own).abs() < (*x - other).abs()).count();
        nearer as f64 >= APART * part.len() as f64
    };
    let apart = near(left, before, after) && near(right, after, before);
    ((before - after).abs() >= RATIO.ln() && apart).then(|| Jump {
        step: (warmup + cut * length + 1) as u64,
        before: before.exp(),
        after: after.exp(),
    })
}

/// The median of some numbers, of two in the middle their mean.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seconds of steps of 100 samples with these rates, each off by up to `noise` of it.
    fn seconds(rates: &[f64], noise: &[f64]) -> Vec<f64> {
        rates.iter().zip(noise).map(|(r, n)| 100.0 / (r * (1.0 + n))).collect()
    }

    proptest! {
        #[test]
        fn a_jump_is_found_where_it_was_put(
            steps in 100usize..2000,
            place in 0.35..0.7,
            ratio in prop_oneof![0.2..0.55f64, 1.8..5.0],
            noise in proptest::collection::vec(-0.15..0.15f64, 2000),
        ) {
            let at = (place * steps as f64) as usize;
            let rates: Vec<f64> =
                (0..steps).map(|i| if i < at { 270e3 } else { 270e3 * ratio }).collect();
            let found = jump(&vec![100.0; steps], &seconds(&rates, &noise)).unwrap();
            let block = (steps / BLOCKS).max(LEAST) as f64;
            prop_assert!((found.step as f64 - at as f64 - 1.0).abs() <= 1.5 * block, "{found:?} {at}");
            prop_assert!((found.before / 270e3 - 1.0).abs() < 0.1, "{found:?}");
            prop_assert!((found.after / 270e3 / ratio - 1.0).abs() < 0.1, "{found:?}");
        }

        #[test]
        fn noise_and_few_slow_steps_are_none(
            steps in 0usize..2000,
            noise in proptest::collection::vec(-0.3..0.3f64, 2000),
            slow in proptest::collection::vec(0usize..2000, 0..20),
        ) {
            let mut rates = vec![270e3; steps];
            for at in slow.into_iter().filter(|at| *at < steps) {
                rates[at] = 27e3;
            }
            // In blocks of few steps one slow step is much; a fifth of the blocks it never is.
            let few = steps < 400;
            prop_assert!(few || jump(&vec![100.0; steps], &seconds(&rates, &noise)).is_none());
        }
    }

    #[test]
    fn it_is_said_in_a_sentence() {
        let jump = Jump { step: 1501, before: 270_312.0, after: 65_210.0 };
        let said = "throughput fell from 270k to 65.2k samples/s at about step 1501";
        assert_eq!(jump.to_string(), said);
        let back = Jump { before: 950.0, after: 1.52e6, ..jump };
        assert!(back.to_string().contains("rose from 950 to 1.52M"));
    }

    #[test]
    fn what_is_short_or_no_number_has_none() {
        assert_eq!(jump(&[], &[]), None);
        let half = |n: usize| (0..n).map(|i| if i < n / 2 { 1.0 } else { 4.0 }).collect::<Vec<_>>();
        assert_eq!(jump(&vec![1.0; 30], &half(30)), None);
        assert!(jump(&vec![1.0; 60], &half(60)).is_some());
        assert_eq!(jump(&vec![1.0; 60], &vec![0.0; 60]), None);
        assert_eq!(jump(&vec![1.0; 60], &vec![f64::NAN; 60]), None);
    }
}
