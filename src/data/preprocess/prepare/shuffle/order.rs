//! Sorts samples by a key each, in memory that does not depend on their number: each sample goes to
//! a file of a range of keys; then these files, each of which fits in memory, are sorted one after
//! the other.

use super::records::{Form, Records};
use crate::{
    data::preprocess::prepare::{
        PrepareError, Progress, Randomize, Tell,
        state::{
            checkpoint::Checkpoint,
            growing::{Growing, Written},
        },
        worker::{RECORDS, Worker},
    },
    random::philox::{Philox, Stream},
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

/// Samples in their new order.
pub const ORDERED: &str = "ordered.bin";
/// The least memory for samples.
const ROOM: u64 = 8 << 20;
/// The least that waits in memory for a file: smaller writes would take all the time.
const BUFFER: u64 = 8 << 10;
/// Bytes of a key.
const KEY: usize = 8;

/// Samples that lie together in the output, in order of their keys; those of equal keys keep their
/// order.
pub struct Part {
    /// How many go there.
    pub samples: u64,
    /// Whether they are sorted by key; otherwise they keep their order.
    pub sorted: bool,
}

/// A random key for each sample: sorted by it, all orders are equally likely.
pub fn random_keys(seed: u32) -> impl Fn(u64) -> Result<u64, PrepareError> {
    let philox = Philox::new(u64::from(seed), Stream::Deal, 0);
    move |sample| Ok(philox.block_u64(sample / 2)[(sample % 2) as usize])
}

/// Sorts the training samples, all days but the last, by `keys` and returns the name of their file.
/// With [`Randomize::None`] that is the file that was read from the log, and `keys` is not called.
/// `keys` returns a function that is called with each sample's number in order, and tells its key.
///
/// # Errors
/// As [`deal`], and of `keys`.
pub fn training<K: FnMut(u64) -> Result<u64, PrepareError>>(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    form: Form,
    samples: u64,
    keys: impl FnOnce() -> Result<K, PrepareError>,
    tell: Tell,
) -> Result<&'static str, PrepareError> {
    if checkpoint.parameters.randomize == Randomize::None {
        return Ok(RECORDS[0]);
    }
    if checkpoint.find(ORDERED).is_none() {
        let (mut keys, parts) = (keys()?, [Part { samples, sorted: true }]);
        let written =
            deal(worker, form, RECORDS[0], &parts, |sample| Ok((0, keys(sample)?)), ORDERED, tell)?;
        checkpoint.mark_written(worker, ORDERED, written)?;
    }
    worker.drop_records(checkpoint, 0)?;
    Ok(ORDERED)
}

/// Writes the samples of file `from` to file `to`, part by part. `go` is asked for part and key of
/// each, in order.
///
/// # Errors
/// If a file cannot be read or written, or the work is interrupted.
pub fn deal(
    worker: &Worker,
    form: Form,
    from: &str,
    parts: &[Part],
    mut go: impl FnMut(u64) -> Result<(usize, u64), PrepareError>,
    to: &str,
    tell: Tell,
) -> Result<Written, PrepareError> {
    let samples: u64 = parts.iter().map(|p| p.samples).sum();
    let total = 2 * samples * form.bytes() as u64;
    let mut buckets = Buckets::new(worker, form, parts)?;
    let mut records = Records::open(&worker.path(from), form, 0, samples)?;
    let mut sample = 0;
    loop {
        worker.interrupted()?;
        let batch = records.next()?;
        if batch.len() == 0 {
            break;
        }
        for record in batch {
            let (part, key) = go(sample)?;
            buckets.push(part, key, record.bytes())?;
            sample += 1;
        }
        tell(Progress::Other {
            what: "dealing samples",
            bytes: sample * form.bytes() as u64,
            total,
        });
    }
    let mut out = Growing::create(&worker.path(to))?;
    let mut bytes = total / 2;
    buckets.write(worker, &mut out, &mut |n| {
        bytes += n;
        tell(Progress::Other { what: "putting samples in order", bytes, total });
    })?;
    out.sync()
}

struct Bucket {
    path: PathBuf,
    waiting: Vec<u8>,
    sorted: bool,
}

/// Files of samples with keys.
struct Buckets {
    /// The first bucket of each part, and the number of them.
    of_part: Vec<(usize, usize)>,
    buckets: Vec<Bucket>,
    /// Bytes that wait in memory before they are written.
    buffer: usize,
    width: usize,
}

