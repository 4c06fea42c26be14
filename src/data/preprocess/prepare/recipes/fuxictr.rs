//! FuxiCTR's preparation of Criteo_x4 (reczoo/FuxiCTR, fuxictr/preprocess, with the settings of
//! BARS' DeepFM_criteo_x4_001): the folds of `folds.rs` as `test`, `valid` and `train`, in which
//! every column is a category.
//!
//! An integer v becomes floor(ln(v)^2) above 2 and stays as it is below; 0, which is also what is
//! missing, is no word. Values that occur at least ten times in `train` are words, numbered from 1
//! by frequency; 0 pads, and the last number is for all others. Among equally frequent ones the
//! original's order depends on chance; here the smaller comes first.

use super::{
    Definition, Evaluation, Files, Parameters, PlannedOutput, Reading, Steps,
    reading::never,
    setting::{MIN_COUNT, ON_ERROR, SEED},
    table::{self, Columns, Waiting},
    vocabulary::{self, Value},
};
use crate::data::{
    dense::log_sq_bucket,
    format::Format,
    preprocess::{
        criteo::{DENSE, TABLES, column_name},
        numbering::{Budget, Numbering},
        prepare::{
            Job, PlannedFile, PrepareError, Tell,
            shuffle::{
                folds::{self, Sizes},
                order::ORDERED,
                records::{self, Form, Record, Records},
            },
            state::{
                checkpoint::{Checkpoint, RecipeOutput},
                growing::{Growing, Written},
                spill::{self, NewShare},
            },
            worker::Worker,
        },
    },
    source::config::DenseTransform,
};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use std::{cmp::Reverse, io::Write};

/// All columns.
const COLUMNS: usize = DENSE + TABLES;
const TRAIN: &str = "train.parquet";
const MAP: &str = "feature_map.json";
const VOCABULARY: &str = "feature_vocab.json";
/// The most bytes of a word in the file of words.
const WORD: u64 = 40;

pub(super) const CRITEO_X4: Definition = Definition {
    name: "fuxictr-criteo-x4",
    about: "Criteo Kaggle, FuxiCTR's Criteo_x4: parquet, words of 10 and more",
    one_file: true,
    form: Form::Raw,
    least_integer: None,
    takes: &[ON_ERROR, SEED, MIN_COUNT],
    parameters: Parameters { seed: 2018, min_count: 10, ..Parameters::BASE },
    reading: Reading {
        files: Files::Format(Format::FuxiCtr),
        evaluation: Evaluation::Parts("valid", Some("test")),
        transform: DenseTransform::Raw,
        hashed: never,
    },
    steps: &FuxiCtr,
};

struct FuxiCtr;

struct Words;

impl Value for Words {
    fn of(&self, record: Record, column: usize) -> Option<u32> {
        match column.checked_sub(DENSE) {
            None => Some(log_sq_bucket(f64::from(record.dense(column))) as i32 as u32)
                .filter(|&bucket| bucket != 0),
            Some(j) => record.present_id(j),
        }
    }

    fn rank(&self, column: usize, value: u32) -> i64 {
        if column < DENSE { i64::from(value as i32) } else { i64::from(value) }
    }
}

fn columns() -> Columns {
    Columns { floats: vec!["Label".into()], longs: (0..COLUMNS).map(column_name).collect() }
}

impl Steps for FuxiCtr {
    fn plan(&self, job: &Job, lines: &[u64], new: &NewShare) -> PlannedOutput {
        let all: u64 = lines.iter().sum();
        let Sizes { test, val, train } = folds::most(all);
        let columns = columns();
        let file = |(name, samples): (&str, u64)| {
            PlannedFile::at_most(name, samples, columns.most_bytes(samples, 1))
        };
        let mut files: Vec<PlannedFile> =
            [(TRAIN, train), ("valid.parquet", val), ("test.parquet", test)].map(file).into();
        files.push(PlannedFile::at_most(MAP, 0, 20_000));
        // Words that occur no more often than they must, in each column.
        let words = train / u64::from(job.parameters.min_count.max(1));
        files.push(PlannedFile::at_most(VOCABULARY, 0, (words * COLUMNS as u64 + 1000) * WORD));
        let written: u64 = files.iter().map(|f| f.bytes).sum();
        let record = Form::Raw.bytes() as u64;
        // While samples are put in order they lie there twice more, with a key once, and the number
        // of a fold.
        let counted = spill::counting(job, all, 0..COLUMNS, new);
        let making = counted.during.max(counted.words + written);
        PlannedOutput { files, peak: all * record + making.max(all * (2 * record + 9)) }
    }

