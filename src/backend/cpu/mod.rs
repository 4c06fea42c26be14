//! Operations on multi-core CPUs. Instruction sets are chosen at run time; results do not depend on the number of threads.

mod backend;
pub mod batch_norm;
pub mod elementwise;
pub mod fields;
pub mod gemm;
pub mod isa;
pub mod memory;
pub mod plain;
pub mod pool;

pub use backend::{Cpu, CpuConfig};
