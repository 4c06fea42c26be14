//! What is needed where the device works on several things at once: streams, events, memory that
//! copies go to and come from, and work that is noted down once and repeated as a whole.

use super::{Address, Driver, HostAddress};
use crate::backend::{BackendError, Result};
use std::{ops::Range, rc::Rc};

/// A queue of work. What is asked of one stream is done in order; two streams know of each other by
/// events alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Kernels, products, and whatever is not said to go elsewhere.
    Compute,
    /// Copies from staging memory to the device.
    Copy,
}

/// A point in a stream; one that was never recorded counts as passed.
#[derive(Debug)]
pub struct Event {
    driver: Rc<dyn Driver>,
    id: u64,
}

impl Event {
    /// One that was never recorded.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(driver: &Rc<dyn Driver>) -> Result<Self> {
        Ok(Event { id: driver.event()?, driver: Rc::clone(driver) })
    }

    /// It now stands for all that was asked of `stream` so far.
    ///
    /// # Errors
    /// If the device fails.
    pub fn record(&self, stream: Stream) -> Result<()> {
        self.driver.record(self.id, stream)
    }

    /// What is asked of `stream` from now on waits for it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn hold(&self, stream: Stream) -> Result<()> {
        self.driver.wait(stream, self.id)
    }

    /// The host waits for it.
    ///
    /// # Errors
    /// If the device has failed meanwhile.
    pub fn wait(&self) -> Result<()> {
        self.driver.wait_here(self.id)
    }

    /// Whether it has passed.
    ///
    /// # Errors
    /// If the device has failed meanwhile.
    pub fn is_done(&self) -> Result<bool> {
        self.driver.is_done(self.id)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.driver.free_event(self.id);
    }
}

/// Words of the host's memory on their way to the device or from it, given back when dropped.
#[derive(Debug)]
pub struct Staging {
    driver: Rc<dyn Driver>,
    at: HostAddress,
    words: usize,
    /// The last copy.
    done: Event,
}

impl Staging {
    /// Room for so many words of 32 bits.
    ///
    /// # Errors
    /// [`BackendError::Memory`] if there is not enough.
    pub fn new(driver: &Rc<dyn Driver>, words: usize) -> Result<Self> {
        let bytes = words.max(1) * size_of::<u32>();
        let done = Event::new(driver)?;
        let at = driver.staging(bytes)?;
        let refused = || BackendError::Memory {
            what: "batches on their way to the GPU".into(),
            bytes: bytes as u64,
        };
        Ok(Staging { driver: Rc::clone(driver), at: at.ok_or_else(refused)?, words, done })
    }

    /// The words, once no copy of them is in flight.
    ///
    /// # Errors
    /// If the device has failed meanwhile.
    pub fn words(&mut self) -> Result<&mut [u32]> {
        self.done.wait()?;
        // SAFETY: so many words, which are this value's alone; any bits are numbers.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at as *mut u32, self.words) })
    }

    /// Whether the last copy is done.
    ///
    /// # Errors
    /// If the device has failed meanwhile.
    pub fn is_done(&self) -> Result<bool> {
        self.done.is_done()
    }

    /// Begins to copy the first `words` to the device, where there is room for them, once `free`
    /// has passed. What is asked of [`Stream::Compute`] from now on finds them there.
    ///
    /// # Errors
    /// If the device fails.
    pub fn send(&mut self, to: Address, words: usize, free: &Event) -> Result<()> {
        assert!(words <= self.words, "{words} words of {}", self.words);
        free.hold(Stream::Copy)?;
        // SAFETY: so many words are there, and the caller has room for them; `words` waits before
        // they change.
        unsafe { self.driver.send_staging(to, self.at, words * size_of::<u32>()) }?;
        self.done.record(Stream::Copy)?;
        self.done.hold(Stream::Compute)
    }

    /// Begins to fill all words from the device, where there are so many, with what is there when
    /// all that was asked for before is done.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fetch(&mut self, from: Address) -> Result<()> {
        self.fetch_part(from, 0..self.words)
    }

    /// The same of some words, to their places, from theirs behind `from`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fetch_part(&mut self, from: Address, words: Range<usize>) -> Result<()> {
        assert!(words.end <= self.words, "{words:?} of {} words", self.words);
        let (at, bytes) = (words.start * size_of::<u32>(), words.len() * size_of::<u32>());
        // SAFETY: so many words are there, and the caller has so many; `words` waits before anybody
        // looks at them.
        unsafe { self.driver.fetch_staging(self.at + at, from + at as Address, bytes) }?;
        self.done.record(Stream::Compute)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.driver.free_staging(self.at);
    }
}

/// Work that was noted down ([`Driver::begin_capture`]).
#[derive(Debug)]
pub struct Graph {
    driver: Rc<dyn Driver>,
    id: u64,
}

impl Graph {
    /// Notes down what `work` asks for, which is not done.
    ///
    /// # Errors
    /// If something in it cannot be noted down.
    pub fn capture(driver: &Rc<dyn Driver>, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        driver.begin_capture()?;
        let asked = work();
        let graph = driver.end_capture().map(|id| Graph { id, driver: Rc::clone(driver) });
        // What was refused says more than that the capture came to nothing.
        asked?;
        graph
    }

    /// Does it all, after what was asked for before.
    ///
    /// # Safety
    /// The memory that it uses must still be there.
    ///
    /// # Errors
    /// If the device fails.
    pub unsafe fn replay(&self) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.driver.replay(self.id) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.driver.free_graph(self.id);
    }
}
