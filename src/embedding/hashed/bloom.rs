//! A counting Bloom filter, as DeepRec has it (core/framework/embedding/bloom_filter_policy.h,
//! cbf_filter of variables.py).

/// Counters of one width.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Counters {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

/// Counts keys without keeping them: a key adds to `k` of `m` counters, and was seen no more often
/// than the least of them says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bloom {
    seeds: Vec<u64>,
    counters: Counters,
    /// Counters that have come so far count no more.
    freq: u64,
}

/// Functions that give a key's counters: `k = ceil(|log2 p|)` for a chance `p` of counting a key
/// too often.
fn functions(false_positive: f64) -> usize {
    (false_positive.log2().abs().ceil() as usize).max(1)
}

impl Bloom {
    /// Counters: `m = ceil(|ln p| / ln(2)^2 n)` for `n` keys and a chance `p`.
    pub fn counters(keys: u64, false_positive: f64) -> u64 {
        let per_key = false_positive.ln().abs() / std::f64::consts::LN_2.powi(2);
        ((per_key * keys as f64).ceil() as u64).max(1)
    }

    /// A filter for `keys` keys, counters of `bits` bits (8, 16, 32, else 64), which count up to
    /// `freq`.
    pub fn new(keys: u64, false_positive: f64, bits: u32, freq: u64) -> Self {
        let m = Bloom::counters(keys, false_positive) as usize;
        let counters = match bits {
            8 => Counters::U8(vec![0; m]),
            16 => Counters::U16(vec![0; m]),
            32 => Counters::U32(vec![0; m]),
            _ => Counters::U64(vec![0; m]),
        };
        Bloom { seeds: primes().take(functions(false_positive)).collect(), counters, freq }
    }

    /// Bits of a counter.
    pub fn bits(&self) -> u32 {
        match self.counters {
            Counters::U8(_) => 8,
            Counters::U16(_) => 16,
            Counters::U32(_) => 32,
            Counters::U64(_) => 64,
        }
    }

    /// Number of counters.
    pub fn len(&self) -> usize {
        match &self.counters {
            Counters::U8(c) => c.len(),
            Counters::U16(c) => c.len(),
            Counters::U32(c) => c.len(),
            Counters::U64(c) => c.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A counter.
    pub fn counter(&self, at: usize) -> u64 {
        match &self.counters {
            Counters::U8(c) => c[at].into(),
            Counters::U16(c) => c[at].into(),
            Counters::U32(c) => c[at].into(),
            Counters::U64(c) => c[at],
        }
    }

    /// Sets a counter; what does not fit becomes the largest that does.
    pub fn set(&mut self, at: usize, to: u64) {
        match &mut self.counters {
            Counters::U8(c) => c[at] = to.min(u8::MAX.into()) as u8,
            Counters::U16(c) => c[at] = to.min(u16::MAX.into()) as u16,
            Counters::U32(c) => c[at] = to.min(u32::MAX.into()) as u32,
            Counters::U64(c) => c[at] = to,
        }
    }

    /// How often a key was seen at most.
    pub fn count(&self, key: u64) -> u64 {
        let least = self.places(key).map(|at| self.counter(at)).min();
        least.unwrap_or(0)
    }

    /// Counts a key so often more, in counters that are below `freq`. One that two functions name
    /// counts twice, as there.
    pub fn add(&mut self, key: u64, times: u64) {
        for n in 0..self.seeds.len() {
            let at = self.place(key, n);
            let now = self.counter(at);
            if now < self.freq {
                self.set(at, now.saturating_add(times));
            }
        }
    }

    fn places(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        (0..self.seeds.len()).map(move |n| self.place(key, n))
    }

    fn place(&self, key: u64, n: usize) -> usize {
        (hash(key, self.seeds[n]) % self.len() as u64) as usize
    }
}

/// FastHash64 (Zilong Tan) of eight bytes and a tail of none, as DeepRec computes it.
fn hash(key: u64, seed: u64) -> u64 {
    const M: u64 = 0x8803_55F2_1E6D_1965;
    let mix = |mut h: u64| {
        h ^= h >> 23;
        h = h.wrapping_mul(0x2127_599B_F432_5C37);
        h ^ h >> 47
    };
    let h = (seed ^ M.wrapping_mul(8)) ^ mix(key);
    mix(h.wrapping_mul(M).wrapping_mul(M))
}

/// Prime numbers from 2 on.
fn primes() -> impl Iterator<Item = u64> {
    let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..).filter(is_prime)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of DeepRec's documentation and formulas, worked out by hand: for p = 0.01, log2 p =
    /// -6.64 and ln p / ln(2)^2 = -9.585.
    #[test]
    fn sizes_follow_from_keys_and_chance() {
        assert_eq!((functions(0.01), Bloom::counters(1000, 0.01)), (7, 9586));
        assert_eq!((functions(0.5), Bloom::counters(10, 0.5)), (1, 15));
        assert_eq!(primes().take(10).collect::<Vec<_>>(), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
    }

    /// What other arithmetic (Python's integers, cut to 64 bits) makes of the same definition.
    #[test]
    fn hashes_are_those_of_other_arithmetic() {
        for (key, seed, want) in HASHES {
            assert_eq!(hash(key, seed), want, "{key} {seed}");
        }
    }

    const HASHES: [(u64, u64, u64); 3] =
        [(0, 2, 0x74b91c6bfd5dbaa0), (1, 3, 0xedc2bee44ee111a7), (u64::MAX, 97, 0xf76356926244ea1)];

    #[test]
    fn counts_stop_at_the_frequency_and_never_fall_short() {
        let mut bloom = Bloom::new(50, 0.01, 8, 4);
        assert_eq!(bloom.seeds.len(), 7);
        for key in 0..50 {
            bloom.add(key, 1);
            bloom.add(key, 1);
        }
        assert!((0..50).all(|key| bloom.count(key) >= 2));
        bloom.add(7, 300);
        assert!(bloom.count(7) >= 4 && bloom.count(7) <= 255);
        let before = bloom.clone();
        bloom.add(7, 300);
        assert_eq!(bloom, before, "counters that have come to the frequency stay");
    }
}
