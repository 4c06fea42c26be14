//! DeepRec's text (DeepRec-AI/DeepRec, modelzoo/DLRM/data): `train.csv` and `eval.csv` without a
//! header, `clicked,I1,...,I13,C1,...,C26` as they stand in the log. Which lines its authors took
//! is not published; here the last fifth of the lines is for evaluation, which is the proportion of
//! their 8,000,000 and 2,000,000 samples.

use super::{
    Definition, Evaluation, Files, Parameters, PlannedOutput, Reading, Steps, reading::always,
    setting::ON_ERROR,
};
use crate::{
    data::{
        format::Format,
        preprocess::{
            chunks::Position,
            criteo::{Blocks, Columns, DENSE, TABLES},
            prepare::{
                Job, PlannedFile, PrepareError, Tell,
                shuffle::records::{Form, Record, Records},
                state::{
                    checkpoint::{Checkpoint, RecipeOutput},
                    spill::NewShare,
                },
                survey::{self, Survey},
                worker::{RECORDS, Worker},
            },
        },
        source::config::DenseTransform,
    },
    host::pool::Pool,
};
use std::io::Write;

/// One line in so many is for evaluation.
const EVAL: u64 = 5;
/// The most bytes of a line.
const LINE: u64 = 2 + 12 * DENSE as u64 + 9 * TABLES as u64;

pub(super) const DEEPREC: Definition = Definition {
    name: "deeprec",
    about: "Criteo Kaggle, DeepRec's DLRM: train.csv and eval.csv",
    one_file: true,
    form: Form::Raw,
    least_integer: None,
    takes: &[ON_ERROR],
    parameters: Parameters::BASE,
    reading: Reading {
        files: Files::Format(Format::DeepRec),
        evaluation: Evaluation::Parts("eval", None),
        transform: DenseTransform::Raw,
        hashed: always,
    },
    steps: &DeepRec,
};

struct DeepRec;

fn parts(samples: u64) -> [(&'static str, &'static str, u64, u64); 2] {
    let train = samples - samples / EVAL;
    [("train", "train.csv", 0, train), ("eval", "eval.csv", train, samples - train)]
}

impl Steps for DeepRec {
    fn plan(&self, _job: &Job, lines: &[u64], _new: &NewShare) -> PlannedOutput {
        let all: u64 = lines.iter().sum();
        let file = |(_, name, _, samples): (_, &str, _, u64)| {
            PlannedFile::at_most(name, samples, samples * LINE)
        };
        let peak = all * (Form::Raw.bytes() as u64 + LINE);
        PlannedOutput { files: parts(all).map(file).into(), peak }
    }

    fn survey(&self, _job: &Job) -> Option<Box<dyn Survey>> {
        Some(Box::new(Lengths::default()))
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let parts = parts(checkpoint.tally.total());
        worker.refuse_empty(&parts.map(|(part, _, _, samples)| (part, samples)))?;
        let files = parts.map(|(_, name, _, samples)| (name.to_owned(), samples));
        let from = worker.path(RECORDS[0]);
        worker.write_files(checkpoint, &files, tell, |i, path, advance| {
            let (_, _, first, samples) = parts[i];
            Records::open(&from, Form::Raw, first, samples)?.write(path, &[], advance, push_line)
        })?;
        let splits =
            parts.map(|(part, name, _, samples)| (part.to_owned(), name.to_owned(), samples));
        Ok(RecipeOutput { files: checkpoint.files(&files), splits: splits.into(), ids: Vec::new() })
    }
}

/// Sums of samples and bytes of their lines up to each stretch of text.
#[derive(Default)]
struct Lengths {
    before: Vec<(Position, u64, u64)>,
    samples: u64,
    bytes: u64,
}

/// Bytes of the line of sample `i`.
fn length(columns: &Columns, i: usize) -> u64 {
    let there = !columns.missing[i];
    let digits =
        |k: usize| u64::from(columns.dense[k][i].unsigned_abs().checked_ilog10().unwrap_or(0)) + 1;
    let sign = |k: usize| u64::from(columns.dense[k][i] < 0);
    let dense: u64 = (0..DENSE).filter(|k| there >> k & 1 == 1).map(|k| digits(k) + sign(k)).sum();
    let ids = (there >> DENSE & ((1 << TABLES) - 1)).count_ones();
    // The label, a comma before each other field, the end.
    (1 + DENSE + TABLES + 1) as u64 + dense + 8 * u64::from(ids)
}

impl Survey for Lengths {
    fn see(&mut self, _pool: &Pool, position: Position, blocks: &Blocks) {
        self.before.push((position, self.samples, self.bytes));
        for columns in blocks.columns() {
            self.samples += columns.len() as u64;
            self.bytes += (0..columns.len()).map(|i| length(columns, i)).sum::<u64>();
        }
    }

    fn files(
        &self,
        job: &Job,
        pool: &Pool,
        samples: &[u64],
    ) -> Result<Vec<PlannedFile>, PrepareError> {
        let parts = parts(samples.iter().sum());
        let train = parts[0].3;
        let mut bytes = self.bytes;
        // Where the evaluation's lines begin, the stretch is read again.
        if let Some(&(position, first, before)) = self.before.iter().rev().find(|b| b.1 <= train) {
            bytes = before;
            let mut left = train - first;
            survey::reread(job, pool, position, |all| {
                for columns in all {
                    let n = left.min(columns.len() as u64);
                    bytes += (0..n as usize).map(|i| length(columns, i)).sum::<u64>();
                    left -= n;
                }
            })?;
        }
        let sizes = [bytes, self.bytes - bytes];
        Ok(parts
            .iter()
            .zip(sizes)
            .map(|(&(_, name, _, samples), bytes)| PlannedFile::exact(name, samples, bytes))
            .collect())
    }
}

/// Appends the line of a sample.
fn push_line(record: Record, text: &mut Vec<u8>) {
    // Memory takes whatever is written.
    text.push(b'0' + record.label());
    for i in 0..DENSE {
        text.push(b',');
        if let Some(x) = record.present_dense(i) {
            let _ = write!(text, "{x}");
        }
    }
    for j in 0..TABLES {
        text.push(b',');
        if let Some(x) = record.present_id(j) {
            let _ = write!(text, "{x:08x}");
        }
    }
    text.push(b'\n');
}
