//! Tables larger than a GPU's memory against resident ones on the same device, bit by bit, with steps
//! in flight: also what goes by the row, which are random bits and the order of sums.

use super::{
    cached::{Place, assert_same, bits, cached, lazy_rules, make, wide_batch, wide_models},
    *,
};
use crate::{backend::StepContext, backend::cuda::testing::devices, batch::Samples};
use std::path::Path;

/// Steps with those before in flight, and what they gave. Each batch but every fifth is announced, and
/// after every sixth an evaluation comes between.
fn train(engine: &mut dyn Engine, batches: &[Batch]) -> (Vec<u32>, Vec<u32>) {
    let (mut losses, mut judged) = (Vec::new(), Vec::new());
    let mut ends = |engine: &mut dyn Engine, wait: bool| {
        while let Some(end) = engine.finished(wait).unwrap() {
            losses.push(end.loss.to_bits());
        }
    };
    engine.announce(&batches[0]).unwrap();
    for (n, batch) in batches.iter().enumerate() {
        if let Some(next) = batches.get(n + 1).filter(|_| n % 5 != 4) {
            engine.announce(next).unwrap();
        }
        engine.begin_step(Samples::Host(batch), StepContext::at_rate(0.1)).unwrap();
        ends(engine, false);
        if n % 6 == 5 {
            ends(engine, true);
            let mut out = vec![0.0; batch.len];
            engine.predict(&batches[(n + 3) % batches.len()], &mut out[..]).unwrap();
            judged.extend(bits(&out));
        }
    }
    ends(engine, true);
    (losses, judged)
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

    /// The last is short, as that of an epoch. Several rows have far more than 32 occurrences.
    fn batches(&self, config: &EngineConfig) -> Vec<Batch> {
        let len = |n: u64| if n == 13 { 9 } else { 40 };
        let all = (0..14).map(|n| wide_batch(&config.model, n, len(n)));
        all.map(|batch| if self.one_hot { one_hot(batch) } else { batch }).collect()
    }

    /// Compares a cache of so many slots, with so much of the host's memory behind it and a file behind
    /// that, with none.
    fn try_on(&self, place: &Place, folder: &Path, slots: [usize; 2], host: u64) {
        let config = self.config();
        let batches = self.batches(&config);
        let mut small = cached(&config, folder, slots, if host > 1 << 19 { 0 } else { 1 << 16 });
        small.cached.as_mut().unwrap().host = Some(host);
        let (mut resident, mut caching) = (make(place, &config), make(place, &small));
        let about = format!("model {} rule {} {:?}", self.model, self.rule, self.rows);
        let (want, got) = (train(&mut *resident, &batches), train(&mut *caching, &batches));
        assert!(want.0.len() == 14 && want.1.len() == 80, "{about}");
        assert!(got == want, "{about}: {got:?} {want:?}");
        assert_same(&*caching, &*resident, &about);
        let used = caching.table_uses();
        let counts = used[1].cached().unwrap();
        let (filed, kept) = (counts.bytes_written > 0, counts.host_reads > 0);
        assert!(counts.misses > 0, "{about}: {counts:?}");
        assert!(if host > 1 << 19 { kept && !filed } else { filed }, "{about}: {counts:?}");
    }
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

/// Any size of cache: one that a row leaves in nearly each step, and one that all but a few fit in.
#[test]
fn a_gpus_cache_has_the_bits_of_resident_tables() {
    let folder = tempfile::tempdir().unwrap();
    let devices = devices();
    for (k, case) in cases().into_iter().enumerate() {
        // The devices differ in products alone.
        let Some(driver) = devices.get(k % devices.len().max(1)) else { return };
        let place = Place::Gpu(driver.clone());
        // Memory for some 16 records, and for all.
        for (slots, host) in [([66, 86], 1 << 10), ([68, 100], 1 << 20)] {
            case.try_on(&place, folder.path(), slots, host);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
