//! Operations on GPUs of NVIDIA's. Each operation is a file of kernels (`.cu`) with its launcher
//! (`.rs`) beside it; the kernels are compiled for the GPU at hand when they are first needed
//! ([`driver`]), so that this program is built and starts where there is neither a GPU nor a
//! toolkit.
//!
//! Results are the same at every run: sums have a fixed order that depends on shapes alone, and no
//! float is ever added atomically.

mod backend;
mod bags;
mod batch_norm;
pub(crate) mod ceilings;
pub(crate) mod check;
mod dense_update;
mod dot_tensor;
pub mod driver;
mod dropout;
mod elementwise;
mod first_rows;
mod fm;
mod graphs;
mod groups;
mod interaction;
mod launch;
mod linear;
mod links;
mod loss;
mod matrix;
mod memory;
mod moving;
mod planted;
mod products;
mod radix;
mod rows;
mod rules;
mod scores;
mod scratch;
mod sparse_update;
mod step_control;
mod tables;
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod testing;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod thin;

pub use backend::{Cuda, CudaConfig};
pub use moving::MOVING_BYTES;
pub use planted::Planted;
pub use scores::{Scores, scores_bytes};

use driver::Source;

/// Every file of kernels.
pub const SOURCES: [&Source; 18] = [
    &bags::SOURCE,
    &batch_norm::SOURCE,
    &ceilings::SOURCE,
    &step_control::SOURCE,
    &dense_update::SOURCE,
    &dot_tensor::SOURCE,
    &dropout::SOURCE,
    &elementwise::SOURCE,
    &fm::SOURCE,
    &groups::SOURCE,
    &interaction::SOURCE,
    &loss::SOURCE,
    &planted::SOURCE,
    &products::SOURCE,
    &rows::SOURCE,
    &scores::SOURCE,
    &sparse_update::SOURCE,
    &thin::SOURCE,
];
