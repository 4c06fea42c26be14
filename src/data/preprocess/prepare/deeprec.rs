//! DeepRec's text (DeepRec-AI/DeepRec, modelzoo/DLRM/data): `train.csv` and `eval.csv` without a header, `clicked,I1,...,I13,C1,...,C26` as they stand
//! in the log. Which lines its authors took is not published; here the last fifth of the lines is for evaluation, which is the proportion
//! of their 8,000,000 and 2,000,000 samples.

use super::{
    Finish, Job, Made, Outcome, PlannedFile, PrepareError, Tell,
    make::Turn,
    recipe::Form,
    records::Records,
    run::{RECORDS, Worker},
    state::{Checkpoint, Growing, Written},
};
use crate::data::preprocess::criteo::{DENSE, TABLES};
use std::{io::Write, path::Path};

/// One line in so many is for evaluation.
const EVAL: u64 = 5;
/// The most bytes of a line.
const LINE: u64 = 2 + 12 * DENSE as u64 + 9 * TABLES as u64;

pub struct DeepRec;

fn parts(samples: u64) -> [(&'static str, &'static str, u64, u64); 2] {
    let train = samples - samples / EVAL;
    [("train", "train.csv", 0, train), ("eval", "eval.csv", train, samples - train)]
}

impl Finish for DeepRec {
    fn plan(&self, _job: &Job, lines: &[u64]) -> Outcome {
        let all: u64 = lines.iter().sum();
        let file = |(_, name, _, samples): (_, &str, _, u64)| PlannedFile::at_most(name, samples * LINE);
        let peak = all * (Form::Raw.bytes() as u64 + LINE);
        Outcome { files: parts(all).map(file).into(), peak }
    }

    fn make(&self, worker: &Worker, checkpoint: &mut Checkpoint, tell: Tell) -> Result<Made, PrepareError> {
        let parts = parts(checkpoint.tally.total());
        worker.refuse_empty(&parts.map(|(part, _, _, samples)| (part, samples)))?;
        let files = parts.map(|(_, name, _, samples)| (name.to_owned(), samples));
        let from = worker.path(RECORDS[0]);
        worker.make(checkpoint, &files, tell, |i, path, turn| {
            let (_, _, first, samples) = parts[i];
            write(turn, path, Records::open(&from, Form::Raw, first, samples)?)
        })?;
        let splits = parts.map(|(part, name, _, samples)| (part.to_owned(), name.to_owned(), samples));
        Ok(Made { files: checkpoint.files(&files), splits: splits.into(), ids: Vec::new() })
    }
}

fn write(turn: Turn, path: &Path, mut records: Records) -> Result<Written, PrepareError> {
    let mut out = Growing::open(path, &Written::default(), |_| Ok(()))?;
    let mut text = Vec::new();
    loop {
        text.clear();
        let batch = records.next()?;
        let n = batch.len();
        if n == 0 {
            return out.sync();
        }
        for record in batch {
            text.push(b'0' + record.label());
            for i in 0..DENSE {
                text.push(b',');
                if let Some(x) = record.dense_there(i) {
                    // Memory takes whatever is written.
                    let _ = write!(text, "{x}");
                }
            }
            for j in 0..TABLES {
                text.push(b',');
                if let Some(x) = record.id_there(j) {
                    let _ = write!(text, "{x:08x}");
                }
            }
            text.push(b'\n');
        }
        out.append(&text)?;
        turn(n as u64)?;
    }
}
