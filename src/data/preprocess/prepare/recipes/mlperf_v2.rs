//! The multi-hot data of MLPerf's DLRM-DCNv2 (facebookresearch/dlrm, torchrec_dlrm:
//! process_Criteo_1TB_Click_Logs_dataset.sh, which is torchrec's `BinaryCriteoUtils`, then
//! materialize_synthetic_multihot_dataset.py and multi_hot.py): for each day `day_N_dense.npy`,
//! `day_N_labels.npy` and `day_N_sparse_multi_hot.npz`.
//!
//! Ids are numbered from 2 in order of first appearance (what is missing is the id 0 of the log),
//! then taken modulo the rows of their table. An id then stands for itself and others that numpy's
//! generator (seed 0) has drawn for it: for each table in order, row by row, uniformly or by a
//! Pareto distribution. Integers become ln(x + 3), 0 where they are missing before. Samples of all
//! days but the last are shuffled together by numpy's generator (seed 0) and go to days of the old
//! sizes. torchrec shuffles ids as 32-bit fractions, which rounds those above 2^24; here they stay
//! whole.

use super::{
    Definition, Evaluation, Files, MultiHot, Parameters, PlannedOutput, Randomize, Reading, Steps,
    reading::never,
    setting::{self, MULTI_HOT, ON_ERROR, RANDOMIZE, TABLE_ROWS},
    train_and_last,
};
use crate::{
    data::{
        dense::Dense,
        format::Format,
        npy::{Header, Type},
        npz::{Member, Packing, pack, stored_bytes},
        preprocess::{
            criteo::{DENSE, TABLES, column_name},
            prepare::{
                Job, PlannedFile, PrepareError, Tell,
                shuffle::{
                    order,
                    permutation::{self, Permutation},
                    records::{Form, Record, Records},
                },
                state::{
                    checkpoint::{Checkpoint, RecipeOutput},
                    growing::{Growing, Written},
                    spill::{self, NewShare},
                },
                worker::{Advance, RECORDS, Worker},
            },
        },
        source::config::DenseTransform,
    },
    random::numpy::RandomState,
};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Rows of the tables, of rounds 3.0 and later.
pub const ROWS: [u32; TABLES] = [
    40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282,
    10, 2_209, 11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108,
    36,
];
/// Ids of a sample in each table, of rounds 3.0 and later.
pub(super) const HOTNESS: [u32; TABLES] =
    [3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1];
/// Seed of the ids that are drawn.
const SEED: u32 = 0;
/// The number of a column's first id; 0 and 1 are left free for what torchrec can do with rare ids.
const FIRST: u32 = 2;
/// The least integer that has a logarithm.
const LEAST: i32 = -2;

/// The ids that were drawn, table by table.
const DRAWN: &str = "drawn.i32";

/// Ids of a sample in a table; more are a slip.
const MOST_IDS: u32 = 1 << 20;

pub(super) const MLPERF_V2: Definition = Definition {
    name: "mlperf-v2",
    about: "Criteo 1TB, MLPerf DLRM-DCNv2: npy, several ids a sample, shuffled",
    one_file: false,
    form: Form::Signed,
    least_integer: Some(LEAST),
    takes: &[RANDOMIZE, ON_ERROR, setting::SEED, TABLE_ROWS, setting::HOTNESS, MULTI_HOT],
    parameters: Parameters { randomize: Randomize::Total, ..Parameters::BASE },
    // Logarithms are taken before they are stored.
    reading: Reading {
        files: Files::Format(Format::TorchRec),
        evaluation: Evaluation::Halves,
        transform: DenseTransform::Raw,
        hashed: never,
    },
    steps: &MlperfV2,
};

struct MlperfV2;

impl Steps for MlperfV2 {
    fn check(&self, parameters: &Parameters) -> Result<(), PrepareError> {
        let usage = |what: String| Err(PrepareError::Usage(what));
        if parameters.randomize == Randomize::Day {
            return usage("mlperf-v2: samples are shuffled as a whole or not at all: --randomize total or none".into());
        }
        let tables = parameters.table_rows.iter().zip(parameters.hotness).enumerate();
        let mut wrong = tables.filter(|&(_, (rows, hotness))| {
            !(1..=i32::MAX as u32).contains(rows) || !(1..=MOST_IDS).contains(&hotness)
        });
        match wrong.next() {
            Some((k, (rows, hotness))) => usage(format!(
                "table {k} has {rows} rows and {hotness} ids a sample; must be from 1 to {} and {MOST_IDS}",
                i32::MAX
            )),
            None => Ok(()),
        }
    }

