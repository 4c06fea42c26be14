//! Matrices that go to the host or come from it in one piece, row behind row: one copy instead of
//! one a row.

use super::{
    driver::{Address, Driver, bytes_of, bytes_of_mut, gemm::Number},
    elementwise,
    memory::Place,
    scratch::{Purpose, Scratch},
};
use crate::backend::Result;

/// The shape of a matrix, in f32 without a gap.
pub(super) fn packed(at: Address, like: Place) -> Place {
    Place { at, stride: like.cols, number: Number::F32, ..like }
}

/// Copies a matrix out; `out` has just its elements.
pub(super) fn read(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    x: Place,
    out: &mut [f32],
) -> Result<()> {
    assert_eq!(out.len(), x.rows as usize * x.cols as usize, "room for a matrix");
    if out.is_empty() {
        return Ok(());
    }
    let at = scratch.get(Purpose::Matrix, size_of_val(out))?;
    elementwise::add(driver, x, false, packed(at, x))?;
    driver.to_host(at, bytes_of_mut(out))
}

/// Sets a matrix to `values`, which are just its elements.
pub(super) fn write(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    to: Place,
    values: &[f32],
) -> Result<()> {
    assert_eq!(values.len(), to.rows as usize * to.cols as usize, "values of a matrix");
    if values.is_empty() {
        return Ok(());
    }
    let at = scratch.get(Purpose::Matrix, size_of_val(values))?;
    driver.to_device(at, bytes_of(values))?;
    elementwise::add(driver, packed(at, to), false, to)
}
