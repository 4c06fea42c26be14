//! A device for tests: the kernels' own text, built by the host's C++ compiler (emulated.h), and
//! plain loops for matrix products. Its streams (`emulated_streams.rs`) do their work as late as
//! they may, or one of them as early as it may, so that order that nobody has asked for is not
//! there.

use super::{
    Address, DeviceInfo, Driver, HostAddress, Launch, Source,
    gemm::{Epilogue, Gemm},
    stream::Stream,
};
use crate::backend::{BackendError, Result};
use libloading::Library;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::c_void,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::{Mutex, OnceLock, PoisonError},
};
use streams::{Streams, Task};

#[path = "emulated_streams.rs"]
mod streams;

#[path = "emulated_products.rs"]
mod products;

/// The device.
#[derive(Debug)]
pub(crate) struct Emulated {
    info: DeviceInfo,
    /// Where memory begins that is in use, the mapping around it, and what was asked for.
    memory: RefCell<HashMap<Address, (usize, usize, usize)>>,
    in_use: Cell<usize>,
    /// Bytes of shared memory of a block.
    shared: usize,
    freed: Cell<u64>,
    /// Whether products have no ends of their own, as on a device whose library lacks them.
    bare: bool,
    streams: RefCell<Streams>,
}

type Entry = unsafe extern "C" fn(*const u32, *const u32, u32, *mut *mut c_void);

/// Kernels have static memory: one launch at a time, whoever asks.
static MODULES: OnceLock<Mutex<HashMap<&'static str, Library>>> = OnceLock::new();

/// Bytes of the device: little, so that tests can run out of it.
const MEMORY: usize = 1 << 30;
const PAGE: usize = 4096;

/// The compiler's name, if there is one.
pub(crate) fn compiler() -> Option<&'static str> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    let works = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    *FOUND.get_or_init(|| ["c++", "g++", "clang++"].into_iter().find(works))
}

impl Emulated {
    /// A device, or a word why not where there is no compiler. One that is `bare` has its copies
    /// done as early as they may, the other its kernels; it has the shared memory of Hopper, the
    /// other the least of all GPUs from Ampere on.
    pub(crate) fn open(bare: bool) -> Option<Rc<dyn Driver>> {
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
        let streams = RefCell::new(Streams::new(if bare { Stream::Copy } else { Stream::Compute }));
        let shared = if bare { 227 << 10 } else { 99 << 10 };
        let (memory, in_use, freed) = (RefCell::default(), Cell::new(0), Cell::new(0));
        Some(Rc::new(Emulated { info, memory, in_use, shared, freed, bare, streams }))
    }

    fn ask(&self, stream: Stream, task: Task) -> Result<()> {
        self.streams.borrow_mut().ask(stream, task)
    }
}

/// The source as a library of this machine, built unless an earlier test has done so.
fn build(source: &Source) -> PathBuf {
    const OPTIONS: [&str; 8] = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-fno-exceptions",
        "-ffp-contract=off",
        "-w",
    ];
    let kernels = source.text();
    let names = kernels.lines().filter_map(|l| l.strip_prefix("KERNEL ")?.split('(').next());
    let device = concat!(include_str!("emulated.h"), include_str!("emulated_mma.h"));
    let text = format!(
        "{device}{kernels}{}",
        names.map(|n| format!("EMULATE({n})\n")).collect::<String>()
    );
    // One for each user: nobody else may write to it.
    // SAFETY: takes nothing, and cannot fail.
    let user = unsafe { libc::getuid() };
    let folder = std::env::temp_dir().join(format!("dlrm-bench-emulated-{user}"));
    std::fs::create_dir_all(&folder).unwrap();
    let path =
        folder.join(format!("{}-{}.so", source.name, blake3::hash(text.as_bytes()).to_hex()));
    if !path.exists() {
        let work = tempfile::tempdir_in(&folder).unwrap();
        let (cpp, so) = (work.path().join("k.cpp"), work.path().join("k.so"));
        std::fs::write(&cpp, text).unwrap();
        let out = Command::new(compiler().unwrap())
            .args(OPTIONS)
            .arg("-o")
            .arg(&so)
            .arg(&cpp)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}.cu: {}",
            source.name,
            String::from_utf8_lossy(&out.stderr)
        );
        std::fs::rename(so, &path).unwrap();
    }
    path
}

fn load(path: &Path) -> Library {
    // SAFETY: the library has no initialisers.
    unsafe { Library::new(path) }.unwrap()
}

impl Driver for Emulated {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn shared_memory(&self) -> usize {
        self.shared
    }

