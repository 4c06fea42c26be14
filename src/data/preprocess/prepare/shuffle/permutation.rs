//! `numpy.random.shuffle` of more than there is memory for: where each of n things goes, told in
//! order of the things.
//!
//! The shuffle swaps place i with a drawn place j <= i, for i from n - 1 down to 1. So place i is
//! looked at and left for good at step i, and what stood there goes on to place j, where it is
//! looked at again at the next step that draws j, or at step j. That step is known once the draws
//! are sorted by place; then all that moves can be sent to the step that needs it, and the steps be
//! gone through in stretches of which each fits in memory:
//!
//! 1. draws `(i, j)` go to files by stretches of j;
//! 2. these tell for each step i when place j is looked at next, to files by stretches of i;
//! 3. stretch by stretch of steps, from the last: what stands at i and what stands at j comes from
//!    later steps, the one is sent on, and the other one has its place: `(thing, place)` goes to
//!    files by stretches of things;
//! 4. these are read one after the other.

use super::partition::{self, Reader, WordFiles};
use crate::{
    data::preprocess::prepare::{PrepareError, worker::Worker},
    random::numpy::RandomState,
};
use std::path::PathBuf;

/// Bytes that a step takes in memory in a stretch: two things and the next step.
const STEP: u64 = 12;
/// Sets of files that are written at the same time.
const SETS: u64 = 3;
/// The fewest bytes that wait for a file.
const LEAST_BUFFER: u64 = 4 << 10;
/// Stands for "nothing yet".
const NONE: u32 = u32::MAX;
/// Bytes of a thing on the disk, at the most at once: what was drawn or what comes next, things on
/// their way, and places.
pub const DISK: u64 = 24;

/// The place of each thing, in order of the things.
pub struct Permutation {
    now: Vec<u32>,
    at: usize,
    /// Files of things and places that are still to come, the next one last, and the first thing in
    /// each.
    files: Vec<(PathBuf, u64)>,
    /// The things after `now` begin here.
    end: u64,
    things: u64,
}

impl Permutation {
    /// Shuffles `things` as `numpy.random.shuffle` does, with one part in `share` of the memory.
    /// Files are called by `name`.
    ///
    /// # Errors
    /// If there are more things than 32 bits count, memory does not suffice for even a stretch, a
    /// file cannot be written, or the work is interrupted.
    pub fn shuffled(
        worker: &Worker,
        name: &str,
        things: u64,
        numpy: &mut RandomState,
        share: u64,
    ) -> Result<Self, PrepareError> {
        let room = worker.job.memory / share;
        let n = u32::try_from(things).map_err(|_| {
            PrepareError::Usage(format!(
                "{things} samples are more than can be shuffled; take --randomize none"
            ))
        })?;
        if 8 * things <= room {
            let mut order: Vec<u32> = (0..n).collect();
            numpy.shuffle(&mut order);
            let mut now = vec![0; order.len()];
            order.iter().zip(0..).for_each(|(&thing, place)| now[thing as usize] = place);
            return Ok(Permutation { now, at: 0, files: Vec::new(), end: things, things });
        }
        let stretch = (room / 2 / STEP).max(1);
        let stretches = things.div_ceil(stretch);
        let buffer = room / 2 / SETS / stretches;
        if buffer < LEAST_BUFFER {
            // Where the buffers are just large enough, and a tenth for what does not come out even.
            let least = 1.1 * ((2 * STEP * 2 * SETS * LEAST_BUFFER) as f64 * things as f64).sqrt();
            return Err(PrepareError::Memory(format!(
                "shuffling {things} samples takes {} MiB of memory; give more with --memory, and the same command goes on from here",
                (least as u64 * share).div_ceil(1 << 20)
            )));
        }
        let shuffle = Shuffle {
            worker,
            name,
            n,
            stretch: stretch as u32,
            stretches: stretches as usize,
            buffer: buffer as usize,
        };
        let drawn = numpy.clone();
        let next = shuffle.next_steps(shuffle.draw(numpy)?)?;
        let files = shuffle.send(drawn, next)?;
        let files = files
            .into_iter()
            .enumerate()
            .map(|(s, file)| (file, s as u64 * stretch))
            .rev()
            .collect();
        Ok(Permutation { now: Vec::new(), at: 0, files, end: 0, things })
    }

