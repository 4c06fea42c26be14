//! NVIDIA's split binary files (NVIDIA/DeepLearningExamples, PyTorch/Recommendation/DLRM/preproc:
//! spark_data_utils.py, run_spark_cpu.sh, split_dataset.py).
//!
//! Ids that occur at least 15 times in all days are numbered from 1 by frequency, the most frequent
//! first; Spark leaves the order of equally frequent ones to chance, here the smaller comes first.
//! 0 is for rarer ones and for what is missing. Integers become ln(x + 3), in 64 bits and then
//! rounded to 16; what is missing, or has no logarithm, is 0. The training days are shuffled (by
//! random keys, `order.rs`); the first half of the last day, rounded down, is `test`, the rest
//! `validation`.

use super::{
    Definition, Evaluation, Files, Parameters, PlannedOutput, Randomize, Reading, Steps,
    reading::never,
    setting::{MIN_COUNT, ON_ERROR, RANDOMIZE, SEED},
    train_and_last,
    vocabulary::{self, Counts, Value},
};
use crate::{
    data::{
        format::{Format, nvidia as format},
        preprocess::{
            chunks::Position,
            criteo::{Blocks, DENSE, TABLES, column_name},
            numbering::{Budget, NONE, Numbering},
            prepare::{
                Job, PlannedFile, PrepareError, Progress, Tell,
                shuffle::{
                    order::{self, random_keys},
                    records::{Form, Record, Records},
                },
                state::{
                    checkpoint::{Checkpoint, RecipeOutput},
                    growing::Growing,
                    spill::{self, NewShare},
                },
                survey::Survey,
                worker::{RECORDS, Worker, create_parent},
            },
        },
        rows::{Layout, Numbers},
        source::config::DenseTransform,
    },
    host::pool::Pool,
};
use half::f16;
use std::path::Path;

/// The most bytes of an id.
const WIDEST: usize = 4;

pub(super) const NVIDIA: Definition = Definition {
    name: "nvidia",
    about: "Criteo 1TB, NVIDIA's DLRM: split binary, ids of 15 and more",
    one_file: false,
    form: Form::Raw,
    least_integer: None,
    takes: &[RANDOMIZE, ON_ERROR, SEED, MIN_COUNT],
    parameters: Parameters {
        randomize: Randomize::Total,
        seed: 12345,
        min_count: 15,
        ..Parameters::BASE
    },
    // Logarithms are taken before they are stored. The specification does not name `validation`.
    reading: Reading {
        files: Files::Format(Format::Nvidia),
        evaluation: Evaluation::Parts("test", None),
        transform: DenseTransform::Raw,
        hashed: never,
    },
    steps: &Nvidia,
};

struct Nvidia;

struct Ids;

impl Value for Ids {
    fn of(&self, record: Record, column: usize) -> Option<u32> {
        record.present_id(column - DENSE)
    }

    fn rank(&self, _column: usize, value: u32) -> i64 {
        i64::from(value)
    }
}

/// A part of the data: its folder, and where its samples are.
#[derive(Clone, Copy)]
struct Split {
    name: &'static str,
    from: &'static str,
    first: u64,
    samples: u64,
}

