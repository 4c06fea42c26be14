//! What goes from this GPU to those of other ranks: packed by kernels, carried by the driver's link.

use super::{
    driver::{
        Address, Driver, Memory,
        link::{Id, Link, Piece},
        stream::{Event, Stream},
    },
    elementwise, matrix,
    memory::{Floats, Place},
};
use crate::{
    backend::{BackendError, DeviceLink, Mat, MatMut, Result},
    comm::{Comm, CommError, Patience, What, all_gather},
};
use std::{
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

/// Looks at the device without a pause, and then with one.
const SPINS: u32 = 2_000;
const NAP: Duration = Duration::from_micros(50);

/// Room for what goes to a rank, or comes from it.
#[derive(Debug, Default)]
struct Room {
    memory: Option<Memory>,
    /// Numbers of this exchange.
    len: usize,
    /// How many of them have been packed or unpacked.
    at: usize,
}

impl Room {
    fn reserve(&mut self, driver: &Rc<dyn Driver>, len: usize) -> Result<()> {
        (self.len, self.at) = (len, 0);
        let bytes = len * size_of::<f32>();
        if self.memory.as_ref().is_none_or(|m| m.bytes() < bytes) && len > 0 {
            // First the old one goes: there may not be room for both.
            self.memory = None;
            self.memory = Some(Memory::zeros(driver, bytes, "messages between ranks")?);
        }
        Ok(())
    }

    fn address(&self) -> Address {
        self.memory.as_ref().map_or(0, Memory::at)
    }

    /// The next place for a matrix of this shape.
    fn next(&mut self, like: Place) -> Place {
        let first = self.at;
        self.at += like.rows as usize * like.cols as usize;
        assert!(self.at <= self.len, "{} numbers where {} were to be", self.at, self.len);
        matrix::packed(self.address() + (first * size_of::<f32>()) as Address, like)
    }

    fn piece(&self, rank: usize) -> Option<Piece> {
        (self.len > 0).then(|| Piece { rank, at: self.address(), words: self.len })
    }
}

/// The others' GPUs.
#[derive(Debug)]
pub(super) struct Links {
    /// Goes before what it sends from.
    link: Box<dyn Link>,
    outgoing: Vec<Room>,
    incoming: Vec<Room>,
    /// Recorded behind the last exchange.
    done: Event,
    /// Whether that may still be under way.
    pending: bool,
    rank: usize,
    patience: Patience,
    driver: Rc<dyn Driver>,
}

impl Links {
    /// Finds the others, which all do so at the same time.
    pub(super) fn join(
        driver: &Rc<dyn Driver>,
        comm: &dyn Comm,
        patience: Patience,
    ) -> Result<Self> {
        let (rank, size) = (comm.rank(), comm.size());
        // An id is not all zeros: it says where the first rank listens.
        let made = if rank == 0 { driver.link_id() } else { Ok([0; size_of::<Id>()]) };
        let own = made.as_ref().map_or([0; size_of::<Id>()], |id| *id);
        let all = all_gather(comm, What::Greeting, patience, &words(&own))?;
        made?;
        let id = bytes(&all[0]);
        if id == [0; size_of::<Id>()] {
            let (rank, host) = (0, comm.host(0));
            let message = "cannot begin to send from GPU to GPU".into();
            return Err(CommError::Failed { rank, host, message }.into());
        }
        let link = driver.link(id, rank, size)?;
        let rooms = || (0..size).map(|_| Room::default()).collect();
        Ok(Links {
            link,
            outgoing: rooms(),
            incoming: rooms(),
            done: Event::new(driver)?,
            pending: false,
            rank,
            patience,
            driver: Rc::clone(driver),
        })
    }

    /// Waits until the last exchange is done, but not for ever.
    fn wait(&self, what: What) -> Result<()> {
        let (began, mut looks) = (Instant::now(), 0_u32);
        loop {
            self.link.check().map_err(|e| CommError::Library(e.to_string()))?;
            if self.done.is_done()? {
                return Ok(());
            }
            let waited = began.elapsed();
            if matches!(self.patience, Patience::For(most) if waited > most) {
                return Err(CommError::Stuck { what, seconds: waited.as_secs() }.into());
            }
            looks = looks.saturating_add(1);
            if looks < SPINS { thread::yield_now() } else { thread::sleep(NAP) }
        }
    }
}

fn words(id: &Id) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(&id[..])
}