    /// The place of the next thing.
    ///
    /// # Errors
    /// If a file cannot be read, or there are no more things.
    pub fn next(&mut self) -> Result<u32, PrepareError> {
        while self.at == self.now.len() {
            let Some((path, first)) = self.files.pop() else {
                return Err(PrepareError::Stale(
                    "a shuffle has no more places than samples".into(),
                ));
            };
            self.end = self.files.last().map_or(self.things, |f| f.1);
            self.now.clear();
            self.now.resize((self.end - first) as usize, 0);
            self.at = 0;
            each_pair(&path, |thing, place| {
                self.now[(u64::from(thing) - first) as usize] = place;
                Ok(())
            })?;
            partition::remove(&[path])?;
        }
        self.at += 1;
        Ok(self.now[self.at - 1])
    }
}

/// Goes through the pairs of a file.
fn each_pair(
    path: &std::path::Path,
    mut f: impl FnMut(u32, u32) -> Result<(), PrepareError>,
) -> Result<(), PrepareError> {
    let mut reader = Reader::open(path)?;
    loop {
        let words = reader.take(1 << 14)?;
        if words.is_empty() {
            return Ok(());
        }
        words.as_chunks::<2>().0.iter().try_for_each(|&[a, b]| f(a, b))?;
    }
}

struct Shuffle<'a> {
    worker: &'a Worker<'a>,
    name: &'a str,
    /// Things, steps and places.
    n: u32,
    /// How many of them make a stretch.
    stretch: u32,
    stretches: usize,
    buffer: usize,
}

