//! Operations on multi-core CPUs. Instruction sets are chosen at run time; results do not depend on
//! the number of threads.

mod backend;
pub mod bags;
pub mod batch_norm;
pub mod ceilings;
pub mod dense_update;
pub mod dropout;
pub mod elementwise;
pub mod fields;
pub mod fm;
pub mod gemm;
pub mod groups;
pub mod interaction;
pub mod loss;
pub mod memory;
pub mod pages;
pub mod products;
mod rule;
mod simd;
pub mod sparse_update;
mod step_control;
#[cfg(test)]
pub(crate) mod testing;

pub use backend::{Cpu, CpuConfig};
