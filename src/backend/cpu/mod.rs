//! Operations on multi-core CPUs. Instruction sets are chosen at run time; results do not depend on the number of threads.

pub mod gemm;
pub mod pool;
