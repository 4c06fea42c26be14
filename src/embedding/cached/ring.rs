//! Reads of the row file by io_uring, from one thread: it hands the kernel up to [`DEPTH`] reads at
//! a time, and more as they are done, so that a disk has work while a step computes.

use super::io::{At, Fetch};
use crate::host::positioned::read_at;
use io_uring::{IoUring, Probe, opcode, types::Fd};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Reads that the kernel has at one time.
const DEPTH: usize = 64;

/// The thread that reads by io_uring.
#[derive(Debug)]
pub(super) struct Ring {
    /// `None` once it is to end.
    to: Option<Sender<Arc<Fetch>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ring {
    /// # Errors
    /// If the system has no io_uring, or does not let us use it.
    pub fn new() -> io::Result<Self> {
        let (to, from) = channel();
        let (tell, told) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        // The kernel saves work where one thread makes a ring and is the only one to use it.
        let thread = std::thread::Builder::new().name("rows".into()).spawn(move || {
            match open() {
                Ok(ring) => {
                    let _ = tell.send(Ok(()));
                    work(ring, &from, &stop);
                }
                Err(e) => drop(tell.send(Err(e))),
            };
        })?;
        let ring = Ring { to: Some(to), over, thread: Some(thread) };
        told.recv().unwrap_or_else(|_| Err(ErrorKind::Unsupported.into()))?;
        Ok(ring)
    }

    /// Begins to read all records of `fetch`, which has one run.
    pub fn read(&self, fetch: Arc<Fetch>) {
        let left = match &self.to {
            Some(to) => to.send(fetch).map_err(|e| e.0),
            None => Err(fetch),
        };
        if let Err(fetch) = left {
            fetch.read(0);
        }
    }
}

impl Drop for Ring {
    /// Waits until the kernel writes into no buffer any more.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes a ring, and sees whether it works: what keeps a program from io_uring may do so in any of
/// its three system calls.
fn open() -> io::Result<IoUring> {
    let entries = DEPTH as u32;
    let spare = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
    // Kernels before 6.1 do not know these.
    let mut ring = match spare {
        Err(e) if e.kind() == ErrorKind::InvalidInput => IoUring::new(entries)?,
        ring => ring?,
    };
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if !probe.is_supported(opcode::Read::CODE) {
        return Err(ErrorKind::Unsupported.into());
    }
    let nothing = opcode::Nop::new().build();
    // SAFETY: it does nothing.
    unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().is_some();
    done.then_some(ring).ok_or_else(|| ErrorKind::Unsupported.into())
}

/// A [`Fetch`] of which records are being read.
struct Flying {
    fetch: Arc<Fetch>,
    from: Vec<Option<At>>,
    bytes: Vec<u8>,
    /// The first record that the kernel has not been given.
    next: usize,
    /// How many it has.
    given: usize,
    /// Those that it has not read whole.
    again: Vec<usize>,
    result: io::Result<()>,
}

impl Flying {
    fn new(fetch: Arc<Fetch>) -> Self {
        let (from, bytes) = fetch.lend(0);
        Flying { fetch, from, bytes, next: 0, given: 0, again: Vec::new(), result: Ok(()) }
    }

    /// The next record that has to be read.
    fn next(&mut self) -> Option<usize> {
        while self.next < self.from.len() {
            self.next += 1;
            if self.from[self.next - 1].is_some() {
                return Some(self.next - 1);
            }
        }
        None
    }

