//! The order of training samples as facebook's program draws it for `--memory-map` (data_utils.py,
//! `concatCriteoAdData`): with `total`, each sample of each day draws a day at random, again while
//! that one is full; then, with `day` too, each day is permuted. Numbers come from numpy's
//! generator in the original's order, so that equal seeds give equal files.
//!
//! A day that does not fit in memory is first dealt out to files of consecutive places, each of
//! which does.

use super::records::read_from;
use crate::{
    data::preprocess::{
        criteo::RECORD,
        prepare::{
            PrepareError, Progress, Randomize, Tell,
            job::PROGRAM,
            state::{
                checkpoint::Checkpoint,
                growing::{Growing, Written},
            },
            worker::{RECORDS, Worker},
        },
    },
    random::numpy::RandomState,
};
use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// The highest bit of a place marks it as moved.
const MOVED: u32 = 1 << 31;
/// The least memory for records.
const ROOM: u64 = 8 << 20;
/// Bytes of samples that are read at once.
const BUFFER: usize = RECORD << 13;
/// Files that a day is dealt to, about; all are open at once.
const PARTS: u64 = 256;

/// Writes the training samples to the file `to` in their new order.
pub fn shuffle(
    worker: &Worker,
    checkpoint: &Checkpoint,
    days: &[u64],
    to: &str,
    tell: Tell,
) -> Result<Written, PrepareError> {
    // Sub-sampling has drawn before, from the same generator.
    let mut numpy = checkpoint.generator(worker.work)?;
    let memory = worker.job.memory;
    let largest = days.iter().copied().max().unwrap_or(0);
    let least =
        (PROGRAM + 4 * largest + ROOM.max((largest * RECORD as u64).div_ceil(PARTS))) * 16 / 15;
    if largest >= u64::from(MOVED) {
        return Err(PrepareError::Usage(format!(
            "a day of {largest} samples cannot be shuffled; must have fewer than {MOVED}: take --randomize none in a new folder"
        )));
    }
    if least > memory {
        return Err(PrepareError::Memory(format!(
            "shuffling a day of {largest} samples takes {} MiB of memory; give more with --memory, and the same command goes on from \
             here",
            least.div_ceil(1 << 20)
        )));
    }
    let training = &days[..days.len() - 1];
    let total = checkpoint.parameters.randomize == Randomize::Total;
    if total {
        deal(worker, days, &mut numpy, tell)?;
    }
    let mut out = Growing::create(&worker.path(to))?;
    let (mut first, all) = (0, training.iter().sum::<u64>() * RECORD as u64);
    for (day, &samples) in training.iter().enumerate() {
        worker.interrupted()?;
        let mut order: Vec<u32> = (0..samples as u32).collect();
        numpy.shuffle(&mut order);
        let (path, start) =
            if total { (bucket(worker, day), 0) } else { (worker.path(RECORDS[0]), first) };
        // Some is kept back for what the allocator does not give back at once.
        let room = (memory - memory / 16).saturating_sub(PROGRAM + 4 * samples).max(ROOM);
        let source = Source { worker, path: &path, start };
        source.permute(order, room as usize, &mut out)?;
        first += samples;
        tell(Progress::Other {
            what: "shuffling each day",
            bytes: first * RECORD as u64,
            total: all,
        });
        if total {
            fs::remove_file(&path).map_err(PrepareError::write(&path))?;
        }
    }
    out.sync()
}

fn bucket(worker: &Worker, day: usize) -> PathBuf {
    worker.path(&format!("day_{day}.bin"))
}

/// Sends each training sample to a day.
fn deal(
    worker: &Worker,
    days: &[u64],
    numpy: &mut RandomState,
    tell: Tell,
) -> Result<(), PrepareError> {
    let training = &days[..days.len() - 1];
    let last = training.len() as u64 - 1;
    let mut buckets = Vec::new();
    for day in 0..training.len() {
        let path = bucket(worker, day);
        let file = File::create(&path).map_err(PrepareError::write(&path))?;
        buckets.push((path, BufWriter::with_capacity(RECORD << 11, file)));
    }
    let mut full = vec![0; training.len()];
    let path = worker.path(RECORDS[0]);
    let mut records = read_from(&path, 0, BUFFER)?;
    let (mut record, mut done, total) = ([0; RECORD], 0, training.iter().sum::<u64>());
    for &samples in training {
        // All draws of a day come before the first repeated one.
        let drawn: Vec<u16> = (0..samples).map(|_| numpy.interval(last) as u16).collect();
        for day in drawn {
            let mut day = usize::from(day);
            while full[day] >= training[day] {
                day = numpy.interval(last) as usize;
            }
            full[day] += 1;
            records.read_exact(&mut record).map_err(PrepareError::write(&path))?;
            let (path, bucket) = &mut buckets[day];
            bucket.write_all(&record).map_err(PrepareError::write(path))?;
            done += 1;
            if done % (1 << 16) == 0 {
                worker.interrupted()?;
                let (bytes, total) = (done * RECORD as u64, total * RECORD as u64);
                tell(Progress::Other { what: "dealing samples to days", bytes, total });
            }
        }
    }
    // The last day draws too, though it stays.
    for _ in 0..days[days.len() - 1] {
        numpy.interval(last);
    }
    for (path, mut bucket) in buckets {
        bucket.flush().map_err(PrepareError::write(&path))?;
    }
    Ok(())
}

/// Samples of a file from one on.
struct Source<'a> {
    worker: &'a Worker<'a>,
    path: &'a Path,
    start: u64,
}

