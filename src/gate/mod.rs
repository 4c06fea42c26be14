//! Whether a program got slower: it is run in short slices, each a process of its own, and the
//! slices are compared. docs/gate.md says how it decides.

mod against_baseline;
mod baseline;
mod child;
mod interleaved;
mod pace;
mod program;
mod quality;
mod slice;
mod verdict;

pub use against_baseline::{against_baseline, record};
pub use baseline::{Baseline, Session};
pub use interleaved::{interleaved, least_seconds};
pub use program::Program;
pub use verdict::{Outcome, SideReport, SliceReport, Verdict};

use crate::{random::philox::Philox, stats::Criteria};
use pace::Clock;
use std::{path::PathBuf, sync::atomic::AtomicBool, time::Duration};

/// How to decide.
pub struct Settings<'a> {
    /// What counts as slower, and how sure one has to be.
    pub criteria: Criteria,
    /// Time for all of it.
    pub budget: Duration,
    /// Steps after which both sides are evaluated; 0 = no evaluation.
    pub quality_steps: u64,
    /// The AUC then may be smaller than the other side's by this much.
    pub max_auc_drop: f64,
    /// Seed of the coin that decides which side goes first.
    pub seed: u64,
    /// Folder for the slices' results, of no other use; it is removed after each slice.
    pub scratch: PathBuf,
    /// Set from outside (Ctrl-C) to end soon.
    pub stop: &'a AtomicBool,
    /// Hears a line of progress now and then.
    pub tell: &'a dyn Fn(&str),
}

/// Why there is no slice.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The loss or a prediction was not a number.
    #[error("{0}")]
    Quality(String),
    /// The program, or what it was given, is at fault.
    #[error("{what}")]
    Cause {
        /// The exit code that says so: 64, 65, 69, 71 or 74.
        code: u8,
        /// In a sentence.
        what: String,
    },
    /// A slice had not ended when its time was over.
    #[error("{0}")]
    Late(String),
    /// The budget is over before there are slices enough.
    #[error("{0}")]
    TooFew(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// The folder for slices cannot be used.
    #[error("cannot write {path}: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Turns the end of a comparison into the verdict where it is one.
fn conclude(
    verdict: &mut Verdict,
    clock: &Clock,
    done: Result<(), SliceError>,
) -> Result<(), SliceError> {
    verdict.seconds = clock.seconds();
    match done {
        Err(SliceError::Quality(what)) => verdict.decide(Outcome::QualityFailure, what),
        Err(SliceError::Late(what)) => verdict.decide(Outcome::NotEnoughEvidence, what),
        other => other?,
    }
    Ok(())
}

/// A fair coin for each block.
fn coin(seed: u64, block: u64) -> bool {
    Philox::new(seed, crate::random::philox::Stream::Order, 0).block(block)[0] & 1 == 1
}
