//! A new order every epoch: of samples, of batches, of row groups.

use crate::random::philox::{Philox, Stream};

/// The order of things `0..n` in one epoch.
pub(super) struct Order {
    seed: u64,
    epoch: Option<u64>,
    things: Vec<u32>,
    /// Ends of the groups that are shuffled each for itself.
    ends: Vec<usize>,
}

impl Order {
    /// Orders of `n` things, by `seed`.
    pub fn new(seed: u64, n: u32) -> Self {
        Order::grouped(seed, &[n])
    }

    /// Orders of groups of so many things, which stay in order themselves, each shuffled. There are
    /// fewer than 2^32 things.
    pub fn grouped(seed: u64, groups: &[u32]) -> Self {
        let ends: Vec<usize> = groups
            .iter()
            .scan(0, |end, &n| Some(std::mem::replace(end, *end + n as usize) + n as usize))
            .collect();
        Order {
            seed,
            epoch: None,
            things: (0..ends.last().map_or(0, |&end| end as u32)).collect(),
            ends,
        }
    }

    /// Fisher and Yates' shuffle of each group; swap `i` is drawn from position `i` of the epoch's
    /// stream.
    pub fn of_epoch(&mut self, epoch: u64) -> &[u32] {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.things.iter_mut().zip(0..).for_each(|(s, i)| *s = i);
            let philox = Philox::new(self.seed, Stream::Shuffle, epoch);
            let mut start = 0;
            for &end in &self.ends {
                for i in (start + 1..end).rev() {
                    let word = philox.block_u64(i as u64)[0];
                    // The high half of word * (number of places): uniform on them up to 2^-32.
                    let j = (u128::from(word) * ((i - start) as u128 + 1)) >> 64;
                    self.things.swap(i, start + j as usize);
                }
                start = end;
            }
        }
        &self.things
    }
}
