//! The driver boundary: the few things that kernels' launchers ask of a device.
//!
//! [`real`] asks NVIDIA's driver, NVRTC and cuBLASLt. Tests have a second one, `emulated`, which
//! runs the same kernels on the CPU, so that launchers, indices and layouts are tried where there
//! is no GPU.

pub mod cache;
#[cfg(test)]
pub(crate) mod emulated;
pub mod gemm;
pub mod libraries;
pub mod link;
mod nccl;
pub mod nvrtc;
pub mod real;
pub mod stream;

use super::rules;
use crate::backend::{BackendError, Result};
use gemm::Gemm;
use link::{Id, Link};
use std::{borrow::Cow, fmt::Debug, rc::Rc};
use stream::Stream;

/// An address in the device's memory.
pub type Address = u64;

/// An address in memory of the host that a device can read.
pub type HostAddress = usize;

/// The text of a few kernels that are compiled together.
#[derive(Debug)]
pub struct Source {
    /// Name of the file without its ending.
    pub name: &'static str,
    /// The file behind the pieces that it builds on; `rules::FORMULAS` stands for those.
    pub parts: &'static [&'static str],
}

impl Source {
    /// The whole text.
    pub fn text(&self) -> String {
        let formulas = || Cow::Owned(rules::text());
        let parts = self.parts.iter();
        parts.map(|&p| if p == rules::FORMULAS { formulas() } else { Cow::Borrowed(p) }).collect()
    }
}

/// How many blocks of how many threads, and bytes of dynamic shared memory a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes.
    pub shared: u32,
}

/// What a kernel takes as an argument: numbers and structs of the size and layout that it has in
/// the kernel.
///
/// # Safety
/// Without padding or references.
pub unsafe trait Plain: Copy {}
// SAFETY: numbers.
unsafe impl Plain for u16 {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for u64 {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}

/// An argument of a kernel.
pub fn arg<T: Plain>(value: &T) -> &[u8] {
    bytes_of(std::slice::from_ref(value))
}

/// A device and all that is asked of it. Work is done in the order in which it is asked for, all of
/// it on [`Stream::Compute`] but copies from staging memory, which go their own way
/// ([`Stream::Copy`]): events bring the two in order.
pub trait Driver: Debug {
    /// What the device is.
    fn device(&self) -> &DeviceInfo;

    /// Bytes of shared memory that a block can have.
    fn shared_memory(&self) -> usize;

    /// Memory, its contents undefined; `None` if there is not enough. Aligned to 256 bytes.
    fn alloc(&self, bytes: usize) -> Result<Option<Address>>;

    /// Gives memory back.
    fn free(&self, at: Address);

    /// How often memory was given back.
    fn freed(&self) -> u64;

    /// Bytes free now.
    fn available(&self) -> Result<u64>;

    /// Sets bytes to zero.
    fn zero(&self, at: Address, bytes: usize) -> Result<()>;

    /// Copies to the device. `from` may be changed again at once. May wait until it is done: steps
    /// copy from staging memory instead.
    fn to_device(&self, at: Address, from: &[u8]) -> Result<()>;

    /// Memory of the host that [`Driver::send_staging`] copies from at full speed.
    fn staging(&self, bytes: usize) -> Result<Option<HostAddress>>;

    /// Gives such memory back.
    fn free_staging(&self, at: HostAddress);

    /// Begins to copy `bytes` from staging memory to the device, on [`Stream::Copy`].
    ///
    /// # Safety
    /// There must be so many bytes on either side, which stay as they are until the copy is done.
    unsafe fn send_staging(&self, at: Address, from: HostAddress, bytes: usize) -> Result<()>;

    /// Begins to copy `bytes` from the device to staging memory, on [`Stream::Compute`].
    ///
    /// # Safety
    /// There must be so many bytes on either side, and nobody looks at them until the copy is done.
    unsafe fn fetch_staging(&self, to: HostAddress, from: Address, bytes: usize) -> Result<()>;

    /// Copies from the device, after all that was asked for before.
    fn to_host(&self, at: Address, to: &mut [u8]) -> Result<()>;

    /// Waits until all is done.
    fn synchronize(&self) -> Result<()>;

    /// A new event, of which nothing has been recorded; see [`stream::Event`].
    fn event(&self) -> Result<u64>;

    /// Gives an event back.
    fn free_event(&self, event: u64);

    /// The event now stands for all that was asked of the stream so far.
    fn record(&self, event: u64, stream: Stream) -> Result<()>;