    fn estimate(&self, job: &Job, records: &[u8], new: &NewShare, files: &mut [PlannedFile]) {
        let records = records::of(records, Form::Raw);
        let train = files.iter().find(|f| f.name == TRAIN).map_or(0, |f| f.samples);
        if records.len() == 0 || train == 0 {
            return;
        }
        // Of fewer samples fewer are enough.
        let seen = records.len() as u64;
        let least = (f64::from(job.parameters.min_count) * seen as f64 / train as f64)
            .round()
            .max(1.0) as u64;
        let budget = Budget::new(job.dictionaries());
        let words = (0..COLUMNS).map(|column| frequent(records.clone(), column, least, &budget));
        // Without memory for the words of the samples nothing is known but the most.
        let Some(words) = words.collect::<Option<Vec<_>>>() else { return };
        table::estimate(records, &columns(), u64::MAX, files, |record, row| {
            push(record, row, &words)
        });
        let counts: Vec<u64> = (0..COLUMNS)
            .map(|column| match seen < train {
                true => spill::words(job, train).min(new.values(column, train)),
                false => words[column].ids().into(),
            })
            .collect();
        for file in files {
            let mut text = Vec::new();
            file.about = match file.name.as_str() {
                MAP => write_map(&counts.iter().map(|n| n + 2).collect::<Vec<_>>(), &mut text)
                    .ok()
                    .map(|()| text.len() as u64),
                VOCABULARY => Some(
                    counts.iter().enumerate().map(|(column, &n)| vocabulary_bytes(column, n)).sum(),
                ),
                _ => file.about,
            };
        }
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let Sizes { test, val, train } = folds::order(worker, checkpoint, tell)?;
        let least = checkpoint.parameters.min_count;
        vocabulary::count(
            worker,
            checkpoint,
            &[(ORDERED, test + val, train)],
            0..COLUMNS,
            least,
            &Words,
            tell,
        )?;
        let mut words = Vec::new();
        let budget = Budget::new(worker.job.dictionaries());
        for column in 0..COLUMNS {
            let found = vocabulary::read(worker, column)?;
            words.push(Numbering::of(&found, &budget).ok_or_else(|| worker.too_many_words())?);
        }
        let parts = [
            ("train", TRAIN, test + val, train),
            ("valid", "valid.parquet", test, val),
            ("test", "test.parquet", 0, test),
        ];
        let mut files = parts.map(|(_, name, _, samples)| (name.to_owned(), samples)).to_vec();
        worker.write_files(checkpoint, &files, tell, |i, path, advance| {
            let (_, _, first, samples) = parts[i];
            let records = Records::open(&worker.path(ORDERED), Form::Raw, first, samples)?;
            table::write(path, records, &columns(), advance, |record, row| {
                push(record, row, &words)
            })
        })?;
        if checkpoint.find(MAP).is_none() {
            let sizes: Vec<u64> = words.iter().map(|w| u64::from(w.ids()) + 2).collect();
            let written = feature_map(worker, &sizes)?;
            checkpoint.mark_written(worker, MAP, written)?;
        }
        if checkpoint.find(VOCABULARY).is_none() {
            let written = feature_vocabulary(worker)?;
            checkpoint.mark_written(worker, VOCABULARY, written)?;
        }
        files.extend([MAP, VOCABULARY].map(|name| (name.to_owned(), 0)));
        let splits =
            parts.map(|(part, name, _, samples)| (part.to_owned(), name.to_owned(), samples));
        let ids = words
            .iter()
            .enumerate()
            .map(|(column, w)| (column_name(column), u64::from(w.ids()) + 2));
        Ok(RecipeOutput {
            files: checkpoint.files(&files),
            splits: splits.into(),
            ids: ids.collect(),
        })
    }
}

