//! OneFlow's parquet files: folders `train`, `val` and `test` with columns `label`, `I1` to `I13`,
//! `C1` to `C26`.
//!
//! - `oneflow-dlrm` (Oneflow-Inc/models, RecommenderSystems/dlrm/tools/criteo1t_parquet.scala):
//!   integers + 1, 1 if missing; ids modulo R = 40,000,000, those of all columns numbered through:
//!   column k from 0 starts at k (R + 1), and R itself is for what is missing. criteo1t_parquet.py
//!   starts at k R, so that what is missing in one column is id 0 of the next ([`NullId::Next`]).
//!   The first half of the last day, rounded up, is `test`, the rest `val`; training samples are
//!   shuffled.
//! - `oneflow-deepfm` (RecommenderSystems/deepfm/tools/deepfm_parquet.scala): Kaggle's log in the
//!   ten folds of Criteo_x4 (`folds.rs`): the first is `test`, the second `val`, the others are
//!   shuffled to `train`. Each of the 39 columns becomes Spark's `xxhash64(column number, text)`.
//!
//! Spark draws the order by chance; here it is that of random keys (`order.rs`), by the seed.

use super::{
    Definition, Evaluation, Files, NullId, Parameters, PlannedOutput, Randomize, Reading, Steps,
    reading::always,
    setting::{NULL_ID, ON_ERROR, RANDOMIZE, RANGE, SEED, SHARD_ROWS},
    table::{self, Columns, Waiting},
    train_and_last,
};
use crate::data::{
    preprocess::{
        criteo::{DENSE, TABLES, column_name},
        prepare::{
            Job, PlannedFile, PrepareError, Tell,
            shuffle::{
                folds::{self, Sizes},
                order::{self, ORDERED, random_keys},
                records::{self, Form, Record, Records},
            },
            state::{
                checkpoint::{Checkpoint, RecipeOutput},
                spill::NewShare,
            },
            worker::{RECORDS, Worker},
        },
    },
    source::config::DenseTransform,
};
use twox_hash::XxHash64;

/// Spark's seed of hashes (org.apache.spark.sql.catalyst.expressions.XxHash64).
const SPARK_SEED: u64 = 42;

pub(super) const DLRM: Definition = Definition {
    name: "oneflow-dlrm",
    about: "Criteo 1TB, OneFlow's DLRM: parquet, ids numbered through, shuffled",
    one_file: false,
    form: Form::Raw,
    least_integer: None,
    takes: &[RANGE, RANDOMIZE, ON_ERROR, SEED, NULL_ID, SHARD_ROWS],
    parameters: Parameters {
        max_ind_range: Some(40_000_000),
        randomize: Randomize::Total,
        seed: 1234,
        ..Parameters::BASE
    },
    // The model takes ln(x + 1) of what is stored.
    reading: Reading {
        files: Files::Parquet { all_ids: false, stride },
        evaluation: Evaluation::Parts("test", Some("val")),
        transform: DenseTransform::Log1pClamp0,
        hashed: |parameters| parameters.max_ind_range.is_none(),
    },
    steps: &Dlrm,
};

pub(super) const DEEPFM: Definition = Definition {
    name: "oneflow-deepfm",
    about: "Criteo Kaggle, OneFlow's DeepFM: parquet, all columns hashed",
    one_file: true,
    form: Form::Raw,
    least_integer: None,
    takes: &[RANDOMIZE, ON_ERROR, SEED, SHARD_ROWS],
    parameters: Parameters { randomize: Randomize::Total, seed: 2018, ..Parameters::BASE },
    reading: Reading {
        files: Files::Parquet { all_ids: true, stride: |_| 0 },
        evaluation: Evaluation::Parts("val", Some("test")),
        transform: DenseTransform::Raw,
        hashed: always,
    },
    steps: &DeepFm,
};

/// Where the ids of a column start, for each column before it.
fn stride(parameters: &Parameters) -> u32 {
    match (parameters.max_ind_range, parameters.null_id) {
        (None, _) => 0,
        (Some(range), NullId::Own) => range + 1,
        (Some(range), NullId::Next) => range,
    }
}

struct Dlrm;