impl Steps for Nvidia {
    fn check(&self, parameters: &Parameters) -> Result<(), PrepareError> {
        match parameters.randomize {
            Randomize::Day => Err(PrepareError::Usage(
                "nvidia: samples are shuffled as a whole or not at all: --randomize total or none"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    fn plan(&self, job: &Job, lines: &[u64], new: &NewShare) -> PlannedOutput {
        let (train, last) = train_and_last(lines);
        let all = train + last;
        let (files, bytes) =
            (folders(lines, 4 * TABLES as u64, false), sample_bytes(4 * TABLES as u64));
        let counted = spill::counting(job, all, DENSE..DENSE + TABLES, new);
        let record = Form::Raw.bytes() as u64;
        let ordering =
            if job.parameters.randomize == Randomize::None { 0 } else { train * (2 * record + 8) };
        PlannedOutput {
            files,
            peak: all * record + counted.during.max(counted.words + ordering.max(all * bytes)),
        }
    }

    fn survey(&self, job: &Job) -> Option<Box<dyn Survey>> {
        let least = job.parameters.min_count;
        // As many bytes for counts as for the tables.
        let budget = || Budget::new(job.dictionaries() / (2 * TABLES as u64));
        let column =
            |k| Words { column: k, least, counts: Counts::new(), budget: budget(), enough: false };
        Some(Box::new(Cardinalities { columns: (0..TABLES).map(column).collect() }))
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let (train, last) = train_and_last(&checkpoint.tally.samples);
        let test = last / 2;
        worker.refuse_empty(&[("train", train), ("test", test), ("validation", last - test)])?;
        let (least, all) =
            (checkpoint.parameters.min_count, [(RECORDS[0], 0, train), (RECORDS[1], 0, last)]);
        vocabulary::count(worker, checkpoint, &all, DENSE..DENSE + TABLES, least, &Ids, tell)?;
        let seed = checkpoint.parameters.seed;
        let from =
            order::training(worker, checkpoint, Form::Raw, train, || Ok(random_keys(seed)), tell)?;
        let splits = [
            Split { name: "train", from, first: 0, samples: train },
            Split { name: "test", from: RECORDS[1], first: 0, samples: test },
            Split { name: "validation", from: RECORDS[1], first: test, samples: last - test },
        ];
        let words = (0..TABLES)
            .map(|k| vocabulary::len(checkpoint, DENSE + k).ok_or_else(|| worker.unusable()));
        let cardinalities: Vec<u64> = words.map(|n| n.map(|n| n + 1)).collect::<Result<_, _>>()?;
        let names = write(worker, checkpoint, &splits, &cardinalities, tell)?;
        if checkpoint.find(format::NAME).is_none() {
            // As the original has it: of validation nothing is said.
            let layout = Layout::criteo(Numbers::Float32);
            let text = format::feature_spec(&["test", "train"], &layout, &cardinalities)?;
            let mut out = Growing::create(&worker.path(format::NAME))?;
            out.append(text.as_bytes())?;
            let written = out.sync()?;
            checkpoint.mark_written(worker, format::NAME, written)?;
        }
        let names: Vec<(String, u64)> =
            names.into_iter().chain([format::NAME.into()]).map(|name| (name, 0)).collect();
        let ids =
            cardinalities.iter().enumerate().map(|(k, &n)| (column_name(DENSE + k), n)).collect();
        let splits =
            splits.map(|split| (split.name.to_owned(), split.name.to_owned(), split.samples));
        Ok(RecipeOutput { files: checkpoint.files(&names), splits: splits.into(), ids })
    }
}

/// Bytes of a sample: one for the label, two an integer, and its ids.
fn sample_bytes(ids: u64) -> u64 {
    (1 + 2 * DENSE) as u64 + ids
}

/// What will be written of days of so many lines, with so many bytes for all ids of a sample.
fn folders(lines: &[u64], ids: u64, exact: bool) -> Vec<PlannedFile> {
    let (train, last) = train_and_last(lines);
    let split = |(name, samples): (&str, u64)| PlannedFile {
        files: 2 + TABLES as u64,
        exact,
        ..PlannedFile::at_most(name, samples, samples * sample_bytes(ids))
    };
    let mut files: Vec<PlannedFile> =
        [("train", train), ("test", last / 2), ("validation", last - last / 2)].map(split).into();
    files.push(PlannedFile::at_most(format::NAME, 0, 20_000));
    files
}

/// How many ids of each column will have numbers, as far as it takes to know their bytes.
struct Cardinalities {
    columns: Vec<Words>,
}

struct Words {
    column: usize,
    least: u32,
    counts: Counts,
    budget: Budget,
    /// OutputState are so many that no more of them make ids wider.
    enough: bool,
}

impl Words {
    /// Bytes of an id, if there are no more frequent ids than are known.
    fn bytes(&self) -> usize {
        let cardinality = self.counts.frequent(self.least.into()) + 1;
        // Too many ids are refused when they are written.
        format::id_bytes(Path::new(""), self.column, cardinality).unwrap_or(WIDEST)
    }

    fn see(&mut self, blocks: &Blocks) {
        if self.enough {
            return;
        }
        for columns in blocks.columns() {
            let there = |&(_, missing): &(&u32, &u64)| missing >> (DENSE + self.column) & 1 == 0;
            let ids: Vec<u32> = columns.ids[self.column]
                .iter()
                .zip(&columns.missing)
                .filter(there)
                .map(|(&id, _)| id)
                .collect();
            self.counts.push(&ids, &self.budget, |_| ());
        }
        if self.bytes() == WIDEST {
            // What has been counted is of no more use.
            (self.enough, self.counts) = (true, Counts::new());
        }
    }
}

impl Survey for Cardinalities {
    fn see(&mut self, pool: &Pool, _position: Position, blocks: &Blocks) {
        pool.for_each_chunk(&mut self.columns, 1, |_, _, columns| {
            columns.iter_mut().for_each(|column| column.see(blocks))
        });
    }

    fn files(
        &self,
        _job: &Job,
        _pool: &Pool,
        samples: &[u64],
    ) -> Result<Vec<PlannedFile>, PrepareError> {
        // Ids beyond those that memory held may be frequent as well.
        let exact = self.columns.iter().all(|column| column.enough || !column.counts.full);
        let bytes = |column: &Words| {
            if column.enough || column.counts.full { WIDEST } else { column.bytes() }
        };
        Ok(folders(samples, self.columns.iter().map(|column| bytes(column) as u64).sum(), exact))
    }
}

/// What a file holds.
enum Content {
    Labels,
    Numbers,
    /// Column, bytes of an id.
    Ids(usize, usize),
}

/// A file that is being written.
struct Out<'a> {
    content: Content,
    words: Option<&'a Numbering>,
    file: Growing,
    bytes: Vec<u8>,
    failed: Option<PrepareError>,
}

/// Writes all files of all splits; as many columns at a time as their ids fit in memory. Tells
/// their names.
fn write(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    splits: &[Split],
    cardinalities: &[u64],
    tell: Tell,
) -> Result<Vec<String>, PrepareError> {
    let mut contents = vec![Content::Labels, Content::Numbers];
    for (k, &cardinality) in cardinalities.iter().enumerate() {
        contents
            .push(Content::Ids(k, format::id_bytes(&worker.path(format::NAME), k, cardinality)?));
    }
    let name = |split: &Split, content: &Content| match content {
        Content::Labels => format!("{}/label.bin", split.name),
        Content::Numbers => format!("{}/numerical.bin", split.name),
        Content::Ids(k, _) => format!("{}/cat_{k}.bin", split.name),
    };
    let names = splits
        .iter()
        .flat_map(|split| contents.iter().map(move |content| name(split, content)))
        .collect();
    let mut contents = contents.into_iter().peekable();
    while contents.peek().is_some() {
        let budget = Budget::new(worker.job.dictionaries());
        let mut group = Vec::new();
        while let Some(content) = contents.peek() {
            let words = match content {
                Content::Ids(k, _) => {
                    match Numbering::of(&vocabulary::read(worker, DENSE + k)?, &budget) {
                        None if group.iter().any(|(_, words): &(_, Option<_>)| words.is_some()) => {
                            break;
                        }
                        None => return Err(worker.too_many_words()),
                        words => words,
                    }
                }
                _ => None,
            };
            group.extend(contents.next().map(|content| (content, words)));
        }
        for split in splits {
            let mut outs = Vec::new();
            for (content, words) in &group {
                let name = name(split, content);
                if checkpoint.find(&name).is_none() {
                    let path = worker.path(&name);
                    create_parent(&path)?;
                    let content = match content {
                        Content::Labels => Content::Labels,
                        Content::Numbers => Content::Numbers,
                        Content::Ids(k, bytes) => Content::Ids(*k, *bytes),
                    };
                    let file = Growing::create(&path)?;
                    outs.push((
                        name,
                        Out {
                            content,
                            words: words.as_ref(),
                            file,
                            bytes: Vec::new(),
                            failed: None,
                        },
                    ));
                }
            }
            let (names, mut outs): (Vec<_>, Vec<_>) = outs.into_iter().unzip();
            if outs.is_empty() {
                continue;
            }
            pass(worker, split, &mut outs, tell)?;
            for (name, mut out) in names.into_iter().zip(outs) {
                checkpoint.written.push((name, out.file.sync()?));
            }
            checkpoint.write(worker.work)?;
        }
    }
    Ok(names)
}

/// Reads a split once, and appends to all files.
fn pass(worker: &Worker, split: &Split, outs: &mut [Out], tell: Tell) -> Result<(), PrepareError> {
    let mut records =
        Records::open(&worker.path(split.from), Form::Raw, split.first, split.samples)?;
    let (mut done, width) = (0, Form::Raw.bytes() as u64);
    loop {
        worker.interrupted()?;
        let batch = records.next()?;
        if batch.len() == 0 {
            return Ok(());
        }
        worker.pool.for_each_chunk(outs, 1, |_, _, outs| {
            for out in outs {
                out.bytes.clear();
                out.encode(batch.clone());
                out.failed = out.file.append(&out.bytes).err();
            }
        });
        if let Some(e) = outs.iter_mut().find_map(|out| out.failed.take()) {
            return Err(e);
        }
        done += batch.len() as u64 * width;
        tell(Progress::Other { what: split.name, bytes: done, total: split.samples * width });
    }
}

impl Out<'_> {
    fn encode<'a>(&mut self, batch: impl Iterator<Item = Record<'a>> + Clone) {
        match self.content {
            Content::Labels => self.bytes.extend(batch.map(|record| record.label())),
            Content::Numbers => {
                for record in batch {
                    for i in 0..DENSE {
                        let x =
                            record.present_dense(i).map_or(0.0, |x| libm::log(f64::from(x) + 3.0));
                        let x = f16::from_f32(if x.is_finite() { x as f32 } else { 0.0 });
                        self.bytes.extend_from_slice(&x.to_le_bytes());
                    }
                }
            }
            Content::Ids(k, bytes) => {
                let raw: Vec<u32> = batch.clone().map(|record| record.id(k)).collect();
                let mut numbers = Vec::with_capacity(raw.len());
                if let Some(words) = self.words {
                    words.look_up(&raw, &mut numbers);
                }
                for (record, number) in batch.zip(numbers) {
                    let there = number != NONE && record.present_id(k).is_some();
                    let id = if there { number + 1 } else { 0 };
                    self.bytes.extend_from_slice(&id.to_le_bytes()[..bytes]);
                }
            }
        }
    }
}
