//! Samples made on a device and predictions judged there, beside the CPU's: integers and bits, so
//! they are the same or wrong.

use super::{Speed, Verdict, speed::measure};
use crate::{
    backend::{
        BackendError, Result,
        cuda::{
            driver::{Driver, Memory, bytes_of, bytes_of_mut},
            planted::{Places, Planted},
            scores::Scores,
        },
    },
    batch::{Batch, Span},
    data::{
        DataError,
        source::{config::PlantedConfig, planted},
    },
    metrics::{self, Counts, MetricsError},
};
use std::rc::Rc;

/// A batch as it lies on the device, in words: dense features, labels, first ids, ids, offsets.
pub(crate) type Parts = [Vec<u32>; 5];

/// Room on the device for a batch of a log, with `width` dense columns.
struct Room {
    memory: Vec<Memory>,
    places: Places,
}

impl Room {
    fn new(driver: &Rc<dyn Driver>, log: &Planted, n: usize, width: usize) -> Result<Self> {
        let offsets = if log.one_hot() { 0 } else { log.tables() * (n + 1) };
        let mut memory = Vec::with_capacity(5);
        for words in [n * width, n, log.tables() + 1, log.ids(n), offsets] {
            let piece = Memory::zeros(driver, words * size_of::<u32>(), "a test")?;
            // What nobody writes shows.
            driver.to_device(piece.at(), bytes_of(&vec![u32::MAX; words]))?;
            memory.push(piece);
        }
        let at = |k: usize| memory[k].at();
        let offsets = if log.one_hot() { 0 } else { at(4) };
        let places =
            Places { dense: at(0), width, labels: at(1), id_base: at(2), ids: at(3), offsets };
        Ok(Room { memory, places })
    }
}

/// A batch made on the device, with `width` dense columns.
///
/// # Errors
/// If the device fails.
pub(crate) fn made(
    driver: &Rc<dyn Driver>,
    log: &Planted,
    span: Span,
    width: usize,
) -> Result<Parts> {
    let room = Room::new(driver, log, span.len, width)?;
    log.make(&**driver, span, room.places)?;
    let mut parts = Parts::default();
    for (part, piece) in parts.iter_mut().zip(&room.memory) {
        part.resize(piece.bytes() / size_of::<u32>(), 0);
        driver.to_host(piece.at(), bytes_of_mut(part))?;
    }
    Ok(parts)
}

/// What a batch of the CPU's looks like there.
pub(crate) fn wanted(batch: &Batch, dense: usize, width: usize) -> Parts {
    let bits = |x: &f32| x.to_bits();
    let mut rows = Vec::with_capacity(batch.len * width);
    for b in 0..batch.len {
        rows.extend(batch.dense[b * dense..(b + 1) * dense].iter().map(bits));
        rows.resize((b + 1) * width, 0);
    }
    let mut base = vec![0u32];
    batch.bags.iter().for_each(|bags| base.push(base[base.len() - 1] + bags.indices.len() as u32));
    let one_hot = batch.bags.iter().all(|bags| bags.is_one_hot());
    let offsets =
        batch.bags.iter().filter(|_| !one_hot).flat_map(|bags| bags.offsets.iter().copied());
    let ids = batch.bags.iter().flat_map(|bags| bags.indices.iter().copied());
    [rows, batch.labels.iter().map(bits).collect(), base, ids.collect(), offsets.collect()]
}

/// Predictions judged on the device, in batches of `batch`.
///
/// # Errors
/// If the device fails.
pub(crate) fn counted(
    driver: &Rc<dyn Driver>,
    predictions: &[f32],
    labels: &[f32],
    batch: usize,
) -> Result<std::result::Result<Counts, MetricsError>> {
    let there = |values: &[f32]| -> Result<Memory> {
        let memory = Memory::zeros(driver, size_of_val(values), "a test")?;
        driver.to_device(memory.at(), bytes_of(values))?;
        Ok(memory)
    };
    let mut scores = Scores::new(driver, predictions.len())?;
    scores.clear()?;
    for (p, y) in predictions.chunks(batch).zip(labels.chunks(batch)) {
        let places = (there(p)?, there(y)?);
        scores.add(places.0.at(), places.1.at(), p.len())?;
        // Before the memory is given back.
        driver.synchronize()?;
    }
    scores.count()
}

/// One verdict for `n` samples of each preset.
///
/// # Errors
/// If the device fails.
pub(crate) fn samples(
    driver: &Rc<dyn Driver>,
    n: usize,
    tell: &mut dyn FnMut(Verdict),
) -> Result<()> {
    let (tables, hotness) = (vec![40_000_000, 3, 1, 70_000], vec![3, 1, 2, 4]);
    for config in [
        preset("criteo_kaggle"),
        preset("criteo_terabyte"),
        PlantedConfig { tables, hotness, ..preset("custom") },
    ] {
        tell(stretch(driver, &config, 1 << 33, n)?);
    }
    Ok(())
}

