//! Who keeps the others waiting: a rank that is late may itself wait for another.
//!
//! A rank that waits answers questions, with the rank that it waits for; one that has stopped, or
//! computes for ever, does not.

use super::{Mpi, c_int, c_void};
use crate::comm::{CommError, others};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Tags of a question and of its answer, far from those of other messages.
const QUESTION: c_int = 1000;
const ANSWER: c_int = 1001;
/// How long an answer is waited for: whoever waits looks for questions some hundred times a second.
const PATIENCE: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(1);

impl Mpi {
    /// Answers whoever asks, while this rank waits for `rank` to send (or to take) something.
    pub(super) fn answer(&self, rank: usize, sends: bool) -> Result<(), CommError> {
        for asks in others(self) {
            while self.take(asks, QUESTION)?.is_some() {
                self.tell(asks, ANSWER, (rank as u32) << 1 | u32::from(sends))?;
            }
        }
        Ok(())
    }

    /// The rank that does not answer, from `late` on along those for which each waits, and whether it
    /// should have sent something; `late` and `sends` themselves if all of them wait.
    pub(super) fn culprit(&self, late: usize, sends: bool) -> Result<(usize, bool), CommError> {
        let mut at = (late, sends);
        for _ in 0..self.size {
            self.tell(at.0, QUESTION, 0)?;
            let began = Instant::now();
            let answer = loop {
                if let Some(word) = self.take(at.0, ANSWER)? {
                    break Some(((word >> 1) as usize, word & 1 == 1));
                }
                if began.elapsed() > PATIENCE {
                    break None;
                }
                self.answer(at.0, at.1)?;
                thread::sleep(NAP);
            };
            match answer {
                None => return Ok(at),
                Some((rank, _)) if rank == self.rank || rank >= self.size => break,
                Some(next) => at = next,
            }
        }
        // They wait for each other, or for this rank.
        Ok((late, sends))
    }

    /// The first of `ranks` from which a message of this tag has come; without one this rank waits for
    /// the first of them, and says so to whoever asks.
    pub(super) fn look(&self, tag: c_int, ranks: &[usize]) -> Result<Option<usize>, CommError> {
        for &rank in ranks {
            if self.is_there(rank, tag)? {
                return Ok(Some(rank));
            }
        }
        if let Some(failed) = self.failure()? {
            return Err(failed);
        }
        ranks.first().map_or(Ok(()), |&rank| self.answer(rank, true))?;
        Ok(None)
    }

    /// Sends a word.
    fn tell(&self, to: usize, tag: c_int, word: u32) -> Result<(), CommError> {
        let at = Box::into_raw(Box::new(word)).cast::<c_void>();
        let (world, byte) = (self.mpi.constants.world, self.mpi.constants.byte);
        let (mut request, mut done, mut status) = (0, 0, [0; 16]);
        // SAFETY: the word is never freed, whenever the message goes. A look lets a library go on
        // with what it has to send.
        unsafe {
            self.check((self.mpi.isend)(at, 4, byte, to as c_int, tag, world, &mut request))?;
            self.check((self.mpi.test)(&mut request, &mut done, &mut status))
        }
    }

    /// Receives a word, if one is there.
    fn take(&self, from: usize, tag: c_int) -> Result<Option<u32>, CommError> {
        if !self.is_there(from, tag)? {
            return Ok(None);
        }
        let (world, byte) = (self.mpi.constants.world, self.mpi.constants.byte);
        let (from, mut status) = (from as c_int, [0; 16]);
        let (mut word, mut request, mut done) = (0_u32, 0, 0);
        let at = (&raw mut word).cast::<c_void>();
        // SAFETY: the message is there and a word long, and the word lives until it is received.
        unsafe {
            self.check((self.mpi.irecv)(at, 4, byte, from, tag, world, &mut request))?;
            while done == 0 {
                self.check((self.mpi.test)(&mut request, &mut done, &mut status))?;
            }
        }
        Ok(Some(word))
    }
}
