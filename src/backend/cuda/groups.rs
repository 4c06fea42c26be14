//! Which samples touch which row: the occurrences of all tables sorted by row, and by sample within
//! a row. Where tables have slots for some rows of larger ones, it is those rows that they are sorted
//! by, so that nothing depends on which of them has which slot.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::launch,
    memory::Input,
    radix::{self, Sort},
};
use crate::backend::Result;

pub(super) static SOURCE: Source = Source {
    name: "groups",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/radix.cuh"),
        include_str!("groups.cu"),
    ],
};

/// Words of 32 bits that sorting up to `max_ids` occurrences needs: keys and samples, twice each,
/// and counters.
pub(super) fn words(max_ids: usize) -> usize {
    4 * max_ids + radix::counters(max_ids)
}

/// Where the sorted keys and their samples are.
pub(super) fn sorted(input: &Input) -> (Address, Address) {
    pair(input, radix::turn(input.told_apart().bits()))
}

/// One of the two places, which take turns.
fn pair(input: &Input, turn: usize) -> (Address, Address) {
    let word = |n: usize| input.sorted.at() + (n * size_of::<u32>()) as Address;
    (word(2 * turn * input.max_ids), word((2 * turn + 1) * input.max_ids))
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
    let (offsets, base, ids, rows) =
        (input.offsets(0), input.id_base(0), input.ids(), input.told_apart().at(0));
    let behind = input.behind();
    launch!(
        driver,
        SOURCE,
        "occurrences",
        shape,
        offsets,
        base,
        ids,
        behind,
        rows,
        input.len as u32,
        keys,
        samples
    )?;
    let sort = Sort {
        source: &SOURCE,
        count: input.id_count(),
        most,
        bits: input.told_apart().bits(),
        counters: input.sorted.at() + (4 * input.max_ids * size_of::<u32>()) as Address,
        pairs: [pair(input, 0), pair(input, 1)],
    };
    sort.run(driver)
}
