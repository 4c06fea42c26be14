//! Which samples touch which row: the occurrences of all tables sorted by row, and by sample within a row.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::launch,
    memory::Input,
};
use crate::backend::Result;

pub(super) static SOURCE: Source =
    Source { name: "groups", parts: &[include_str!("common/common.cuh"), include_str!("groups.cu")] };

/// Occurrences of a tile (`TILE` in groups.cu).
const TILE: usize = 4096;
/// Bits of a pass, and counters of a tile.
const DIGIT: u32 = 8;

/// Words of 32 bits that sorting up to `max_ids` occurrences needs: keys and samples, twice each, and counters.
pub(super) fn words(max_ids: usize) -> usize {
    4 * max_ids + (max_ids.div_ceil(TILE).max(1) << DIGIT)
}

/// Where the sorted keys and their samples are.
pub(super) fn sorted(input: &Input) -> (Address, Address) {
    pair(input, passes(input) % 2)
}

/// One of the two places, which take turns.
fn pair(input: &Input, turn: u32) -> (Address, Address) {
    let turn = turn as usize;
    let word = |n: usize| input.sorted.at() + (n * size_of::<u32>()) as Address;
    (word(2 * turn * input.max_ids), word((2 * turn + 1) * input.max_ids))
}

/// Passes that tell all rows apart.
fn passes(input: &Input) -> u32 {
    (usize::BITS - input.rows.saturating_sub(1).leading_zeros()).div_ceil(DIGIT)
}

/// Sorts the occurrences of the present batch.
pub(super) fn sort(driver: &dyn Driver, input: &Input) -> Result<()> {
    let most = input.most_ids();
    if most == 0 {
        return Ok(());
    }
    let (keys, samples) = pair(input, 0);
    let mut shape = Launch::all(input.len);
    shape.grid[1] = input.tables as u32;
    let (offsets, base, ids, rows) = (input.offsets(), input.id_base(), input.ids(), input.row_base.at());
    launch!(driver, SOURCE, "occurrences", shape, offsets, base, ids, rows, input.len as u32, keys, samples)?;
    let (count, tiles) = (input.id_count(), most.div_ceil(TILE));
    let counts = input.sorted.at() + (4 * input.max_ids * size_of::<u32>()) as Address;
    let tiled = Launch { grid: [tiles as u32, 1, 1], ..Launch::all(1) };
    for pass in 0..passes(input) {
        let shift = pass * DIGIT;
        let ((keys, samples), (to_keys, to_samples)) = (pair(input, pass % 2), pair(input, (pass + 1) % 2));
        launch!(driver, SOURCE, "radix_count", tiled, keys, count, shift, counts)?;
        launch!(driver, SOURCE, "radix_scan", Launch::one(), counts, (tiles << DIGIT) as u32)?;
        launch!(driver, SOURCE, "radix_scatter", tiled, keys, samples, count, shift, counts, to_keys, to_samples)?;
    }
    Ok(())
}
