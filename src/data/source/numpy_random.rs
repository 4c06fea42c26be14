//! facebook's random data, bit for bit (facebookresearch/dlrm, dlrm_data_pytorch.py:
//! `RandomDataset`, `generate_dist_input_batch`, `generate_random_output_batch`).
//!
//! A mini-batch of `n` samples is drawn as a whole: dense features `[n, D]`; then, table by table
//! and sample by sample, the bag's size and its ids; then the `n` targets. So the samples depend on
//! the batch size. Surprises of the original that are kept, since they are what the generator *is*:
//! - `round(u * (rows - 1))` gives the first and the last row half the probability of the others;
//! - duplicates are removed, so a bag may hold fewer ids than asked for (but a Gaussian's
//!   duplicates are removed before truncation to integers, so that equal ids can remain);
//! - a trace (`--data-generation=synthetic`) begins anew with every bag ([`TraceRestart::Bag`]),
//!   and ids beyond the table are taken modulo its rows after duplicates have been removed, so that
//!   equal ids can remain;
//! - the generator goes back to the seed at the first batch: every epoch and the test set hold the
//!   same data. (In the original one generator serves both loaders, so a test in mid-epoch changes
//!   the rest of that epoch; here it does not.)

use super::super::{
    DataError, Dataset, Facts, Source,
    locality::{AccessPattern, LruTrace},
};
use crate::{
    batch::{Batch, Column, Schema},
    data::source::config::{NumpyRandomConfig, RandomIds, TraceRestart},
    random::numpy::RandomState,
};
use std::{path::PathBuf, sync::Arc};

/// In which order facebook's program draws its random data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrawOrder {
    /// All training data before the model's parameters (`--debug-mode`).
    pub data_first: bool,
    /// The targets of all batches after the inputs of all (the README transcript's generator).
    pub targets_last: bool,
}

/// Opens the data set; evaluation sees the training data. `batch_size` is the training batch: the
/// unit of drawing.
///
/// [`Dataset::numpy`] is the generator as the model's initialiser finds it: at the seed, or, with
/// an [`DrawOrder`] other than the usual one, after all data has been drawn once.
///
/// # Errors
/// If a size is 0, a Gaussian's range does not lie within every table, or the file of a trace
/// cannot be read or is malformed.
pub fn open(
    config: &NumpyRandomConfig,
    order: DrawOrder,
    batch_size: usize,
) -> Result<Dataset, DataError> {
    check(config, batch_size)?;
    let DrawOrder { data_first, targets_last } = order;
    let traces = traces(config)?;
    let notes = beyond(config, &traces);
    let mut generator = Generator::new(config.clone(), traces, batch_size, targets_last);
    if targets_last || data_first {
        for number in 0..generator.batches() {
            generator.draw(number);
        }
    }
    let mut numpy = generator.state.clone();
    if targets_last {
        let round = config.round_targets;
        generator.targets = Some((0..config.samples).map(|_| target(&mut numpy, round)).collect());
    }
    generator.reset();
    let schema = schema(config);
    let source = || Box::new(NumpyRandom { schema: schema.clone(), generator: generator.clone() });
    Ok(Dataset {
        train: source(),
        eval: source(),
        test: None,
        facts: Facts { notes, ..Facts::default() },
        numpy: Some(numpy),
    })
}

/// The columns, before anything is drawn.
pub fn schema(config: &NumpyRandomConfig) -> Schema {
    let hotness = |rows: usize| match (&config.distribution, config.fixed_indices) {
        // As many as are asked for, equal ones included.
        (RandomIds::Gaussian { .. } | RandomIds::Trace { .. }, true) => config.indices_per_lookup,
        _ => config.indices_per_lookup.min(rows),
    };
    let column = |(k, &rows): (usize, &usize)| Column {
        name: format!("{k}"),
        rows,
        max_hotness: hotness(rows).max(1),
    };
    Schema { dense: config.dense, tables: config.tables.iter().enumerate().map(column).collect() }
}

