//! Memory for what kernels leave to each other within an operation. Grows in the first steps, then
//! stays.

use super::driver::{Address, Driver, Memory};
use crate::backend::Result;
use std::rc::Rc;

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Sums of blocks.
    Partials,
    /// The left operand of a product in 16 bits.
    Left,
    /// The right one.
    Right,
    /// A bias in 16 bits.
    Bias,
    /// A product whose end is a kernel of ours.
    Product,
    /// Sums of parts of rows.
    Parts,
    /// A part of a table in f32.
    Table,
    /// Rows of a table in f32, and their numbers.
    Rows,
    /// A matrix in f32, row behind row, on its way to the host or from it.
    Matrix,
}

/// One piece of memory for each purpose.
#[derive(Debug)]
pub(super) struct Scratch {
    driver: Rc<dyn Driver>,
    pieces: [Option<Memory>; 9],
}

impl Scratch {
    pub(super) fn new(driver: &Rc<dyn Driver>) -> Self {
        Scratch { driver: Rc::clone(driver), pieces: Default::default() }
    }

    /// At least `bytes`, contents undefined; what was there before is given up.
    pub(super) fn get(&mut self, purpose: Purpose, bytes: usize) -> Result<Address> {
        let piece = &mut self.pieces[purpose as usize];
        if let Some(memory) = piece.as_ref().filter(|m| m.bytes() >= bytes) {
            return Ok(memory.at());
        }
        // First the old one goes: there may not be room for both.
        *piece = None;
        let memory = Memory::zeros(&self.driver, bytes.next_multiple_of(256), "scratch space")?;
        let at = memory.at();
        *piece = Some(memory);
        Ok(at)
    }
}
