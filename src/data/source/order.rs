//! A new order every epoch: of samples, of batches, of row groups.

use crate::random::philox::{Philox, Stream};

/// The order of things `0..n` in one epoch.
pub(super) struct Order {
    seed: u64,
    epoch: Option<u64>,
    things: Vec<u32>,
}

impl Order {
    /// Orders of `n` things, by `seed`.
    pub fn new(seed: u64, n: u32) -> Self {
        Order { seed, epoch: None, things: (0..n).collect() }
    }

    /// Fisher and Yates' shuffle of 0..n; swap `i` is drawn from position `i` of the epoch's stream.
    pub fn of_epoch(&mut self, epoch: u64) -> &[u32] {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.things.iter_mut().zip(0..).for_each(|(s, i)| *s = i);
            let philox = Philox::new(self.seed, Stream::Shuffle, epoch);
            for i in (1..self.things.len()).rev() {
                let word = philox.block_u64(i as u64)[0];
                // The high half of word * (i + 1): uniform on 0..=i up to 2^-32.
                let j = (u128::from(word) * (i as u128 + 1)) >> 64;
                self.things.swap(i, j as usize);
            }
        }
        &self.things
    }
}
