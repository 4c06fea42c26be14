//! The machine below data and kernels: threads, instruction sets, text in registers, mapped files,
//! child processes, files that appear whole.

mod affinity;
pub(crate) mod atomic_file;
pub(crate) mod calendar;
pub(crate) mod descriptors;
pub(crate) mod env;
pub(crate) mod escape;
mod isa;
pub(crate) mod local_time;
mod mapped;
pub(crate) mod names;
pub mod pool;
pub(crate) mod positioned;
mod prefetch;
pub(crate) mod process;
pub(crate) mod protobuf;
mod size;
pub(crate) mod text;

pub use isa::{Isa, wide};
pub(crate) use mapped::MappedFile;
pub(crate) use prefetch::{prefetch, prefetch_row};
pub use size::Size;
