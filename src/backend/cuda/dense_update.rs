//! Updates of dense parameters, and the constants of a step as kernels read them.

use super::{
    driver::{Address, Driver, Launch, Plain, Source, bytes_of},
    launch::launch,
    scratch::{Purpose, Scratch},
};
use crate::{
    backend::{Result, Update},
    optim::rules::Step,
};

pub(super) static SOURCE: Source = Source {
    name: "dense_update",
    parts: &[include_str!("common/common.cuh"), include_str!("common/rules.cuh"), include_str!("dense_update.cu")],
};

/// `Step` of rules.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Constants {
    kind: u32,
    lr: f32,
    eps: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    rate: f32,
    root: f32,
    scale: f32,
    key: [u32; 2],
    number: [u32; 2],
}
// SAFETY: thirteen numbers of 32 bits.
unsafe impl Plain for Constants {}

impl Constants {
    fn of(update: &Update) -> Self {
        let (seed, number) = update.noise;
        let words = |x: u64| [x as u32, (x >> 32) as u32];
        let common = Constants { scale: update.scale, key: words(seed), number: words(number), ..Constants::default() };
        match update.step {
            Step::Sgd(r) => Constants { kind: 0, lr: r.lr, ..common },
            Step::Adagrad(r) => Constants { kind: 1, lr: r.lr, eps: r.eps, ..common },
            Step::RowwiseAdagrad(r) => Constants { kind: 2, lr: r.lr, eps: r.eps, ..common },
            Step::Adam(r) => Constants {
                kind: 3,
                eps: r.eps,
                one_minus_beta1: r.one_minus_beta1,
                beta2: r.beta2,
                one_minus_beta2: r.one_minus_beta2,
                rate: r.rate,
                root: r.root,
                ..common
            },
        }
    }
}

/// Brings the constants of an update over.
pub(super) fn constants(driver: &dyn Driver, scratch: &mut Scratch, update: &Update) -> Result<Address> {
    let at = scratch.get(Purpose::Step, size_of::<Constants>())?;
    driver.to_device(at, bytes_of(&[Constants::of(update)]))?;
    Ok(at)
}

/// Updates `n` parameters; `state` are the rule's buffers.
pub(super) fn update(
    driver: &dyn Driver,
    scratch: &mut Scratch,
    n: usize,
    (params, grads): (Address, Address),
    state: [Address; 2],
    update: &Update,
) -> Result<()> {
    let step = constants(driver, scratch, update)?;
    launch!(driver, SOURCE, "dense_update", Launch::all(n), params, grads, state[0], state[1], n as u64, step)
}