impl Source<'_> {
    /// Appends sample `order[0]`, `order[1]`, ... with `room` bytes for records in memory.
    fn permute(
        &self,
        mut order: Vec<u32>,
        room: usize,
        out: &mut Growing,
    ) -> Result<(), PrepareError> {
        let mut records = read_from(self.path, self.start, BUFFER)?;
        let io = || PrepareError::write(self.path);
        if order.len() * RECORD <= room {
            let mut all = vec![0; order.len() * RECORD];
            records.read_exact(&mut all).map_err(io())?;
            let mut sorted = Vec::new();
            for piece in order.chunks(1 << 13) {
                sorted.clear();
                for &i in piece {
                    sorted.extend_from_slice(&all[i as usize * RECORD..][..RECORD]);
                }
                out.append(&sorted)?;
            }
            return Ok(());
        }
        // From now on: where each sample goes.
        invert(&mut order);
        // What waits for the files is there beside the part that is put in order.
        let places = (room * 3 / 4 / RECORD).max(1);
        let mut parts = Vec::new();
        let n = order.len().div_ceil(places);
        let buffer = (room / 4 / n).clamp(RECORD, RECORD << 10);
        for i in 0..n {
            let path = self.worker.path(&format!("part_{i}.bin"));
            let file = File::create(&path).map_err(PrepareError::write(&path))?;
            parts.push((path, BufWriter::with_capacity(buffer, file)));
        }
        let mut record = [0; RECORD];
        for (i, &place) in order.iter().enumerate() {
            if i % (1 << 16) == 0 {
                self.worker.interrupted()?;
            }
            records.read_exact(&mut record).map_err(io())?;
            let (path, part) = &mut parts[place as usize / places];
            part.write_all(&record).map_err(PrepareError::write(path))?;
        }
        let mut sorted = vec![0; places.min(order.len()) * RECORD];
        for (i, (path, mut part)) in parts.into_iter().enumerate() {
            part.flush().map_err(PrepareError::write(&path))?;
            drop(part);
            self.worker.interrupted()?;
            let first = i * places;
            let n = places.min(order.len() - first);
            let mut records = read_from(&path, 0, BUFFER)?;
            // A part holds its samples in the order in which they were read.
            for place in
                order.iter().map(|&p| p as usize).filter(|p| (first..first + n).contains(p))
            {
                let to = &mut sorted[(place - first) * RECORD..][..RECORD];
                records.read_exact(to).map_err(PrepareError::write(&path))?;
            }
            out.append(&sorted[..n * RECORD])?;
            fs::remove_file(&path).map_err(PrepareError::write(&path))?;
        }
        Ok(())
    }
}

/// Turns a permutation of fewer than 2^31 into its inverse, in place: along its cycles, marking
/// what was visited.
fn invert(order: &mut [u32]) {
    for start in 0..order.len() {
        if order[start] & MOVED != 0 {
            continue;
        }
        let (mut at, mut next) = (start, order[start] as usize);
        while next != start {
            let after = order[next] as usize;
            order[next] = at as u32 | MOVED;
            (at, next) = (next, after);
        }
        order[start] = at as u32 | MOVED;
    }
    order.iter_mut().for_each(|p| *p &= !MOVED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::prepare::{Recipe, testing::Workplace};
    use proptest::prelude::*;

    /// More memory helps where a day is large, and not where it is too large.
    #[test]
    fn days_that_are_too_large_are_refused() {
        let place = Workplace::new(Recipe::MlperfV1, 64 << 20);
        let (worker, parameters) = (place.worker(), place.job.parameters);
        let refused = |day| {
            let checkpoint = Checkpoint::new(Recipe::MlperfV1, parameters, Vec::new());
            shuffle(&worker, &checkpoint, &[day, 1], "to.bin", &mut |_| {}).unwrap_err().to_string()
        };
        let large = refused((1 << 31) - 1);
        assert!(large.contains("MiB of memory; give more with --memory"), "{large}");
        let too_large = refused(1 << 31);
        assert!(
            too_large
                .starts_with("a day of 2147483648 samples cannot be shuffled; must have fewer"),
            "{too_large}"
        );
        assert!(!too_large.contains("--memory"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn samples_come_in_the_drawn_order_with_any_memory(n in 1usize..400, seed: u32, places in 1usize..500) {
            let place = Workplace::new(Recipe::MlperfV1, 1 << 30);
            let worker = place.worker();
            let path = worker.path("from.bin");
            fs::write(&path, (0..n as u32 + 3).flat_map(|i| [i.to_le_bytes(); RECORD / 4].concat()).collect::<Vec<u8>>()).unwrap();
            let mut order: Vec<u32> = (0..n as u32).collect();
            RandomState::new(seed).shuffle(&mut order);
            let mut out = Growing::create(&worker.path("to.bin")).unwrap();
            Source { worker: &worker, path: &path, start: 3 }.permute(order.clone(), places * RECORD, &mut out).unwrap();
            let expected: Vec<u8> = order.iter().flat_map(|i| [(i + 3).to_le_bytes(); RECORD / 4].concat()).collect();
            prop_assert!(fs::read(worker.path("to.bin")).unwrap() == expected);
            prop_assert_eq!(fs::read_dir(worker.work).unwrap().count(), 2);
            let mut inverse = order.clone();
            invert(&mut inverse);
            prop_assert!(order.iter().enumerate().all(|(i, &p)| inverse[p as usize] == i as u32));
        }
    }
}
