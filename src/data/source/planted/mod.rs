//! Planted data: an endless, seekable click log with a known truth, so that training to a target
//! needs no download.
//!
//! Sample `i` is a pure function of (seed, split, i), the same bits on every platform; any thread,
//! rank or resumed run makes its own part at any position. Training goes on through the log from
//! epoch to epoch; `train_samples` only gives the unit. The evaluation split is another stream of
//! the same log.
//!
//! - Ids: Zipf ranks (`zipf.rs`), scattered over the table by a keyed bijection (`scatter.rs`). In
//!   a column with missing values id 0 stands for "missing" and the others share `1..rows`; in the
//!   others id 0 is an id like any other. A column of hotness `h` holds `h` independent draws,
//!   duplicates allowed.
//!   With `data.ids = "keys"` an id is delivered as a number of 64 bits (`keys.rs`).
//! - Dense: heavy-tailed integer counts `x`, 0 where missing, delivered as `ln(x + 1)`.
//! - Labels: a coin with the probability that `truth.rs` gives. Columns are independent of each
//!   other.
//! - The truth being known, the best AUC that any model can reach on the evaluation split is that
//!   of the true probabilities; it goes into [`Facts::best_auc`].

mod generate;
mod keys;
mod numbers;
mod presets;
mod scatter;
mod truth;
mod zipf;

#[cfg(test)]
mod tests;

use super::super::{DataError, Dataset, Facts, Source};
use crate::{
    batch::{Batch, Column, GeneratedLog, GeneratedSplit, Schema},
    data::source::config::{IdKind, PlantedConfig},
    metrics,
};
use generate::{Block, Log, Split};

use keys::Keyed;
use presets::Spec;
pub use presets::{CRITEO_1TB_ROWS, MAX_DENSE, MAX_HOTNESS, MAX_ROWS, POSITIVE_RATES};
use std::sync::Arc;

/// Samples made together: small enough for the first-level cache, a multiple of every vector
/// length.
const BLOCK: usize = 64;
/// Samples that fix gain and bias. The positive rate is met within sqrt(p (1 - p) / 65536), 0.17%
/// at worst.
const CALIBRATION: usize = 1 << 16;

/// Opens planted data: resolves the columns, fixes the truth's bias so that the positive rate is
/// met, and measures what the truth itself reaches on the evaluation split. Takes a fraction of a
/// second.
///
/// # Errors
/// [`DataError::Invalid`] naming the key of `[data]` that is wrong and what it may be.
pub fn open(config: &PlantedConfig) -> Result<Dataset, DataError> {
    let spec = Spec::new(config)?;
    let schema = columns(&spec);
    let mut log = Log::new(&spec, config.seed);
    let raw = in_parallel(&log, Split::Calibration, CALIBRATION, |block, l| block.raw_logits[l]);
    log.truth.calibrate(&spec, &raw);
    let eval_len =
        usize::try_from(config.eval_samples).ok().filter(|&n| n <= 1 << 30).ok_or_else(|| {
            DataError::Invalid(format!(
                "data.eval_samples = {} must be at most {}",
                config.eval_samples,
                1 << 30
            ))
        })?;
    let facts = facts(config, &log, eval_len)?;
    let (numbers, log) = (Arc::new(log.numbers()), Arc::new(log));
    let split = |split, len| {
        let (log, numbers) = (Arc::clone(&log), Arc::clone(&numbers));
        let source = PlantedSource::new(log, numbers, split, schema.clone(), len);
        match config.ids {
            IdKind::Rows => Box::new(source) as Box<dyn Source>,
            IdKind::Keys => Box::new(Keyed::new(source)),
        }
    };
    Ok(Dataset {
        train: split(Split::Train, config.train_samples),
        eval: split(Split::Eval, config.eval_samples),
        test: None,
        facts,
        numpy: None,
    })
}

/// The columns, before anything is drawn.
///
/// # Errors
/// As [`open`].
pub fn schema(config: &PlantedConfig) -> Result<Schema, DataError> {
    Ok(columns(&Spec::new(config)?))
}

/// By what law the ids of a column are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Law {
    /// Ids a sample.
    pub hotness: usize,
    /// Share of ids that are one and the same, which stands for a missing value.
    pub missing: f64,
    /// The others, of which the `k`-th most popular is drawn with a chance of `k^-exponent`.
    pub values: u64,
    /// The exponent.
    pub exponent: f64,
}

