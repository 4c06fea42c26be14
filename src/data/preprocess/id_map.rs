//! Numbers raw ids in the order in which they first appear.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Contiguous numbers for raw 32-bit ids, in order of first appearance.
#[derive(Debug, Default)]
pub struct IdMap(HashMap<u32, u32, BuildHasherDefault<Fold>>);

impl IdMap {
    /// The number of `raw`; a new one if it has not been seen.
    pub fn number(&mut self, raw: u32) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(raw).or_insert(next)
    }

    /// Different ids seen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no id has been seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One multiplication, its halves folded: raw ids are hashes already, but small ones after a modulo must spread as well.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u32(u32::from(b)));
    }

    fn write_u32(&mut self, x: u32) {
        let product = (self.0 ^ u64::from(x)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_first_appearance() {
        let mut map = IdMap::default();
        assert!(map.is_empty());
        let numbers: Vec<u32> = [9, 0, u32::MAX, 9, 4, 0].iter().map(|&x| map.number(x)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 3, 1]);
        assert_eq!(map.len(), 4);
        for x in 0..100_000u32 {
            map.number(x << 12);
        }
        assert_eq!(map.number(99_999 << 12), map.number(99_999 << 12));
    }
}
