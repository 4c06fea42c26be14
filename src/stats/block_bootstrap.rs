//! Throughput of a run with an interval, by a block bootstrap of its steps.
//!
//! Step times are not independent: caches, frequency, neighbours and the loader make slow steps
//! come together. Drawing single steps would make the interval too narrow. Blocks of consecutive
//! steps keep the dependence inside them (Kunsch, "The jackknife and the bootstrap for general
//! stationary observations", Annals of Statistics 17, 1989). Blocks wrap around the end, so that
//! each step is drawn equally often (Politis & Romano, "A circular block-resampling procedure for
//! stationary data", 1992).

use super::{Interval, StatsError, block_length::block_length};
use crate::random::philox::{Philox, Stream};

/// Longer series are first added up in equal groups of consecutive steps, down to at most this
/// many.
const MOST_UNITS: usize = 8192;

/// The fewest steps that an interval can be made from.
const FEWEST_STEPS: usize = 10;

/// How to make an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// First steps to leave out; see [`warmup_cut`].
    pub warmup: usize,
    /// Confidence of the interval, say 0.95.
    pub confidence: f64,
    /// Resamples to draw.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Bootstrap {
    /// 2000 resamples at 95 %, the first `warmup` steps left out.
    pub fn after(warmup: usize) -> Self {
        Bootstrap { warmup, confidence: 0.95, resamples: 2000, seed: 0 }
    }
}

/// The first steps that do not count, of a run of `steps`: a tenth of them, at most 100. In these,
/// memory is touched for the first time, the processor finds its frequency and the loader fills its
/// queue.
pub fn warmup_cut(steps: usize) -> usize {
    (steps / 10).min(100)
}

/// Samples per second over all steps after the warm-up, `sum(samples) / sum(seconds)`, with a
/// percentile interval.
///
/// `samples[i]` and `seconds[i]` belong to step `i`. The block length is chosen from the data
/// (Politis & White 2004).
///
/// # Errors
/// If the slices differ in length, a value is not above 0, or fewer than 10 steps are left.
///
/// ```
/// use dlrm_bench::stats::{Bootstrap, throughput};
/// let seconds: Vec<f64> = (0..200).map(|i| 0.010 + 0.001 * f64::from(i * 7 % 5)).collect();
/// let rate = throughput(&[2048.0; 200], &seconds, &Bootstrap::after(20))?;
/// assert!((rate.estimate - 2048.0 / 0.012).abs() < 1.0);
/// assert!(rate.low < rate.estimate && rate.estimate < rate.high);
/// # Ok::<(), dlrm_bench::stats::StatsError>(())
/// ```
pub fn throughput(
    samples: &[f64],
    seconds: &[f64],
    how: &Bootstrap,
) -> Result<Interval, StatsError> {
    check(samples, seconds, how)?;
    let (samples, seconds) = (&samples[how.warmup..], &seconds[how.warmup..]);
    let group = samples.len().div_ceil(MOST_UNITS);
    let units: Vec<(f64, f64)> = samples
        .chunks(group)
        .zip(seconds.chunks(group))
        .map(|(n, s)| (n.iter().sum(), s.iter().sum()))
        .collect();
    let total = sum(&units);
    let estimate = total.0 / total.1;
    // To first order the rate errs by the mean of these: their dependence decides on the blocks.
    let deviations: Vec<f64> = units.iter().map(|(n, s)| n - estimate * s).collect();
    let mut rates = resampled_rates(&units, block_length(&deviations), how);
    rates.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - how.confidence) / 2.0;
    Ok(Interval {
        estimate,
        low: quantile(&rates, tail),
        high: quantile(&rates, 1.0 - tail),
        confidence: how.confidence,
    })
}

