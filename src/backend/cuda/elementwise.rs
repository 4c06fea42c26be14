//! Element by element work, and sums of columns and of squares.

use super::{
    driver::{Address, Driver, Source, gemm::Number},
    launch::{SUM_ROWS, launch},
    memory::Place,
    scratch::{Purpose, Scratch},
};
use crate::backend::{Join, Result};

pub(super) static SOURCE: Source = Source {
    name: "elementwise",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/sixteen.cuh"),
        include_str!("elementwise.cu"),
    ],
};

use super::driver::Launch;

/// `dx = x > 0 ? dx * factor : 0`.
pub(super) fn gate(driver: &dyn Driver, x: Place, factor: f32, dx: Place) -> Result<()> {
    assert!(x.rows == dx.rows && x.cols == dx.cols, "a gate has its gradient's shape");
    let shape = Launch::rows(dx.rows as usize, dx.cols as usize);
    let (x_kind, dx_kind) = (x.number.kind(), dx.number.kind());
    launch!(
        driver, SOURCE, "gate", shape, x.at, x_kind, x.stride, dx.at, dx_kind, dx.stride, dx.rows,
        dx.cols, factor
    )
}

/// Sets `flag`, a number of 32 bits, to 1 if an element is infinite or NaN.
pub(super) fn check_finite(driver: &dyn Driver, x: Place, flag: Address) -> Result<()> {
    let shape = Launch::wide(x.rows as usize, x.cols as usize);
    launch!(
        driver,
        SOURCE,
        "not_finite",
        shape,
        x.at,
        x.number.kind(),
        x.stride,
        x.rows,
        x.cols,
        flag
    )
}

/// Sets `n` elements.
pub(super) fn fill(
    driver: &dyn Driver,
    at: Address,
    number: Number,
    n: usize,
    value: f32,
) -> Result<()> {
    launch!(driver, SOURCE, "fill", Launch::all(n), at, number.kind(), n as u64, value)
}

/// `y = z + bias` (without a bias `z`), then `max(y, 0)` if `relu`: the end of a product where cuBLASLt has none. `z` is
/// f32; it may be `y`.
pub(super) fn bias_relu(
    driver: &dyn Driver,
    z: Place,
    bias: Option<Address>,
    relu: bool,
    y: Place,
) -> Result<()> {
    assert!(
        z.rows == y.rows && z.cols == y.cols && z.number == Number::F32,
        "a product and its end"
    );
    let bias = bias.unwrap_or(0);
    let (shape, relu, kind) =
        (Launch::rows(y.rows as usize, y.cols as usize), u32::from(relu), y.number.kind());
    launch!(
        driver,
        SOURCE,
        "bias_relu",
        shape,
        z.at,
        z.stride,
        z.rows,
        z.cols,
        bias,
        relu,
        y.at,
        kind,
        y.stride
    )
}

/// `to = x`, or `to += x` if `there`.
pub(super) fn add(driver: &dyn Driver, x: Place, there: bool, to: Place) -> Result<()> {
    assert!((x.rows, x.cols) == (to.rows, to.cols), "terms of one shape");
    let shape = Launch::rows(to.rows as usize, to.cols as usize);
    let (x_kind, there, to_kind) = (x.number.kind(), u32::from(there), to.number.kind());
    launch!(
        driver, SOURCE, "add", shape, x.at, x_kind, x.stride, to.rows, to.cols, there, to.at,
        to_kind, to.stride
    )
}

/// `out = a * b + c`, or `a * b`.
pub(super) fn multiply_add(
    driver: &dyn Driver,
    [a, b]: [Place; 2],
    c: Option<Place>,
    out: Place,
) -> Result<()> {
    assert!(
        [a, b].iter().chain(&c).all(|x| (x.rows, x.cols) == (out.rows, out.cols)),
        "factors and terms have the result's shape"
    );
    let shape = Launch::rows(out.rows as usize, out.cols as usize);
    let c = c.unwrap_or(Place { at: 0, ..a });
    let [a_kind, b_kind, c_kind, out_kind] = [a, b, c, out].map(|x| x.number.kind());
    launch!(
        driver,
        SOURCE,
        "multiply_add",
        shape,
        a.at,
        a_kind,
        a.stride,
        b.at,
        b_kind,
        b.stride,
        c.at,
        c_kind,
        c.stride,
        out.rows,
        out.cols,
        out.at,
        out_kind,
        out.stride
    )
}

