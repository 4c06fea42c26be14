//! Tables larger than memory against resident ones, bit by bit.

use super::*;
use crate::{
    backend::{Device, StepContext},
    batch::{Samples, Span},
    embedding::cached::{CachedColumn, CachedSpec, Reads},
    engine::{EngineKind, build, cached::CachedEngine},
};
use proptest::prelude::*;
use std::{path::Path, rc::Rc};

#[cfg(target_os = "linux")]
use crate::backend::cuda::{driver::Driver, testing::devices};

/// Rows of the columns here; the last fits in memory.
const WIDE: [usize; 3] = [70, 200, 5];

/// What computes.
#[derive(Clone)]
pub(super) enum Place {
    Cpu(usize),
    Candle,
    #[cfg(target_os = "linux")]
    Gpu(Rc<dyn Driver>),
}

fn places() -> Vec<Place> {
    let mut all = vec![Place::Cpu(1), Place::Cpu(3), Place::Candle];
    #[cfg(target_os = "linux")]
    all.extend(devices().into_iter().map(Place::Gpu));
    all
}

pub(super) fn make(place: &Place, config: &EngineConfig) -> Box<dyn Engine> {
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
    match place {
        Place::Cpu(threads) => {
            let config = EngineConfig { threads: *threads, ..config.clone() };
            build(EngineKind::Fused, Device::Cpu, &config, &mut init).unwrap()
        }
        Place::Candle => build(EngineKind::Candle, Device::Cpu, config, &mut init).unwrap(),
        #[cfg(target_os = "linux")]
        Place::Gpu(driver) => {
            let Some(spec) = &config.cached else { return Box::new(cuda::on(driver, config)) };
            let inner = Box::new(cuda::on(driver, &config.behind()));
            Box::new(CachedEngine::new(inner, config, spec, &init).unwrap())
        }
    }
}

/// The same model with so many slots, and a file of up to `disk` bytes.
pub(super) fn cached(
    config: &EngineConfig,
    folder: &Path,
    slots: [usize; 2],
    disk: u64,
) -> EngineConfig {
    let column = |(k, &rows): (usize, &usize)| CachedColumn {
        name: format!("C{k}"),
        rows,
        slots: slots.get(k).map_or(rows, |&n| n.min(rows)),
    };
    let columns = WIDE.iter().enumerate().map(column).collect();
    let folder = folder.to_owned();
    let spec = CachedSpec { cache: 0, host: None, disk, columns, folder, reads: Reads::default() };
    EngineConfig { cached: Some(spec), ..config.clone() }
}

/// Models whose rows can be cached, with larger tables.
pub(super) fn wide_models() -> Vec<ModelSpec> {
    let wide = |model: ModelSpec| match model {
        ModelSpec::Dlrm(m) => {
            let m = DlrmSpec { tables: WIDE.to_vec(), ..m };
            m.trick.is_none().then_some(ModelSpec::Dlrm(m))
        }
        ModelSpec::DeepFm(m) => {
            Some(ModelSpec::DeepFm(DeepFmSpec { embedding_l2: 0.0, tables: WIDE.to_vec(), ..m }))
        }
    };
    models().into_iter().filter_map(wide).collect()
}

pub(super) fn lazy_rules() -> Vec<OptimizerSpec> {
    rules().into_iter().filter(|rule| !rule.state().moves_all_rows).collect()
}

/// Bags of 0 to 3 ids, small ones more often.
pub(super) fn wide_batch(model: &ModelSpec, number: u64, len: usize) -> Batch {
    let mut b = batch(model, number, len);
    let g = Philox::new(7, Stream::Planted, number);
    for (k, (bags, &rows)) in b.bags.iter_mut().zip(&WIDE).enumerate() {
        for (i, id) in bags.indices.iter_mut().enumerate() {
            let [x, y, ..] = g.block((1000 * k + i) as u64);
            *id = x % rows as u32;
            if y % 2 == 0 {
                *id %= 4;
            }
        }
    }
    b
}

/// All parameters and state by name.
pub(super) fn all(engine: &dyn Engine) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    for (i, p) in engine.params().iter().enumerate() {
        let mut values = vec![0.0; p.len()];
        engine.read(i, &mut values).unwrap();
        all.push((p.name.clone(), values));
    }
    for (i, s) in engine.optimizer_state().iter().enumerate() {
        let mut values = vec![0.0; s.len()];
        engine.read_state(i, 0, &mut values).unwrap();
        all.push((s.name.clone(), values));
    }
    all
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

