//! Fully connected layers with a single output, by kernels of our own: they are bound by memory.

use super::{
    driver::{Driver, Launch, Source, gemm::Number},
    launch::{SUM_ROWS, launch},
    linear::{Gate, Onto, Params},
    memory::Place,
    scratch::{Purpose, Scratch},
};
use crate::backend::Result;

pub(super) static SOURCE: Source = Source {
    name: "thin",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/sixteen.cuh"),
        include_str!("thin.cu"),
    ],
};

/// `y = x w + b` (without a bias `x w`), then `max(y, 0)` if `relu`.
pub(super) fn forward(
    driver: &dyn Driver,
    x: Place,
    params: Params,
    relu: bool,
    y: Place,
) -> Result<()> {
    let (shape, relu) = (Launch::lanes(x.rows as usize, 32), u32::from(relu));
    let (weight, bias) = (params.weight, params.bias.unwrap_or(0));
    let (x_kind, y_kind) = (x.number.kind(), y.number.kind());
    launch!(
        driver,
        SOURCE,
        "thin_forward",
        shape,
        x.at,
        x_kind,
        x.stride,
        x.rows,
        x.cols,
        weight,
        bias,
        relu,
        y.at,
        y_kind,
        y.stride
    )
}

/// `dx = dy w`, gated, or `dx += dy w`.
pub(super) fn backward_data(
    driver: &dyn Driver,
    dy: Place,
    params: Params,
    onto: Onto,
    dx: Place,
) -> Result<()> {
    let nothing = Gate {
        activation: Place { at: 0, stride: 0, rows: 0, cols: 0, number: Number::F32 },
        factor: 1.0,
        mask: None,
    };
    let (Gate { activation: a, factor, .. }, add) = match onto {
        Onto::Set => (nothing, 0u32),
        Onto::Add => (nothing, 1),
        Onto::Gate(gate) => (gate, 0),
    };
    let shape = Launch::rows(dx.rows as usize, dx.cols as usize);
    let (dy_kind, a_kind, dx_kind) = (dy.number.kind(), a.number.kind(), dx.number.kind());
    launch!(
        driver,
        SOURCE,
        "thin_backward_data",
        shape,
        dy.at,
        dy_kind,
        dy.stride,
        dx.rows,
        dx.cols,
        params.weight,
        a.at,
        a_kind,
        a.stride,
        factor,
        add,
        dx.at,
        dx_kind,
        dx.stride
    )
}

/// `dW = dy^T x`, and with a bias `db = sum of dy`.
pub(super) fn backward_weight(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    dy: Place,
    x: Place,
    grads: Params,
) -> Result<()> {
    let (rows, cols) = (x.rows as usize, x.cols as usize + 1);
    let blocks = rows.div_ceil(SUM_ROWS);
    let partial = scratch.get(Purpose::Partials, blocks * cols * size_of::<f32>())?;
    let (dy_kind, x_kind) = (dy.number.kind(), x.number.kind());
    launch!(
        driver,
        SOURCE,
        "thin_backward_weight",
        Launch::columns(rows, cols),
        dy.at,
        dy_kind,
        dy.stride,
        x.at,
        x_kind,
        x.stride,
        x.rows,
        x.cols,
        SUM_ROWS as u32,
        partial
    )?;
    let (shape, blocks, bias) = (Launch::each(cols), blocks as u32, grads.bias.unwrap_or(0));
    launch!(
        driver,
        SOURCE,
        "thin_backward_join",
        shape,
        partial,
        blocks,
        x.cols,
        grads.weight,
        bias
    )
}
