//! The machine below data and kernels: threads, instruction sets, text in registers, mapped files,
//! child processes, files that appear whole.

mod affinity;
pub mod atomic_file;
pub mod descriptors;
pub mod env;
pub mod escape;
pub mod isa;
mod mapped;
pub mod pool;
mod prefetch;
pub mod process;
pub mod text;

pub use isa::Isa;
pub use mapped::MappedFile;
pub(crate) use prefetch::{prefetch, prefetch_row};
