//! Devices for tests.

use super::driver::{Driver, emulated::Emulated, real::Gpu};
use std::rc::Rc;

/// Whether device `d` of [`devices`] takes case `n`: an emulated one takes one of every `of`, no two
/// the same; a GPU takes all.
pub(crate) fn in_turn(d: usize, n: usize, of: usize) -> bool {
    d > 1 || n % of == d
}

/// Every device that there is: the emulated one, with and without ends of products, and a GPU if
/// the machine has one. Says what is missing.
pub(crate) fn devices() -> Vec<Rc<dyn Driver>> {
    let mut devices: Vec<Rc<dyn Driver>> =
        [false, true].into_iter().filter_map(Emulated::open).collect();
    match Gpu::open(0) {
        Ok(gpu) => devices.push(gpu),
        Err(e) => eprintln!("skipped on a GPU: {e}"),
    }
    devices
}
