//! A device for tests: the kernels' own text, built by the host's C++ compiler (emulated.h), and
//! plain loops for matrix products. Its streams (`emulated_streams.rs`) do their work as late as
//! they may, or one of them as early as it may, so that order that nobody has asked for is not
//! there.

use super::{
    Address, DeviceInfo, Driver, HostAddress, Launch, Source,
    gemm::{Epilogue, Gemm},
    link::{Id, Link},
    stream::Stream,
};
use crate::backend::Result;
pub(crate) use modules::compiler;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    ffi::c_void,
    rc::Rc,
};
use streams::{Streams, Task};

#[path = "emulated_modules.rs"]
mod modules;

#[path = "emulated_streams.rs"]
mod streams;

#[path = "emulated_link.rs"]
mod link;

#[path = "emulated_rules.rs"]
mod rules;

#[path = "emulated_products.rs"]
mod products;

/// The device.
#[derive(Debug)]
pub(crate) struct Emulated {
    info: DeviceInfo,
    /// Memory that is in use, by where it begins.
    memory: Rc<RefCell<Pieces>>,
    in_use: Cell<usize>,
    /// Bytes of shared memory of a block.
    shared: usize,
    freed: Cell<u64>,
    /// Whether products have no ends of their own, as on a device whose library lacks them.
    bare: bool,
    streams: Rc<RefCell<Streams>>,
    /// Sources that have been compiled and loaded, and whether products have begun.
    loaded: RefCell<HashSet<&'static str>>,
    multiplied: Cell<bool>,
    /// Of the schedules of a device that looks for races.
    seed: Option<u64>,
}

/// Bytes of the device: little, so that tests can run out of it.
const MEMORY: usize = 1 << 30;
const PAGE: usize = 4096;

/// Memory that is in use, by where it begins.
type Pieces = BTreeMap<Address, Piece>;

/// Refuses bytes that are not all in one piece, or that nobody asked for.
fn has(memory: &Pieces, at: Address, bytes: usize, what: &str, staging: bool) -> Result<()> {
    let piece = memory.range(..=at).next_back();
    let fits = |(&from, p): (&Address, &Piece)| {
        p.staging == staging && (at - from) as usize + bytes <= p.asked
    };
    if bytes == 0 || piece.is_some_and(fits) {
        return Ok(());
    }
    let whose = if staging { "staging memory" } else { "memory of the device" };
    Err(rules::broken(format!("{what}: {bytes} bytes at {at:#x} are no {whose} in use")))
}

/// A piece of memory.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The mapping around it.
    base: usize,
    mapped: usize,
    /// Bytes that were asked for.
    asked: usize,
    /// The host's, for copies.
    staging: bool,
}

impl Emulated {
    /// A device, or a word why not where there is no compiler. One that is `bare` has its copies
    /// done as early as they may, the other its kernels; it has the shared memory of Hopper, the
    /// other the least of all GPUs from Ampere on.
    pub(crate) fn open(bare: bool) -> Option<Rc<dyn Driver>> {
        Emulated::with(bare, None)
    }

    /// The same, slower: `seed` decides in which order blocks and threads run, which change over
    /// at any access to memory, each launch in another. Accesses that are in no order, one of
    /// them a write, are told of by every call that waits from then on.
    pub(crate) fn watched(bare: bool, seed: u64) -> Option<Rc<dyn Driver>> {
        Emulated::with(bare, Some(seed))
    }

    fn with(bare: bool, seed: Option<u64>) -> Option<Rc<dyn Driver>> {
        if compiler().is_none() {
            eprintln!(
                "skipped: no C++ compiler (c++, g++, clang++) to build the kernels for the host"
            );
            return None;
        }
        let info = DeviceInfo {
            name: "emulated".into(),
            ordinal: 0,
            capability: "9.0".into(),
            memory: MEMORY as u64,
            multiprocessors: 2,
            cache: 1 << 20,
            clock_mhz: 1000,
            driver: "0.0".into(),
            uuid: String::new(),
        };
        let eager = if bare { Stream::Copy } else { Stream::Compute };
        let streams = Rc::new(RefCell::new(Streams::new(eager)));
        let shared = if bare { 227 << 10 } else { 99 << 10 };
        let (memory, in_use, freed) = (Rc::default(), Cell::new(0), Cell::new(0));
        let (loaded, multiplied) = (RefCell::default(), Cell::new(false));
        Some(Rc::new(Emulated {
            info,
            memory,
            in_use,
            shared,
            freed,
            bare,
            streams,
            loaded,
            multiplied,
            seed,
        }))
    }