/// One verdict a preset, and one for the judging.
///
/// # Errors
/// If the device fails.
pub(super) fn check(driver: &Rc<dyn Driver>, tell: &mut dyn FnMut(Verdict)) -> Result<()> {
    samples(driver, 5000, tell)?;
    let n = 100_003;
    let labels: Vec<f32> =
        (0..n).map(|i| f32::from(u8::from(scattered(i + n).is_multiple_of(5)))).collect();
    for ties in [1u32 << 24, 10] {
        let predictions: Vec<f32> =
            (0..n).map(|i| (scattered(i) % ties) as f32 / ties as f32).collect();
        let run = || counted(driver, &predictions, &labels, 9999);
        let (got, again) = (run()?, run()?);
        let right = got == metrics::counts(&predictions, &labels);
        tell(verdict(
            "metrics of predictions",
            format!("{n} samples, {ties} different predictions at most"),
            right,
            got == again,
        ));
    }
    Ok(())
}

fn stretch(
    driver: &Rc<dyn Driver>,
    config: &PlantedConfig,
    start: u64,
    n: usize,
) -> Result<Verdict> {
    let mut train = planted::open(config).map_err(broken)?.train;
    let generated = train
        .generated_split()
        .ok_or_else(|| BackendError::Device("planted data cannot be made on a device".into()))?;
    let mut batch = Batch::with_capacity(train.schema(), n);
    train.fill(1, start, n, &mut batch).map_err(broken)?;
    let (dense, log) = (train.schema().dense, Planted::new(driver, &generated.log)?);
    let run = || made(driver, &log, generated.span(1, start, n), dense + 3);
    let (got, again) = (run()?, run()?);
    let right = got == wanted(&batch, dense, dense + 3);
    Ok(verdict(
        "planted samples",
        format!("{} from {start}: {config:?}", batch.len),
        right,
        got == again,
    ))
}

/// How fast samples of MLPerf's DLRM are made, and how fast 150 batches of predictions are kept and
/// judged.
///
/// # Errors
/// If the device fails, or has not enough memory.
pub(super) fn speeds(driver: &Rc<dyn Driver>, batch: usize, all: &mut Vec<Speed>) -> Result<()> {
    const BATCHES: usize = 150;
    let train = planted::open(&preset("criteo_terabyte")).map_err(broken)?.train;
    let Some(generated) = train.generated_split() else { return Ok(()) };
    let log = Planted::new(driver, &generated.log)?;
    let room = Room::new(driver, &log, batch, train.schema().dense)?;
    let seconds =
        measure(driver, || log.make(&**driver, generated.span(1, 0, batch), room.places))?;
    all.push(Speed {
        operation: "planted samples, terabyte".into(),
        seconds,
        work: batch as f64,
        unit: "samples",
    });
    let predictions: Vec<f32> = (0..batch).map(|i| scattered(i) as f32 / u32::MAX as f32).collect();
    let there = Memory::zeros(driver, batch * size_of::<f32>(), "a test")?;
    driver.to_device(there.at(), bytes_of(&predictions))?;
    let mut scores = Scores::new(driver, BATCHES * batch)?;
    let seconds = measure(driver, || {
        scores.clear()?;
        (0..BATCHES).try_for_each(|_| scores.add(there.at(), room.places.labels, batch))?;
        scores.count().map(|_| ())
    })?;
    let work = (BATCHES * batch) as f64;
    all.push(Speed {
        operation: format!("metrics of {BATCHES} batches"),
        seconds,
        work,
        unit: "samples",
    });
    Ok(())
}

/// Scatters numbers over all of 32 bits.
fn scattered(i: usize) -> u32 {
    (i as u32).wrapping_mul(0x9E37_79B9)
}

fn broken(e: DataError) -> BackendError {
    BackendError::Device(e.to_string())
}

fn preset(preset: &str) -> PlantedConfig {
    PlantedConfig {
        train_samples: 1 << 33,
        eval_samples: 10_000,
        seed: 1 << 40,
        ..PlantedConfig::of(preset)
    }
}

fn verdict(operation: &'static str, case: String, right: bool, repeatable: bool) -> Verdict {
    Verdict {
        operation,
        case,
        difference: if right { 0.0 } else { f32::INFINITY },
        tolerance: 0.0,
        repeatable,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::backend::cuda::testing::devices;

    #[test]
    fn data_and_metrics_are_those_of_the_cpu() {
        for driver in devices() {
            let mut verdicts = 0;
            check(&driver, &mut |v| {
                assert!(v.passes(), "{v:?}");
                verdicts += 1;
            })
            .unwrap();
            assert_eq!(verdicts, 5);
            let mut all = Vec::new();
            speeds(&driver, 8, &mut all).unwrap();
            assert!(all.len() == 2 && all.iter().all(|s| s.seconds > 0.0 && s.work >= 8.0));
        }
    }
}