impl Shuffle<'_> {
    fn files(&self, what: &str) -> Result<WordFiles, PrepareError> {
        WordFiles::create_with(
            self.worker.work,
            &format!("{}_{what}", self.name),
            self.stretches,
            self.buffer,
        )
    }

    fn push(&self, to: &mut WordFiles, by: u32, pair: [u32; 2]) -> Result<(), PrepareError> {
        to.push_all((by / self.stretch) as usize, &pair)
    }

    /// Each step and what it draws, if that is another place.
    fn draw(&self, numpy: &mut RandomState) -> Result<Vec<PathBuf>, PrepareError> {
        let mut drawn = self.files("drawn")?;
        for i in (1..self.n).rev() {
            let j = numpy.interval(i.into()) as u32;
            if j != i {
                self.push(&mut drawn, j, [i, j])?;
            }
            if i.is_multiple_of(1 << 20) {
                self.worker.interrupted()?;
            }
        }
        drawn.finish()
    }

    /// Each step that draws another place, and the step that looks at this place next.
    fn next_steps(&self, drawn: Vec<PathBuf>) -> Result<Vec<PathBuf>, PrepareError> {
        let mut next = self.files("next")?;
        let mut last = Vec::new();
        for (s, path) in drawn.iter().enumerate() {
            self.worker.interrupted()?;
            let first = s as u32 * self.stretch;
            last.clear();
            last.resize(self.stretch.min(self.n - first) as usize, NONE);
            each_pair(path, |i, j| match std::mem::replace(&mut last[(j - first) as usize], i) {
                NONE => Ok(()),
                before => self.push(&mut next, before, [before, i]),
            })?;
            for (&step, place) in last.iter().zip(first..) {
                if step != NONE {
                    self.push(&mut next, step, [step, place])?;
                }
            }
            partition::remove(std::slice::from_ref(path))?;
        }
        next.finish()
    }

    /// Each thing and its place.
    fn send(
        &self,
        mut numpy: RandomState,
        next: Vec<PathBuf>,
    ) -> Result<Vec<PathBuf>, PrepareError> {
        let mut places = self.files("places")?;
        // What stands at a step's own place, and what at the place that it draws.
        let mut sent = [self.files("own")?, self.files("other")?];
        let (mut own, mut other, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for (s, path) in next.iter().enumerate().rev() {
            self.worker.interrupted()?;
            let first = s as u32 * self.stretch;
            let steps = self.stretch.min(self.n - first);
            own.clear();
            own.extend(first..first + steps);
            other.clear();
            other.resize(steps as usize, NONE);
            after.clear();
            after.resize(steps as usize, NONE);
            each_pair(path, |step, next| {
                after[(step - first) as usize] = next;
                Ok(())
            })?;
            partition::remove(std::slice::from_ref(path))?;
            for (sent, to) in sent.iter_mut().zip([&mut own, &mut other]) {
                let path = sent.take(s)?;
                each_pair(&path, |step, thing| {
                    to[(step - first) as usize] = thing;
                    Ok(())
                })?;
                partition::remove(&[path])?;
            }
            for i in (first..first + steps).rev() {
                let (at, j) = (
                    (i - first) as usize,
                    if i == 0 { 0 } else { numpy.interval(i.into()) as u32 },
                );
                let mine = own[at];
                let stays = match other[at] {
                    _ if j == i => mine,
                    NONE => j,
                    thing => thing,
                };
                self.push(&mut places, stays, [stays, i])?;
                if j != i {
                    let then = after[at];
                    let (to, which) = if then == j { (&mut own, 0) } else { (&mut other, 1) };
                    match then.checked_sub(first) {
                        Some(then) => to[then as usize] = mine,
                        None => self.push(&mut sent[which], then, [then, mine])?,
                    }
                }
            }
        }
        places.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::prepare::{Recipe, testing::Workplace};
    use proptest::prelude::*;
    use std::fs;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_disk_shuffles_as_memory_does(n in 0u64..700, stretch in 1u32..900, seed: u32) {
            let place = Workplace::new(Recipe::MlperfV2, 64 << 20);
            let worker = place.worker();
            let mut plain: Vec<u32> = (0..n as u32).collect();
            let mut numpy = RandomState::new(seed);
            numpy.shuffle(&mut plain);
            let after = numpy.interval(1 << 30);

            let mut numpy = RandomState::new(seed);
            let mut in_memory = Permutation::shuffled(&worker, "a", n, &mut numpy, 4).unwrap();
            prop_assert_eq!(numpy.interval(1 << 30), after);
            let mut numpy = RandomState::new(seed);
            let drawn = numpy.clone();
            let stretches = n.div_ceil(stretch.into()) as usize;
            let shuffle = Shuffle { worker: &worker, name: "b", n: n as u32, stretch, stretches, buffer: 64 };
            let next = shuffle.next_steps(shuffle.draw(&mut numpy).unwrap()).unwrap();
            let files = shuffle.send(drawn, next).unwrap();
            let files = files.into_iter().enumerate().map(|(s, file)| (file, s as u64 * u64::from(stretch))).rev().collect();
            let mut on_disk = Permutation { now: Vec::new(), at: 0, files, end: 0, things: n };
            prop_assert_eq!(numpy.interval(1 << 30), after);
            for thing in 0..n as u32 {
                let place = in_memory.next().unwrap();
                prop_assert_eq!(plain[place as usize], thing);
                prop_assert_eq!(on_disk.next().unwrap(), place);
            }
            prop_assert!(in_memory.next().is_err() && on_disk.next().is_err());
            prop_assert_eq!(fs::read_dir(worker.work).unwrap().count(), 0);
        }
    }

    /// Through the front door, with a small share of memory and with too small a one.
    #[test]
    fn little_memory_is_enough_and_too_little_is_refused() {
        let place = Workplace::new(Recipe::MlperfV2, 64 << 20);
        let worker = place.worker();
        let shuffled =
            |share| Permutation::shuffled(&worker, "a", 100_000, &mut RandomState::new(5), share);
        let mut plain: Vec<u32> = (0..100_000).collect();
        RandomState::new(5).shuffle(&mut plain);
        let mut places = shuffled(96).unwrap();
        assert!(places.now.is_empty() && places.files.len() > 3);
        for thing in 0..100_000 {
            assert_eq!(plain[places.next().unwrap() as usize], thing);
        }
        let refused = shuffled(1400).err().unwrap().to_string();
        assert!(
            refused.starts_with("shuffling 100000 samples takes 357 MiB of memory; give more"),
            "{refused}"
        );
    }
}
