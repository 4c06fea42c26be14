//! A keyed bijection on `[0, m)` for any `m`, that scatters Zipf ranks over a table: without it,
//! the rows that are used most would lie side by side.
//!
//! Two steps alternate, each a bijection for itself. *Mix* works on the numbers below the largest
//! power of two `2^b <= m`, where multiplying by an odd number and xor-shifting to the right
//! (modulo `2^b`) can be undone; it leaves the others alone. *Rotate* adds a constant modulo `m`.
//! The first rotation moves exactly the numbers that the first mix left alone below `2^b`, so every
//! number is mixed. No division, no cycle walking: a few vector operations a rank.

use crate::random::philox::{Philox, Stream};

pub(super) use crate::batch::SCATTER_ROUNDS as ROUNDS;

/// A bijection on `[0, m)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scatter {
    pub(super) m: u32,
    pub(super) mask: u32,
    pub(super) shift: u32,
    pub(super) odd: [[u32; 2]; ROUNDS],
    pub(super) turn: [u32; ROUNDS],
}

impl Scatter {
    /// The bijection of `seed` and table number `table` on `[0, m)`, `1 <= m <= 2^31`.
    pub fn new(seed: u64, table: u64, m: u32) -> Self {
        debug_assert!((1..=1 << 31).contains(&m), "{m}");
        let bits = m.ilog2();
        let keys = Philox::new(seed, Stream::PlantedTruth, table);
        let mut s = Scatter {
            m,
            mask: (1 << bits) - 1,
            shift: bits.div_ceil(2).max(1),
            odd: [[1; 2]; ROUNDS],
            turn: [0; ROUNDS],
        };
        for round in 0..ROUNDS {
            let [a, b, c, _] = keys.block(round as u64);
            s.odd[round] = [a | 1, b | 1];
            s.turn[round] = ((u64::from(c) * u64::from(m)) >> 32) as u32;
        }
        s.turn[0] = m - (1 << bits);
        s
    }

    /// Where `x` goes, `x < m`.
    #[inline(always)]
    pub fn apply(&self, mut x: u32) -> u32 {
        for round in 0..ROUNDS {
            let [a, b] = self.odd[round];
            let mut y = x.wrapping_mul(a) & self.mask;
            y ^= y >> self.shift;
            y = y.wrapping_mul(b) & self.mask;
            x = if x <= self.mask { y } else { x };
            // Below 2^32, since both are below 2^31.
            x += self.turn[round];
            x = if x >= self.m { x - self.m } else { x };
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_bijection(seed: u64, m: u32) {
        let s = Scatter::new(seed, 3, m);
        let mut hit = vec![false; m as usize];
        for x in 0..m {
            let y = s.apply(x);
            assert!(y < m, "{x} -> {y} of {m}");
            assert!(!std::mem::replace(&mut hit[y as usize], true), "{y} of {m} is hit twice");
        }
    }

    #[test]
    fn bijection_on_every_small_table() {
        (1..=600).for_each(|m| assert_bijection(u64::from(m), m));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn bijection_on_any_table(seed: u64, m in 1u32..200_000) {
            assert_bijection(seed, m);
        }
    }

    #[test]
    fn the_largest_table_does_not_overflow() {
        for m in [1 << 31, (1 << 31) - 1] {
            let s = Scatter::new(1, 1, m);
            assert!((0..1000).all(|x| s.apply(x) < m && s.apply(m - 1 - x) < m));
        }
    }

    #[test]
    fn the_head_is_spread_evenly_and_depends_on_the_key() {
        for m in [10_131_227u32, 93_145, 1 << 20, (1 << 20) + 1] {
            let s = Scatter::new(5, 0, m);
            let mut buckets = [0u32; 64];
            let head = 6400;
            for x in 0..head {
                buckets[(u64::from(s.apply(x)) * 64 / u64::from(m)) as usize] += 1;
            }
            let chi: f64 = buckets.iter().map(|&c| (f64::from(c) - 100.0).powi(2) / 100.0).sum();
            // 63 degrees of freedom: mean 63, standard deviation 11. A lattice would come out far
            // below, a clump far above.
            assert!((20.0..130.0).contains(&chi), "{m}: {chi}");
            let other = Scatter::new(6, 0, m);
            assert!((0..head).filter(|&x| s.apply(x) == other.apply(x)).count() < 20);
        }
    }
}