fn check(config: &NumpyRandomConfig, batch_size: usize) -> Result<(), DataError> {
    let invalid = |what: String| Err(DataError::Invalid(format!("random data: {what}")));
    if batch_size == 0 || config.samples == 0 || config.indices_per_lookup == 0 {
        return invalid("samples, indices_per_lookup and the batch size must be at least 1".into());
    }
    for (k, &rows) in config.tables.iter().enumerate() {
        if rows == 0 || rows > u32::MAX as usize {
            return invalid(format!("table {k} has {rows} rows; 1 to {} are possible", u32::MAX));
        }
        if let RandomIds::Gaussian { min, max, .. } = config.distribution
            && !(0.0 <= min && min <= max && max <= (rows - 1) as f64)
        {
            return invalid(format!(
                "ids between {min} and {max} do not fit table {k}; its rows are 0 to {}",
                rows - 1
            ));
        }
    }
    if let RandomIds::Gaussian { sigma, mu, .. } = config.distribution
        && !(sigma >= 0.0 && mu.is_none_or(f64::is_finite))
    {
        return invalid(format!("sigma = {sigma} must not be negative, and mu must be finite"));
    }
    Ok(())
}

/// The stream of each table; none if ids are not drawn from traces.
fn traces(config: &NumpyRandomConfig) -> Result<Vec<LruTrace>, DataError> {
    let RandomIds::Trace { files, padding, .. } = &config.distribution else {
        return Ok(Vec::new());
    };
    let read = |path: &PathBuf| Ok(LruTrace::new(Arc::new(AccessPattern::read(path)?), *padding));
    let mut traces = files.iter().map(read).collect::<Result<Vec<_>, DataError>>()?;
    if let [all] = &traces[..] {
        traces = vec![all.clone(); config.tables.len()];
    }
    Ok(traces)
}

/// Which tables a trace's ids do not fit.
fn beyond(config: &NumpyRandomConfig, traces: &[LruTrace]) -> Vec<String> {
    let note = |(k, (trace, &rows)): (usize, (&LruTrace, &usize))| {
        let largest =
            trace.pattern().ids.iter().copied().max().filter(|&id| id as usize >= rows)?;
        Some(format!(
            "table {k}: the trace holds ids up to {largest}; all are taken modulo the table's {rows} rows"
        ))
    };
    traces.iter().zip(&config.tables).enumerate().filter_map(note).collect()
}

/// One split: copies samples out of the batches that the generator draws.
struct NumpyRandom {
    schema: Schema,
    generator: Generator,
}

impl Source for NumpyRandom {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn len(&self) -> Option<u64> {
        Some(self.generator.config.samples)
    }

    fn fill(
        &mut self,
        _epoch: u64,
        start: u64,
        n: usize,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        batch.clear();
        batch.len = n;
        let unit = self.generator.batch_size as u64;
        for i in start..start + n as u64 {
            self.generator.seek(i / unit);
            let (from, s) = (&self.generator.batch, (i % unit) as usize);
            batch
                .dense
                .extend_from_slice(&from.dense[s * self.schema.dense..][..self.schema.dense]);
            for (to, from) in batch.bags.iter_mut().zip(&from.bags) {
                to.push(from.bag(s).iter().copied());
            }
            batch.labels.push(from.labels[s]);
        }
        Ok(())
    }
}

/// The generator and the batch it has drawn last.
#[derive(Clone)]
struct Generator {
    config: NumpyRandomConfig,
    batch_size: usize,
    state: RandomState,
    /// Targets of all samples, where they are drawn after all inputs.
    targets: Option<Arc<[f32]>>,
    /// Whether [`Generator::draw`] leaves targets out.
    targets_last: bool,
    /// Number of the batch to draw next.
    next: u64,
    batch: Batch,
    /// Values of one bag before duplicates are removed.
    draws: Vec<f64>,
    /// Where the ids of each table come from, with [`RandomIds::Trace`].
    traces: Vec<LruTrace>,
}

