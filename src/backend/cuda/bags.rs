//! Embedding bags: the rows of each bag pooled into one vector, all tables of a set in one launch.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::launch,
    memory::{Input, Place},
    tables::Tables,
};
use crate::{backend::Result, model::Pooling};

pub(super) static SOURCE: Source = Source {
    name: "bags",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/sixteen.cuh"),
        include_str!("bags.cu"),
    ],
};

/// Pools bag `b` of table `k` into columns `k * dim..(k + 1) * dim` of row `b` of `out`.
pub(super) fn forward(
    driver: &dyn Driver,
    tables: &Tables,
    input: &Input,
    out: Place,
) -> Result<()> {
    let (count, dim) = (tables.rows.len(), tables.dim);
    if count == 0 {
        return Ok(());
    }
    assert!(
        out.cols as usize == count * dim
            && out.rows as usize == input.len
            && tables.column + count <= input.tables,
        "shapes of pooled vectors"
    );
    let lanes = dim.div_ceil(4).next_power_of_two().min(32);
    let mut shape = Launch::lanes(input.len, lanes);
    shape.grid[1] = count as u32;
    let aligned = u32::from(dim.is_multiple_of(4));
    let four = 4 * out.number.bytes() as u64;
    let out_aligned = u32::from(
        dim.is_multiple_of(4) && out.stride.is_multiple_of(4) && out.at.is_multiple_of(four),
    );
    let out_kind = out.number.kind();
    let (mean, weighted) =
        (u32::from(tables.pooling == Pooling::Mean), u32::from(tables.weighted()));
    launch!(
        driver,
        SOURCE,
        "bags_forward",
        shape,
        tables.at(),
        tables.kind as u32,
        dim as u32,
        aligned,
        input.offsets(tables.column),
        input.id_base(tables.column),
        input.ids(),
        out.rows,
        mean,
        weighted,
        out.at,
        out_kind,
        out.stride,
        out_aligned
    )
}

/// Elements `at..at + n` of table `k` to f32.
pub(super) fn widen(
    driver: &dyn Driver,
    tables: &Tables,
    k: usize,
    at: usize,
    n: usize,
    to: Address,
) -> Result<()> {
    let (table, kind, shape) = (k as u32, tables.kind as u32, Launch::all(n));
    launch!(driver, SOURCE, "widen", shape, tables.at(), table, kind, at as u64, n as u64, to)
}

/// Elements `at..at + n` of table `k` from f32, each rounded to the nearest that can be kept.
pub(super) fn narrow(
    driver: &dyn Driver,
    tables: &Tables,
    k: usize,
    at: usize,
    n: usize,
    from: Address,
) -> Result<()> {
    let (table, kind, shape) = (k as u32, tables.kind as u32, Launch::all(n));
    launch!(driver, SOURCE, "narrow", shape, tables.at(), table, kind, at as u64, n as u64, from)
}
