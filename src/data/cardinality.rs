//! How many different values a column holds, in bounded memory.

use std::collections::HashSet;

/// Different values that are counted one by one.
const EXACT: usize = 1 << 17;
/// Bits of a hash that choose a register; the standard error is 1.04 / sqrt(2^14), 0.8%.
const BITS: u32 = 14;

/// Counts different values: exactly up to 131,072, beyond that by HyperLogLog (Flajolet, Fusy,
/// Gandouet and Meunier, 2007).
///
/// That estimate's correction for small numbers is not needed, since those are counted, nor the one
/// for large numbers, since hashes have 64 bits.
#[derive(Debug, Clone, Default)]
pub struct Cardinality {
    seen: HashSet<u64>,
    registers: Vec<u8>,
}

impl Cardinality {
    /// Takes note of a value.
    pub fn add(&mut self, value: u64) {
        let hash = mix(value);
        if self.registers.is_empty() {
            self.seen.insert(hash);
            if self.seen.len() > EXACT {
                self.registers = vec![0; 1 << BITS];
                std::mem::take(&mut self.seen).into_iter().for_each(|h| self.register(h));
            }
        } else {
            self.register(hash);
        }
    }

    fn register(&mut self, hash: u64) {
        let rank = ((hash << BITS) | 1 << (BITS - 1)).leading_zeros() as u8 + 1;
        let register = &mut self.registers[(hash >> (64 - BITS)) as usize];
        *register = rank.max(*register);
    }

    /// The number of different values.
    pub fn count(&self) -> u64 {
        if self.is_exact() {
            return self.seen.len() as u64;
        }
        let m = self.registers.len() as f64;
        let alpha = 0.7213 / (1.0 + 1.079 / m);
        (alpha * m * m / self.registers.iter().map(|&r| (-f64::from(r)).exp2()).sum::<f64>())
            .round() as u64
    }

    /// Whether `value` has been seen; `None` once values are no longer counted one by one.
    pub fn has(&self, value: u64) -> Option<bool> {
        self.is_exact().then(|| self.seen.contains(&mix(value)))
    }

    /// Whether [`Cardinality::count`] is exact.
    pub fn is_exact(&self) -> bool {
        self.registers.is_empty()
    }
}

/// A bijection that spreads every bit (splitmix64's finaliser: Steele, Lea and Flood, 2014), so
/// that equal hashes are equal values.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_while_few_and_near_when_many() {
        for (n, exact) in [
            (0u64, true),
            (1, true),
            (EXACT as u64, true),
            (EXACT as u64 + 1, false),
            (1_000_000, false),
        ] {
            let mut c = Cardinality::default();
            for round in 0..2 {
                (0..n).for_each(|i| c.add(i * 3 + 7));
                let off = c.count().abs_diff(n) as f64 / n.max(1) as f64;
                assert_eq!(c.is_exact(), exact);
                assert!(
                    if exact { off == 0.0 } else { off < 0.03 },
                    "{n}: {} in round {round}",
                    c.count()
                );
            }
        }
    }
}
