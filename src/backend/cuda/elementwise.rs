//! Element by element work, and sums of columns and of squares.

use super::{
    driver::{Address, Driver, Source, bytes_of_mut},
    launch::{SUM_ROWS, launch},
    memory::Place,
    scratch::{Purpose, Scratch},
};
use crate::backend::Result;

pub(super) static SOURCE: Source = Source {
    name: "elementwise",
    parts: &[include_str!("common/common.cuh"), include_str!("common/sixteen.cuh"), include_str!("elementwise.cu")],
};

use super::driver::Launch;

/// `dx = x > 0 ? dx * factor : 0`.
pub(super) fn gate(driver: &dyn Driver, x: Place, factor: f32, dx: Place) -> Result<()> {
    assert!(x.rows == dx.rows && x.cols == dx.cols, "a gate has its gradient's shape");
    let shape = Launch::rows(dx.rows as usize, dx.cols as usize);
    launch!(driver, SOURCE, "gate", shape, x.at, x.stride, dx.at, dx.stride, dx.rows, dx.cols, factor)
}

/// `x *= factor`.
pub(super) fn scale(driver: &dyn Driver, factor: f32, x: Place) -> Result<()> {
    let shape = Launch::rows(x.rows as usize, x.cols as usize);
    launch!(driver, SOURCE, "scale", shape, x.at, x.stride, x.rows, x.cols, factor)
}

/// Whether no element is infinite or NaN.
pub(super) fn all_finite(driver: &dyn Driver, scratch: &mut Scratch, x: Place) -> Result<bool> {
    let flag = scratch.get(Purpose::Answer, size_of::<u32>())?;
    driver.zero(flag, size_of::<u32>())?;
    let shape = Launch::rows(x.rows as usize, x.cols as usize);
    launch!(driver, SOURCE, "not_finite", shape, x.at, x.stride, x.rows, x.cols, flag)?;
    let mut found = [0u32];
    driver.to_host(flag, bytes_of_mut(&mut found))?;
    Ok(found[0] == 0)
}

/// Sets `n` elements.
pub(super) fn fill(driver: &dyn Driver, at: Address, n: usize, value: f32) -> Result<()> {
    launch!(driver, SOURCE, "fill", Launch::all(n), at, n as u64, value)
}

/// `y += bias`, then `max(y, 0)` if `relu`: the end of a product where cuBLASLt has none.
pub(super) fn bias_relu(driver: &dyn Driver, y: Place, bias: Address, relu: bool) -> Result<()> {
    let shape = Launch::rows(y.rows as usize, y.cols as usize);
    launch!(driver, SOURCE, "bias_relu", shape, y.at, y.stride, y.rows, y.cols, bias, u32::from(relu))
}

/// Rounds `x` to 16 bits (`kind` as in sixteen.cuh), rows of `padded` elements.
pub(super) fn round16(driver: &dyn Driver, x: Place, to: Address, padded: usize, kind: u32) -> Result<()> {
    let shape = Launch::rows(x.rows as usize, padded);
    launch!(driver, SOURCE, "round16", shape, x.at, x.stride, x.rows, x.cols, to, padded as u32, kind)
}

/// `out[c]` = sum of column `c` of `x`.
pub(super) fn column_sums(driver: &dyn Driver, scratch: &mut Scratch, x: Place, out: Address) -> Result<()> {
    let (rows, cols) = (x.rows as usize, x.cols as usize);
    let partial = scratch.get(Purpose::Partials, rows.div_ceil(SUM_ROWS) * cols * size_of::<f32>())?;
    let shape = Launch::columns(rows, cols);
    launch!(driver, SOURCE, "column_sums_part", shape, x.at, x.stride, x.rows, x.cols, SUM_ROWS as u32, partial)?;
    join_columns(driver, partial, rows.div_ceil(SUM_ROWS), cols, out)
}

/// `out[c]` = sum of column `c` of `blocks` rows.
pub(super) fn join_columns(driver: &dyn Driver, partial: Address, blocks: usize, cols: usize, out: Address) -> Result<()> {
    launch!(driver, SOURCE, "column_sums_join", Launch::each(cols), partial, blocks as u32, cols as u32, out)
}

/// Sum of squares of `n` elements, in f64.
pub(super) fn sum_squares(driver: &dyn Driver, scratch: &mut Scratch, x: Address, n: usize) -> Result<f64> {
    let shape = Launch::sums(n);
    let partial = scratch.get(Purpose::Partials, shape.grid[0] as usize * size_of::<f64>())?;
    launch!(driver, SOURCE, "squares_part", shape, x, n as u64, partial)?;
    sum(driver, scratch, partial, shape.grid[0] as usize)
}

/// Sum of `n` numbers of f64, to the host.
pub(super) fn sum(driver: &dyn Driver, scratch: &mut Scratch, numbers: Address, n: usize) -> Result<f64> {
    let out = scratch.get(Purpose::Answer, size_of::<f64>())?;
    launch!(driver, SOURCE, "sum_join", Launch::one(), numbers, n as u64, out)?;
    let mut sum = [0u64];
    driver.to_host(out, bytes_of_mut(&mut sum))?;
    Ok(f64::from_bits(sum[0]))
}
