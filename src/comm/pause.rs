//! Pauses between looks for a message: none at first, since it mostly comes at once.

use std::{thread, time::Duration};

/// Looks without a pause before the core is handed over, and then before it is left for longer.
const SPINS: u32 = 200;
const YIELDS: u32 = 2_000;
/// How long a wait sleeps at a time in the end.
const NAP: Duration = Duration::from_micros(50);
/// Naps after which there is time for other things.
const NAPS: u32 = 64;

/// The pauses of one wait.
#[derive(Debug, Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    /// Pauses; `true` from time to time once the wait is a long one.
    pub fn pause(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        match self.0 {
            ..SPINS => std::hint::spin_loop(),
            SPINS..YIELDS => thread::yield_now(),
            _ => thread::sleep(NAP),
        }
        self.0 >= YIELDS && self.0.is_multiple_of(NAPS)
    }
}
