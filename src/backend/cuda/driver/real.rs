//! A GPU of NVIDIA's, through its driver.

use super::{
    Address, DeviceInfo, Driver, HostAddress, Launch, Source, cache,
    gemm::Gemm,
    libraries::{self, Library},
    link::{Id, Link},
    nccl, nvrtc,
    stream::Stream,
};
use crate::backend::{BackendError, Result};
use blas_lt::BlasLt;
use cudarc::driver::{result, sys};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    ffi::{CString, c_void},
    path::PathBuf,
    rc::Rc,
};

#[path = "blas_lt.rs"]
mod blas_lt;

/// The oldest GPUs that the kernels are compiled for: Ampere.
const OLDEST: (i32, i32) = (8, 0);

/// Most arguments of a kernel.
const MAX_ARGS: usize = 32;

/// A GPU.
#[derive(Debug)]
pub struct Gpu {
    info: DeviceInfo,
    architecture: String,
    /// Bytes of shared memory that a block can have.
    shared: usize,
    stream: sys::CUstream,
    copies: sys::CUstream,
    kernels: RefCell<HashMap<(&'static str, &'static str), sys::CUfunction>>,
    modules: RefCell<HashMap<&'static str, sys::CUmodule>>,
    cache: Option<PathBuf>,
    freed: Cell<u64>,
    /// Made when the first product is asked for.
    blas: OnceCell<BlasLt>,
}

/// Every GPU of this machine.
///
/// # Errors
/// If there is no driver, or it does not start.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    Ok(all()?.into_iter().map(|(_, info)| info).collect())
}

fn all() -> Result<Vec<(sys::CUdevice, DeviceInfo)>> {
    if !driver_is_there() {
        return Err(BackendError::Device(
            "there is no NVIDIA driver on this machine (libcuda.so.1 is not found)".into(),
        ));
    }
    result::init().map_err(|e| {
        BackendError::Device(format!("the NVIDIA driver does not start: {}", reason(&e)))
    })?;
    let count = result::device::get_count().map_err(failed("counting GPUs"))?;
    let device = |ordinal: i32| {
        let device = result::device::get(ordinal).map_err(failed("looking for the device"))?;
        Ok((device, inspect(device, ordinal as u32)?))
    };
    (0..count).map(device).collect()
}

#[cfg(not(feature = "candle-cuda"))]
fn driver_is_there() -> bool {
    // SAFETY: it opens the driver's library, if there is one.
    unsafe { sys::is_culib_present() }
}

/// Such a program is linked to the driver and does not start without it.
#[cfg(feature = "candle-cuda")]
fn driver_is_there() -> bool {
    true
}

fn failed(what: &str) -> impl Fn(result::DriverError) -> BackendError + '_ {
    move |e| BackendError::Device(format!("the GPU failed while {what}: {}", reason(&e)))
}

impl Gpu {
    /// GPU number `ordinal`, once all that it needs has been found: driver, NVRTC and cuBLASLt.
    ///
    /// # Errors
    /// What is missing: the driver, the GPU, a library; or that the GPU is too old.
    pub fn open(ordinal: u32) -> Result<Rc<dyn Driver>> {
        let device_error = |what: String| BackendError::Device(what);
        let all = all().map_err(|e| device_error(format!("cuda:{ordinal}: {e}")))?;
        let count = all.len();
        let Some((device, info)) = all.into_iter().nth(ordinal as usize) else {
            return Err(device_error(format!(
                "cuda:{ordinal}: this machine has {count} NVIDIA GPU(s), counted from 0"
            )));
        };
        let version: Vec<i32> = info.capability.split('.').filter_map(|n| n.parse().ok()).collect();
        if (version[0], version[1]) < OLDEST {
            let (major, minor) = OLDEST;
            let what = format!(
                "{} has compute capability {}; {major}.{minor} is the least",
                info.name, info.capability
            );
            return Err(device_error(format!("cuda:{ordinal}: {what}")));
        }
        for library in [Library::Nvrtc, Library::CublasLt] {
            libraries::load(library).map_err(|e| device_error(format!("cuda:{ordinal}: {e}")))?;
        }
        nvrtc::version().map_err(|e| device_error(format!("cuda:{ordinal}: {e}")))?;
        blas_lt::check_version().map_err(|e| device_error(format!("cuda:{ordinal}: {e}")))?;
        let most_shared =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        // SAFETY: the device exists.
        let shared = unsafe { result::device::get_attribute(device, most_shared) }
            .map_err(failed("asking the device"))?;
        // SAFETY: the driver has started, the device exists; the context is this process's own and
        // stays.
        let context =
            unsafe { result::primary_ctx::retain(device) }.map_err(failed("making a context"))?;
        // SAFETY: just made.
        unsafe { result::ctx::set_current(context) }.map_err(failed("making a context"))?;
        let stream = || {
            result::stream::create(result::stream::StreamKind::NonBlocking)
                .map_err(failed("making a stream"))
        };
        Ok(Rc::new(Gpu {
            architecture: format!("sm_{}{}", version[0], version[1]),
            info,
            shared: shared as usize,
            stream: stream()?,
            copies: stream()?,
            kernels: RefCell::default(),
            modules: RefCell::default(),
            cache: cache::folder(),
            freed: Cell::new(0),
            blas: OnceCell::new(),
        }))
    }

