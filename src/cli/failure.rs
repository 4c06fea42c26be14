//! Why a command could not do its work: one sentence and an exit code (the numbers are those of
//! BSD's sysexits).

use crate::{data::DataError, workload::WorkloadError};

/// The command line or the workload is wrong (EX_USAGE).
pub(super) const USAGE: u8 = 64;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The workload is wrong.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Usage(String),
    /// The data are wrong.
    #[error(transparent)]
    Data(DataError),
    /// A file to be judged or shown cannot be read, or is not what it should be.
    #[error("{0}")]
    Input(String),
    /// The loss or a prediction is not a number.
    #[error("{0}")]
    Quality(String),
    /// The device that is to compute is not there, or lacks something (EX_UNAVAILABLE).
    #[error("{0}")]
    Device(String),
    /// The machine has not enough memory.
    #[error("{0}")]
    Memory(String),
    /// The results cannot be written.
    #[error("{0}")]
    Output(String),
    /// The reader of standard output went away, and without it there is nothing to go on for.
    #[error("standard output was closed by its reader")]
    Closed,
    /// Ctrl-C or SIGTERM, before there was anything to leave.
    #[error("{0}")]
    Interrupted(String),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl From<DataError> for Failure {
    fn from(e: DataError) -> Self {
        match e {
            DataError::Prepare(e) => (*e).into(),
            e => Failure::Data(e),
        }
    }
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Quality(_) => 4,
            Failure::Workload(_) | Failure::Usage(_) => USAGE,
            Failure::Data(_) | Failure::Input(_) => 65,
            Failure::Device(_) => 69,
            Failure::Internal(_) => 70,
            Failure::Memory(_) => 71,
            Failure::Output(_) => 74,
            Failure::Interrupted(_) => super::Exit::Interrupted as u8,
            Failure::Closed => super::terminal::CLOSED,
        }
    }
}