impl Buckets {
    fn new(worker: &Worker, form: Form, parts: &[Part]) -> Result<Self, PrepareError> {
        let width = form.bytes() + KEY;
        // Sorting takes 16 bytes for each sample more, and buckets are not quite equal.
        let room = (worker.job.memory / 8).max(ROOM);
        let (mut of_part, mut buckets) = (Vec::new(), Vec::new());
        let number = |part: &Part| {
            if part.sorted { (part.samples * (width as u64 + 16)).div_ceil(room).max(1) } else { 1 }
        };
        let waiting = parts.iter().map(number).sum::<u64>() * BUFFER;
        if waiting > room {
            let samples: u64 = parts.iter().map(|p| p.samples).sum();
            // Twice the memory makes half as many files, of which twice as many may be.
            let least = worker.job.memory as f64 * (waiting as f64 / room as f64).sqrt();
            return Err(PrepareError::Memory(format!(
                "sorting {samples} samples takes {:.0} MiB of memory; give more with --memory, and the same command goes on from here",
                (least / f64::from(1 << 20)).ceil()
            )));
        }
        for part in parts {
            let n = number(part);
            of_part.push((buckets.len(), n as usize));
            for _ in 0..n {
                let path = worker.path(&format!("bucket_{}.bin", buckets.len()));
                // An earlier run may have left one.
                fs::write(&path, []).map_err(PrepareError::write(&path))?;
                buckets.push(Bucket { path, waiting: Vec::new(), sorted: part.sorted });
            }
        }
        let buffer = (worker.job.memory as usize / 16 / buckets.len()).min(1 << 20);
        Ok(Buckets { of_part, buckets, buffer, width })
    }

    fn push(&mut self, part: usize, key: u64, record: &[u8]) -> Result<(), PrepareError> {
        let (first, n) = self.of_part[part];
        let bucket = &mut self.buckets[first + ((u128::from(key) * n as u128) >> 64) as usize];
        bucket.waiting.extend_from_slice(&key.to_le_bytes());
        bucket.waiting.extend_from_slice(record);
        if bucket.waiting.len() >= self.buffer { bucket.flush() } else { Ok(()) }
    }

    /// Appends all samples to `out`, in order, and removes the files.
    fn write(
        self,
        worker: &Worker,
        out: &mut Growing,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), PrepareError> {
        let mut sorted = Vec::new();
        for mut bucket in self.buckets {
            worker.interrupted()?;
            bucket.flush()?;
            let io = || PrepareError::write(&bucket.path);
            if bucket.sorted {
                let all = fs::read(&bucket.path).map_err(io())?;
                let key = |record: &[u8]| u64::from_le_bytes(std::array::from_fn(|i| record[i]));
                let mut order: Vec<(u64, u32)> =
                    all.chunks_exact(self.width).zip(0..).map(|(r, i)| (key(r), i)).collect();
                order.sort_unstable();
                for piece in order.chunks(1 << 13) {
                    sorted.clear();
                    for &(_, i) in piece {
                        sorted.extend_from_slice(
                            &all[i as usize * self.width + KEY..][..self.width - KEY],
                        );
                    }
                    out.append(&sorted)?;
                }
                tell(all.len() as u64);
            } else {
                let mut file = fs::File::open(&bucket.path).map_err(io())?;
                let mut piece = vec![0; self.width << 13];
                let mut left = file.metadata().map_err(io())?.len();
                while left > 0 {
                    worker.interrupted()?;
                    let n = (piece.len() as u64).min(left) as usize;
                    std::io::Read::read_exact(&mut file, &mut piece[..n]).map_err(io())?;
                    sorted.clear();
                    piece[..n]
                        .chunks_exact(self.width)
                        .for_each(|r| sorted.extend_from_slice(&r[KEY..]));
                    out.append(&sorted)?;
                    left -= n as u64;
                    tell(n as u64);
                }
            }
            fs::remove_file(&bucket.path).map_err(io())?;
        }
        Ok(())
    }
}

impl Bucket {
    fn flush(&mut self) -> Result<(), PrepareError> {
        // Opened anew each time: there may be more of them than files that a process may have open.
        let append = || OpenOptions::new().append(true).open(&self.path)?.write_all(&self.waiting);
        append().map_err(PrepareError::write(&self.path))?;
        self.waiting.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::prepare::{Recipe, testing::Workplace};

    /// Each file of samples has to wait in memory a little, so the budget bounds how many there may
    /// be.
    #[test]
    fn more_samples_than_the_budget_can_sort_are_refused() {
        let place = Workplace::new(Recipe::Nvidia, 64 << 20);
        let buckets =
            |samples| Buckets::new(&place.worker(), Form::Raw, &[Part { samples, sorted: true }]);
        let fits = buckets(40_000_000).unwrap();
        assert!(
            fits.buckets.len() * fits.buffer <= ROOM as usize && fits.buckets.len() > 800,
            "{}",
            fits.buckets.len()
        );
        let refused = buckets(80_000_000).err().unwrap().to_string();
        let (before, after) = (
            "sorting 80000000 samples takes ",
            " MiB of memory; give more with --memory, and the same",
        );
        let mib: u64 = refused
            .strip_prefix(before)
            .and_then(|rest| rest.split_once(after))
            .expect(&refused)
            .0
            .parse()
            .unwrap();
        // With as much as it asks for, and hardly with less.
        let with = |mib: u64| {
            let place = Workplace::new(Recipe::Nvidia, mib << 20);
            Buckets::new(&place.worker(), Form::Raw, &[Part { samples: 80_000_000, sorted: true }])
                .is_ok()
        };
        assert!(with(mib) && !with(mib - 2), "{mib}");
        // What is not sorted takes one file.
        let plain = Buckets::new(
            &place.worker(),
            Form::Raw,
            &[Part { samples: 80_000_000, sorted: false }],
        )
        .unwrap();
        assert_eq!(plain.buckets.len(), 1);
    }
}
