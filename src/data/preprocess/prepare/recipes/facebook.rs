//! The files of facebook's program for its binary loader (facebookresearch/dlrm: data_utils.py,
//! `getCriteoAdData` with `--memory-map`, and data_loader_terabyte.py, `numpy_to_binary`): 160
//! bytes a sample, 40 little-endian 32-bit integers: the label, I1..I13 (what is missing or
//! negative is 0), C1..C26 (numbered in order of first appearance; missing is the id 0).
//!
//! The last day (Kaggle: the last of seven slices) is cut in two: its first half, rounded up, is
//! `test`, the rest `val`; all before is `train`.

use super::{
    Definition, Evaluation, Files, Parameters, PlannedOutput, Randomize, Reading, Recipe, Steps,
    reading::never,
    setting::{ON_ERROR, RANDOMIZE, RANGE, SEED, SUB_SAMPLE},
    train_and_last,
};
use crate::data::{
    npy::Type,
    npz::{Member, Packing, pack, stored_bytes},
    preprocess::{
        criteo::{DENSE, RECORD, TABLES, column_name, slice_ends},
        prepare::{
            Job, PlannedFile, PrepareError, Progress, Tell,
            shuffle::{
                facebook::shuffle,
                records::{Form, read_from},
            },
            state::{
                checkpoint::{Checkpoint, OutputFile, RecipeOutput},
                growing::{Growing, Written},
                spill::{self, NewShare},
            },
            worker::{RECORDS, Worker},
        },
    },
    source::config::DenseTransform,
};
use std::io::Read;

/// Bytes that are copied at once.
const BUFFER: usize = RECORD << 13;

pub(super) const KAGGLE: Definition = Definition {
    name: "facebook-kaggle",
    about: "Criteo Kaggle, facebookresearch/dlrm",
    one_file: true,
    parameters: FACEBOOK,
    ..TERABYTE
};

pub(super) const TERABYTE: Definition = Definition {
    name: "facebook-terabyte",
    about: "Criteo 1TB, facebookresearch/dlrm, ids modulo 10,000,000",
    one_file: false,
    form: Form::Numbered,
    least_integer: None,
    takes: &[RANGE, SUB_SAMPLE, RANDOMIZE, ON_ERROR, SEED],
    parameters: Parameters { max_ind_range: Some(10_000_000), ..FACEBOOK },
    reading: Reading {
        files: Files::Records,
        evaluation: Evaluation::Parts("test", Some("val")),
        transform: DenseTransform::Log1pClamp0,
        hashed: never,
    },
    steps: &Facebook,
};

pub(super) const MLPERF_V1: Definition = Definition {
    name: "mlperf-v1",
    about: "Criteo 1TB, MLPerf DLRM, ids modulo 40,000,000, shuffled",
    parameters: Parameters {
        max_ind_range: Some(40_000_000),
        randomize: Randomize::Total,
        ..FACEBOOK
    },
    ..TERABYTE
};

/// The settings that the scripts share.
const FACEBOOK: Parameters = Parameters { seed: 123, ..Parameters::BASE };

struct Facebook;

/// The name that the original gives `train`, `test` or `val`.
fn file(recipe: Recipe, part: &str) -> String {
    let stem =
        if recipe.one_file() { "kaggleAdDisplayChallenge_processed" } else { "terabyte_processed" };
    format!("{stem}_{part}.bin")
}

/// The name that the original gives the numbers of different ids; its loader looks for it beside
/// the raw log.
fn counts_file(recipe: Recipe) -> &'static str {
    if recipe.one_file() { "train_fea_count.npz" } else { "day_fea_count.npz" }
}

