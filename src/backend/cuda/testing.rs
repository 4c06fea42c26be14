//! Devices for tests.

use super::driver::{Driver, emulated::Emulated, real::Gpu};
use std::rc::Rc;

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
