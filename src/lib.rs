//! Trains DLRM and DeepFM to a target AUC as fast as the hardware allows, and proves how fast that
//! was. The binary is `dlrm-bench`; ARCHITECTURE.md is the map.
//!
//! What the library offers:
//!
//! - [`workload`]: read a workload file, with overrides, and every default filled in;
//! - [`train`]: open the data, make the model, run it to its target, and hear of every step and
//!   evaluation ([`train::events::Listener`]);
//! - [`engine`]: train step by step under a loop of your own, with the fused engine or candle's;
//! - [`data`]: read and write the formats of the reproduced systems, generate planted data,
//!   preprocess Criteo's logs;
//! - [`metrics`], [`stats`]: exact AUC and its kin; intervals, tests and scores of series of runs;
//! - [`selftest`]: numbers that reference programs print, and whether they come out here;
//! - [`mllog`], [`results`]: write, read, check and compare MLPerf logs and result trees.
//!
//! The model of the quick start, with small tables, trained for ten steps:
//!
//! ```
//! use dlrm_bench::{train, workload};
//! use std::{path::Path, sync::atomic::AtomicBool};
//!
//! let file = Path::new("workloads/quickstart.toml");
//! let overrides = ["data.max_rows=1000", "data.eval_samples=5000", "train.max_steps=10"];
//! let resolved = workload::load(file, &overrides.map(String::from))?;
//! let stop = AtomicBool::new(false);
//! let job = train::Job::new(&resolved.workload, &stop);
//! let finished = train::run(&job, &mut [])?;
//! assert_eq!(finished.outcome.steps, 10);
//! assert!(finished.outcome.last_eval.is_some_and(|eval| eval.quality.auc > 0.5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

pub mod backend;
pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod comm;
pub mod data;
pub mod embedding;
pub mod engine;
pub(crate) mod exact;
pub mod export;
pub mod gate;
pub mod host;
pub mod metrics;
pub mod mllog;
pub mod model;
#[cfg(test)]
#[allow(dead_code, missing_docs)]
#[path = "../tests/support/npz.rs"]
mod npz;
pub mod optim;
pub mod random;
pub mod report;
pub mod results;
pub mod selftest;
pub mod stats;
pub mod system;
pub mod train;
pub mod workload;