/// `db = a * g`, `da = b * g`, to which `join` is added, from `[a, b, g]`.
pub(super) fn multiply_add_backward(
    driver: &dyn Driver,
    given: [Place; 3],
    (da, join): (Place, Join),
    db: Place,
) -> Result<()> {
    assert!(
        given.iter().chain([&da]).all(|x| (x.rows, x.cols) == (db.rows, db.cols)),
        "factors have their gradients' shape"
    );
    let shape = Launch::rows(db.rows as usize, db.cols as usize);
    let [a, b, g] = given;
    let [a_kind, b_kind, g_kind, da_kind, db_kind] = [a, b, g, da, db].map(|x| x.number.kind());
    let (there, sum) = (u32::from(join.there), u32::from(join.sum));
    launch!(
        driver,
        SOURCE,
        "multiply_add_backward",
        shape,
        a.at,
        a_kind,
        a.stride,
        b.at,
        b_kind,
        b.stride,
        g.at,
        g_kind,
        g.stride,
        db.rows,
        db.cols,
        there,
        sum,
        da.at,
        da_kind,
        da.stride,
        db.at,
        db_kind,
        db.stride
    )
}

/// Rounds `x`, f32, to 16-bit numbers, rows of `padded` elements.
pub(super) fn round16(
    driver: &dyn Driver,
    x: Place,
    to: Address,
    padded: usize,
    number: Number,
) -> Result<()> {
    let kind = number.kind();
    let shape = Launch::rows(x.rows as usize, padded);
    launch!(
        driver,
        SOURCE,
        "round16",
        shape,
        x.at,
        x.stride,
        x.rows,
        x.cols,
        to,
        padded as u32,
        kind
    )
}

/// `out[c]` = sum of column `c` of `x`.
pub(super) fn column_sums(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    x: Place,
    out: Address,
) -> Result<()> {
    let (rows, cols) = (x.rows as usize, x.cols as usize);
    let partial =
        scratch.get(Purpose::Partials, rows.div_ceil(SUM_ROWS) * cols * size_of::<f32>())?;
    let shape = Launch::columns(rows, cols);
    let kind = x.number.kind();
    launch!(
        driver,
        SOURCE,
        "column_sums_part",
        shape,
        x.at,
        kind,
        x.stride,
        x.rows,
        x.cols,
        SUM_ROWS as u32,
        partial
    )?;
    join_columns(driver, partial, rows.div_ceil(SUM_ROWS), cols, out)
}

/// `out[c]` = sum of column `c` of `blocks` rows.
pub(super) fn join_columns(
    driver: &dyn Driver,
    partial: Address,
    blocks: usize,
    cols: usize,
    out: Address,
) -> Result<()> {
    launch!(
        driver,
        SOURCE,
        "column_sums_join",
        Launch::each(cols),
        partial,
        blocks as u32,
        cols as u32,
        out
    )
}

/// Adds the sum of squares of `n` elements to `to`, in f64.
pub(super) fn add_squares(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    x: Address,
    n: usize,
    to: Address,
) -> Result<()> {
    let shape = Launch::sums(n);
    let blocks = shape.grid[0] as usize;
    let partial = scratch.get(Purpose::Partials, blocks * size_of::<f64>())?;
    launch!(driver, SOURCE, "squares_part", shape, x, n as u64, partial)?;
    add_sum(driver, partial, blocks, to)
}

/// Adds the sum of `n` numbers of f64 to `to`.
pub(super) fn add_sum(driver: &dyn Driver, numbers: Address, n: usize, to: Address) -> Result<()> {
    launch!(driver, SOURCE, "add_sum", Launch::one(), numbers, n as u64, to)
}
