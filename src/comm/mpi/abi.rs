//! The functions of libmpi that are called, and the constants of the three binary interfaces in use.
//!
//! MPI's standard fixes names and meanings of functions, not (before MPI 5) the types of handles:
//! in Open MPI they are pointers, in MPICH and all that descends from it ints, in the standard
//! interface of MPI 5 (`libmpi_abi`) pointers again. Here all are [`Handle`]: an int is passed in
//! the lower half of a register on x86-64 and aarch64, and is written to the lower half of a
//! handle, which is zero before.
//!
//! Values are those of `mpi.h` of Open MPI 5.0 and MPICH 5.0 and of `mpi_abi.h` (MPI 5.0, section
//! 20).

use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};

/// A communicator, a type of data, a request.
pub(super) type Handle = usize;

/// Bytes of the largest status, with room to spare.
pub(super) type Status = [u64; 16];

type InitThread =
    unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int;
type OfComm = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
type Isend =
    unsafe extern "C" fn(*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle) -> c_int;
type Irecv =
    unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle) -> c_int;
type Test = unsafe extern "C" fn(*mut Handle, *mut c_int, *mut Status) -> c_int;
type GetCount = unsafe extern "C" fn(*const Status, Handle, *mut c_int) -> c_int;
type Iprobe = unsafe extern "C" fn(c_int, c_int, Handle, *mut c_int, *mut Status) -> c_int;
type Abort = unsafe extern "C" fn(Handle, c_int) -> c_int;
type Finalize = unsafe extern "C" fn() -> c_int;
type ErrorString = unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int;
type LibraryVersion = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;
type SetErrhandler = unsafe extern "C" fn(Handle, Handle) -> c_int;
type AbiVersion = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// Constants of an interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    pub world: Handle,
    pub byte: Handle,
    pub errors_return: Handle,
    pub serialized: c_int,
}

/// libmpi, loaded.
pub(super) struct Functions {
    pub constants: Constants,
    pub init_thread: InitThread,
    pub comm_rank: OfComm,
    pub comm_size: OfComm,
    pub isend: Isend,
    pub irecv: Irecv,
    pub test: Test,
    pub get_count: GetCount,
    pub iprobe: Iprobe,
    pub abort: Abort,
    pub finalize: Finalize,
    pub error_string: ErrorString,
    pub library_version: LibraryVersion,
    pub set_errhandler: SetErrhandler,
    /// Keeps the functions where they are.
    _library: Library,
}

/// Opens a library so that what it loads itself finds its symbols.
fn open(name: &str) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libmpi runs constructors of its own when it is loaded, as in any program that is
    // linked to it; nothing else is asked of it before MPI_Init_thread.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
}

impl Functions {
    /// Loads the library of that name or path.
    pub fn load(name: &str) -> Result<Self, libloading::Error> {
        let library = open(name)?;
        let mpi = &library;
        // SAFETY: the types are those that MPI's standard gives the functions of these names, with
        // handles as this module describes.
        unsafe {
            Ok(Functions {
                constants: constants(mpi)?,
                init_thread: function::<InitThread>(mpi, c"MPI_Init_thread")?,
                comm_rank: function::<OfComm>(mpi, c"MPI_Comm_rank")?,
                comm_size: function::<OfComm>(mpi, c"MPI_Comm_size")?,
                isend: function::<Isend>(mpi, c"MPI_Isend")?,
                irecv: function::<Irecv>(mpi, c"MPI_Irecv")?,
                test: function::<Test>(mpi, c"MPI_Test")?,
                get_count: function::<GetCount>(mpi, c"MPI_Get_count")?,
                iprobe: function::<Iprobe>(mpi, c"MPI_Iprobe")?,
                abort: function::<Abort>(mpi, c"MPI_Abort")?,
                finalize: function::<Finalize>(mpi, c"MPI_Finalize")?,
                error_string: function::<ErrorString>(mpi, c"MPI_Error_string")?,
                library_version: function::<LibraryVersion>(mpi, c"MPI_Get_library_version")?,
                set_errhandler: function::<SetErrhandler>(mpi, c"MPI_Comm_set_errhandler")?,
                _library: library,
            })
        }
    }
}

/// A function of the library.
///
/// # Safety
/// `F` is the function's type.
unsafe fn function<F: Copy>(library: &Library, name: &CStr) -> Result<F, libloading::Error> {
    // SAFETY: as the caller promises.
    unsafe { library.get::<F>(name.to_bytes_with_nul()).map(|symbol| *symbol) }
}

/// The constants of the interface that a library has.
fn constants(library: &Library) -> Result<Constants, libloading::Error> {
    // SAFETY: the function may be called before MPI_Init_thread (MPI 5.0, section 20.3).
    let standard = unsafe {
        library.get::<AbiVersion>(c"MPI_Abi_get_version".to_bytes_with_nul()).is_ok_and(|version| {
            let (mut major, mut minor) = (0, 0);
            version(&mut major, &mut minor) == 0 && major >= 1
        })
    };
    if standard {
        return Ok(Constants { world: 0x101, byte: 0x247, errors_return: 0x143, serialized: 2048 });
    }
    let address = |name: &CStr| {
        // SAFETY: only the address of the variable is taken, which in Open MPI is the handle; the
        // library stays loaded as long as it is used.
        unsafe {
            let found = library.get::<*mut c_void>(name.to_bytes_with_nul())?;
            Ok::<_, libloading::Error>(found.try_as_raw_ptr().map_or(0, |at| at as Handle))
        }
    };
    Ok(match address(c"ompi_mpi_comm_world") {
        Ok(world) => Constants {
            world,
            byte: address(c"ompi_mpi_byte")?,
            errors_return: address(c"ompi_mpi_errors_return")?,
            serialized: 2,
        },
        // MPICH and its relatives.
        Err(_) => Constants {
            world: 0x4400_0000,
            byte: 0x4c00_010d,
            errors_return: 0x5400_0001,
            serialized: 2,
        },
    })
}
