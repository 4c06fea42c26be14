//! Radix sort of numbers of 32 bits, stable: the kernels of `common/radix.cuh`, which a source
//! includes that sorts.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::launch,
};
use crate::backend::Result;

/// Keys of a tile (`TILE` in radix.cuh).
pub(super) const TILE: usize = 4096;
/// Bits of a pass, and counters of a tile.
const DIGIT: u32 = 8;

/// Words of 32 bits that counters for up to `most` keys take.
pub(super) fn counters(most: usize) -> usize {
    tiles(most) << DIGIT
}

/// Tiles of so many keys; one at least.
pub(super) fn tiles(keys: usize) -> usize {
    keys.div_ceil(TILE).max(1)
}

/// In which of the two places keys of so many bits are when they are sorted.
pub(super) fn turn(bits: u32) -> usize {
    bits.div_ceil(DIGIT) as usize % 2
}

/// What is to be sorted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sort {
    /// The file of kernels that includes radix.cuh.
    pub source: &'static Source,
    /// Where the number of keys is.
    pub count: Address,
    /// Keys at most.
    pub most: usize,
    /// Lower bits of a key that are not always 0.
    pub bits: u32,
    /// Counters ([`counters`]).
    pub counters: Address,
    /// Two places for keys, and two for a value beside each or null.
    pub pairs: [(Address, Address); 2],
}

impl Sort {
    /// Sorts what lies in the first place into place [`turn`].
    pub(super) fn run(&self, driver: &dyn Driver) -> Result<()> {
        let Sort { source, count, most, bits, counters, pairs } = *self;
        let tiles = tiles(most);
        let tiled = Launch { grid: [tiles as u32, 1, 1], ..Launch::all(1) };
        for pass in 0..bits.div_ceil(DIGIT) {
            let shift = pass * DIGIT;
            let ((keys, values), (to_keys, to_values)) =
                (pairs[pass as usize % 2], pairs[(pass as usize + 1) % 2]);
            launch!(driver, *source, "radix_count", tiled, keys, count, shift, counters)?;
            launch!(
                driver,
                *source,
                "radix_scan",
                Launch::one(),
                counters,
                (tiles << DIGIT) as u32
            )?;
            launch!(
                driver,
                *source,
                "radix_scatter",
                tiled,
                keys,
                values,
                count,
                shift,
                counters,
                to_keys,
                to_values
            )?;
        }
        Ok(())
    }
}
