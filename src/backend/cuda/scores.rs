//! The predictions of an evaluation, kept on the device, and what they are worth: nothing but
//! eleven numbers travels.

use super::{
    driver::{Address, Driver, Launch, Memory, Source, bytes_of, bytes_of_mut},
    launch::launch,
    radix::{self, Sort, tiles},
};
use crate::{
    backend::Result,
    metrics::{Confusion, Counts, MetricsError, binned},
};
use std::rc::Rc;

pub(super) static SOURCE: Source = Source {
    name: "scores",
    parts: &[
        include_str!("common/common.cuh"),
        include_str!("common/exact.cuh"),
        include_str!("common/radix.cuh"),
        include_str!("scores.cu"),
    ],
};

/// Bits of a key: a prediction in [0, 1], whose sign and top bit are 0, above the label.
const BITS: u32 = 31;
/// Sums over samples, and over sorted predictions (`POINTS` and `RANKS` in scores.cu).
const POINTS: u32 = 5;
const RANKS: u32 = 3;
/// Predictions at most: their numbers and the sums of products of them stay within their words.
const MOST: u64 = 1 << 30;
/// What is read back: both, two faults, and the area by thresholds.
const RESULTS: usize = 11;

/// Predictions with their labels.
#[derive(Debug)]
pub struct Scores {
    driver: Rc<dyn Driver>,
    /// Two places for keys.
    keys: [Memory; 2],
    counters: Memory,
    /// Sums of blocks.
    partial: Memory,
    /// `[sums over samples | sums over ranks | faults | area by thresholds]`, 64 bits each.
    results: Memory,
    /// How many there are, for the sort.
    count: Memory,
    /// Predictions that there is room for, and that there are.
    room: usize,
    len: usize,
}

/// Bytes of the device's memory that the predictions of `samples` samples take.
pub fn scores_bytes(samples: u64) -> u64 {
    let n = samples.min(MOST) as usize;
    (2 * size_of::<u32>() * n + size_of::<u32>() * radix::counters(n) + partial(n)) as u64
}

fn partial(samples: usize) -> usize {
    let points = Launch::sums(samples.div_ceil(32)).grid[0] as usize * POINTS as usize;
    let thresholds = Launch::all(binned::THRESHOLDS - 1).grid[0] as usize;
    points.max(tiles(samples) * RANKS as usize).max(thresholds) * size_of::<u64>()
}

impl Scores {
    /// Room for so many predictions.
    pub(super) fn new(driver: &Rc<dyn Driver>, room: usize) -> Result<Self> {
        let zeros = |bytes: usize| Memory::zeros(driver, bytes, "the predictions of an evaluation");
        let word = size_of::<u32>();
        Ok(Scores {
            keys: [zeros(room * word)?, zeros(room * word)?],
            counters: zeros(radix::counters(room) * word)?,
            partial: zeros(partial(room))?,
            results: zeros(RESULTS * size_of::<u64>())?,
            count: zeros(word)?,
            driver: Rc::clone(driver),
            room,
            len: 0,
        })
    }

    /// Makes room for so many predictions in `scores`, and forgets all that were there; `false` if
    /// they are too many.
    pub(super) fn begin(
        driver: &Rc<dyn Driver>,
        scores: &mut Option<Scores>,
        samples: u64,
    ) -> Result<bool> {
        if samples > MOST {
            return Ok(false);
        }
        let samples = samples as usize;
        if scores.as_ref().is_none_or(|s| s.room < samples) {
            // First the old ones go: there may not be room for both.
            *scores = None;
            *scores = Some(Scores::new(driver, samples)?);
        }
        scores.as_mut().map_or(Ok(()), Scores::clear).map(|()| true)
    }