    /// Refuses bytes that are not all in one piece of the device's memory, or that nobody asked for.
    fn owns(&self, at: Address, bytes: usize, what: &str) -> Result<()> {
        self.has(at, bytes, what, false)
    }

    fn has(&self, at: Address, bytes: usize, what: &str, staging: bool) -> Result<()> {
        has(&self.memory.borrow(), at, bytes, what, staging)
    }

    /// Memory whose end is the end of a page, with one behind it that nobody may touch.
    fn map(&self, asked: usize, staging: bool) -> Result<Option<Address>> {
        self.streams.borrow_mut().not_captured("memory")?;
        if self.in_use.get() + asked > MEMORY {
            return Ok(None);
        }
        self.in_use.set(self.in_use.get() + asked);
        let bytes = asked.next_multiple_of(16);
        let mapped = bytes.next_multiple_of(PAGE) + PAGE;
        // SAFETY: a new anonymous mapping, and its own last page.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            assert_ne!(base, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(base.add(mapped - PAGE), PAGE, libc::PROT_NONE), 0);
            let base = base as usize;
            let at = base + mapped - PAGE - bytes;
            std::ptr::write_bytes(at as *mut u8, 0xff, bytes);
            let piece = Piece { base, mapped, asked, staging };
            self.memory.borrow_mut().insert(at as Address, piece);
            Ok(Some(at as Address))
        }
    }

    fn unmap(&self, at: Address) {
        let mut streams = self.streams.borrow_mut();
        // Whoever gives it back cannot be told; whoever ends the capture can.
        let _ = streams.not_captured("to give memory back");
        streams.finish();
        let piece = self.memory.borrow_mut().remove(&at).expect("memory that is in use");
        self.in_use.set(self.in_use.get() - piece.asked);
        self.freed.set(self.freed.get() + 1);
        // SAFETY: mapped by `map`.
        assert_eq!(unsafe { libc::munmap(piece.base as *mut c_void, piece.mapped) }, 0);
    }

    fn ask(&self, stream: Stream, task: Task) -> Result<()> {
        self.streams.borrow_mut().ask(stream, task)
    }
}

impl Driver for Emulated {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn shared_memory(&self) -> usize {
        self.shared
    }

    fn alloc(&self, bytes: usize) -> Result<Option<Address>> {
        self.map(bytes, false)
    }

    fn free(&self, at: Address) {
        self.unmap(at);
    }

    fn freed(&self) -> u64 {
        self.freed.get()
    }

    fn available(&self) -> Result<u64> {
        Ok((MEMORY - self.in_use.get()) as u64)
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        self.owns(at, bytes, "zeroing")?;
        self.ask(Stream::Compute, Task::Zero { at, bytes })
    }

    fn to_device(&self, at: Address, from: &[u8]) -> Result<()> {
        self.streams.borrow_mut().not_captured("a copy")?;
        self.owns(at, from.len(), "a copy")?;
        self.ask(Stream::Compute, Task::Write { at, bytes: from.to_vec() })
    }

    fn staging(&self, bytes: usize) -> Result<Option<HostAddress>> {
        Ok(self.map(bytes, true)?.map(|at| at as HostAddress))
    }

    fn free_staging(&self, at: HostAddress) {
        self.unmap(at as Address);
    }

    unsafe fn send_staging(&self, at: Address, from: HostAddress, bytes: usize) -> Result<()> {
        self.owns(at, bytes, "a copy")?;
        self.has(from as Address, bytes, "a copy", true)?;
        self.ask(Stream::Copy, Task::Copy { to: at, from: from as Address, bytes })
    }