    fn stream(&self, stream: Stream) -> sys::CUstream {
        match stream {
            Stream::Compute => self.stream,
            Stream::Copy => self.copies,
        }
    }

    /// The machine code of a source, loaded.
    fn module(&self, source: &'static Source) -> Result<sys::CUmodule> {
        if let Some(&module) = self.modules.borrow().get(source.name) {
            return Ok(module);
        }
        let code = nvrtc::cubin(source, &self.architecture, self.cache.as_deref());
        let code = code.map_err(|e| BackendError::Device(e.to_string()))?;
        // SAFETY: a cubin for this device.
        let module = unsafe { result::module::load_data(code.as_ptr().cast()) }
            .map_err(failed("loading kernels"))?;
        self.modules.borrow_mut().insert(source.name, module);
        Ok(module)
    }

    fn kernel(&self, source: &'static Source, name: &'static str) -> Result<sys::CUfunction> {
        if let Some(&kernel) = self.kernels.borrow().get(&(source.name, name)) {
            return Ok(kernel);
        }
        let module = self.module(source)?;
        let c_name = CString::new(name).map_err(|e| BackendError::Device(e.to_string()))?;
        // SAFETY: the module is loaded for good.
        let kernel = unsafe { result::module::get_function(module, c_name) }
            .map_err(failed("looking for a kernel"))?;
        self.kernels.borrow_mut().insert((source.name, name), kernel);
        Ok(kernel)
    }
}

fn reason(e: &result::DriverError) -> String {
    e.error_string()
        .ok()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_else(|| format!("{e:?}"))
}

/// As nvidia-smi writes it: `GPU-` and 16 bytes in groups of hexadecimal digits.
fn uuid(id: &sys::CUuuid) -> String {
    let mut text = "GPU".to_owned();
    for (i, byte) in id.bytes.iter().enumerate() {
        let dash = if matches!(i, 0 | 4 | 6 | 8 | 10) { "-" } else { "" };
        text += &format!("{dash}{:02x}", *byte as u8);
    }
    text
}