fn bytes(words: &[u32]) -> Id {
    let mut id = [0; size_of::<Id>()];
    id.copy_from_slice(bytemuck::cast_slice(words));
    id
}

impl DeviceLink<Floats> for Links {
    fn reserve(&mut self, send: &[usize], receive: &[usize]) -> Result<()> {
        assert!(!self.pending, "one exchange at a time");
        let driver = &self.driver;
        let rooms = self.outgoing.iter_mut().zip(send);
        let mut rooms = rooms.chain(self.incoming.iter_mut().zip(receive));
        rooms.try_for_each(|(room, &len)| room.reserve(driver, len))
    }

    fn pack(&mut self, rank: usize, x: Mat<'_, Floats>) -> Result<()> {
        let x = x.operand();
        let to = self.outgoing[rank].next(x);
        elementwise::add(&*self.driver, x, false, to)
    }

    fn keep(&mut self, x: Mat<'_, Floats>) -> Result<()> {
        let x = x.operand();
        let to = self.incoming[self.rank].next(x);
        elementwise::add(&*self.driver, x, false, to)
    }

    fn begin(&mut self) -> Result<()> {
        assert!(!self.pending, "one exchange at a time");
        assert!(self.outgoing.iter().all(|room| room.at == room.len), "what is sent was packed");
        let me = self.rank;
        let pieces = |rooms: &[Room]| -> Vec<Piece> {
            let all = rooms.iter().enumerate().filter(|(rank, _)| *rank != me);
            all.filter_map(|(rank, room)| room.piece(rank)).collect()
        };
        let (send, receive) = (pieces(&self.outgoing), pieces(&self.incoming));
        self.incoming.iter_mut().for_each(|room| room.at = 0);
        self.pending = true;
        // SAFETY: each room has its own memory of so many numbers, which stays until `finish` has
        // waited, or the link has gone.
        let begun = unsafe { self.link.exchange(&send, &receive) };
        begun.map_err(|e| BackendError::Ranks(CommError::Library(e.to_string())))?;
        self.done.record(Stream::Compute)
    }

    fn finish(&mut self, what: What) -> Result<()> {
        if !self.pending {
            return Ok(());
        }
        let waited = self.wait(what);
        match &waited {
            Ok(()) => self.pending = false,
            Err(_) => self.link.abort(),
        }
        waited
    }

    fn unpack(&mut self, rank: usize, to: MatMut<'_, Floats>, there: bool) -> Result<()> {
        let to = to.operand();
        let from = self.incoming[rank].next(to);
        elementwise::add(&*self.driver, from, there, to)
    }

    fn add(&mut self, to: usize, from: usize) -> Result<()> {
        let rooms = [to, from].map(|rank| &self.incoming[rank]);
        assert_eq!(rooms[0].len, rooms[1].len, "as much from both");
        // In rows, which are what threads share out.
        let cols = rooms[0].len.min(LINE);
        let place = |room: &Room| {
            let (cols, rows) = (cols as u32, (room.len / cols) as u32);
            let number = super::driver::gemm::Number::F32;
            Place { at: room.address(), stride: cols, rows, cols, number }
        };
        if cols == 0 {
            return Ok(());
        }
        assert!(rooms[0].len.is_multiple_of(cols), "whole lines");
        elementwise::add(&*self.driver, place(rooms[1]), true, place(rooms[0]))
    }
}

/// Numbers of a line: what dense gradients are shared out in.
const LINE: usize = 16;

impl Drop for Links {
    fn drop(&mut self) {
        if self.pending {
            // Nobody waits for what is under way: it must not write to rooms that are gone.
            self.link.abort();
        }
    }
}
