//! A pass over the log that writes nothing, for recipes that must see all samples to know the sizes
//! of their files.

use super::{Job, PlannedFile, PrepareError, Progress};
use crate::{
    data::{
        preprocess::{
            chunks::{Chunks, Position},
            criteo::{Blocks, Columns},
            inputs::Input,
        },
        source::config::OnError,
    },
    host::pool::Pool,
};
use std::thread;

/// Looks at samples.
pub trait Survey {
    /// The samples of a stretch of text that starts at `position`, in order.
    fn see(&mut self, pool: &Pool, position: Position, blocks: &Blocks);

    /// The files that will be written, once all samples have been seen: so many in each file of the
    /// log.
    ///
    /// # Errors
    /// If the log cannot be read once more where that is needed.
    fn files(
        &self,
        job: &Job,
        pool: &Pool,
        samples: &[u64],
    ) -> Result<Vec<PlannedFile>, PrepareError>;
}

/// Shows all samples to `survey`. Returns the samples of each file, malformed lines left out.
///
/// # Errors
/// If a file cannot be read.
pub fn survey_all(
    job: &Job,
    inputs: &[Input],
    pool: &Pool,
    survey: &mut dyn Survey,
    tell: &dyn Fn(Progress),
) -> Result<Vec<u64>, PrepareError> {
    let mut blocks = Blocks::new(job.isa, OnError::Skip, job.threads);
    let mut samples = vec![0; inputs.len()];
    let total = inputs.iter().map(|i| i.bytes).sum();
    thread::scope(|scope| {
        let chunks =
            Chunks::start(scope, &job.raw, Position::default(), job.chunk(), job.unpackers());
        while let Some(chunk) = chunks.next()? {
            let file = chunk.start.file;
            let done = inputs[..file].iter().map(|i| i.bytes).sum::<u64>() + chunk.raw;
            // Nothing is refused here.
            if blocks.fill(pool, &chunk.text).is_ok() {
                survey.see(pool, chunk.start, &blocks);
                samples[file] += blocks.columns().map(|c| c.len() as u64).sum::<u64>();
            }
            chunks.recycle(chunk);
            tell(Progress::Other { what: "looking at all samples", bytes: done, total });
        }
        Ok(samples)
    })
}

/// Shows the samples of one stretch of text to `see`, as [`survey_all`] did.
///
/// # Errors
/// If the file cannot be read.
pub fn reread(
    job: &Job,
    pool: &Pool,
    position: Position,
    see: impl FnOnce(&mut dyn Iterator<Item = &Columns>),
) -> Result<(), PrepareError> {
    let mut blocks = Blocks::new(job.isa, OnError::Skip, job.threads);
    let chunk =
        thread::scope(|scope| Chunks::start(scope, &job.raw, position, job.chunk(), 1).next())?;
    if let Some(chunk) = chunk
        && blocks.fill(pool, &chunk.text).is_ok()
    {
        see(&mut blocks.columns());
    }
    Ok(())
}