    fn plan(&self, job: &Job, lines: &[u64], new: &NewShare) -> PlannedOutput {
        let hotness = job.parameters.hotness;
        let mut files = Vec::new();
        for (day, &samples) in lines.iter().enumerate() {
            let header = Header::BYTES as u64;
            files.push(PlannedFile::exact(
                &dense_file(day),
                samples,
                header + samples * 4 * DENSE as u64,
            ));
            files.push(PlannedFile::exact(&labels_file(day), samples, header + samples * 4));
            let names: Vec<String> = (0..TABLES).map(|k| k.to_string()).collect();
            let tables = names
                .iter()
                .zip(hotness)
                .map(|(name, h)| (name.as_str(), 4 * u64::from(h) * samples));
            files.push(PlannedFile::exact(&ids_file(day), samples, stored_bytes(tables)));
        }
        let (train, last) = train_and_last(lines);
        let all = train + last;
        let record = Form::Signed.bytes() as u64;
        let largest = files.iter().map(|f| f.bytes).max().unwrap_or(0);
        let written: u64 = files.iter().map(|f| f.bytes).sum::<u64>()
            + largest * job.threads as u64
            + drawn_starts(&job.parameters)[TABLES];
        let ordering = if job.parameters.randomize == Randomize::None {
            0
        } else {
            train * (2 * record + 8 + permutation::DISK)
        };
        PlannedOutput {
            files,
            peak: all * record + spill::numbering(job, all, new).max(ordering).max(written),
        }
    }

    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError> {
        let days = checkpoint.tally.samples.clone();
        let (train, last) = train_and_last(&days);
        worker.refuse_empty(&[("the training days", train), ("the last one", last)])?;
        let seed = checkpoint.parameters.seed;
        let keys = || {
            // `numpy.random.seed(seed); numpy.random.shuffle(samples)`.
            let mut places =
                Permutation::shuffled(worker, "shuffle", train, &mut RandomState::new(seed), 4)?;
            Ok(move |_| Ok(((u128::from(places.next()?) << 64) / u128::from(train)) as u64))
        };
        let from = order::training(worker, checkpoint, Form::Signed, train, keys, tell)?;
        let parameters = checkpoint.parameters;
        if checkpoint.find(DRAWN).is_none() {
            let written = draw(worker, &parameters)?;
            checkpoint.mark_written(worker, DRAWN, written)?;
        }
        let drawn = Drawn::open(worker, &parameters)?;
        let (mut files, mut sources, mut splits, mut before) =
            (Vec::new(), Vec::new(), Vec::new(), 0);
        for (day, &samples) in days.iter().enumerate() {
            let source = if day + 1 == days.len() { (RECORDS[1], 0) } else { (from, before) };
            for name in [dense_file(day), labels_file(day), ids_file(day)] {
                files.push((name, samples));
                sources.push(source);
            }
            splits.push((format!("day_{day}"), ids_file(day), samples));
            before += samples;
        }
        let dense = Dense::new(DenseTransform::LogPlus3).ok_or_else(|| worker.unusable())?;
        worker.write_files(checkpoint, &files, tell, |i, path, advance| {
            let (from, first) = sources[i];
            let records = Records::open(&worker.path(from), Form::Signed, first, files[i].1)?;
            match i % 3 {
                0 => array(path, records, advance, Type::F32, DENSE as u64, |record, bytes| {
                    for k in 0..DENSE {
                        // All have a logarithm: the log was looked through.
                        let y = dense.apply(f64::from(record.dense(k))).unwrap_or(f32::NAN);
                        bytes.extend_from_slice(&y.to_le_bytes());
                    }
                }),
                1 => array(path, records, advance, Type::Int(4), 1, |record, bytes| {
                    bytes.extend_from_slice(&i32::from(record.label()).to_le_bytes());
                }),
                _ => ids(worker, path, records, advance, &drawn),
            }
        })?;
        let ids = checkpoint
            .dictionaries
            .iter()
            .enumerate()
            .map(|(k, d)| (column_name(DENSE + k), d.bytes / 4))
            .collect();
        Ok(RecipeOutput { files: checkpoint.files(&files), splits, ids })
    }
}

fn dense_file(day: usize) -> String {
    format!("day_{day}_dense.npy")
}

fn labels_file(day: usize) -> String {
    format!("day_{day}_labels.npy")
}

fn ids_file(day: usize) -> String {
    format!("day_{day}_sparse_multi_hot.npz")
}

/// Bytes that were drawn before each table, and in all.
fn drawn_starts(parameters: &Parameters) -> Vec<u64> {
    let mut starts = vec![0];
    for (&rows, hotness) in parameters.table_rows.iter().zip(parameters.hotness) {
        starts.push(starts[starts.len() - 1] + 4 * u64::from(rows) * u64::from(hotness - 1));
    }
    starts
}

