//! Tables larger than a GPU's memory against resident ones on the same device, bit by bit, with steps
//! in flight: also what goes by the row, which are random bits and the order of sums.

use super::{
    cached::{Place, all, assert_same, bits, cached, lazy_rules, make, wide_batch, wide_models},
    *,
};
use crate::{backend::StepContext, backend::cuda::testing::devices, batch::Samples};
use std::path::Path;

/// Losses, predictions and numbers of all tensors on the way, as bits.
#[derive(Debug, Default, PartialEq)]
struct Trace {
    losses: Vec<u32>,
    judged: Vec<u32>,
}

impl Trace {
    /// Takes what is known of steps.
    fn ends(&mut self, engine: &mut dyn Engine, wait: bool) {
        while let Some(end) = engine.finished(wait).unwrap() {
            self.losses.push(end.loss.to_bits());
        }
    }

    /// Steps with those before in flight. Each batch but every fifth is announced, after every sixth an
    /// evaluation comes between, and once everything is read while rows are on their way. A device that
    /// is `lazy` does nothing that nobody waits for: then no step is waited for by the time at which the
    /// next one begins.
    fn train(&mut self, engine: &mut dyn Engine, batches: &[Batch], lazy: bool) {
        let before = self.losses.len();
        engine.announce(&batches[0]).unwrap();
        for (n, batch) in batches.iter().enumerate() {
            if let Some(next) = batches.get(n + 1).filter(|_| n % 5 != 4) {
                engine.announce(next).unwrap();
            }
            self.ends(engine, false);
            let waited_for = n % 6 == 0 || !lazy;
            assert!(waited_for || self.losses.len() < before + n, "step {n} was waited for");
            if n == 3 {
                all(engine).iter().for_each(|(_, values)| self.judged.extend(bits(values)));
            }
            engine.begin_step(Samples::Host(batch), StepContext::at_rate(0.1)).unwrap();
            if n % 6 == 5 {
                self.ends(engine, true);
                let mut out = vec![0.0; batch.len];
                engine.predict(&batches[n - 3], &mut out[..]).unwrap();
                self.judged.extend(bits(&out));
            }
        }
        self.ends(engine, true);
    }
}

/// Bags of one id each.
fn one_hot(mut batch: Batch) -> Batch {
    for (k, bags) in batch.bags.iter_mut().enumerate() {
        let ids = (0..batch.len).map(|i| bags.bag(i).first().copied().unwrap_or(k as u32));
        let ids: Vec<u32> = ids.collect();
        *bags = Bags::new(ids, (0..=batch.len as u32).collect());
    }
    batch
}

/// A model and what it is trained with: its number, those of the rule and of the form of rows, a norm
/// to clip to, and whether batches come in parts, and with one id a bag.
struct Case {
    model: usize,
    rule: usize,
    rows: RowKind,
    clip: bool,
    parts: bool,
    one_hot: bool,
}

impl Case {
    fn config(&self) -> EngineConfig {
        let mut config = config(wide_models().swap_remove(self.model), lazy_rules()[self.rule], 2);
        config.embedding_rows = self.rows;
        config.optimizer.clip_norm = self.clip.then_some(0.05);
        config.micro_batch = self.parts.then_some(16);
        config
    }

    /// One is short, as the last of an epoch. Several rows have far more than 32 occurrences.
    fn batches(&self, config: &EngineConfig) -> Vec<Batch> {
        let len = |n: u64| if n == 8 { 9 } else { 40 };
        let all = (0..16).map(|n| wide_batch(&config.model, n, len(n)));
        all.map(|batch| if self.one_hot { one_hot(batch) } else { batch }).collect()
    }