impl Generator {
    fn new(
        config: NumpyRandomConfig,
        traces: Vec<LruTrace>,
        batch_size: usize,
        targets_last: bool,
    ) -> Self {
        let batch = Batch::with_capacity(&schema(&config), batch_size);
        let (state, draws) =
            (RandomState::new(config.seed), Vec::with_capacity(config.indices_per_lookup));
        Generator {
            config,
            batch_size,
            state,
            targets: None,
            targets_last,
            next: 0,
            batch,
            draws,
            traces,
        }
    }

    fn batches(&self) -> u64 {
        self.config.samples.div_ceil(self.batch_size as u64)
    }

    fn reset(&mut self) {
        self.state = RandomState::new(self.config.seed);
        self.next = 0;
        self.traces.iter_mut().for_each(LruTrace::restart);
    }

    /// Makes `self.batch` batch `number`.
    fn seek(&mut self, number: u64) {
        if number + 1 < self.next {
            self.reset();
        }
        while self.next <= number {
            self.draw(self.next);
            self.next += 1;
        }
    }

    /// Draws the next numbers of the stream as batch `number`.
    fn draw(&mut self, number: u64) {
        let start = number * self.batch_size as u64;
        let n = (self.config.samples - start).min(self.batch_size as u64) as usize;
        let (b, state) = (&mut self.batch, &mut self.state);
        b.clear();
        b.len = n;
        b.dense.extend((0..n * self.config.dense).map(|_| state.random_sample() as f32));
        let restart =
            matches!(self.config.distribution, RandomIds::Trace { restart: TraceRestart::Bag, .. });
        for (k, (bags, &rows)) in b.bags.iter_mut().zip(&self.config.tables).enumerate() {
            for _ in 0..n {
                let size = bag_size(&self.config, rows, state);
                self.draws.clear();
                match self.traces.get_mut(k) {
                    Some(trace) => {
                        if restart {
                            trace.restart();
                        }
                        self.draws.extend(
                            (0..size).map(|_| f64::from(trace.next(state.random_sample()))),
                        );
                    }
                    None => self
                        .draws
                        .extend((0..size).map(|_| draw(&self.config.distribution, rows, state))),
                }
                bags.push(distinct(&mut self.draws, rows));
            }
        }
        match &self.targets {
            Some(all) => b.labels.extend_from_slice(&all[start as usize..start as usize + n]),
            None if self.targets_last => {}
            None => b.labels.extend((0..n).map(|_| target(state, self.config.round_targets))),
        }
    }
}

/// How many ids to draw for one sample of a table.
fn bag_size(config: &NumpyRandomConfig, rows: usize, state: &mut RandomState) -> usize {
    let k = config.indices_per_lookup;
    if config.fixed_indices {
        k
    } else {
        (state.random_sample() * k.min(rows) as f64).max(1.0).round_ties_even() as usize
    }
}

/// Draws an id for a table of `rows`, not yet truncated to an integer.
fn draw(distribution: &RandomIds, rows: usize, state: &mut RandomState) -> f64 {
    match *distribution {
        RandomIds::Gaussian { mu, sigma, min, max } => {
            state.normal(mu.unwrap_or((max + min) / 2.0), sigma).clamp(min, max)
        }
        // Traces have a stream of their own.
        RandomIds::Uniform | RandomIds::Trace { .. } => {
            (state.random_sample() * (rows - 1) as f64).round_ties_even()
        }
    }
}

/// What was drawn for a bag as ids below `rows`: sorted, duplicates removed.
fn distinct(draws: &mut Vec<f64>, rows: usize) -> impl Iterator<Item = u32> {
    draws.sort_unstable_by(f64::total_cmp);
    draws.dedup();
    draws.iter().map(move |&x| (x as u64 % rows as u64) as u32)
}

/// One target; rounded to 0 or 1 (halves to even, as numpy rounds) after narrowing to f32.
fn target(state: &mut RandomState, round: bool) -> f32 {
    let t = state.random_sample() as f32;
    if round { t.round_ties_even() } else { t }
}

#[cfg(test)]
mod tests;
