//! Trains DLRM and DeepFM to a target AUC as fast as the hardware allows, and proves how fast that
//! was. ARCHITECTURE.md is the map; the binary is `dlrm-bench`.
#![warn(missing_docs)]

pub mod backend;
pub mod batch;
pub mod cli;
pub mod data;
pub mod embedding;
pub mod engine;
pub(crate) mod exact;
pub mod gate;
pub mod host;
pub mod metrics;
pub mod mllog;
pub mod model;
pub mod optim;
pub mod random;
pub mod report;
pub mod results;
pub mod stats;
pub mod system;
pub mod train;
pub mod workload;