    /// Compares a cache of so many slots, with so much of the host's memory behind it and a file behind
    /// that, with none. Half way another one goes on, with more slots and memory. Returns how many rows came from memory and from
    /// the file.
    fn try_on(
        &self,
        (place, lazy): (&Place, bool),
        folder: &Path,
        slots: [usize; 2],
        host: u64,
    ) -> [u64; 2] {
        let config = self.config();
        let batches = self.batches(&config);
        let about = format!("model {} rule {} {:?}", self.model, self.rule, self.rows);
        let small = |slots: [usize; 2], host: u64| {
            let mut small = cached(&config, folder, slots, if host > ALL { 0 } else { 1 << 16 });
            small.cached.as_mut().unwrap().host = Some(host);
            small
        };
        let (mut want, mut got) = (Trace::default(), Trace::default());
        let mut resident = make(place, &config);
        want.train(&mut *resident, &batches[..9], lazy);
        let mut caching = make(place, &small(slots, host));
        got.train(&mut *caching, &batches[..9], lazy);
        assert!(want.losses.len() == 9 && want.judged.len() > 1000, "{about}");
        assert!(got == want, "{about}");
        assert_same(&*caching, &*resident, &about);
        let used = caching.table_uses();
        let counts = used[1].cached().unwrap();
        assert!(counts.misses > 0, "{about}: {counts:?}");
        assert!(host < ALL || counts.bytes_written == 0, "{about}: {counts:?}");
        let seen = [counts.host_reads, counts.reads];

        let mut other = make(place, &small(slots.map(|n| n + 9), 3 * host));
        copy(&mut *caching, &mut *other);
        want.train(&mut *resident, &batches[9..], lazy);
        got.train(&mut *other, &batches[9..], lazy);
        assert!(got == want, "{about}");
        assert_same(&*other, &*resident, &about);
        seen
    }
}

/// More than all rows take.
const ALL: u64 = 1 << 18;

/// What a checkpoint keeps, from one engine to another.
fn copy(from: &mut dyn Engine, to: &mut dyn Engine) {
    let numbers = all(from);
    let (params, state) = (from.params().len(), from.optimizer_state().len());
    for (i, (_, values)) in numbers.iter().enumerate() {
        match i.checked_sub(params) {
            None => to.write(i, values).unwrap(),
            Some(i) => to.write_state(i, 0, values).unwrap(),
        }
    }
    assert_eq!(numbers.len(), params + state);
    to.go_on(from.position().unwrap()).unwrap();
}

fn cases() -> Vec<Case> {
    let case =
        |model, rule, rows, clip, parts, one_hot| Case { model, rule, rows, clip, parts, one_hot };
    use RowKind::{Bf16, Bf16Split, Fp16, Fp32};
    vec![
        case(0, 0, Bf16, true, false, false),
        case(1, 1, Fp32, true, false, false),
        case(2, 2, Fp16, true, true, false),
        case(3, 3, Fp32, false, false, true),
        case(2, 4, Bf16, false, false, false),
        case(9, 1, Bf16, true, false, true),
        case(11, 5, Bf16Split, true, false, false),
    ]
}

/// Every kind of rule, rows, pooling and batch, with any size of cache and of the memory behind it.
#[test]
fn a_gpus_cache_has_the_bits_of_resident_tables() {
    let folder = tempfile::tempdir().unwrap();
    let devices = devices();
    let mut seen = [0; 2];
    for (k, case) in cases().into_iter().enumerate() {
        // The devices differ in products, and in what they do at once; the second is lazy.
        let number = k % devices.len().max(1);
        let Some(driver) = devices.get(number) else { return };
        let place = Place::Gpu(driver.clone());
        // Memory for some 16 records, and for all; a cache that rows leave in nearly each step, and one
        // that most fit in.
        let (slots, host) = [([66, 86], 1 << 10), ([68, 100], 1 << 20), ([67, 90], 1 << 10)][k % 3];
        let slots = if case.one_hot { [60, 64] } else { slots };
        let here = case.try_on((&place, number == 1), folder.path(), slots, host);
        (0..2).for_each(|k| seen[k] += here[k]);
    }
    assert!(seen.iter().all(|&n| n > 10), "{seen:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