pub(super) fn assert_same(a: &dyn Engine, b: &dyn Engine, about: &str) {
    for ((name, got), (_, want)) in all(a).iter().zip(&all(b)) {
        assert!(bits(got) == bits(want), "{about} {name}");
    }
}

/// Steps of both, with evaluations between them. Two bits of `looks` a step say which batches are
/// announced before it: none, it and the next, the next alone, or one that does not come.
fn compare(
    engines: (&mut dyn Engine, &mut dyn Engine),
    config: &EngineConfig,
    samples: usize,
    (steps, looks): (u64, u64),
    about: &str,
) {
    let (resident, caching) = engines;
    let of = |n: u64| wide_batch(&config.model, 10 + n, samples);
    let mut heard = None;
    for n in 0..steps {
        let b = of(n);
        let look = looks >> (2 * n) & 3;
        if look == 1 && heard != Some(n) {
            caching.announce(&b).unwrap();
        }
        if look > 0 {
            heard = (look < 3).then_some(n + 1);
            caching.announce(&of(heard.unwrap_or(n + 77))).unwrap();
        }
        let want = resident.train_step(&b, 0.1).map(f32::to_bits);
        let got = caching.train_step(&b, 0.1).map(f32::to_bits);
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{about} step {n}"),
            // A state that no training comes to leads anywhere.
            (got, want) => {
                assert_eq!(got.unwrap_err().to_string(), want.unwrap_err().to_string());
                break;
            }
        }
        if n % 3 == 1 {
            let judged = wide_batch(&config.model, 900 + n, samples);
            let (mut p, mut q) = (vec![0.0; samples], vec![0.0; samples]);
            resident.predict(&judged, &mut p).unwrap();
            caching.predict(&judged, &mut q).unwrap();
            assert_eq!(bits(&p), bits(&q), "{about} step {n}");
        }
    }
    assert_same(caching, resident, about);
}