    /// What is asked of the stream from now on waits for what the event stands for.
    fn wait(&self, stream: Stream, event: u64) -> Result<()>;

    /// Waits for what the event stands for.
    fn wait_here(&self, event: u64) -> Result<()>;

    /// Whether what the event stands for is done.
    fn is_done(&self, event: u64) -> Result<bool>;

    /// From now on kernels, products and zeroing are noted down and not done. Nothing else may be
    /// asked for meanwhile.
    fn begin_capture(&self) -> Result<()>;

    /// Ends that; what was noted down can then be asked for as a whole ([`stream::Graph`]).
    fn end_capture(&self) -> Result<u64>;

    /// Does what was noted down, on [`Stream::Compute`].
    ///
    /// # Safety
    /// The memory that it uses must still be there.
    unsafe fn replay(&self, graph: u64) -> Result<()>;

    /// Gives such notes back.
    fn free_graph(&self, graph: u64);

    /// Starts a kernel of a source, which is compiled when it is first needed.
    ///
    /// # Safety
    /// The arguments must be those that the kernel takes, and lead it to memory that it may use so.
    unsafe fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        launch: Launch,
        args: &[&[u8]],
    ) -> Result<()>;

    /// A matrix product; `false` if this device has none of this kind with that end, and nothing
    /// was done.
    ///
    /// # Safety
    /// The matrices must lie in memory that may be used so.
    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool>;

    /// What carries messages from device to device, with its version; all ranks must have the same.
    ///
    /// # Errors
    /// If it is not there.
    fn link_library(&self) -> Result<String>;

    /// What ranks find together by; one of them asks for it and tells it the others.
    fn link_id(&self) -> Result<Id>;

    /// Waits until all `size` ranks that know `id` are there; this one is `rank`. The device may not
    /// be another one's of them.
    fn link(&self, id: Id, rank: usize, size: usize) -> Result<Box<dyn Link>>;
}

/// What a device is, as records state it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeviceInfo {
    /// Its name, as in `NVIDIA H200`.
    pub name: String,
    /// Its number among the devices of the machine.
    pub ordinal: u32,
    /// Compute capability, as in `9.0`.
    pub capability: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of the second-level cache, 0 if not known.
    #[serde(default)]
    pub cache: u64,
    /// The highest clock of the multiprocessors in MHz, 0 if not known.
    #[serde(default)]
    pub clock_mhz: u32,
    /// The CUDA version that the driver supports, as in `13.0`.
    pub driver: String,
    /// What NVIDIA's tools call it (`GPU-...`). Stays out of records, which are shared.
    #[serde(skip)]
    pub uuid: String,
}

impl DeviceInfo {
    /// Label and value of each fact, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let memory = self.memory as f64 / (1u64 << 30) as f64;
        let mut multiprocessors = self.multiprocessors.to_string();
        if self.clock_mhz > 0 {
            multiprocessors += &format!(", up to {} MHz", self.clock_mhz);
        }
        let mut lines = vec![
            (
                "GPU",
                format!(
                    "{} (cuda:{}, compute capability {})",
                    self.name, self.ordinal, self.capability
                ),
            ),
            ("GPU memory", format!("{memory:.1} GiB")),
            ("GPU multiprocessors", multiprocessors),
            ("GPU driver", format!("CUDA {}", self.driver)),
        ];
        if self.cache > 0 {
            lines.insert(3, ("GPU cache", format!("{} MiB", self.cache >> 20)));
        }
        lines
    }
}

/// Memory of a device, given back when dropped.
#[derive(Debug)]
pub struct Memory {
    driver: Rc<dyn Driver>,
    at: Address,
    bytes: usize,
}

impl Memory {
    /// Zeros; `what` names their purpose should memory run out.
    ///
    /// # Errors
    /// [`BackendError::Memory`] if there is not enough.
    pub fn zeros(driver: &Rc<dyn Driver>, bytes: usize, what: &str) -> Result<Self> {
        let refused =
            || BackendError::Memory { what: format!("{what} on the GPU"), bytes: bytes as u64 };
        let at = driver.alloc(bytes.max(1))?.ok_or_else(refused)?;
        let memory = Memory { driver: Rc::clone(driver), at, bytes };
        driver.zero(at, bytes)?;
        Ok(memory)
    }

    /// Where it is.
    pub fn at(&self) -> Address {
        self.at
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.driver.free(self.at);
    }
}

/// Bytes of numbers.
pub fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` has no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Bytes of numbers, to change.
pub fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: `Plain` has no padding, and all bit patterns of its numbers are numbers.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}