    /// Forgets all predictions.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.len = 0;
        self.driver.zero(self.results.at(), self.results.bytes())
    }

    /// Adds `n` predictions with their labels.
    ///
    /// # Panics
    /// If there is no room for them.
    pub(super) fn add(&mut self, predictions: Address, labels: Address, n: usize) -> Result<()> {
        assert!(
            self.len + n <= self.room,
            "{} predictions; there is room for {}",
            self.len + n,
            self.room
        );
        let (keys, faults) = (self.keys[0].at(), self.result(POINTS + RANKS));
        let at = self.len as u32;
        self.len += n;
        launch!(
            self.driver,
            SOURCE,
            "score_batch",
            Launch::all(n),
            predictions,
            labels,
            n as u32,
            at,
            keys,
            faults
        )
    }

    /// What all predictions are worth. They are gone after this.
    ///
    /// # Errors
    /// Of the device; within, what is wrong with the predictions or labels.
    pub(super) fn count(&mut self) -> Result<std::result::Result<Counts, MetricsError>> {
        let (n, driver) = (self.len as u32, &*self.driver);
        if n == 0 {
            return Ok(Err(MetricsError::Empty));
        }
        let (keys, partial, counters) = (self.keys[0].at(), self.partial.at(), self.counters.at());
        let points = Launch::sums(self.len.div_ceil(32));
        launch!(driver, SOURCE, "score_points", points, keys, n, partial)?;
        launch!(
            driver,
            SOURCE,
            "score_join",
            Launch::one(),
            partial,
            points.grid[0],
            POINTS,
            self.result(0)
        )?;
        driver.to_device(self.count.at(), bytes_of(&[n]))?;
        let sort = Sort {
            source: &SOURCE,
            count: self.count.at(),
            most: self.len,
            bits: BITS,
            counters,
            pairs: [(keys, 0), (self.keys[1].at(), 0)],
        };
        sort.run(driver)?;
        let sorted = self.keys[radix::turn(BITS)].at();
        let tiled = Launch { grid: [tiles(self.len) as u32, 1, 1], ..Launch::all(1) };
        launch!(driver, SOURCE, "score_tiles", tiled, sorted, n, counters)?;
        launch!(driver, SOURCE, "radix_scan", Launch::one(), counters, tiled.grid[0])?;
        launch!(
            driver,
            SOURCE,
            "score_ranks",
            tiled,
            sorted,
            n,
            counters,
            self.result(0),
            partial
        )?;
        launch!(
            driver,
            SOURCE,
            "score_join",
            Launch::one(),
            partial,
            tiled.grid[0],
            RANKS,
            self.result(POINTS)
        )?;
        let each = Launch::all(binned::THRESHOLDS - 1);
        let (p, area) = (self.result(0), self.result(POINTS + RANKS + 2));
        launch!(driver, SOURCE, "score_thresholds", each, sorted, n, counters, p, partial)?;
        let (parts, one) = (each.grid[0], Launch::one());
        launch!(driver, SOURCE, "score_join", one, partial, parts, 1u32, area)?;
        let mut results = [0u64; RESULTS];
        driver.to_host(self.results.at(), bytes_of_mut(&mut results))?;
        self.len = 0;
        Ok(judge(u64::from(n), &results))
    }

    fn result(&self, k: u32) -> Address {
        self.results.at() + u64::from(k) * size_of::<u64>() as u64
    }
}

fn judge(samples: u64, results: &[u64; RESULTS]) -> std::result::Result<Counts, MetricsError> {
    let &[
        positives,
        predicted,
        both,
        loss_high,
        loss_low,
        area,
        precision_high,
        precision_low,
        prediction,
        label,
        binned_area,
    ] = results;
    // The position's complement above the value's bits; 0 where there is no fault.
    let fault = |word: u64| {
        (word != 0).then(|| (!((word >> 32) as u32) as usize, f32::from_bits(word as u32)))
    };
    if let Some((position, value)) = fault(prediction) {
        return Err(MetricsError::prediction(position, value));
    }
    if let Some((position, value)) = fault(label) {
        return Err(MetricsError::NotBinary { position, value });
    }
    let wide = |high: u64, low: u64| (u128::from(high) << 32) + u128::from(low);
    Ok(Counts {
        confusion: Confusion::new(samples, positives, predicted, both),
        loss: wide(loss_high, loss_low),
        doubled_area: area.into(),
        precision: wide(precision_high, precision_low),
        binned_area: binned_area.into(),
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
