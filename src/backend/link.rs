//! Messages between ranks that go from device to device.

use super::{Mat, MatMut, Result};
use crate::comm::What;

/// The other ranks' devices. For each rank there is room for what it gets and for what comes from it:
/// matrices of f32, one behind another, in the same order at both ends. One exchange is under way at
/// a time.
pub trait DeviceLink<F> {
    /// Makes room for so many numbers to each rank, and from each; what was there is given up.
    ///
    /// # Errors
    /// If there is no memory.
    fn reserve(&mut self, send: &[usize], receive: &[usize]) -> Result<()>;

    /// Puts a matrix behind those that a rank gets.
    ///
    /// # Errors
    /// If the device fails.
    fn pack(&mut self, rank: usize, x: Mat<'_, F>) -> Result<()>;

    /// Puts a matrix of this rank's own where those from a rank are.
    ///
    /// # Errors
    /// If the device fails.
    fn keep(&mut self, x: Mat<'_, F>) -> Result<()>;

    /// Begins to send what was packed and to receive as much as there is room for.
    ///
    /// # Errors
    /// If it cannot begin.
    fn begin(&mut self) -> Result<()>;

    /// Waits until all has come; `what` is told of where it does not.
    ///
    /// # Errors
    /// If the others do not send in time, or the library fails. Then there is no other exchange.
    fn finish(&mut self, what: What) -> Result<()>;

    /// Takes the next matrix of those from a rank, or adds it to what is `there`.
    ///
    /// # Errors
    /// If the device fails.
    fn unpack(&mut self, rank: usize, to: MatMut<'_, F>, there: bool) -> Result<()>;

    /// Adds what came from rank `from` to what came from rank `to`, of which there is as much.
    ///
    /// # Errors
    /// If the device fails.
    fn add(&mut self, to: usize, from: usize) -> Result<()>;
}