/// What a device says of itself.
fn inspect(device: sys::CUdevice, ordinal: u32) -> Result<DeviceInfo> {
    use sys::CUdevice_attribute as A;
    let attribute = |a| {
        // SAFETY: the device exists.
        unsafe { result::device::get_attribute(device, a) }.map_err(failed("asking the device"))
    };
    let (major, minor) = (
        attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let mut driver = 0;
    // SAFETY: a valid pointer.
    unsafe { sys::cuDriverGetVersion(&mut driver) }
        .result()
        .map_err(failed("asking the driver"))?;
    Ok(DeviceInfo {
        name: result::device::get_name(device).map_err(failed("asking the device"))?,
        ordinal,
        capability: format!("{major}.{minor}"),
        // SAFETY: the device exists.
        memory: unsafe { result::device::total_mem(device) }.map_err(failed("asking the device"))?
            as u64,
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        cache: attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as u64,
        // The driver tells kHz.
        clock_mhz: attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? as u32 / 1000,
        driver: format!("{}.{}", driver / 1000, driver % 1000 / 10),
        uuid: result::device::get_uuid(device)
            .map(|id| uuid(&id))
            .map_err(failed("asking the device"))?,
    })
}

// The context is current in the one thread that has the driver.
impl Driver for Gpu {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn shared_memory(&self) -> usize {
        self.shared
    }

    fn alloc(&self, bytes: usize) -> Result<Option<Address>> {
        // SAFETY: the context is current.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(at) => Ok(Some(at)),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
            Err(e) => Err(failed("allocating memory")(e)),
        }
    }

    fn free(&self, at: Address) {
        // Kernels that use it may still be running; nothing can be done about a failure here.
        let _ = self.synchronize();
        // SAFETY: the address comes from `alloc`, and nothing uses it any more.
        let _ = unsafe { result::free_sync(at) };
        self.freed.set(self.freed.get() + 1);
    }

    fn freed(&self) -> u64 {
        self.freed.get()
    }

    fn available(&self) -> Result<u64> {
        Ok(result::mem_get_info().map_err(failed("asking for free memory"))?.0 as u64)
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the bytes lie in memory of `alloc`.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }
            .map_err(failed("clearing memory"))
    }

    fn to_device(&self, at: Address, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the target lies in memory of `alloc`; `from` stays until the copy is done, below.
        unsafe { result::memcpy_htod_async(at, from, self.stream) }
            .map_err(failed("copying to it"))?;
        // Where the GPU reads pageable memory itself it may do so after the call, and `from` may
        // change or be gone by then.
        // SAFETY: the stream exists as long as this value.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("copying to it"))
    }

    fn staging(&self, bytes: usize) -> Result<Option<HostAddress>> {
        // SAFETY: the context is current.
        match unsafe { result::malloc_host(bytes, 0) } {
            Ok(at) => Ok(Some(at as HostAddress)),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
            Err(e) => Err(failed("allocating the host's memory for it")(e)),
        }
    }

    fn free_staging(&self, at: HostAddress) {
        let _ = self.synchronize();
        // SAFETY: the address comes from `staging`, and nothing uses it any more.
        let _ = unsafe { result::free_host(at as *mut c_void) };
    }

    unsafe fn send_staging(&self, at: Address, from: HostAddress, bytes: usize) -> Result<()> {
        // SAFETY: the caller promises so many bytes of staging memory, which stay as they are.
        let from = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) };
        // SAFETY: the caller promises as many on the device.
        unsafe { result::memcpy_htod_async(at, from, self.copies) }.map_err(failed("copying to it"))
    }

    unsafe fn fetch_staging(&self, to: HostAddress, from: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller promises so many bytes of staging memory, which nobody else looks at.
        let to = unsafe { std::slice::from_raw_parts_mut(to as *mut u8, bytes) };
        // SAFETY: the caller promises as many on the device.
        unsafe { result::memcpy_dtoh_async(to, from, self.stream) }
            .map_err(failed("copying from it"))
    }

    fn to_host(&self, at: Address, to: &mut [u8]) -> Result<()> {
        if !to.is_empty() {
            // SAFETY: the source lies in memory of `alloc`; `to` stays until the copy is done, below.
            unsafe { result::memcpy_dtoh_async(to, at, self.stream) }
                .map_err(failed("copying from it"))?;
        }
        // SAFETY: the stream exists as long as this value.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("computing"))
    }

    fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream exists as long as this value.
        unsafe { result::stream::synchronize(self.copies) }.map_err(failed("copying to it"))?;
        // SAFETY: as above.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("computing"))
    }

    fn event(&self) -> Result<u64> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
            .map_err(failed("making an event"))?;
        Ok(event as u64)
    }

    fn free_event(&self, event: u64) {
        // SAFETY: the event comes from `event`, and nobody uses it after this.
        let _ = unsafe { result::event::destroy(event as sys::CUevent) };
    }

    fn record(&self, event: u64, stream: Stream) -> Result<()> {
        // SAFETY: the event comes from `event`, and the stream exists as long as this value.
        unsafe { result::event::record(event as sys::CUevent, self.stream(stream)) }
            .map_err(failed("recording an event"))
    }

    fn wait(&self, stream: Stream, event: u64) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the event comes from `event`, and the stream exists as long as this value.
        unsafe { result::stream::wait_event(self.stream(stream), event as sys::CUevent, flags) }
            .map_err(failed("bringing streams in order"))
    }

    fn wait_here(&self, event: u64) -> Result<()> {
        // SAFETY: the event comes from `event`.
        unsafe { result::event::synchronize(event as sys::CUevent) }.map_err(failed("computing"))
    }

    fn is_done(&self, event: u64) -> Result<bool> {
        // SAFETY: the event comes from `event`.
        match unsafe { result::event::query(event as sys::CUevent) } {
            Ok(()) => Ok(true),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            Err(e) => Err(failed("computing")(e)),
        }
    }

    fn begin_capture(&self) -> Result<()> {
        // Calls of this thread that a graph cannot hold fail; those of other threads are none of
        // its business.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream exists as long as this value.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(failed("beginning a capture"))
    }

    fn end_capture(&self) -> Result<u64> {
        // SAFETY: the stream exists as long as this value.
        let graph = unsafe { result::stream::end_capture(self.stream) }
            .map_err(failed("ending a capture"))?;
        if graph.is_null() {
            return Err(BackendError::Device("the GPU failed while ending a capture".into()));
        }
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is the one that was just captured.
        let whole =
            unsafe { result::graph::instantiate(graph, flags) }.map_err(failed("making a graph"));
        // SAFETY: nobody else has the graph, and nobody uses it after this.
        let _ = unsafe { result::graph::destroy(graph) };
        Ok(whole? as u64)
    }

    unsafe fn replay(&self, graph: u64) -> Result<()> {
        // SAFETY: the graph comes from `end_capture`; the caller promises its memory.
        unsafe { result::graph::launch(graph as sys::CUgraphExec, self.stream) }
            .map_err(failed("starting a graph"))
    }

    fn free_graph(&self, graph: u64) {
        // It may still be at work.
        let _ = self.synchronize();
        // SAFETY: the graph comes from `end_capture`, and nobody uses it after this.
        let _ = unsafe { result::graph::exec_destroy(graph as sys::CUgraphExec) };
    }

    unsafe fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        launch: Launch,
        args: &[&[u8]],
    ) -> Result<()> {
        let Launch { grid: [gx, gy, gz], block: [bx, by, bz], shared } = launch;
        let function = self.kernel(source, kernel)?;
        if shared > 48 << 10 {
            let limit = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a module that is loaded.
            unsafe { result::function::set_function_attribute(function, limit, shared as i32) }
                .map_err(failed(kernel))?;
        }
        let mut places = [std::ptr::null_mut(); MAX_ARGS];
        let Some(places) = places.get_mut(..args.len()) else {
            return Err(BackendError::Device(format!(
                "kernel {kernel} has more than {MAX_ARGS} arguments"
            )));
        };
        places
            .iter_mut()
            .zip(args)
            .for_each(|(place, arg)| *place = arg.as_ptr().cast_mut().cast::<c_void>());
        let args = places;
        // SAFETY: the caller promises that the arguments are the kernel's, and their memory.
        unsafe {
            result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), shared, self.stream, args)
        }
        .map_err(failed(kernel))
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        if self.blas.get().is_none() {
            let _ = self.blas.set(BlasLt::new(self.stream)?);
        }
        let Some(blas) = self.blas.get() else { return Ok(false) };
        // SAFETY: the caller promises the memory of the matrices.
        unsafe { blas.gemm(gemm) }
    }

    fn link_library(&self) -> Result<String> {
        Ok(format!("NCCL {}", nccl::library()?.version()))
    }

    fn link_id(&self) -> Result<Id> {
        nccl::library()?.id()
    }

    fn link(&self, id: Id, rank: usize, size: usize) -> Result<Box<dyn Link>> {
        // SAFETY: the stream is this device's, whose context is current; whoever asks keeps the
        // driver as long as the link.
        let link = unsafe {
            nccl::Communicator::join(nccl::library()?, self.stream.cast(), id, (rank, size))
        };
        Ok(Box::new(link?))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.blas.take();
        // SAFETY: nobody uses them after this. Failures leave them to the end of the process.
        unsafe {
            for (_, module) in self.modules.borrow_mut().drain() {
                let _ = result::module::unload(module);
            }
            let _ = result::stream::destroy(self.stream);
            let _ = result::stream::destroy(self.copies);
        }
        // The context stays to the end of the process: a run opens its GPU several times, and each
        // time a new one would be made, and libraries that have worked in the old one keep things
        // of it.
    }
}
