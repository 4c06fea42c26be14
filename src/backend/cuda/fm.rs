//! Pooling of factorisation machines (Rendle 2010), and dense columns as fields.

use super::{
    driver::{Address, Driver, Launch, Source},
    elementwise,
    launch::{SUM_ROWS, launch},
    memory::Place,
    scratch::{Purpose, Scratch},
};
use crate::backend::Result;

pub(super) static SOURCE: Source =
    Source { name: "fm", parts: &[include_str!("common/common.cuh"), include_str!("fm.cu")] };

/// `logits += sum of linear's columns + sum_{i<j} <v_i, v_j>`.
pub(super) fn forward(
    driver: &dyn Driver,
    v: Place,
    dim: usize,
    linear: Place,
    logits: Place,
) -> Result<()> {
    check(v, dim, linear, logits);
    let shape = Launch::lanes(v.rows as usize, dim.next_power_of_two().min(32));
    launch!(
        driver,
        SOURCE,
        "fm_forward",
        shape,
        v.at,
        v.stride,
        v.rows,
        linear.cols,
        dim as u32,
        linear.at,
        linear.stride,
        logits.at,
        logits.stride
    )
}

/// `dv_i += dlogit * (sum_j v_j - v_i)`; `dlinear = dlogit` in all columns.
pub(super) fn backward(
    driver: &dyn Driver,
    v: Place,
    dim: usize,
    dlogits: Place,
    dv: Place,
    dlinear: Place,
) -> Result<()> {
    check(v, dim, dlinear, dlogits);
    check(dv, dim, dlinear, dlogits);
    let shape = Launch::rows(v.rows as usize, dim);
    launch!(
        driver,
        SOURCE,
        "fm_backward",
        shape,
        v.at,
        v.stride,
        v.rows,
        dlinear.cols,
        dim as u32,
        dlogits.at,
        dlogits.stride,
        dv.at,
        dv.stride,
        dlinear.at,
        dlinear.stride
    )
}

fn check(v: Place, dim: usize, linear: Place, logits: Place) {
    assert!(
        v.cols as usize == linear.cols as usize * dim && logits.cols == 1,
        "a vector and a scalar for each field"
    );
    assert!(v.rows == linear.rows && v.rows == logits.rows, "as many samples everywhere");
}

/// `out[b, j * dim + k] = x[b, j] * w[j, k]`.
pub(super) fn fields_forward(
    driver: &dyn Driver,
    x: Place,
    weight: Address,
    dim: usize,
    out: Place,
) -> Result<()> {
    assert!(
        out.cols as usize == x.cols as usize * dim && out.rows == x.rows,
        "a vector for each column"
    );
    let shape = Launch::rows(x.rows as usize, out.cols as usize);
    launch!(
        driver,
        SOURCE,
        "fields_forward",
        shape,
        x.at,
        x.stride,
        x.rows,
        x.cols,
        dim as u32,
        weight,
        out.at,
        out.stride
    )
}

/// `dw[j, k] = sum_b x[b, j] * dout[b, j * dim + k]`.
pub(super) fn fields_backward(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    x: Place,
    dout: Place,
    dim: usize,
    dw: Address,
) -> Result<()> {
    assert!(
        dout.cols as usize == x.cols as usize * dim && dout.rows == x.rows,
        "a vector for each column"
    );
    let (rows, cols) = (x.rows as usize, dout.cols as usize);
    let blocks = rows.div_ceil(SUM_ROWS);
    let partial = scratch.get(Purpose::Partials, blocks * cols * size_of::<f32>())?;
    let shape = Launch::columns(rows, cols);
    launch!(
        driver,
        SOURCE,
        "fields_backward",
        shape,
        x.at,
        x.stride,
        x.rows,
        x.cols,
        dim as u32,
        dout.at,
        dout.stride,
        SUM_ROWS as u32,
        partial
    )?;
    elementwise::join_columns(driver, partial, blocks, cols, dw)
}
