//! Messages from device to device between the ranks of a training.

use super::Address;
use crate::backend::Result;
use std::fmt::Debug;

/// Bytes by which ranks that want to hear each other find together.
pub const ID_BYTES: usize = 128;

/// What they find together by: one rank has it made, all others are told.
pub type Id = [u8; ID_BYTES];

/// Words of 32 bits for a rank, or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The other rank.
    pub rank: usize,
    /// Where they are in the device's memory.
    pub at: Address,
    /// How many.
    pub words: usize,
}

/// The other ranks' devices, seen from one. Every rank begins the same exchanges in the same order.
pub trait Link: Debug {
    /// Begins to send some pieces and to receive others, at most one a rank each way and none of no
    /// words, after what was asked of [`super::stream::Stream::Compute`] before; what is asked from
    /// then on finds them there.
    ///
    /// # Safety
    /// There must be so many words, none of which is received and in another piece too, and they
    /// must stay until the exchange is done.
    ///
    /// # Errors
    /// If it cannot begin.
    unsafe fn exchange(&self, send: &[Piece], receive: &[Piece]) -> Result<()>;

    /// Looks whether an exchange has failed. Whoever waits for one asks again and again.
    ///
    /// # Errors
    /// What has failed.
    fn check(&self) -> Result<()>;

    /// Ends the exchanges that have begun, whatever becomes of them, and takes no other one.
    fn abort(&self);
}
