//! What one stretch of text after the other adds to the files that grow.

use super::{
    PrepareError,
    encode::Encoder,
    run::Worker,
    state::{Checkpoint, Growing},
    write::Writer,
};
use crate::{
    data::{
        DataError,
        preprocess::{
            chunks::Chunk,
            criteo::{Blocks, Line, parse},
        },
    },
    random::numpy::RandomState,
};

/// The text read so far.
pub struct Encoding<'a> {
    pub worker: &'a Worker<'a>,
    pub blocks: Blocks,
    pub encoder: Encoder,
    pub dictionaries: Vec<Growing>,
    pub lefts: Vec<Growing>,
    pub kept: Growing,
    pub numpy: RandomState,
    pub checkpoint: &'a mut Checkpoint,
}

impl Encoding<'_> {
    /// Which of the two files of records the place belongs to.
    pub fn day(&self) -> usize {
        let files = self.worker.job.raw.len();
        usize::from(files > 1 && self.checkpoint.place.file + 1 >= files)
    }

    /// Appends what a stretch of text holds.
    ///
    /// # Errors
    /// If a line is malformed or a file cannot be written.
    pub fn push(&mut self, chunk: &Chunk, writer: &Writer) -> Result<(), PrepareError> {
        let Worker { job, pool, .. } = self.worker;
        let file = chunk.start.file;
        self.blocks.fill(pool, &chunk.text).map_err(|bad| DataError::Malformed {
            path: job.raw[file].clone(),
            line: chunk.start.line + bad.index + 1,
            what: bad.what,
        })?;
        self.check_integers(chunk)?;
        let (mut lines, mut skipped) = (0, 0);
        for columns in self.blocks.columns() {
            lines += columns.len() as u64;
            skipped += columns.skipped;
        }
        let mut kept = Vec::new();
        if job.parameters.sub_sample_rate > 0.0 {
            self.blocks.sub_sample(
                pool,
                job.parameters.sub_sample_rate,
                &mut self.numpy,
                &mut kept,
            );
        }
        // What is summed up counts only if all of it is.
        let mut tally = self.checkpoint.tally.clone();
        let mut records = writer.buffer();
        self.encoder.encode(pool, &self.blocks, &mut records, &mut tally)?;
        tally.samples[file] += (records.len() / job.recipe.form().bytes()) as u64;
        tally.lines += lines;
        tally.skipped += skipped;
        writer.send(records)?;
        for (dictionary, fresh) in self.dictionaries.iter_mut().zip(self.encoder.fresh()) {
            let fresh: Vec<u8> = fresh.iter().flat_map(|id| id.to_le_bytes()).collect();
            if !fresh.is_empty() {
                dictionary.append(&fresh)?;
            }
        }
        let before = self.checkpoint.tally.total();
        for (file, left) in self.lefts.iter_mut().zip(self.encoder.left()) {
            let place = |&(sample, id): &(usize, u32)| {
                let sample = before + sample as u64;
                [sample as u32, (sample >> 32) as u32, id].map(u32::to_le_bytes)
            };
            let bytes: Vec<u8> = left.iter().flat_map(place).flatten().collect();
            if !bytes.is_empty() {
                file.append(&bytes)?;
            }
        }
        if job.recipe.one_file() && !kept.is_empty() {
            self.kept.append(&kept)?;
        }
        self.checkpoint.tally = tally;
        self.checkpoint.place = chunk.end;
        Ok(())
    }

    /// # Errors
    /// If an integer is too small for the recipe, which no line that is well-formed tells.
    fn check_integers(&self, chunk: &Chunk) -> Result<(), PrepareError> {
        let job = self.worker.job;
        let Some(least) = job.recipe.least_integer() else { return Ok(()) };
        let small = |x: &i32| *x < least;
        if !self.blocks.columns().any(|columns| columns.dense.iter().flatten().any(small)) {
            return Ok(());
        }
        let mut line = Line::default();
        for (text, number) in chunk.text.split(|&b| b == b'\n').zip(chunk.start.line + 1..) {
            let read = parse(text.strip_suffix(b"\r").unwrap_or(text), &mut line).is_ok();
            if let Some(i) = line.dense.iter().position(small).filter(|_| read) {
                let what = format!(
                    "column {} (I{}) is {}; must be at least {least} for {}",
                    i + 2,
                    i + 1,
                    line.dense[i],
                    job.recipe.name()
                );
                return Err(DataError::Malformed {
                    path: job.raw[chunk.start.file].clone(),
                    line: number,
                    what,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Brings everything so far to the disk and says so.
    pub fn save(&mut self, writer: &Writer, current: usize) -> Result<(), PrepareError> {
        self.checkpoint.records[current] = writer.sync()?;
        for (written, dictionary) in
            self.checkpoint.dictionaries.iter_mut().zip(&mut self.dictionaries)
        {
            *written = dictionary.sync()?;
        }
        for (written, left) in self.checkpoint.left.iter_mut().zip(&mut self.lefts) {
            if !left.is_empty() {
                *written = left.sync()?;
            }
        }
        self.checkpoint.kept = self.kept.sync()?;
        self.checkpoint.numpy =
            (self.worker.job.parameters.sub_sample_rate > 0.0).then(|| self.numpy.save());
        self.checkpoint.write(self.worker.work)
    }
}