impl Steps for Dlrm {
    fn check(&self, parameters: &Parameters) -> Result<(), PrepareError> {
        no_days(parameters)?;
        match (parameters.max_ind_range, parameters.null_id) {
            (None, NullId::Next) => Err(PrepareError::Usage(
                "oneflow-dlrm: without --max-ind-range ids are hashed, and --null-id next has no meaning; leave one of them out"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    fn plan(&self, job: &Job, lines: &[u64], _new: &NewShare) -> PlannedOutput {
        let (train, last) = train_and_last(lines);
        let test = last.div_ceil(2);
        let sizes = [("train", train), ("val", last - test), ("test", test)];
        let ordered = if job.parameters.randomize == Randomize::None { 0 } else { train };
        plan(job, &sizes, &dlrm_columns(), train + last, ordered)
    }

    fn estimate(&self, job: &Job, records: &[u8], _new: &NewShare, files: &mut [PlannedFile]) {
        let (records, most) = (records::of(records, Form::Raw), job.parameters.shard_rows);
        table::estimate(records, &dlrm_columns(), most, files, |record, row| {
            dlrm_row(&job.parameters, record, row)
        });
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let (train, last) = train_and_last(&checkpoint.tally.samples);
        let test = last.div_ceil(2);
        worker.refuse_empty(&[("train", train), ("val", last - test), ("test", test)])?;
        let seed = checkpoint.parameters.seed;
        let first =
            order::training(worker, checkpoint, Form::Raw, train, || Ok(random_keys(seed)), tell)?;
        let sources = [
            ("train", first, 0, train),
            ("val", RECORDS[1], test, last - test),
            ("test", RECORDS[1], 0, test),
        ];
        let parameters = checkpoint.parameters;
        shards(worker, checkpoint, &sources, &dlrm_columns(), tell, |record, row| {
            dlrm_row(&parameters, record, row)
        })
    }
}

fn dlrm_row(parameters: &Parameters, record: Record, row: &mut Waiting) {
    row.floats[0].push(f32::from(record.label()));
    for (i, column) in row.floats[1..].iter_mut().enumerate() {
        // To f32 first, as the original does.
        column.push(record.present_dense(i).map_or(1.0, |x| x as f32 + 1.0));
    }
    for (j, column) in row.longs.iter_mut().enumerate() {
        column.push(global_id(
            parameters.max_ind_range,
            parameters.null_id,
            j,
            record.present_id(j),
        ));
    }
}

fn dlrm_columns() -> Columns {
    let floats = ["label".into()].into_iter().chain((0..DENSE).map(column_name)).collect();
    Columns { floats, longs: (DENSE..DENSE + TABLES).map(column_name).collect() }
}

/// The id of column `j` from 0 among those of all columns.
fn global_id(range: Option<u32>, null_id: NullId, j: usize, id: Option<u32>) -> i64 {
    let Some(range) = range else { return hash_id(j, id) };
    let range = i64::from(range);
    let start = j as i64 * (range + i64::from(null_id == NullId::Own));
    start + id.map_or(range, |id| i64::from(id) % range)
}

struct DeepFm;

impl Steps for DeepFm {
    fn check(&self, parameters: &Parameters) -> Result<(), PrepareError> {
        no_days(parameters)
    }

    fn plan(&self, job: &Job, lines: &[u64], _new: &NewShare) -> PlannedOutput {
        let all: u64 = lines.iter().sum();
        let Sizes { test, val, train } = folds::most(all);
        plan(job, &[("train", train), ("val", val), ("test", test)], &deepfm_columns(), all, all)
    }

    fn estimate(&self, job: &Job, records: &[u8], _new: &NewShare, files: &mut [PlannedFile]) {
        table::estimate(
            records::of(records, Form::Raw),
            &deepfm_columns(),
            job.parameters.shard_rows,
            files,
            deepfm_row,
        );
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let Sizes { test, val, train } = folds::order(worker, checkpoint, tell)?;
        let sources = [
            ("train", ORDERED, test + val, train),
            ("val", ORDERED, test, val),
            ("test", ORDERED, 0, test),
        ];
        shards(worker, checkpoint, &sources, &deepfm_columns(), tell, deepfm_row)
    }
}

fn deepfm_row(record: Record, row: &mut Waiting) {
    row.floats[0].push(f32::from(record.label()));
    let (dense, ids) = row.longs.split_at_mut(DENSE);
    for (i, column) in dense.iter_mut().enumerate() {
        column.push(hash_dense(i, record.present_dense(i)));
    }
    for (j, column) in ids.iter_mut().enumerate() {
        column.push(hash_id(j, record.present_id(j)));
    }
}

fn deepfm_columns() -> Columns {
    Columns { floats: vec!["label".into()], longs: (0..DENSE + TABLES).map(column_name).collect() }
}

fn no_days(parameters: &Parameters) -> Result<(), PrepareError> {
    match parameters.randomize {
        Randomize::Day => Err(PrepareError::Usage(
            "OneFlow's samples are shuffled as a whole or not at all: --randomize total or none"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// Spark's `xxhash64(number, text)`: each value is hashed with the hash of those before it as the
/// seed, and a missing one leaves it as it was. Criteo writes integers without superfluous zeros.
fn hash_dense(i: usize, x: Option<i32>) -> i64 {
    hash(i, x.map(|x| x.to_string()))
}

/// The same of an id, which Criteo writes with eight digits in small letters.
fn hash_id(j: usize, id: Option<u32>) -> i64 {
    hash(j, id.map(|id| format!("{id:08x}")))
}

fn hash(column: usize, text: Option<String>) -> i64 {
    let seed = XxHash64::oneshot(SPARK_SEED, &(column as u32 + 1).to_le_bytes());
    text.map_or(seed, |text| XxHash64::oneshot(seed, text.as_bytes())) as i64
}

/// Files of a part of so many samples.
fn shard_names(part: &str, samples: u64, shard_rows: u64) -> impl Iterator<Item = String> {
    (0..samples.div_ceil(shard_rows)).map(move |k| format!("{part}/part-{k:05}.parquet"))
}

fn plan(
    job: &Job,
    sizes: &[(&str, u64)],
    columns: &Columns,
    samples: u64,
    ordered: u64,
) -> PlannedOutput {
    let file = |&(part, samples): &(&str, u64)| {
        let files = samples.div_ceil(job.parameters.shard_rows);
        PlannedFile {
            files,
            ..PlannedFile::at_most(part, samples, columns.most_bytes(samples, files))
        }
    };
    let files: Vec<PlannedFile> = sizes.iter().map(file).collect();
    let record = Form::Raw.bytes() as u64;
    let written: u64 = files.iter().map(|f| f.bytes).sum();
    // While samples are put in order they lie there three times, with a key once, and the number of
    // a fold.
    let ordering = (3 * record + 9) * ordered + record * (samples - ordered);
    let peak = if ordered > 0 {
        ordering.max(record * samples + written)
    } else {
        record * samples + written
    };
    PlannedOutput { files, peak }
}

/// Writes parts of files, `(name, file, first sample, samples)`, as folders of parquet files.
fn shards(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    parts: &[(&str, &str, u64, u64)],
    columns: &Columns,
    tell: Tell,
    push: impl Fn(Record, &mut Waiting) + Sync,
) -> Result<RecipeOutput, PrepareError> {
    let shard_rows = checkpoint.parameters.shard_rows;
    let (mut files, mut ranges, mut splits) = (Vec::new(), Vec::new(), Vec::new());
    for &(part, from, first, samples) in parts {
        for (k, name) in shard_names(part, samples, shard_rows).enumerate() {
            let start = k as u64 * shard_rows;
            files.push((name, shard_rows.min(samples - start)));
            ranges.push((from, first + start));
        }
        splits.push((part.to_owned(), part.to_owned(), samples));
    }
    worker.write_files(checkpoint, &files, tell, |i, path, advance| {
        let (from, first) = ranges[i];
        let records = Records::open(&worker.path(from), Form::Raw, first, files[i].1)?;
        table::write(path, records, columns, advance, &push)
    })?;
    Ok(RecipeOutput { files: checkpoint.files(&files), splits, ids: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_sparks() {
        // `SELECT xxhash64('Spark', array(123), 2)` of Spark's documentation: an array hashes its
        // elements.
        let seed = XxHash64::oneshot(SPARK_SEED, b"Spark");
        let seed = XxHash64::oneshot(seed, &123u32.to_le_bytes());
        assert_eq!(XxHash64::oneshot(seed, &2u32.to_le_bytes()) as i64, 5_602_566_077_635_097_486);
        assert_ne!(hash_dense(0, None), hash_dense(1, None));
    }

    #[test]
    fn missing_ids_have_an_id_of_their_own_or_the_next_columns_first() {
        let id = |null_id, j, id| global_id(Some(40_000_000), null_id, j, id);
        assert_eq!(id(NullId::Own, 2, Some(40_000_003)), 80_000_005);
        assert_eq!(id(NullId::Own, 0, None) + 1, id(NullId::Own, 1, Some(0)));
        assert_eq!(id(NullId::Next, 0, None), id(NullId::Next, 1, Some(0)));
    }
}
