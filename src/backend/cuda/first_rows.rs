//! Where the rows of each table begin among the rows of all: what sorting tells rows apart by.

use super::driver::{Address, Driver, Memory, bytes_of};
use crate::backend::{BackendError, Result};
use std::rc::Rc;

/// First row of each table, and the number of all, on the device and here.
#[derive(Debug)]
pub(super) struct FirstRows {
    on_device: Memory,
    here: Vec<u32>,
}

impl FirstRows {
    /// Of tables of so many rows.
    ///
    /// # Errors
    /// If all together have more than a number of 32 bits tells apart.
    pub(super) fn new(driver: &Rc<dyn Driver>, rows: &[usize]) -> Result<Self> {
        let (mut here, mut all) = (vec![0u32], 0);
        for &n in rows {
            all += n;
            here.push(all.try_into().map_err(|_| too_many("rows", all))?);
        }
        let on_device = Memory::zeros(driver, here.len() * size_of::<u32>(), "the tables' sizes")?;
        driver.to_device(on_device.at(), bytes_of(&here))?;
        Ok(FirstRows { on_device, here })
    }

    /// Where those of the tables from `first` on are.
    pub(super) fn at(&self, first: usize) -> Address {
        self.on_device.at() + (first * size_of::<u32>()) as Address
    }

    /// Rows of the tables before table `k`.
    pub(super) fn before(&self, k: usize) -> usize {
        self.here[k] as usize
    }

    /// Bits that tell all rows apart.
    pub(super) fn bits(&self) -> u32 {
        let all = self.here.last().copied().unwrap_or(0);
        u32::BITS - all.saturating_sub(1).leading_zeros()
    }
}

/// Error for what has no number of 32 bits.
pub(super) fn too_many(what: &str, n: usize) -> BackendError {
    BackendError::Device(format!(
        "{n} {what} of all tables together; a GPU takes up to {}",
        u32::MAX
    ))
}
