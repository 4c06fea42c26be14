//! NCCL, loaded at run time: the functions that [`Link`] needs, as nccl.h declares them (docs/cuda.md
//! says of which versions).

use super::{
    libraries,
    link::{ID_BYTES, Id, Link, Piece},
};
use crate::backend::{BackendError, Result};
use libloading::Library;
use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_int, c_void},
    ptr::null_mut,
    rc::Rc,
};

/// `ncclResult_t`: no error.
const SUCCESS: c_int = 0;
/// `ncclResult_t`: under way, which is no error.
const IN_PROGRESS: c_int = 7;
/// `ncclDataType_t`: words of 32 bits.
const UINT32: c_int = 3;
/// The oldest NCCL that has all functions in use: 2.7 has send and receive, and codes of versions are
/// written as below from 2.9 on.
const OLDEST: c_int = 20_900;

/// `ncclUniqueId`, which is passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId {
    internal: [u8; ID_BYTES],
}

/// `ncclComm_t`, `cudaStream_t`.
type Handle = *mut c_void;
type GetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;
type GetUniqueId = unsafe extern "C" fn(*mut UniqueId) -> c_int;
type CommInitRank = unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> c_int;
type OfComm = unsafe extern "C" fn(Handle) -> c_int;
type GetAsyncError = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;
type Group = unsafe extern "C" fn() -> c_int;
type SendFn = unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Handle, Handle) -> c_int;
type RecvFn = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Handle, Handle) -> c_int;

/// The library.
pub(super) struct Nccl {
    get_unique_id: GetUniqueId,
    comm_init_rank: CommInitRank,
    comm_destroy: OfComm,
    comm_abort: OfComm,
    get_async_error: GetAsyncError,
    get_error_string: GetErrorString,
    group_start: Group,
    group_end: Group,
    send: SendFn,
    recv: RecvFn,
    version: c_int,
    /// Keeps the functions where they are.
    _library: Library,
}

/// The library, found and opened once for a thread that has a GPU.
pub(super) fn library() -> Result<Rc<Nccl>> {
    thread_local! {
        static OPENED: Cell<Option<Rc<Nccl>>> = const { Cell::new(None) };
    }
    OPENED.with(|opened| {
        let nccl = match opened.take() {
            Some(nccl) => nccl,
            None => {
                let library =
                    libraries::open_nccl().map_err(|e| BackendError::Device(e.to_string()))?;
                Rc::new(Nccl::of(library)?)
            }
        };
        opened.set(Some(Rc::clone(&nccl)));
        Ok(nccl)
    })
}

impl Nccl {
    /// The functions of a library.
    pub(super) fn of(library: Library) -> Result<Self> {
        let missing = |e: libloading::Error| {
            BackendError::Device(format!("NCCL's library lacks what is needed of it: {e}"))
        };
        let nccl = &library;
        // SAFETY: the types are those of nccl.h for the functions of these names.
        let mut found = unsafe {
            let mut version = 0;
            function::<GetVersion>(nccl, c"ncclGetVersion").map_err(missing)?(&mut version);
            Nccl {
                get_unique_id: function(nccl, c"ncclGetUniqueId").map_err(missing)?,
                comm_init_rank: function(nccl, c"ncclCommInitRank").map_err(missing)?,
                comm_destroy: function(nccl, c"ncclCommDestroy").map_err(missing)?,
                comm_abort: function(nccl, c"ncclCommAbort").map_err(missing)?,
                get_async_error: function(nccl, c"ncclCommGetAsyncError").map_err(missing)?,
                get_error_string: function(nccl, c"ncclGetErrorString").map_err(missing)?,
                group_start: function(nccl, c"ncclGroupStart").map_err(missing)?,
                group_end: function(nccl, c"ncclGroupEnd").map_err(missing)?,
                send: function(nccl, c"ncclSend").map_err(missing)?,
                recv: function(nccl, c"ncclRecv").map_err(missing)?,
                version,
                _library: library,
            }
        };
        if found.version < OLDEST {
            let old = std::mem::take(&mut found.version);
            return Err(BackendError::Device(format!(
                "NCCL's library says that its version is {old}; {OLDEST} is the least"
            )));
        }
        Ok(found)
    }

    /// As NVIDIA writes it.
    pub(super) fn version(&self) -> String {
        let (v, rest) = (self.version / 10_000, self.version % 10_000);
        format!("{v}.{}.{}", rest / 100, rest % 100)
    }