/// Losses, predictions, rows and state are those of resident tables, on every device, for every rule
/// that leaves rows alone.
#[test]
fn tables_larger_than_memory_have_the_bits_of_resident_ones() {
    let rules = lazy_rules();
    let folder = tempfile::tempdir().unwrap();
    for place in places() {
        for (k, model) in wide_models().into_iter().enumerate() {
            let mut config = config(model, rules[k % rules.len()], 2);
            if k % 3 == 1 && !matches!(place, Place::Candle) {
                config.embedding_rows = RowKind::Bf16Split;
            }
            // A batch of three has up to nine ids.
            // Two are held at one time.
            let small = cached(&config, folder.path(), [18, 18 + k], 1 << 20);
            let (mut resident, mut caching) = (make(&place, &config), make(&place, &small));
            compare(
                (&mut *resident, &mut *caching),
                &config,
                3,
                (12, 0x55_5555),
                &format!("model {k}"),
            );
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, ..ProptestConfig::with_cases(48)
    })]

    /// On the CPU what goes by the row goes by its number too: stochastic rounding, and the order in
    /// which a norm is summed. Any size of cache, thread count, rule, form of rows and parts.
    #[test]
    fn any_cache_has_the_bits_of_none(
        model in 0..wide_models().len(),
        rule in 0..lazy_rules().len(),
        kind in 0..4usize,
        samples in 1usize..40,
        more in (0usize..30, 0usize..80),
        threads in 1usize..4,
        (clip, parts) in (any::<bool>(), any::<bool>()),
        looks in prop_oneof![Just(0), Just(0x1_5555), any::<u64>()],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(wide_models().swap_remove(model), lazy_rules()[rule], 2);
        config.embedding_rows = RowKind::ALL[kind];
        config.optimizer.clip_norm = clip.then_some(0.05);
        config.micro_batch = parts.then_some(5);
        let slots = [6 * samples + more.0, 6 * samples + more.1];
        // All rows of two tables, and little more.
        let small = cached(&config, folder.path(), slots, 330 * 500);
        let mut resident = make(&Place::Cpu(4 - threads), &config);
        let mut caching = make(&Place::Cpu(threads), &small);
        compare((&mut *resident, &mut *caching), &config, samples, (9, looks), "");
    }

    /// Any part of any tensor can be read and set, before steps and between them, and rows that are
    /// set to what they begin with take no place.
    #[test]
    fn parts_of_tensors_are_read_and_set(
        model in 0..wide_models().len(),
        rule in 0..lazy_rules().len(),
        kind in 0..4usize,
        looks in any::<u64>(),
        writes in prop::collection::vec((any::<bool>(), 0.0..1.0, 0.0..1.0, 0.0..0.1), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(wide_models().swap_remove(model), lazy_rules()[rule], 2);
        config.embedding_rows = RowKind::ALL[kind];
        let small = cached(&config, folder.path(), [12, 20], 330 * 500);
        let mut resident = make(&Place::Cpu(1), &config);
        let mut caching = make(&Place::Cpu(1), &small);
        for (n, (state, tensor, first, len)) in writes.into_iter().enumerate() {
            let state = state && !resident.optimizer_state().is_empty();
            let part = |count: usize, len_of: &dyn Fn(usize) -> usize| {
                let index = (tensor * count as f64) as usize;
                let all = len_of(index);
                let first = (first * all as f64) as usize;
                let len = ((len * 10.0 * all as f64) as usize).clamp(1, all - first);
                // Next to nothing of a state, lest Adam divide by what is far smaller.
                let scale = if state { 1.0 / (1 << 30) as f32 } else { 0.25 };
                let value = |i: usize| (i * 7 % 5 + n) as f32 * scale;
                let values: Vec<f32> = (0..len).map(value).collect();
                (index, first, values)
            };
            if state {
                let specs = resident.optimizer_state().to_vec();
                let (index, first, values) = part(specs.len(), &|i| specs[i].len());
                resident.write_state(index, first, &values).unwrap();
                caching.write_state(index, first, &values).unwrap();
                let mut got = vec![0.0; values.len()];
                caching.read_state(index, first, &mut got).unwrap();
                prop_assert_eq!(got, values);
            } else {
                let specs = resident.params().to_vec();
                let (index, first, values) = part(specs.len(), &|i| specs[i].len());
                resident.write_from(index, first, &values).unwrap();
                caching.write_from(index, first, &values).unwrap();
                let mut got = vec![0.0; values.len()];
                caching.read_from(index, first, &mut got).unwrap();
                prop_assert_eq!(got, values);
            }
            compare((&mut *resident, &mut *caching), &config, 2, (2, looks), "");
        }
        // All of it, into another one.
        let mut other = make(&Place::Cpu(2), &small);
        for (i, p) in resident.params().to_vec().iter().enumerate() {
            let mut values = vec![0.0; p.len()];
            resident.read(i, &mut values).unwrap();
            other.write(i, &values).unwrap();
        }
        for (i, s) in resident.optimizer_state().to_vec().iter().enumerate() {
            let mut values = vec![0.0; s.len()];
            resident.read_state(i, 0, &mut values).unwrap();
            other.write_state(i, 0, &values).unwrap();
        }
        other.go_on(resident.position().unwrap()).unwrap();
        compare((&mut *resident, &mut *other), &config, 2, (3, looks), "");
    }
}

/// Gradients and what layers give are those of resident tables.
#[test]
fn gradients_are_those_of_resident_tables() {
    let folder = tempfile::tempdir().unwrap();
    for model in wide_models() {
        let config = config(model, OptimizerSpec::SGD, 2);
        let small = cached(&config, folder.path(), [9, 12], 1 << 20);
        let (mut resident, mut caching) =
            (make(&Place::Cpu(2), &config), make(&Place::Cpu(2), &small));
        for n in 0..4 {
            let b = wide_batch(&config.model, n, 3);
            assert_eq!(caching.gradients(&b).unwrap(), resident.gradients(&b).unwrap());
            resident.train_step(&b, 0.1).unwrap();
            caching.train_step(&b, 0.1).unwrap();
        }
    }
}

/// A file that is full ends the step, and so do more rows than there are slots.
#[test]
fn what_does_not_fit_ends_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(wide_models().remove(0), OptimizerSpec::SGD, 2);
    let ends = |slots, disk| {
        let mut caching = make(&Place::Cpu(1), &cached(&config, folder.path(), slots, disk));
        let steps = (0..400).map(|n| caching.train_step(&wide_batch(&config.model, n, 3), 0.1));
        steps.into_iter().find_map(Result::err).unwrap().to_string()
    };
    assert!(ends([9, 9], 64 * 40).contains("is full: all its 2448 "));
    assert!(ends([2, 9], 1 << 20).contains("too few slots"));
    // It knows no samples but those of the host.
    let mut caching = make(&Place::Cpu(1), &cached(&config, folder.path(), [9, 9], 1 << 20));
    let span = Samples::Generated(Span { split: 0, first: 0, len: 1 });
    assert!(caching.begin_step(span, StepContext::at_rate(0.1)).is_err());
}