/// The laws of all categorical columns.
///
/// # Errors
/// As [`open`].
pub fn laws(config: &PlantedConfig) -> Result<Vec<Law>, DataError> {
    let law = |t: &presets::Table| Law {
        hotness: t.hotness,
        missing: t.missing,
        values: u64::from(t.rows) - u64::from(t.missing > 0.0),
        exponent: t.exponent,
    };
    Ok(Spec::new(config)?.tables.iter().map(law).collect())
}

fn columns(spec: &Spec) -> Schema {
    Schema {
        dense: spec.dense.len(),
        tables: spec
            .tables
            .iter()
            .enumerate()
            .map(|(t, table)| Column {
                name: format!("C{}", t + 1),
                rows: table.rows as usize,
                max_hotness: table.hotness,
            })
            .collect(),
    }
}

/// What the truth reaches on the evaluation split.
fn facts(config: &PlantedConfig, log: &Log, eval_len: usize) -> Result<Facts, DataError> {
    let judged = in_parallel(log, Split::Eval, eval_len, |block, l| {
        (block.probabilities[l] as f32, block.labels[l])
    });
    let (probabilities, labels): (Vec<f32>, Vec<f32>) = judged.into_iter().unzip();
    let best = metrics::quality(&probabilities, &labels).map_err(|e| {
        DataError::Invalid(format!(
            "data.eval_samples = {eval_len}: the true probabilities cannot be judged: {e}; take more samples"
        ))
    })?;
    Ok(Facts {
        best_auc: Some(best.auc),
        base_rate: Some(best.base_rate),
        notes: vec![format!(
            "planted data, preset {}, seed {}: the truth's log loss on the evaluation split is {:.6}",
            config.preset, config.seed, best.logloss
        )],
        ..Facts::default()
    })
}

/// `pick(block, lane)` for samples `0..n` of a split, in order, whatever the number of threads.
fn in_parallel<T: Copy + Send>(
    log: &Log,
    split: Split,
    n: usize,
    pick: impl Fn(&Block, usize) -> T + Sync,
) -> Vec<T> {
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(n.div_ceil(BLOCK)).max(1);
    let share = n.div_ceil(threads).next_multiple_of(BLOCK);
    let part = |start: usize| {
        let end = (start + share).min(n);
        let mut out = Vec::with_capacity(end.saturating_sub(start));
        let mut block = log.new_block();
        for first in (start..end).step_by(BLOCK) {
            log.fill(split, first as u64, &mut block);
            out.extend((0..BLOCK.min(end - first)).map(|l| pick(&block, l)));
        }
        out
    };
    let part = &part;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|w| scope.spawn(move || part(w * share))).collect();
        let mut all = part(0);
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    })
}

/// One split of a planted log.
struct PlantedSource {
    log: Arc<Log>,
    numbers: Arc<GeneratedLog>,
    split: Split,
    schema: Schema,
    len: u64,
    block: Block,
}

impl PlantedSource {
    fn new(
        log: Arc<Log>,
        numbers: Arc<GeneratedLog>,
        split: Split,
        schema: Schema,
        len: u64,
    ) -> Self {
        let block = log.new_block();
        PlantedSource { log, numbers, split, schema, len, block }
    }

    /// Training goes on through the log; the other splits are the same in every epoch.
    fn epoch(&self) -> u64 {
        if self.split == Split::Train { self.len } else { 0 }
    }
}

impl Source for PlantedSource {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    fn fill(
        &mut self,
        epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        let first = epoch.wrapping_mul(self.epoch()).wrapping_add(start);
        for done in (0..n).step_by(BLOCK) {
            self.log.fill(self.split, first.wrapping_add(done as u64), &mut self.block);
            append(&self.block, BLOCK.min(n - done), batch);
        }
        Ok(())
    }

    fn generated_split(&self) -> Option<GeneratedSplit> {
        Some(GeneratedSplit {
            log: Arc::clone(&self.numbers),
            split: self.split as u32,
            epoch: self.epoch(),
        })
    }
}

/// Appends the first `n` samples of a block.
fn append(block: &Block, n: usize, batch: &mut Batch) {
    batch.len += n;
    batch.labels.extend_from_slice(&block.labels[..n]);
    for l in 0..n {
        batch.dense.extend(block.dense.iter().map(|column| column[l]));
    }
    for (bags, slots) in batch.bags.iter_mut().zip(&block.ids) {
        let end = bags.indices.len() as u32;
        let hotness = slots.len() as u32;
        if let [only] = slots.as_slice() {
            bags.indices.extend_from_slice(&only[..n]);
        } else {
            for l in 0..n {
                bags.indices.extend(slots.iter().map(|slot| slot[l]));
            }
        }
        bags.offsets.extend((1..=n as u32).map(|i| end + i * hotness));
    }
}
