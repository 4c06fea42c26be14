//! Updates of dense parameters.

use super::{
    driver::{Address, Driver, Launch, Source},
    launch::launch,
    rules,
};
use crate::backend::Result;

pub(super) static SOURCE: Source = Source {
    name: "dense_update",
    parts: &[
        include_str!("common/common.cuh"),
        rules::FORMULAS,
        include_str!("common/rules.cuh"),
        include_str!("dense_update.cu"),
    ],
};

/// Updates `n` parameters by the `step` that is there (`Step` of rules.cuh); `state` are the rule's
/// buffers.
pub(super) fn update(
    driver: &dyn Driver,
    n: usize,
    (params, grads): (Address, Address),
    state: [Address; 2],
    step: Address,
) -> Result<()> {
    launch!(
        driver,
        SOURCE,
        "dense_update",
        Launch::all(n),
        params,
        grads,
        state[0],
        state[1],
        n as u64,
        step
    )
}