impl Steps for Facebook {
    fn plan(&self, job: &Job, lines: &[u64], new: &NewShare) -> PlannedOutput {
        let all: u64 = lines.iter().sum();
        let days: Vec<u64> = if job.recipe.one_file() {
            let ends: Vec<u64> = slice_ends(all).collect();
            ends.windows(2).map(|e| e[1] - e[0]).collect()
        } else {
            lines.to_vec()
        };
        let record = RECORD as u64;
        let (train, last) = train_and_last(&days);
        let test = last.div_ceil(2);
        let largest = days.iter().copied().max().unwrap_or(0) * record;
        let shuffling = match job.parameters.randomize {
            Randomize::None => 0,
            Randomize::Day => train * record + largest,
            Randomize::Total => train * record + 3 * largest,
        };
        // A byte for each line tells which of them sub-sampling kept.
        let kept = if job.parameters.sub_sample_rate > 0.0 { all } else { 0 };
        let peak =
            kept + all * record + spill::numbering(job, all, new).max(last * record + shuffling);
        let sizes = [("train", train), ("test", test), ("val", last - test)];
        let part = |(part, samples): (&str, u64)| {
            PlannedFile::exact(&file(job.recipe, part), samples, samples * record)
        };
        let mut files: Vec<PlannedFile> = sizes.map(part).into();
        files.push(PlannedFile::exact(
            counts_file(job.recipe),
            0,
            stored_bytes([("counts", 4 * TABLES as u64)]),
        ));
        PlannedOutput { files, peak }
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let recipe = worker.job.recipe;
        let days = days(worker, checkpoint)?;
        let (train, last) = train_and_last(&days);
        let test = last.div_ceil(2);
        worker.refuse_empty(&[("the training days", train), ("the last one", last)])?;
        let (tail, start) = if recipe.one_file() { (RECORDS[0], train) } else { (RECORDS[1], 0) };
        let mut splits = vec![("train".to_owned(), file(recipe, "train"), train)];
        for (part, first, samples) in [("test", start, test), ("val", start + test, last - test)] {
            let name = file(recipe, part);
            if checkpoint.find(&name).is_none() {
                let written = copy(worker, tail, first, samples, Some(&name), tell)?;
                checkpoint.mark_written(worker, &name, written)?;
            }
            splits.push((part.into(), name, samples));
        }
        let train_file = file(recipe, "train");
        if checkpoint.parameters.randomize != Randomize::None
            && checkpoint.find(&train_file).is_none()
        {
            let written = shuffle(worker, checkpoint, &days, &train_file, tell)?;
            checkpoint.mark_written(worker, &train_file, written)?;
        }
        if checkpoint.find(counts_file(recipe)).is_none() {
            let written = counts(worker, checkpoint)?;
            checkpoint.mark_written(worker, counts_file(recipe), written)?;
        }
        let names = [
            train_file.clone(),
            file(recipe, "test"),
            file(recipe, "val"),
            counts_file(recipe).into(),
        ]
        .map(|name| (name, 0));
        let mut files = checkpoint.files(&names);
        if checkpoint.parameters.randomize == Randomize::None {
            // The samples lie there as they are; in one file, those of the last slice are behind
            // them.
            let written = match recipe.one_file() {
                true => copy(worker, RECORDS[0], 0, train, None, tell)?,
                false => checkpoint.records[0].clone(),
            };
            files.insert(0, OutputFile { name: train_file, from: RECORDS[0].into(), written });
        }
        let ids = checkpoint
            .dictionaries
            .iter()
            .enumerate()
            .map(|(j, d)| (column_name(DENSE + j), d.bytes / 4))
            .collect();
        Ok(RecipeOutput { files, splits, ids })
    }
}

/// Samples of each day, or of each slice of one file.
fn days(worker: &Worker, checkpoint: &Checkpoint) -> Result<Vec<u64>, PrepareError> {
    if !worker.job.recipe.one_file() {
        return Ok(checkpoint.tally.samples.clone());
    }
    let ends: Vec<u64> = slice_ends(checkpoint.tally.lines).collect();
    if checkpoint.parameters.sub_sample_rate == 0.0 {
        return Ok(ends.windows(2).map(|e| e[1] - e[0]).collect());
    }
    // Slices have equal numbers of lines, those that sub-sampling drops included.
    let (mut days, mut day, mut line) = (vec![0; ends.len() - 1], 0, 0);
    worker.each_kept(&checkpoint.kept, |bytes| {
        for &kept in bytes {
            while day + 1 < days.len() && line >= ends[day + 1] {
                day += 1;
            }
            days[day] += u64::from(kept);
            line += 1;
        }
    })?;
    Ok(days)
}

/// Copies samples to a file of their own, or only takes their checksum.
fn copy(
    worker: &Worker,
    from: &str,
    first: u64,
    samples: u64,
    to: Option<&str>,
    tell: Tell,
) -> Result<Written, PrepareError> {
    let path = worker.path(from);
    let total = samples * RECORD as u64;
    let mut file = read_from(&path, first, BUFFER)?;
    let mut out = to.map(|name| Growing::create(&worker.path(name))).transpose()?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    while bytes < total {
        worker.interrupted()?;
        let n = BUFFER.min((total - bytes) as usize);
        file.read_exact(&mut buffer[..n]).map_err(PrepareError::write(&path))?;
        match &mut out {
            Some(out) => out.append(&buffer[..n])?,
            None => {
                hasher.update(&buffer[..n]);
            }
        }
        bytes += n as u64;
        tell(Progress::Other { what: "cutting", bytes, total });
    }
    match out {
        Some(mut out) => out.sync(),
        None => Ok(Written { bytes: total, blake3: hasher.finalize().to_hex().to_string() }),
    }
}

/// The numbers of different ids, where the original's loader looks for them.
fn counts(worker: &Worker, checkpoint: &Checkpoint) -> Result<Written, PrepareError> {
    let path = worker.path(counts_file(worker.job.recipe));
    let write = || -> std::io::Result<()> {
        let mut counts = Member::new(&path, "counts", Type::Int(4), None)?;
        for dictionary in &checkpoint.dictionaries {
            counts.write(&((dictionary.bytes / 4) as u32).to_le_bytes())?;
        }
        pack(&path, Packing::Stored, [(counts, TABLES as u64)])
    };
    write().map_err(PrepareError::write(&path))?;
    worker.written(&path)
}
