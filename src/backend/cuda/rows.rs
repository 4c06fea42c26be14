//! Rows of tables by their numbers, out of a GPU's memory and into it.

use super::{
    driver::{Address, Driver, Launch, Source, bytes_of, bytes_of_mut},
    launch::launch,
    scratch::{Purpose, Scratch},
    tables::Tables,
};
use crate::backend::{PART, Result, RowsOf};
use std::ops::Range;

pub(super) static SOURCE: Source = Source {
    name: "rows",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/sixteen.cuh"),
        include_str!("rows.cu"),
    ],
};

/// Table, what of it as the kernels number it, and the numbers of a row.
pub(super) fn place(tables: &Tables, of: RowsOf) -> (usize, u32, usize) {
    match of {
        RowsOf::Values(k) => (k, 0, tables.dim),
        RowsOf::Weights(k) => (k, 1, 1),
        RowsOf::State(s) => {
            let width = tables.width(s);
            (s.table, (if s.of_weights { 4 } else { 2 }) + s.buffer as u32, width)
        }
    }
}

/// Calls `f(range of values, where they are to be, where the rows' numbers are)` for parts of
/// rows that fit into scratch space.
fn parts(
    (driver, scratch): (&dyn Driver, &mut Scratch),
    rows: &[u32],
    width: usize,
    f: &mut dyn FnMut(Range<usize>, Address, Address) -> Result<()>,
) -> Result<()> {
    // In powers of two: scratch space that grows ends all graphs.
    let most = (PART / width).max(1).min(rows.len().next_power_of_two());
    let values = most * width * size_of::<f32>();
    let at = scratch.get(Purpose::Rows, values + most * size_of::<u32>())?;
    let numbers = at + values as Address;
    for (k, rows) in rows.chunks(most).enumerate() {
        driver.to_device(numbers, bytes_of(rows))?;
        let first = k * most * width;
        f(first..first + rows.len() * width, at, numbers)?;
    }
    Ok(())
}

/// Gathers `rows` rows, whose numbers are at `numbers`, at `to`.
pub(super) fn get(
    driver: &dyn Driver,
    tables: &Tables,
    of: RowsOf,
    rows: usize,
    numbers: Address,
    to: Address,
) -> Result<()> {
    let (table, what, width) = place(tables, of);
    let (k, kind, each, n) = (table as u32, tables.kind as u32, width as u32, rows * width);
    let (shape, n) = (Launch::all(n), n as u64);
    launch!(driver, SOURCE, "read_rows", shape, tables.at(), k, what, kind, each, numbers, n, to)
}

/// Sets them, no row twice.
pub(super) fn set(
    driver: &dyn Driver,
    tables: &Tables,
    of: RowsOf,
    rows: usize,
    numbers: Address,
    from: Address,
) -> Result<()> {
    let (table, what, width) = place(tables, of);
    let (k, kind, each, n) = (table as u32, tables.kind as u32, width as u32, rows * width);
    let (shape, n) = (Launch::all(n), n as u64);
    launch!(driver, SOURCE, "write_rows", shape, tables.at(), k, what, kind, each, numbers, n, from)
}

/// Copies rows out, one after another, after everything asked for before is done.
pub(super) fn read(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    tables: &Tables,
    of: RowsOf,
    rows: &[u32],
    out: &mut [f32],
) -> Result<()> {
    let (table, what, width) = place(tables, of);
    tables.check_rows(table, rows, out.len(), width);
    if rows.is_empty() || (what == 1 && !tables.weighted()) {
        return Ok(());
    }
    parts((driver, scratch), rows, width, &mut |range, at, numbers| {
        get(driver, tables, of, range.len() / width, numbers, at)?;
        driver.to_host(at, bytes_of_mut(&mut out[range]))
    })
}

/// Sets rows, no row twice; their values are rounded as rows are kept.
pub(super) fn write(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    tables: &mut Tables,
    of: RowsOf,
    rows: &[u32],
    values: &[f32],
) -> Result<()> {
    let (table, what, width) = place(tables, of);
    tables.check_rows(table, rows, values.len(), width);
    if rows.is_empty() || (what == 1 && !tables.weighted()) {
        return Ok(());
    }
    if what == 0 {
        tables.touch_one(table);
    }
    parts((driver, scratch), rows, width, &mut |range, at, numbers| {
        driver.to_device(at, bytes_of(&values[range.clone()]))?;
        set(driver, tables, of, range.len() / width, numbers, at)
    })
}
