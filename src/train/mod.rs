//! The loop: batches, steps, evaluation, stop rules, and who is told of it.

mod cache;
mod checkpoint;
mod choose_store;
mod contents;
mod diagnosis;
mod evaluate;
pub mod events;
pub mod failure;
mod feed;
mod fit;
mod judging;
#[cfg(all(test, unix))]
mod linked_tests;
pub(crate) mod memory;
mod popularity;
mod prepare;
mod ranked;
mod run;
mod saved;
mod saving;
mod served;
#[cfg(test_slowdown)]
mod slowdown;
mod snapshot;
mod step_clock;
mod told;
mod trainer;

pub use cache::{ExpectedHits, Over, expected_hits};
pub use checkpoint::Progress;
pub use choose_store::choose_store;
pub use diagnosis::{Dead, Diagnosis, Unmoved};
pub use feed::made_on_device;
pub use fit::fit_memory;
pub use popularity::{Popularity, column_ids};
pub use prepare::{Prepared, prepare};
pub use run::{Finished, Job, run};
pub use saved::{Judge, Latency, SavedModel, Sink, Split};

use crate::{
    checkpoint::CheckpointError, data::DataError, engine::EngineError, metrics::MetricsError,
    optim::schedule::ScheduleError, workload::parse::WorkloadError,
};

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The workload does not fit the data.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The schedule cannot be followed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run does not fit into memory.
    #[error(transparent)]
    Memory(#[from] memory::NotEnoughMemory),
    /// The run does not fit into a GPU's memory.
    #[error(transparent)]
    DeviceMemory(#[from] memory::TooLarge),
    /// The run cannot go on from a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Several ranks cannot train this.
    #[error("{0}")]
    Ranks(String),
    /// The loss of a step is not a number.
    #[error(
        "the loss is {loss} at step {step} (learning rate {rate:.3e}); a smaller optimizer.learning_rate, a warm-up or clip_norm may help"
    )]
    Loss {
        /// NaN or infinite.
        loss: f32,
        /// 1-based.
        step: u64,
        /// Rate of that step.
        rate: f64,
    },
    /// Predictions that cannot be judged.
    #[error("evaluation after step {step}: {source}")]
    Metrics {
        /// Steps done before the evaluation.
        step: u64,
        /// What is wrong with them.
        source: MetricsError,
    },
    /// Ctrl-C or SIGTERM before training began.
    #[error("interrupted before training began")]
    Interrupted,
    /// Whoever reads the run's output went away.
    #[error("standard output was closed by its reader")]
    Closed,
    /// A listener (the log, the record) failed.
    #[error("cannot write the run's log: {0}")]
    Listener(std::io::Error),
}

impl From<std::io::Error> for TrainError {
    fn from(error: std::io::Error) -> Self {
        // Of all that a run writes, only its output can be a pipe.
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => TrainError::Closed,
            _ => TrainError::Listener(error),
        }
    }
}

impl TrainError {
    /// Whether it speaks of the quality of training (not of input or machine).
    pub fn is_quality(&self) -> bool {
        matches!(
            self,
            TrainError::Loss { .. }
                | TrainError::Metrics { .. }
                | TrainError::Engine(EngineError::NotFinite { .. })
        )
    }
}