    unsafe fn fetch_staging(&self, to: HostAddress, from: Address, bytes: usize) -> Result<()> {
        self.streams.borrow_mut().not_captured("a copy")?;
        self.owns(from, bytes, "a copy")?;
        self.has(to as Address, bytes, "a copy", true)?;
        self.ask(Stream::Compute, Task::Copy { to: to as Address, from, bytes })
    }

    fn to_host(&self, at: Address, to: &mut [u8]) -> Result<()> {
        self.streams.borrow_mut().not_captured("a copy")?;
        self.owns(at, to.len(), "a copy")?;
        self.streams.borrow_mut().finish_stream(Stream::Compute);
        self.streams.borrow().found()?;
        // SAFETY: the caller's memory.
        unsafe { std::ptr::copy_nonoverlapping(at as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        self.streams.borrow_mut().not_captured("waiting")?;
        self.streams.borrow_mut().finish();
        self.streams.borrow().found()
    }

    fn event(&self) -> Result<u64> {
        Ok(self.streams.borrow_mut().event())
    }

    fn free_event(&self, event: u64) {
        self.streams.borrow_mut().free_event(event);
    }

    fn record(&self, event: u64, stream: Stream) -> Result<()> {
        self.streams.borrow_mut().record(event, stream)
    }

    fn wait(&self, stream: Stream, event: u64) -> Result<()> {
        self.streams.borrow_mut().wait(stream, event)
    }

    fn wait_here(&self, event: u64) -> Result<()> {
        self.streams.borrow_mut().wait_here(event)?;
        self.streams.borrow().found()
    }

    fn is_done(&self, event: u64) -> Result<bool> {
        self.streams.borrow_mut().is_done(event)
    }

    fn begin_capture(&self) -> Result<()> {
        self.streams.borrow_mut().begin_capture()
    }

    fn end_capture(&self) -> Result<u64> {
        self.streams.borrow_mut().end_capture(self.freed.get())
    }

    unsafe fn replay(&self, graph: u64) -> Result<()> {
        self.streams.borrow_mut().replay(graph, self.freed.get())
    }

    fn free_graph(&self, graph: u64) {
        self.streams.borrow_mut().free_graph(graph);
    }

    unsafe fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        launch: Launch,
        args: &[&[u8]],
    ) -> Result<()> {
        rules::launch(kernel, &launch, self.shared, args)?;
        if !self.loaded.borrow().contains(source.name) {
            // What is loaded first during a capture would bring it to nothing.
            self.streams.borrow_mut().not_captured("loading kernels")?;
            self.loaded.borrow_mut().insert(source.name);
        }
        let kernel = modules::kernel(source, kernel, self.seed)?;
        self.ask(
            Stream::Compute,
            Task::Launch { kernel, launch, args: args.iter().map(|a| words(a)).collect() },
        )
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        if self.bare && gemm.epilogue != Epilogue::None {
            return Ok(false);
        }
        rules::product(self, gemm)?;
        if !self.multiplied.get() {
            // The library starts, and asks for memory of its own.
            self.streams.borrow_mut().not_captured("the first product")?;
            self.multiplied.set(true);
        }
        self.ask(Stream::Compute, Task::Product(*gemm))?;
        Ok(true)
    }

    fn link_library(&self) -> Result<String> {
        Ok("emulated".into())
    }

    fn link_id(&self) -> Result<Id> {
        Ok(link::id())
    }

    fn link(&self, id: Id, rank: usize, size: usize) -> Result<Box<dyn Link>> {
        let linked = link::Linked::join(&self.streams, &self.memory, id, (rank, size))?;
        Ok(Box::new(linked))
    }
}

/// An argument, aligned as any may be.
fn words(bytes: &[u8]) -> Vec<u128> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 16];
        word[..chunk.len()].copy_from_slice(chunk);
        u128::from_ne_bytes(word)
    };
    bytes.chunks(16).map(word).collect()
}