    /// A new id.
    pub(super) fn id(&self) -> Result<Id> {
        let mut id = UniqueId { internal: [0; ID_BYTES] };
        // SAFETY: room for an id.
        self.passed(unsafe { (self.get_unique_id)(&mut id) }, "ncclGetUniqueId")?;
        Ok(id.internal)
    }

    fn passed(&self, code: c_int, what: &str) -> Result<()> {
        if code == SUCCESS || code == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: it takes any number and returns a constant text.
        let text = unsafe { CStr::from_ptr((self.get_error_string)(code)) };
        Err(BackendError::Device(format!(
            "NCCL {}: {what} failed: {} (NCCL_DEBUG=WARN says more)",
            self.version(),
            text.to_string_lossy()
        )))
    }
}

/// A function of the library.
///
/// # Safety
/// `F` is the function's type.
unsafe fn function<F: Copy>(
    library: &Library,
    name: &CStr,
) -> std::result::Result<F, libloading::Error> {
    // SAFETY: as the caller promises.
    unsafe { library.get::<F>(name.to_bytes_with_nul()).map(|symbol| *symbol) }
}

/// A communicator, whose exchanges are in order with a stream.
pub(super) struct Communicator {
    nccl: Rc<Nccl>,
    comm: Cell<Handle>,
    stream: Handle,
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Communicator(NCCL {})", self.nccl.version())
    }
}

impl Communicator {
    /// Waits until all `size` ranks are there, each on the device that is current in its thread.
    ///
    /// # Safety
    /// `stream` is a stream of that device, and stays as long as this value.
    pub(super) unsafe fn join(
        nccl: Rc<Nccl>,
        stream: Handle,
        id: Id,
        (rank, size): (usize, usize),
    ) -> Result<Self> {
        let mut comm = null_mut();
        let id = UniqueId { internal: id };
        // SAFETY: room for a handle; the id is one of `ncclGetUniqueId`, from any rank.
        let code = unsafe { (nccl.comm_init_rank)(&mut comm, size as c_int, id, rank as c_int) };
        nccl.passed(code, "ncclCommInitRank")?;
        Ok(Communicator { nccl, comm: Cell::new(comm), stream })
    }

    fn comm(&self) -> Result<Handle> {
        let comm = self.comm.get();
        if comm.is_null() {
            return Err(BackendError::Device("NCCL's communicator was given up".into()));
        }
        Ok(comm)
    }
}

impl Link for Communicator {
    unsafe fn exchange(&self, send: &[Piece], receive: &[Piece]) -> Result<()> {
        let (nccl, comm) = (&*self.nccl, self.comm()?);
        // SAFETY: it takes nothing.
        nccl.passed(unsafe { (nccl.group_start)() }, "ncclGroupStart")?;
        let pieces = || -> Result<()> {
            for piece in send {
                let (at, peer) = (piece.at as *const c_void, piece.rank as c_int);
                // SAFETY: the caller promises so many words, and that they stay; communicator and
                // stream exist.
                let code = unsafe { (nccl.send)(at, piece.words, UINT32, peer, comm, self.stream) };
                nccl.passed(code, "ncclSend")?;
            }
            for piece in receive {
                let (at, peer) = (piece.at as *mut c_void, piece.rank as c_int);
                // SAFETY: as above.
                let code = unsafe { (nccl.recv)(at, piece.words, UINT32, peer, comm, self.stream) };
                nccl.passed(code, "ncclRecv")?;
            }
            Ok(())
        };
        let asked = pieces();
        // SAFETY: the group has been started; it is ended whatever became of its calls.
        let ended = nccl.passed(unsafe { (nccl.group_end)() }, "ncclGroupEnd");
        asked.and(ended)
    }

    fn check(&self) -> Result<()> {
        let (comm, mut error) = (self.comm()?, SUCCESS);
        // SAFETY: the communicator exists; room for a code.
        let code = unsafe { (self.nccl.get_async_error)(comm, &mut error) };
        self.nccl.passed(code, "ncclCommGetAsyncError")?;
        self.nccl.passed(error, "an exchange")
    }

    fn abort(&self) {
        let comm = self.comm.replace(null_mut());
        if !comm.is_null() {
            // SAFETY: the communicator exists, and nobody uses it after this.
            unsafe { (self.nccl.comm_abort)(comm) };
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let comm = self.comm.replace(null_mut());
        if !comm.is_null() {
            // SAFETY: the communicator exists, nobody uses it after this, and whoever has it waits
            // for its exchanges first.
            unsafe { (self.nccl.comm_destroy)(comm) };
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[path = "nccl_tests.rs"]
mod tests;
