//! Numbers to work on.

use crate::{
    batch::Bags,
    random::philox::{Philox, Stream, unit_f32},
};

/// A stream of them.
#[derive(Debug)]
pub(super) struct Numbers {
    words: Philox,
    position: u64,
}

impl Numbers {
    /// A stream for each seed.
    pub(super) fn new(seed: u64) -> Self {
        Numbers { words: Philox::new(seed, Stream::Init, 0), position: 0 }
    }

    fn word(&mut self) -> u32 {
        self.position += 1;
        self.words.block(self.position)[0]
    }

    /// Uniform in 0..n.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }

    /// Uniform in [-1, 1).
    pub(super) fn float(&mut self) -> f32 {
        2.0 * unit_f32(self.word()) - 1.0
    }

    /// Many of them.
    pub(super) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// Bags of one id each, no two of them the same, `per` times as many rows to choose from.
    pub(super) fn scattered(&mut self, samples: usize, per: usize) -> Bags {
        let mut places: Vec<usize> = (0..samples).collect();
        for i in (1..samples).rev() {
            places.swap(i, self.below(i + 1));
        }
        let mut bags = Bags::default();
        bags.clear();
        places.into_iter().for_each(|place| bags.push([(place * per + self.below(per)) as u32]));
        bags
    }

    /// Bags of 0 to `hotness` ids below `rows`, half of them from the first rows, so that rows
    /// repeat; one each if `hotness` is 0.
    pub(super) fn bags(&mut self, samples: usize, rows: usize, hotness: usize) -> Bags {
        let mut bags = Bags::default();
        bags.clear();
        for _ in 0..samples {
            let n = if hotness == 0 { 1 } else { self.below(hotness + 1) };
            let mut id = || if self.below(2) == 0 { self.below(rows) } else { self.below(rows.min(3)) } as u32;
            let ids: Vec<u32> = (0..n).map(|_| id()).collect();
            bags.push(ids);
        }
        bags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_ids_are_all_different_and_come_from_all_rows() {
        let bags = Numbers::new(1).scattered(1000, 6);
        let mut ids = bags.indices.clone();
        assert!(bags.is_one_hot() && ids.len() == 1000 && !ids.is_sorted());
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 1000 && ids[0] < 60 && (5940..6000).contains(&ids[999]), "{ids:?}");
        let of_each: Vec<usize> =
            (0..6).map(|k| ids.iter().filter(|&&id| id % 6 == k).count()).collect();
        assert!(of_each.iter().all(|n| (100..250).contains(n)), "{of_each:?}");
    }
}
