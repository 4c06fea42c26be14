//! facebook's random data, bit for bit (facebookresearch/dlrm, dlrm_data_pytorch.py: `RandomDataset`,
//! `generate_dist_input_batch`, `generate_random_output_batch`).
//!
//! A mini-batch of `n` samples is drawn as a whole: dense features `[n, D]`; then, table by table and sample by sample, the bag's size
//! and its ids; then the `n` targets. So the samples depend on the batch size. Surprises of the original that are kept, since they
//! are what the generator *is*:
//! - `round(u * (rows - 1))` gives the first and the last row half the probability of the others;
//! - duplicates are removed, so a bag may hold fewer ids than asked for (but a Gaussian's duplicates are removed before
//!   truncation to integers, so that equal ids can remain);
//! - a trace (`--data-generation=synthetic`) begins anew with every bag ([`TraceRestart::Bag`]), and ids beyond the table are taken
//!   modulo its rows after duplicates have been removed, so that equal ids can remain;
//! - the generator goes back to the seed at the first batch: every epoch and the test set hold the same data. (In the original one
//!   generator serves both loaders, so a test in mid-epoch changes the rest of that epoch; here it does not.)

use super::super::{
    Batch, Column, DataError, Dataset, Facts, Schema, Source,
    locality::{AccessPattern, LruTrace},
};
use crate::{
    random::numpy::RandomState,
    workload::{NumpyRandomConfig, Quirk, RandomIds, TraceRestart},
};
use std::{path::PathBuf, sync::Arc};