    /// The end of the memory is the end of a page, with one behind it that nobody may touch.
    fn alloc(&self, bytes: usize) -> Result<Option<Address>> {
        self.streams.borrow().not_captured("memory")?;
        if self.in_use.get() + bytes > MEMORY {
            return Ok(None);
        }
        self.in_use.set(self.in_use.get() + bytes);
        let asked = bytes;
        let bytes = bytes.next_multiple_of(16);
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
            let at = base as usize + mapped - PAGE - bytes;
            std::ptr::write_bytes(at as *mut u8, 0xff, bytes);
            self.memory.borrow_mut().insert(at as Address, (base as usize, mapped, asked));
            Ok(Some(at as Address))
        }
    }

    fn free(&self, at: Address) {
        self.streams.borrow_mut().finish();
        let (base, mapped, asked) = self.memory.borrow_mut().remove(&at).unwrap();
        self.in_use.set(self.in_use.get() - asked);
        self.freed.set(self.freed.get() + 1);
        // SAFETY: mapped by `alloc`.
        assert_eq!(unsafe { libc::munmap(base as *mut c_void, mapped) }, 0);
    }

    fn freed(&self) -> u64 {
        self.freed.get()
    }

    fn available(&self) -> Result<u64> {
        Ok((MEMORY - self.in_use.get()) as u64)
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        self.ask(Stream::Compute, Task::Zero { at, bytes })
    }

    fn to_device(&self, at: Address, from: &[u8]) -> Result<()> {
        self.streams.borrow().not_captured("a copy")?;
        self.ask(Stream::Compute, Task::Write { at, bytes: from.to_vec() })
    }

    fn staging(&self, bytes: usize) -> Result<Option<HostAddress>> {
        Ok(self.alloc(bytes)?.map(|at| at as HostAddress))
    }

    fn free_staging(&self, at: HostAddress) {
        self.free(at as Address);
    }

    unsafe fn send_staging(&self, at: Address, from: HostAddress, bytes: usize) -> Result<()> {
        self.ask(Stream::Copy, Task::Copy { to: at, from: from as Address, bytes })
    }

    unsafe fn fetch_staging(&self, to: HostAddress, from: Address, bytes: usize) -> Result<()> {
        self.streams.borrow().not_captured("a copy")?;
        self.ask(Stream::Compute, Task::Copy { to: to as Address, from, bytes })
    }

    fn to_host(&self, at: Address, to: &mut [u8]) -> Result<()> {
        self.streams.borrow().not_captured("a copy")?;
        self.streams.borrow_mut().finish_stream(Stream::Compute);
        // SAFETY: the caller's memory.
        unsafe { std::ptr::copy_nonoverlapping(at as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        self.streams.borrow().not_captured("waiting")?;
        self.streams.borrow_mut().finish();
        Ok(())
    }

    fn event(&self) -> Result<u64> {
        Ok(self.streams.borrow_mut().event())
    }

    fn free_event(&self, _event: u64) {}

    fn record(&self, event: u64, stream: Stream) -> Result<()> {
        self.streams.borrow().not_captured("an event")?;
        self.streams.borrow_mut().record(event, stream)
    }

    fn wait(&self, stream: Stream, event: u64) -> Result<()> {
        self.streams.borrow().not_captured("an event")?;
        self.streams.borrow_mut().wait(stream, event)
    }

    fn wait_here(&self, event: u64) -> Result<()> {
        self.streams.borrow_mut().wait_here(event);
        Ok(())
    }

    fn is_done(&self, event: u64) -> Result<bool> {
        Ok(self.streams.borrow().is_done(event))
    }

    fn begin_capture(&self) -> Result<()> {
        self.streams.borrow_mut().begin_capture()
    }

    fn end_capture(&self) -> Result<u64> {
        self.streams.borrow_mut().end_capture()
    }

    unsafe fn replay(&self, graph: u64) -> Result<()> {
        self.streams.borrow_mut().replay(graph)
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
        if launch.shared as usize > self.shared {
            let bytes = launch.shared;
            return Err(BackendError::Device(format!(
                "kernel {kernel} asks for {bytes} bytes of shared memory of {}",
                self.shared
            )));
        }
        let modules = MODULES.get_or_init(Mutex::default);
        let mut modules = modules.lock().unwrap_or_else(PoisonError::into_inner);
        let library = modules.entry(source.name).or_insert_with(|| load(&build(source)));
        // SAFETY: every kernel has such an entry (EMULATE).
        let entry = unsafe { library.get::<Entry>(format!("emulated_{kernel}").as_bytes()) };
        let entry = *entry.map_err(|e| {
            BackendError::Device(format!("{}.cu has no kernel {kernel}: {e}", source.name))
        })?;
        drop(modules);
        self.ask(
            Stream::Compute,
            Task::Launch { entry, launch, args: args.iter().map(|a| words(a)).collect() },
        )
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        if self.bare && gemm.epilogue != Epilogue::None {
            return Ok(false);
        }
        self.ask(Stream::Compute, Task::Product(*gemm))?;
        Ok(true)
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
