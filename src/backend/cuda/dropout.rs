//! Dropout, drawn by element: the same bits as on the CPU.

use super::{
    driver::{Driver, Launch, Source},
    launch::launch,
    memory::Place,
    step_control::StepState,
};
use crate::{
    backend::{self, Result},
    random::philox::Philox,
};

pub(super) static SOURCE: Source = Source {
    name: "dropout",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/philox.cuh"),
        include_str!("dropout.cu"),
    ],
};

/// Drops elements of `x` in place.
pub(super) fn apply(
    driver: &dyn Driver,
    step: &StepState,
    dropout: backend::Dropout,
    x: Place,
) -> Result<()> {
    let backend::Dropout { layer, p, first } = dropout;
    let ([key0, key1], [high0, high1]) = Philox::dropout(step.seed(), 0, layer).words();
    let number = step.number();
    // A word is dropped if its upper 24 bits, as a number in [0, 1), are below p.
    let threshold = (f64::from(p) * 16_777_216.0).ceil() as u32;
    let (shape, factor) = (Launch::rows(x.rows as usize, x.cols as usize), 1.0 / (1.0 - p));
    let first = first as u32;
    launch!(
        driver, SOURCE, "dropout", shape, x.at, x.stride, first, x.rows, x.cols, key0, key1, high0,
        high1, number, threshold, factor
    )
}