fn push(record: Record, row: &mut Waiting, words: &[Numbering]) {
    row.floats[0].push(f32::from(record.label()));
    for (column, (to, words)) in row.longs.iter_mut().zip(words).enumerate() {
        let number =
            Words.of(record, column).and_then(|value| words.get(value)).unwrap_or(words.ids());
        to.push(i64::from(number) + 1);
    }
}

/// The values of a column that occur at least so often in some samples, the most frequent first;
/// `None` if they do not fit.
fn frequent<'a>(
    records: impl Iterator<Item = Record<'a>>,
    column: usize,
    least: u64,
    budget: &Budget,
) -> Option<Numbering> {
    let mut values: Vec<u32> = records.filter_map(|record| Words.of(record, column)).collect();
    values.sort_unstable();
    let mut runs: Vec<&[u32]> =
        values.chunk_by(|a, b| a == b).filter(|run| run.len() as u64 >= least).collect();
    runs.sort_by_key(|run| Reverse(run.len()));
    Numbering::of(&runs.iter().map(|run| run[0]).collect::<Vec<_>>(), budget)
}

/// What FuxiCTR's `FeatureMap` writes of columns.
#[derive(Serialize)]
struct FeatureMap {
    dataset_id: &'static str,
    num_fields: usize,
    total_features: u64,
    input_length: usize,
    labels: [&'static str; 1],
    features: Vec<std::collections::BTreeMap<String, Feature>>,
}

#[derive(Serialize)]
struct Feature {
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    padding_idx: u32,
    vocab_size: u64,
}

fn feature_map(worker: &Worker, sizes: &[u64]) -> Result<Written, PrepareError> {
    let path = worker.path(MAP);
    let mut out = Growing::create(&path)?;
    write_map(sizes, &mut out).map_err(|e| PrepareError::write(&path)(e.into()))?;
    out.sync()
}

fn write_map(sizes: &[u64], out: impl Write) -> serde_json::Result<()> {
    let feature = |(column, &vocab_size): (usize, &u64)| {
        let feature = Feature { source: "", kind: "categorical", padding_idx: 0, vocab_size };
        [(column_name(column), feature)].into_iter().collect()
    };
    let map = FeatureMap {
        dataset_id: "criteo_x4",
        num_fields: sizes.len(),
        total_features: sizes.iter().sum(),
        input_length: sizes.len(),
        labels: ["Label"],
        features: sizes.iter().enumerate().map(feature).collect(),
    };
    map.serialize(&mut serde_json::Serializer::with_formatter(
        out,
        PrettyFormatter::with_indent(b"    "),
    ))
}

/// About how many bytes a column of so many words takes of their file.
fn vocabulary_bytes(column: usize, words: u64) -> u64 {
    // A word of three digits or eight, its number, and what stands around them; then the column's
    // name, and the words that are none.
    let word = if column < DENSE { 17 } else { 22 };
    words * (word + 1 + u64::from(words.max(1).ilog10())) + 65
}

/// The words of each column and their numbers, as Python's `json.dumps(..., indent=4)` lays them
/// out.
fn feature_vocabulary(worker: &Worker) -> Result<Written, PrepareError> {
    let path = worker.path(VOCABULARY);
    let mut out = Growing::create(&path)?;
    let mut text = b"{".to_vec();
    // Memory takes whatever is written.
    for column in 0..COLUMNS {
        let comma = if column == 0 { "" } else { "," };
        let _ =
            write!(text, "{comma}\n    \"{}\": {{\n        \"__PAD__\": 0", column_name(column));
        let words = vocabulary::read(worker, column)?;
        for (&word, number) in words.iter().zip(1u64..) {
            let _ = match column {
                0..DENSE => write!(text, ",\n        \"{}\": {number}", word as i32),
                _ => write!(text, ",\n        \"{word:08x}\": {number}"),
            };
            if text.len() > 1 << 20 {
                out.append(&text)?;
                text.clear();
            }
        }
        let _ = write!(text, ",\n        \"__OOV__\": {}\n    }}", words.len() + 1);
    }
    text.extend_from_slice(b"\n}");
    out.append(&text)?;
    out.sync()
}
