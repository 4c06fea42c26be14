//! When checkpoints are written.

use serde::Serialize;
use std::path::PathBuf;

/// Checkpoints that are kept unless more or fewer are asked for.
pub const KEEP: u64 = 2;

/// `[checkpoint]`. Nothing is written unless one of the occasions is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CheckpointConfig {
    /// After every so many steps.
    pub every_steps: Option<u64>,
    /// After the step during which so many minutes have passed since the last one.
    pub every_minutes: Option<f64>,
    /// After each evaluation.
    pub at_eval: Option<bool>,
    /// Before the first step.
    pub initial: Option<bool>,
    /// After each evaluation that is the best so far; the newest of these is kept beside the others.
    pub best: Option<bool>,
    /// The newest so many are kept; `None` = [`KEEP`].
    pub keep: Option<u64>,
    /// Where they are; `None` = in the run's folder.
    pub dir: Option<PathBuf>,
    /// Between whole ones, only the rows that were touched since the last of these are written.
    pub incremental: Option<bool>,
    /// Rows that are in a row file stay there, and a checkpoint gets its segments.
    pub linked: Option<bool>,
}

impl CheckpointConfig {
    /// Whether any are written.
    pub fn is_on(&self) -> bool {
        self.every_steps.is_some()
            || self.every_minutes.is_some()
            || [self.at_eval, self.initial, self.best].contains(&Some(true))
    }
}