    /// The kernel has none of its records. What it did not read whole is read in the plain way,
    /// which knows of interruptions, of an end of the file and of errors.
    fn end(mut self) {
        let record = self.fetch.record;
        for n in self.again {
            let out = &mut self.bytes[n * record..][..record];
            if let Some(at) = &self.from[n]
                && let Err(e) = read_at(&at.file, out, at.offset)
            {
                self.result = Err(e);
            }
        }
        self.fetch.give_back(0, self.bytes, self.result);
    }
}

/// All that is being read, the oldest first.
#[derive(Default)]
struct Flight {
    all: VecDeque<(u32, Flying)>,
    /// Number of the next.
    number: u32,
    /// Reads that the kernel has.
    given: usize,
}

impl Drop for Flight {
    /// Where the ring has failed, nobody knows when the kernel leaves a buffer alone: those that it
    /// has been given are never freed.
    fn drop(&mut self) {
        for (_, mut flying) in self.all.drain(..) {
            if flying.given > 0 {
                std::mem::forget(std::mem::take(&mut flying.bytes));
                let failed = Err(io::Error::other("io_uring has failed"));
                flying.fetch.give_back(0, Vec::new(), failed);
            } else {
                flying.again = (0..flying.from.len()).collect();
                flying.end();
            }
        }
    }
}

impl Flight {
    fn add(&mut self, fetch: Arc<Fetch>) {
        self.all.push_back((self.number, Flying::new(fetch)));
        self.number = self.number.wrapping_add(1);
    }

    /// Gives the kernel as many reads as it may have.
    fn give(&mut self, ring: &mut IoUring) {
        let mut submission = ring.submission();
        for (number, flying) in &mut self.all {
            while self.given < DEPTH && !submission.is_full() {
                let Some(n) = flying.next() else { break };
                let Some(at) = &flying.from[n] else { continue };
                let record = flying.fetch.record;
                // SAFETY: record `n` lies in the buffer, which has `record` bytes for each.
                let out = unsafe { flying.bytes.as_mut_ptr().add(n * record) };
                let read = opcode::Read::new(Fd(at.file.as_raw_fd()), out, record as u32);
                let read = read.offset(at.offset).build();
                let read = read.user_data(u64::from(*number) << 32 | n as u64);
                // SAFETY: the kernel may write into `record` bytes at `out` until it has told that
                // it is done. So long `given` counts it, and `bytes` is neither read, moved to
                // another place of the heap nor freed: `reap` ends no `Flying` before, and `Flight`
                // does not free what is given. No reference to these bytes is made meanwhile. The
                // file is open so long, for `from` holds it.
                if unsafe { submission.push(&read) }.is_err() {
                    flying.next = n;
                    return;
                }
                flying.given += 1;
                self.given += 1;
            }
        }
    }

    /// Sees what the kernel has done.
    fn reap(&mut self, ring: &mut IoUring) {
        for done in ring.completion() {
            let (number, n) = ((done.user_data() >> 32) as u32, done.user_data() as u32 as usize);
            self.given -= 1;
            if let Some((_, flying)) = self.all.iter_mut().find(|(i, _)| *i == number) {
                flying.given -= 1;
                if done.result() != flying.fetch.record as i32 {
                    flying.again.push(n);
                }
            }
        }
        let mut at = 0;
        while let Some((_, flying)) = self.all.get(at) {
            if flying.given > 0 || flying.next < flying.from.len() {
                at += 1;
            } else if let Some((_, flying)) = self.all.remove(at) {
                flying.end();
            }
        }
    }

    /// Leaves what the kernel has not been given: nobody will ask for it.
    fn leave(&mut self) {
        for (_, flying) in self.all.iter_mut().filter(|(_, f)| f.next < f.from.len()) {
            flying.next = flying.from.len();
            flying.result = Err(ErrorKind::BrokenPipe.into());
        }
    }
}

fn work(mut ring: IoUring, from: &Receiver<Arc<Fetch>>, over: &AtomicBool) {
    let mut flight = Flight::default();
    loop {
        if flight.all.is_empty() {
            let Ok(fetch) = from.recv() else { return };
            flight.add(fetch);
        }
        from.try_iter().for_each(|fetch| flight.add(fetch));
        if over.load(Ordering::Relaxed) {
            flight.leave();
        }
        flight.give(&mut ring);
        // Half of what it has: then it is given more while it does the rest.
        let few = flight.given.min(DEPTH / 2);
        match ring.submit_and_wait(few) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // It has no memory for more at present.
            Err(e) if [Some(libc::EAGAIN), Some(libc::EBUSY)].contains(&e.raw_os_error()) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => break,
        }
        flight.reap(&mut ring);
    }
    drop(flight);
    from.iter().for_each(|fetch| fetch.read(0));
}
