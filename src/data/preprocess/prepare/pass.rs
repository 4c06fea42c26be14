//! The pass over the log: each stretch of text is encoded, and appended to the files that grow.

use super::{
    PrepareError, Progress, Tell,
    encoder::Encoder,
    state::{checkpoint::Checkpoint, growing::Growing},
    worker::{KEPT, Worker, dictionary_file, unnumbered_file},
    writer::Writer,
};
use crate::{
    data::{
        DataError,
        preprocess::{
            chunks::{Chunk, Chunks},
            criteo::{Blocks, Line, parse},
        },
    },
    random::numpy::RandomState,
};
use std::{sync::atomic::Ordering, thread, time::Instant};

impl Worker<'_> {
    /// Reads from where the checkpoint is to the end of the log.
    ///
    /// # Errors
    /// If a file cannot be read or written, a line is malformed, memory does not suffice, or the
    /// work is interrupted.
    pub fn encode(&self, checkpoint: &mut Checkpoint, tell: Tell) -> Result<(), PrepareError> {
        let job = self.job;
        let mut encoder =
            Encoder::new(job.recipe.form(), job.parameters.max_ind_range, job.dictionaries());
        let mut dictionaries = Vec::new();
        let mut unnumbered = Vec::new();
        for column in 0..encoder.columns() {
            let full = checkpoint.unnumbered[column].bytes > 0;
            encoder.reserve(column, checkpoint.dictionaries[column].bytes / 4, full)?;
            dictionaries.push(self.open_dictionary(column, checkpoint, &mut encoder)?);
            unnumbered.push(Growing::open(
                &self.path(&unnumbered_file(column)),
                &checkpoint.unnumbered[column],
                |_| Ok(()),
            )?);
        }
        let kept = Growing::open(&self.path(KEPT), &checkpoint.kept, |_| Ok(()))?;
        let numpy = checkpoint.generator(self.work)?;
        let mut pass = Pass {
            worker: self,
            blocks: Blocks::new(job.isa, job.parameters.on_error, job.threads),
            encoder,
            dictionaries,
            unnumbered,
            kept,
            numpy,
            checkpoint,
        };
        thread::scope(|scope| {
            let chunks = Chunks::start(
                scope,
                &job.raw,
                pass.checkpoint.position,
                job.chunk(),
                job.unpackers(),
            );
            let mut current = pass.day();
            // Whole days of an earlier run are checked too.
            for which in 0..current {
                self.open_records(which, pass.checkpoint, tell)?;
            }
            let mut writer =
                Writer::start(scope, self.open_records(current, pass.checkpoint, tell)?);
            let mut last = Instant::now();
            let total: u64 = pass.checkpoint.inputs.iter().map(|i| i.bytes).sum();
            while let Some(chunk) = chunks.next()? {
                if self.stop.load(Ordering::Relaxed) {
                    pass.save(&writer, current)?;
                    return Err(PrepareError::Interrupted);
                }
                let file = chunk.start.file;
                if file != pass.checkpoint.position.file {
                    pass.checkpoint.position = chunk.start;
                }
                if pass.day() != current {
                    pass.checkpoint.records[current] = writer.finish()?;
                    current = pass.day();
                    writer =
                        Writer::start(scope, self.open_records(current, pass.checkpoint, tell)?);
                }
                let done: u64 =
                    pass.checkpoint.inputs[..file].iter().map(|i| i.bytes).sum::<u64>() + chunk.raw;
                pass.push(&chunk, &writer)?;
                chunks.recycle(chunk);
                tell(Progress::Encode {
                    bytes: done,
                    total,
                    samples: pass.checkpoint.tally.total(),
                });
                if last.elapsed() >= job.checkpoint {
                    pass.save(&writer, current)?;
                    last = Instant::now();
                }
            }
            pass.save(&writer, current)?;
            writer.finish().map(drop)
        })
    }

    /// Opens the file of a column's ids to append to it; numbers its ids again.
    fn open_dictionary(
        &self,
        column: usize,
        checkpoint: &Checkpoint,
        encoder: &mut Encoder,
    ) -> Result<Growing, PrepareError> {
        let path = self.path(&dictionary_file(column));
        Growing::open(&path, &checkpoint.dictionaries[column], |bytes| {
            let ids: Vec<u32> =
                bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
            if encoder.restore(column, &ids)? {
                return Ok(());
            }
            Err(PrepareError::Stale(format!(
                "{}: holds an id twice; delete {} to begin anew",
                path.display(),
                self.work.display()
            )))
        })
    }
}

/// The files that grow, and what goes into them.
struct Pass<'a> {
    worker: &'a Worker<'a>,
    blocks: Blocks,
    encoder: Encoder,
    dictionaries: Vec<Growing>,
    unnumbered: Vec<Growing>,
    kept: Growing,
    numpy: RandomState,
    checkpoint: &'a mut Checkpoint,
}

impl Pass<'_> {
    /// Which of the two files of records the position belongs to.
    fn day(&self) -> usize {
        let files = self.worker.job.raw.len();
        usize::from(files > 1 && self.checkpoint.position.file + 1 >= files)
    }

    /// Appends what a stretch of text holds.
    ///
    /// # Errors
    /// If a line is malformed or a file cannot be written.
    fn push(&mut self, chunk: &Chunk, writer: &Writer) -> Result<(), PrepareError> {
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
        for (file, left) in self.unnumbered.iter_mut().zip(self.encoder.left()) {
            let words = |&(sample, id): &(usize, u32)| {
                let sample = before + sample as u64;
                [sample as u32, (sample >> 32) as u32, id].map(u32::to_le_bytes)
            };
            let bytes: Vec<u8> = left.iter().flat_map(words).flatten().collect();
            if !bytes.is_empty() {
                file.append(&bytes)?;
            }
        }
        if job.recipe.one_file() && !kept.is_empty() {
            self.kept.append(&kept)?;
        }
        self.checkpoint.tally = tally;
        self.checkpoint.position = chunk.end;
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
    fn save(&mut self, writer: &Writer, current: usize) -> Result<(), PrepareError> {
        self.checkpoint.records[current] = writer.sync()?;
        for (written, dictionary) in
            self.checkpoint.dictionaries.iter_mut().zip(&mut self.dictionaries)
        {
            *written = dictionary.sync()?;
        }
        for (written, left) in self.checkpoint.unnumbered.iter_mut().zip(&mut self.unnumbered) {
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