/// Draws the ids that come with each id of each table.
fn draw(worker: &Worker, parameters: &Parameters) -> Result<Written, PrepareError> {
    let mut numpy = RandomState::new(SEED);
    let mut out = Growing::create(&worker.path(DRAWN))?;
    let mut bytes = Vec::new();
    for (&rows, hotness) in parameters.table_rows.iter().zip(parameters.hotness) {
        let most = u64::from(rows) - 1;
        for _ in 0..u64::from(rows) * u64::from(hotness - 1) {
            let id = if parameters.multi_hot == MultiHot::Pareto {
                // What is too large for 32 bits becomes the least integer, as x86 processors
                // convert it.
                let x = numpy.pareto(0.25);
                let whole = if x < 2_147_483_648.0 { x as i32 } else { i32::MIN };
                i64::from(whole).rem_euclid(i64::from(rows)) as u32
            } else {
                numpy.interval(most) as u32
            };
            bytes.extend_from_slice(&id.to_le_bytes());
            if bytes.len() >= 1 << 20 {
                worker.interrupted()?;
                out.append(&bytes)?;
                bytes.clear();
            }
        }
    }
    out.append(&bytes)?;
    out.sync()
}

/// What was drawn: in memory if there is room, else on the disk.
struct Drawn {
    rows: [u32; TABLES],
    hotness: [u32; TABLES],
    /// Bytes before each table's.
    starts: Vec<u64>,
    path: PathBuf,
    memory: Option<Vec<u8>>,
}

impl Drawn {
    fn open(worker: &Worker, parameters: &Parameters) -> Result<Self, PrepareError> {
        let (path, starts) = (worker.path(DRAWN), drawn_starts(parameters));
        let fits = starts[TABLES] <= worker.job.dictionaries() / 2;
        let memory = if fits {
            Some(std::fs::read(&path).map_err(PrepareError::write(&path))?)
        } else {
            None
        };
        Ok(Drawn { rows: parameters.table_rows, hotness: parameters.hotness, starts, path, memory })
    }

    /// Appends id `id` of table `k` and those that come with it.
    fn push(
        &self,
        file: &mut File,
        k: usize,
        id: u32,
        to: &mut Vec<u8>,
    ) -> Result<(), PrepareError> {
        to.extend_from_slice(&id.to_le_bytes());
        let bytes = 4 * (self.hotness[k] as usize - 1);
        let start = self.starts[k] + u64::from(id) * bytes as u64;
        match &self.memory {
            Some(all) => to.extend_from_slice(&all[start as usize..][..bytes]),
            None if bytes == 0 => {}
            None => {
                let at = to.len();
                to.resize(at + bytes, 0);
                let read =
                    file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut to[at..]));
                read.map_err(PrepareError::write(&self.path))?;
            }
        }
        Ok(())
    }
}

/// Writes an array of numpy's, of `width` numbers a sample.
fn array(
    path: &Path,
    records: Records,
    advance: Advance,
    of: Type,
    width: u64,
    push: impl FnMut(Record, &mut Vec<u8>),
) -> Result<Written, PrepareError> {
    let header = Header { of, fortran: false, shape: vec![records.left(), width] }.bytes();
    records.write(path, &header, advance, push)
}

/// Writes the archive of a day's ids.
fn ids(
    worker: &Worker,
    path: &Path,
    mut records: Records,
    advance: Advance,
    drawn: &Drawn,
) -> Result<Written, PrepareError> {
    let io = || PrepareError::write(path);
    let mut members = Vec::new();
    for k in 0..TABLES {
        let width = u64::from(drawn.hotness[k]);
        members.push(Member::new(path, &k.to_string(), Type::Int(4), Some(width)).map_err(io())?);
    }
    let mut file = File::open(&drawn.path).map_err(PrepareError::write(&drawn.path))?;
    let (mut rows, mut bytes) = (0, Vec::new());
    loop {
        let batch = records.next()?;
        let n = batch.len() as u64;
        if n == 0 {
            break;
        }
        for (k, member) in members.iter_mut().enumerate() {
            bytes.clear();
            for record in batch.clone() {
                drawn.push(&mut file, k, (record.id(k) + FIRST) % drawn.rows[k], &mut bytes)?;
            }
            member.write(&bytes).map_err(io())?;
        }
        rows += n;
        advance(n)?;
    }
    worker.interrupted()?;
    pack(path, Packing::Stored, members.into_iter().map(|member| (member, rows))).map_err(io())?;
    worker.written(path)
}