fn check(samples: &[f64], seconds: &[f64], how: &Bootstrap) -> Result<(), StatsError> {
    if samples.len() != seconds.len() {
        return Err(StatsError::Lengths { samples: samples.len(), seconds: seconds.len() });
    }
    if !(how.confidence > 0.0 && how.confidence < 1.0) {
        return Err(StatsError::Confidence(how.confidence));
    }
    let positive = |x: f64| x > 0.0 && x.is_finite();
    if let Some(step) =
        (0..samples.len()).find(|&i| !(positive(samples[i]) && positive(seconds[i])))
    {
        return Err(StatsError::NotPositive {
            step,
            samples: samples[step],
            seconds: seconds[step],
        });
    }
    let steps = samples.len().saturating_sub(how.warmup);
    if steps < FEWEST_STEPS {
        return Err(StatsError::TooFew { steps, warmup: how.warmup, needed: FEWEST_STEPS });
    }
    Ok(())
}

fn sum(units: &[(f64, f64)]) -> (f64, f64) {
    units.iter().fold((0.0, 0.0), |t, u| (t.0 + u.0, t.1 + u.1))
}

/// The rate of each resample: blocks of `length` units from uniform starts until `units.len()` are
/// drawn, the last block cut.
fn resampled_rates(units: &[(f64, f64)], length: usize, how: &Bootstrap) -> Vec<f64> {
    let n = units.len();
    // Sums of all blocks, wrapped around the end, of both lengths that occur.
    let blocks_of = |length: usize| -> Vec<(f64, f64)> {
        (0..n)
            .map(|start| {
                (start..start + length)
                    .map(|i| units[i % n])
                    .fold((0.0, 0.0), |t, u| (t.0 + u.0, t.1 + u.1))
            })
            .collect()
    };
    let (whole, rest) = (n / length, n % length);
    let (blocks, ends) = (blocks_of(length), blocks_of(rest));
    let mut words = vec![0u32; whole + 1];
    (0..how.resamples)
        .map(|r| {
            Philox::new(how.seed, Stream::Bootstrap, r as u64).fill_u32(0, &mut words);
            // `n` is at most MOST_UNITS, so the bias of this is below one in half a million.
            let start = |word: u32| ((u64::from(word) * n as u64) >> 32) as usize;
            let mut total = ends[start(words[whole])];
            for &word in &words[..whole] {
                let block = blocks[start(word)];
                total = (total.0 + block.0, total.1 + block.1);
            }
            total.0 / total.1
        })
        .collect()
}

