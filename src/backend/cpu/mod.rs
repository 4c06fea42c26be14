//! Operations on multi-core CPUs. Instruction sets are chosen at run time; results do not depend on
//! the number of threads.

mod backend;
pub mod bags;
pub mod batch_norm;
pub(crate) mod ceilings;
pub mod dense_update;
pub mod dropout;
pub mod elementwise;
mod fields;
pub mod fm;
pub mod gemm;
pub mod groups;
pub mod interaction;
pub mod loss;
mod memory;
mod pages;
mod products;
pub mod quantised;
mod rule;
mod simd;
pub mod sparse_update;
mod step_control;
#[cfg(test)]
pub(crate) mod testing;

pub use backend::{Cpu, CpuConfig};