/// Opens the data set; evaluation sees the training data. `batch_size` is the training batch: the unit of drawing.
///
/// [`Dataset::numpy`] is the generator as the model's initialiser finds it: at the seed, or, with
/// [`Quirk::FbDebugDataFirst`] or [`Quirk::FbTargetsLast`], after all data has been drawn once.
///
/// # Errors
/// If a size is 0, a Gaussian's range does not lie within every table, or the file of a trace cannot be read or is malformed.
pub fn open(config: &NumpyRandomConfig, quirks: &[Quirk], batch_size: usize) -> Result<Dataset, DataError> {
    check(config, batch_size)?;
    let targets_last = quirks.contains(&Quirk::FbTargetsLast);
    let traces = traces(config)?;
    let notes = beyond(config, &traces);
    let mut generator = Generator::new(config.clone(), traces, batch_size, targets_last);
    if targets_last || quirks.contains(&Quirk::FbDebugDataFirst) {
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
    Ok(Dataset { train: source(), eval: source(), test: None, facts: Facts { notes, ..Facts::default() }, numpy: Some(numpy) })
}

/// The columns, before anything is drawn.
pub fn schema(config: &NumpyRandomConfig) -> Schema {
    let hotness = |rows: usize| match (&config.distribution, config.fixed_indices) {
        // As many as are asked for, equal ones included.
        (RandomIds::Gaussian { .. } | RandomIds::Trace { .. }, true) => config.indices_per_lookup,
        _ => config.indices_per_lookup.min(rows),
    };
    let column = |(k, &rows): (usize, &usize)| Column { name: format!("{k}"), rows, max_hotness: hotness(rows).max(1) };
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
            return invalid(format!("ids between {min} and {max} do not fit table {k}; its rows are 0 to {}", rows - 1));
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
    let RandomIds::Trace { files, padding, .. } = &config.distribution else { return Ok(Vec::new()) };
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
        let largest = trace.pattern().ids.iter().copied().max().filter(|&id| id as usize >= rows)?;
        Some(format!("table {k}: the trace holds ids up to {largest}; all are taken modulo the table's {rows} rows"))
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

    fn fill(&mut self, _epoch: u64, start: u64, n: usize, batch: &mut Batch) -> Result<(), DataError> {
        batch.clear();
        batch.len = n;
        let unit = self.generator.batch_size as u64;
        for i in start..start + n as u64 {
            self.generator.seek(i / unit);
            let (from, s) = (&self.generator.batch, (i % unit) as usize);
            batch.dense.extend_from_slice(&from.dense[s * self.schema.dense..][..self.schema.dense]);
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
    fn new(config: NumpyRandomConfig, traces: Vec<LruTrace>, batch_size: usize, targets_last: bool) -> Self {
        let batch = Batch::with_capacity(&schema(&config), batch_size);
        let (state, draws) = (RandomState::new(config.seed), Vec::with_capacity(config.indices_per_lookup));
        Generator { config, batch_size, state, targets: None, targets_last, next: 0, batch, draws, traces }
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
        let restart = matches!(self.config.distribution, RandomIds::Trace { restart: TraceRestart::Bag, .. });
        for (k, (bags, &rows)) in b.bags.iter_mut().zip(&self.config.tables).enumerate() {
            for _ in 0..n {
                let size = bag_size(&self.config, rows, state);
                self.draws.clear();
                match self.traces.get_mut(k) {
                    Some(trace) => {
                        if restart {
                            trace.restart();
                        }
                        self.draws.extend((0..size).map(|_| f64::from(trace.next(state.random_sample()))));
                    }
                    None => self.draws.extend((0..size).map(|_| draw(&self.config.distribution, rows, state))),
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
    if config.fixed_indices { k } else { (state.random_sample() * k.min(rows) as f64).max(1.0).round_ties_even() as usize }
}

/// Draws an id for a table of `rows`, not yet truncated to an integer.
fn draw(distribution: &RandomIds, rows: usize, state: &mut RandomState) -> f64 {
    match *distribution {
        RandomIds::Gaussian { mu, sigma, min, max } => state.normal(mu.unwrap_or((max + min) / 2.0), sigma).clamp(min, max),
        // Traces have a stream of their own.
        RandomIds::Uniform | RandomIds::Trace { .. } => (state.random_sample() * (rows - 1) as f64).round_ties_even(),
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(tables: &[usize], dense: usize, samples: u64, k: usize) -> NumpyRandomConfig {
        NumpyRandomConfig {
            tables: tables.to_vec(),
            dense,
            samples,
            indices_per_lookup: k,
            fixed_indices: false,
            distribution: RandomIds::Uniform,
            round_targets: false,
            seed: 5,
        }
    }

    /// Bags drawn from a file, as `generate_synthetic_input_batch` draws them: the file is read anew for each.
    #[test]
    fn traces_are_drawn_as_facebook_draws_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dist_emb_0.log");
        let pattern = AccessPattern::new(vec![4, 9, 1, 7, 3], vec![0, 1, 2, 5], vec![0.3, 0.6, 0.7, 1.0]).unwrap();
        std::fs::write(&file, pattern.to_text()).unwrap();
        let trace = |restart| RandomIds::Trace { files: vec![file.clone()], padding: true, restart };
        // The second table is too small for the trace's ids.
        let faithful = NumpyRandomConfig { distribution: trace(TraceRestart::Bag), ..config(&[10, 5], 2, 7, 6) };
        let mut data = open(&faithful, &[], 3).unwrap();
        let note = "table 1: the trace holds ids up to 9; all are taken modulo the table's 5 rows";
        assert_eq!(data.facts.notes, [note]);
        let (mut state, mut found) = (RandomState::new(5), Batch::with_capacity(data.train.schema(), 3));
        for (start, n) in [(0, 3), (3, 3), (6, 1)] {
            data.train.fill(0, start, n, &mut found).unwrap();
            let dense: Vec<f32> = (0..2 * n).map(|_| state.random_sample() as f32).collect();
            assert_eq!(found.dense, dense);
            for (bags, rows) in found.bags.iter().zip([10u32, 5]) {
                for b in 0..n {
                    let size = (state.random_sample() * f64::from(rows.min(6))).round_ties_even().max(1.0) as usize;
                    let mut stream = LruTrace::new(Arc::new(pattern.clone()), true);
                    let drawn: std::collections::BTreeSet<u32> = (0..size).map(|_| stream.next(state.random_sample())).collect();
                    assert_eq!(bags.bag(b), drawn.into_iter().map(|id| id % rows).collect::<Vec<_>>());
                }
            }
            // The targets.
            for _ in 0..n {
                state.random_sample();
            }
        }

        // One stream an epoch: later bags do not begin with the trace's first id, and epochs are alike.
        let mut data = open(&NumpyRandomConfig { distribution: trace(TraceRestart::Epoch), ..faithful }, &[], 3).unwrap();
        let mut bags = |epoch| {
            let mut batch = Batch::with_capacity(data.train.schema(), 7);
            data.train.fill(epoch, 0, 7, &mut batch).unwrap();
            batch.bags
        };
        let first = bags(0);
        assert!((1..7).any(|b| !first[0].bag(b).contains(&4)), "{first:?}");
        assert_eq!(first, bags(1));
        std::fs::write(&file, "1\n").unwrap();
        let error = open(&NumpyRandomConfig { distribution: trace(TraceRestart::Bag), ..config(&[10], 2, 7, 6) }, &[], 3);
        assert!(error.err().unwrap().to_string().contains("1 lines with numbers; 3 are right"));
    }

    /// Number of ids, a checksum of them in drawing order, sum of dense features, sum of targets, next number of the stream.
    fn fingerprint(config: &NumpyRandomConfig, batch_size: usize) -> (u64, u64, f64, f64, f64) {
        let mut data = open(config, &[Quirk::FbDebugDataFirst], batch_size).unwrap();
        let mut batch = Batch::default();
        batch.bags.resize_with(config.tables.len(), Default::default);
        let (mut count, mut hash, mut dense, mut targets) = (0, 0, 0.0, 0.0);
        for start in (0..config.samples).step_by(batch_size) {
            let n = (config.samples - start).min(batch_size as u64) as usize;
            data.train.fill(0, start, n, &mut batch).unwrap();
            for (t, bags) in batch.bags.iter().enumerate() {
                for &id in &bags.indices {
                    count += 1;
                    hash = (hash * 31 + u64::from(id) * 7 + t as u64) % 1_000_000_007;
                }
            }
            batch.dense.iter().for_each(|&x| dense += f64::from(x));
            batch.labels.iter().for_each(|&x| targets += f64::from(x));
        }
        (count, hash, dense, targets, data.numpy.unwrap().random_sample())
    }

    /// Expected: the same loops written with numpy 2.4.6 and seed 5. The last number shows that not one draw more or less was made.
    #[test]
    fn data_equal_numpy() {
        let gaussian = |mu, sigma, min, max| RandomIds::Gaussian { mu, sigma, min, max };
        let a = NumpyRandomConfig { round_targets: true, ..config(&[97, 1, 5], 3, 23, 6) };
        assert_eq!(fingerprint(&a, 5), (129, 430917303, 37.23125113919377, 13.0, 0.006608107989574563));
        let b = NumpyRandomConfig {
            fixed_indices: true,
            distribution: gaussian(None, 4.0, 2.0, 25.0),
            ..config(&[40, 30], 1, 17, 7)
        };
        assert_eq!(fingerprint(&b, 4), (238, 969142196, 7.8524371311068535, 8.76264302432537, 0.7646026501940553));
        let c = NumpyRandomConfig {
            round_targets: true,
            distribution: gaussian(Some(3.0), 9.0, 0.0, 8.0),
            ..config(&[40, 30, 9], 0, 17, 5)
        };
        assert_eq!(fingerprint(&c, 17), (105, 196666500, 0.0, 8.0, 0.4381688926061602));
        let d = NumpyRandomConfig { fixed_indices: true, ..config(&[3, 1000], 2, 31, 5) };
        assert_eq!(fingerprint(&d, 10), (230, 740567869, 30.48070101812482, 16.54624889884144, 0.6724082824575307));
    }

    proptest! {
        /// What a source answers depends on the range alone, not on what was asked before; bags respect the schema.
        #[test]
        fn any_range_at_any_time(samples in 1u64..40, unit in 1usize..9, last: bool, asks in prop::collection::vec((0u64..40, 0usize..20), 1..8)) {
            let c = config(&[7, 1, 300], 2, samples, 4);
            let quirks: &[Quirk] = if last { &[Quirk::FbTargetsLast] } else { &[] };
            let open = || open(&c, quirks, unit).unwrap();
            let (schema, mut whole, mut part) = (schema(&c), Batch::default(), Batch::default());
            whole.bags.resize_with(3, Default::default);
            part.bags.resize_with(3, Default::default);
            open().train.fill(0, 0, samples as usize, &mut whole).unwrap();
            let mut eval = open().eval;
            for (start, n) in asks {
                let start = start.min(samples);
                let n = n.min((samples - start) as usize);
                eval.fill(1, start, n, &mut part).unwrap();
                let s = start as usize;
                prop_assert_eq!(&part.labels[..], &whole.labels[s..s + n]);
                prop_assert_eq!(&part.dense[..], &whole.dense[2 * s..2 * (s + n)]);
                for ((p, w), t) in part.bags.iter().zip(&whole.bags).zip(&schema.tables) {
                    for i in 0..n {
                        prop_assert_eq!(p.bag(i), w.bag(s + i));
                        prop_assert!((1..=t.max_hotness).contains(&p.bag(i).len()));
                        prop_assert!(p.bag(i).iter().all(|&id| (id as usize) < t.rows));
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        let gaussian = |min, max| NumpyRandomConfig {
            distribution: RandomIds::Gaussian { mu: None, sigma: 1.0, min, max },
            ..config(&[9, 4], 1, 1, 1)
        };
        for (c, batch, what) in [
            (config(&[4], 1, 0, 1), 1, "at least 1"),
            (config(&[4], 1, 1, 0), 1, "at least 1"),
            (config(&[4], 1, 1, 1), 0, "at least 1"),
            (config(&[4, 0], 1, 1, 1), 1, "table 1 has 0 rows"),
            (gaussian(0.0, 4.0), 1, "do not fit table 1; its rows are 0 to 3"),
            (gaussian(-1.0, 3.0), 1, "do not fit table 0"),
            (gaussian(f64::NAN, 3.0), 1, "do not fit table 0"),
        ] {
            let error = open(&c, &[], batch).err().unwrap().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