/// Quantile `q` of `sorted` with linear interpolation (Hyndman & Fan's type 7).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::random::philox::unit_f64;
    use proptest::prelude::*;

    /// A stationary first-order autoregression with variance 1 around 0.
    pub(in super::super) fn autoregression(seed: u64, n: usize, rho: f64) -> Vec<f64> {
        let noise = Philox::new(seed, Stream::Planted, 0);
        let normal = |i: u64| {
            let [a, b] = noise.block_u64(i).map(unit_f64);
            (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        };
        let mut x = normal(0);
        (1..=n as u64)
            .map(|i| {
                x = rho * x + (1.0 - rho * rho).sqrt() * normal(i);
                x
            })
            .collect()
    }

    /// Share of 400 simulated runs of `n` steps whose interval holds the true rate. Step times are
    /// log-normal with correlation.
    fn coverage(n: usize, rho: f64) -> f64 {
        let runs = 400;
        let truth = 1.0 / (0.5 * 0.3f64 * 0.3).exp();
        let holds = |run: u64| {
            let seconds: Vec<f64> =
                autoregression(run + 1, n, rho).iter().map(|x| (0.3 * x).exp()).collect();
            let how = Bootstrap { resamples: 500, ..Bootstrap::after(0) };
            let interval = throughput(&vec![1.0; n], &seconds, &how).unwrap();
            interval.low <= truth && truth <= interval.high
        };
        (0..runs).filter(|&run| holds(run)).count() as f64 / runs as f64
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        for (n, rho, least) in
            [(300, 0.0, 0.92), (300, 0.5, 0.89), (1000, 0.8, 0.89), (300, 0.8, 0.84)]
        {
            let c = coverage(n, rho);
            assert!((least..=0.98).contains(&c), "{n} steps, correlation {rho}: {c}");
        }
    }

    #[test]
    fn equal_steps_leave_no_doubt() {
        let rate = throughput(&[2048.0; 500], &[0.1; 500], &Bootstrap::after(50)).unwrap();
        assert!((rate.estimate - 20480.0).abs() < 1e-6 && rate.high - rate.low < 1e-6, "{rate:?}");
    }

    #[test]
    fn short_last_batches_count_by_their_size() {
        // Nine full batches and a half one in half the time, over and over: one rate.
        let share = |i: usize| if i % 10 == 9 { 0.5 } else { 1.0 };
        let samples: Vec<f64> = (0..300).map(|i| 100.0 * share(i)).collect();
        let seconds: Vec<f64> = (0..300).map(|i| 0.25 * share(i)).collect();
        let rate = throughput(&samples, &seconds, &Bootstrap::after(0)).unwrap();
        assert!((rate.low - 400.0).abs() < 1e-9 && (rate.high - 400.0).abs() < 1e-9, "{rate:?}");
    }

    #[test]
    fn warm_up_does_not_count() {
        let mut seconds = vec![0.1; 200];
        seconds[..20].fill(5.0);
        assert_eq!((warmup_cut(200), warmup_cut(5), warmup_cut(100_000)), (20, 0, 100));
        let rate = throughput(&[10.0; 200], &seconds, &Bootstrap::after(warmup_cut(200))).unwrap();
        assert!((rate.estimate - 100.0).abs() < 1e-9);
    }

    #[test]
    fn long_runs_are_grouped_and_no_less_precise() {
        let width = |n: usize| {
            let seconds: Vec<f64> =
                autoregression(7, n, 0.5).iter().map(|x| (0.3 * x).exp()).collect();
            let rate = throughput(&vec![1.0; n], &seconds, &Bootstrap::after(0)).unwrap();
            rate.high - rate.low
        };
        let ratio = width(5000) / width(80_000);
        assert!(
            (3.0..5.5).contains(&ratio),
            "16 times the steps should make a quarter of the width, not 1/{ratio}"
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let message = |n: &[f64], s: &[f64], how| throughput(n, s, &how).unwrap_err().to_string();
        let after = Bootstrap::after;
        assert_eq!(
            message(&[1.0; 12], &[1.0; 12], after(3)),
            "9 steps after the warm-up of 3; an interval needs at least 10, so train for longer"
        );
        assert!(
            message(&[1.0; 12], &[1.0; 12], after(30))
                .starts_with("0 steps after the warm-up of 30")
        );
        assert!(
            message(&[1.0; 12], &[1.0; 11], after(0))
                .starts_with("12 numbers of samples for 11 step times")
        );
        assert!(
            message(&[1.0; 12], &[0.0; 12], after(0)).starts_with("step 0 has 1 samples in 0 s")
        );
        assert!(
            message(&[1.0; 12], &[f64::NAN; 12], after(0))
                .starts_with("step 0 has 1 samples in NaN s")
        );
        let sure = Bootstrap { confidence: 1.0, ..after(0) };
        assert!(message(&[1.0; 12], &[1.0; 12], sure).starts_with("a confidence of 1;"));
    }

    proptest! {
        #[test]
        fn same_input_same_bits_and_units_scale(
            seconds in prop::collection::vec(0.001f64..0.1, 10..120), scale in prop::sample::select(vec![0.5, 4.0, 1024.0]),
        ) {
            let samples = vec![128.0; seconds.len()];
            let how = Bootstrap { resamples: 200, ..Bootstrap::after(0) };
            let a = throughput(&samples, &seconds, &how).unwrap();
            prop_assert_eq!(a, throughput(&samples, &seconds, &how).unwrap());
            prop_assert!(a.low <= a.high);
            let fastest = seconds.iter().fold(f64::MAX, |a, &b| a.min(b));
            let slowest = seconds.iter().fold(0f64, |a, &b| a.max(b));
            prop_assert!(128.0 / slowest * 0.999 <= a.low && a.high <= 128.0 / fastest * 1.001);
            // Powers of two scale exactly.
            let scaled: Vec<f64> = seconds.iter().map(|s| s * scale).collect();
            let b = throughput(&samples, &scaled, &how).unwrap();
            prop_assert_eq!((a.estimate, a.low, a.high), (b.estimate * scale, b.low * scale, b.high * scale));
        }
    }
}
