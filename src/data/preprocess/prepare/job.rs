//! What is to be prepared, how, and with how much memory.

use super::{Parameters, PrepareError, Recipe};
use crate::{
    data::preprocess::{chunks, inputs::Input, lines::is_gzip, unpack},
    host::Isa,
};
use std::{path::PathBuf, time::Duration};

/// Bytes that the program itself, its buffers aside, may take.
pub const PROGRAM: u64 = 32 << 20;
/// The least budget.
pub const LEAST_MEMORY: u64 = 64 << 20;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// How.
    pub recipe: Recipe,
    /// With what settings.
    pub parameters: Parameters,
    /// The raw files, in order.
    pub raw: Vec<PathBuf>,
    /// Where to.
    pub output: PathBuf,
    /// Bytes that may be taken.
    pub memory: u64,
    /// Threads, at least 1.
    pub threads: usize,
    /// The instruction set.
    pub isa: Isa,
    /// How much work a kill may cost.
    pub checkpoint: Duration,
}

impl Job {
    /// Bytes of text that are read at once. Some twenty times as much is in memory at the worst:
    /// stretches that wait, columns and records, of which a line of 41 bytes makes 160 each.
    pub(super) fn chunk(&self) -> usize {
        (self.memory / 128).clamp(chunks::SMALLEST as u64, 16 << 20) as usize
    }

    /// Threads that unpack a file; each takes memory.
    pub(super) fn unpackers(&self) -> usize {
        let packed = self.raw.iter().any(|path| is_gzip(path).unwrap_or(false));
        let fit = (self.memory / 8 / unpack::MEMORY) as usize;
        if packed { self.threads.min(fit).max(1) } else { 1 }
    }

    /// Bytes left for dictionaries.
    pub(super) fn dictionaries(&self) -> u64 {
        let unpacking = self.unpackers() as u64 - 1;
        self.memory.saturating_sub(PROGRAM + 24 * self.chunk() as u64 + unpacking * unpack::MEMORY)
    }

    pub(super) fn check(&self) -> Result<(), PrepareError> {
        self.parameters.check(self.recipe)?;
        self.recipe.check_files(&self.raw)?;
        if self.memory < LEAST_MEMORY {
            let (given, least) = (self.memory, LEAST_MEMORY >> 20);
            return Err(PrepareError::Usage(format!(
                "{given} bytes of memory are too few; must be at least {least} MiB"
            )));
        }
        Ok(())
    }

    pub(super) fn inputs(&self) -> Result<Vec<Input>, PrepareError> {
        self.raw.iter().map(|path| Ok(Input::probe(path)?)).collect()
    }
}
