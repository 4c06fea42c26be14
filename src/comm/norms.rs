//! Statistics of a batch whose samples several ranks share, as a batch normalisation wants them.
//!
//! All ranks call the same function at the same time, with as many columns, those without samples
//! too. What comes out is the same everywhere, bit by bit: ranks are joined in their order.

use super::{Comm, CommError, Patience, What, all_gather};
use std::{fmt, rc::Rc};

/// The ranks that share a batch.
#[derive(Clone)]
pub struct NormRanks {
    /// The way to the others.
    pub comm: Rc<dyn Comm>,
    /// How long one waits for another.
    pub patience: Patience,
}

impl fmt::Debug for NormRanks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NormRanks({} of {})", self.comm.rank(), self.comm.size())
    }
}

impl NormRanks {
    /// Of `samples` samples here, means of some columns and then sums of squared distances from
    /// them; leaves those of the whole batch, and returns its samples. Joined as in Chan, Golub &
    /// LeVeque 1979.
    ///
    /// # Errors
    /// As [`Comm::transfer`].
    pub fn moments(&self, samples: usize, own: &mut [f64]) -> Result<u64, CommError> {
        let all = self.gather(samples, own)?;
        let cols = own.len() / 2;
        own.fill(0.0);
        let mut count = 0.0;
        for (k, values) in &all {
            if *k == 0 {
                continue;
            }
            let k = *k as f64;
            for c in 0..cols {
                let delta = values[c] - own[c];
                own[cols + c] += values[cols + c] + delta * delta * count * k / (count + k);
                own[c] += delta * k / (count + k);
            }
            count += k;
        }
        Ok(count as u64)
    }

    /// Sums of `samples` samples here; leaves those of the whole batch, and returns its samples.
    ///
    /// # Errors
    /// As [`Comm::transfer`].
    pub fn sums(&self, samples: usize, own: &mut [f64]) -> Result<u64, CommError> {
        let all = self.gather(samples, own)?;
        own.fill(0.0);
        for (_, values) in &all {
            own.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
        Ok(all.iter().map(|(k, _)| k).sum())
    }

    /// Samples and values of all ranks.
    fn gather(&self, samples: usize, own: &[f64]) -> Result<Vec<(u64, Vec<f64>)>, CommError> {
        let double = |x: u64| [x as u32, (x >> 32) as u32];
        let mut words = Vec::with_capacity(2 + 2 * own.len());
        words.extend(double(samples as u64));
        words.extend(own.iter().flat_map(|x| double(x.to_bits())));
        let all = all_gather(&*self.comm, What::Norms, self.patience, &words)?;
        let whole = |pair: &[u32]| u64::from(pair[0]) | u64::from(pair[1]) << 32;
        let one = |words: Vec<u32>| {
            let mut pairs = words.chunks_exact(2).map(whole);
            let samples = pairs.next().unwrap_or(0);
            (samples, pairs.map(f64::from_bits).collect())
        };
        Ok(all.into_iter().map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::threads;

    /// What each of some ranks gets.
    fn on<T: Send + 'static>(
        parts: Vec<Vec<f64>>,
        f: impl Fn(&NormRanks, &[f64]) -> T + Copy + Send + 'static,
    ) -> Vec<T> {
        let all: Vec<_> = threads::ranks(parts.len())
            .into_iter()
            .zip(parts)
            .map(|(comm, part)| {
                std::thread::spawn(move || {
                    f(&NormRanks { comm: Rc::new(comm), patience: Patience::Unlimited }, &part)
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    #[test]
    fn ranks_get_the_moments_of_all_samples() {
        let parts = vec![vec![1e6 + 1.0, 1e6 + 2.0, 1e6 + 6.0], vec![], vec![1e6], vec![1e6 + 4.0]];
        let all: Vec<f64> = parts.concat();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let squares: f64 = all.iter().map(|x| (x - mean) * (x - mean)).sum();
        let got = on(parts, |ranks, part| {
            let mean = part.iter().sum::<f64>() / part.len().max(1) as f64;
            let squares = part.iter().map(|x| (x - mean) * (x - mean)).sum();
            let mut own = [mean, squares];
            let samples = ranks.moments(part.len(), &mut own).unwrap();
            (samples, own)
        });
        for (samples, [m, q]) in &got {
            assert_eq!(*samples, 5);
            assert!((m - mean).abs() < 1e-9 && (q - squares).abs() < 1e-9, "{m} {q}");
        }
        assert!(got.windows(2).all(|pair| pair[0] == pair[1]), "not the same everywhere");
    }

    #[test]
    fn ranks_get_the_sums_of_all() {
        let got = on(vec![vec![1.0, 2.0], vec![0.0, 0.0], vec![0.5, -4.0]], |ranks, part| {
            let mut own = part.to_vec();
            (ranks.sums(part.len() / 2, &mut own).unwrap(), own)
        });
        assert!(got.iter().all(|(samples, sums)| *samples == 3 && sums == &[1.5, -2.0]));
    }
}
