//! Tables that grow against resident ones, bit by bit, and against plain loops.

use super::*;
use crate::{
    backend::{Device, StepContext},
    batch::{Column, Samples, Schema, Span},
    embedding::hashed::{FilterConfig, HashedConfig, HashedSpec, HashedStore, HashedTable},
    engine::{EngineKind, build, hashed::HashedEngine},
};
use std::rc::Rc;

#[cfg(target_os = "linux")]
use crate::backend::cuda::{driver::Driver, testing::devices};

/// What computes.
#[derive(Clone)]
enum Place {
    Cpu(usize),
    Candle,
    #[cfg(target_os = "linux")]
    Gpu(Rc<dyn Driver>),
}

impl Place {
    fn sums_in_pieces(&self) -> bool {
        !matches!(self, Place::Cpu(_) | Place::Candle)
    }
}

fn places() -> Vec<Place> {
    let mut all = vec![Place::Cpu(1), Place::Cpu(3), Place::Candle];
    #[cfg(target_os = "linux")]
    all.extend(devices().into_iter().map(Place::Gpu));
    all
}

fn init(config: &EngineConfig) -> Initializer<'static> {
    Initializer::new(&config.whole_model(), InitSource::Philox { seed: 11 })
}

fn make(place: &Place, config: &EngineConfig) -> Box<dyn Engine> {
    let mut init = init(config);
    match place {
        Place::Cpu(threads) => {
            let config = EngineConfig { threads: *threads, ..config.clone() };
            build(EngineKind::Fused, Device::Cpu, &config, &mut init).unwrap()
        }
        Place::Candle => build(EngineKind::Candle, Device::Cpu, config, &mut init).unwrap(),
        #[cfg(target_os = "linux")]
        Place::Gpu(driver) => {
            let Some(spec) = &config.hashed else { return Box::new(cuda::on(driver, config)) };
            init.leave(config.growing(spec));
            let inner = Box::new(cuda::on(driver, config));
            Box::new(HashedEngine::new(inner, config, spec, &init).unwrap())
        }
    }
}

/// The same model with tables that grow.
fn grown(config: &EngineConfig, hashed: HashedConfig) -> EngineConfig {
    grown_to(config, HashedStore { config: hashed, ..HashedStore::default() })
}

fn grown_to(config: &EngineConfig, store: HashedStore) -> EngineConfig {
    let mut config = config.clone();
    let column = |(k, &rows): (usize, &usize)| Column {
        name: format!("C{k}"),
        rows,
        max_hotness: config.max_hotness[k],
    };
    let tables = ROWS.iter().enumerate().map(column).collect();
    let schema = Schema { dense: DENSE, tables };
    let spec = HashedSpec::new(&store, &schema, config.max_batch, false).unwrap();
    let (ModelSpec::Dlrm(DlrmSpec { tables, .. }) | ModelSpec::DeepFm(DeepFmSpec { tables, .. })) =
        &mut config.model;
    *tables = spec.columns.iter().map(|c| c.rows).collect();
    EngineConfig { hashed: Some(spec), ..config }
}

/// Models whose tables can grow.
fn plain_models() -> Vec<ModelSpec> {
    let plain = |model: ModelSpec| match model {
        ModelSpec::Dlrm(m) => m.trick.is_none().then_some(ModelSpec::Dlrm(m)),
        ModelSpec::DeepFm(m) => Some(ModelSpec::DeepFm(DeepFmSpec { embedding_l2: 0.0, ..m })),
    };
    models().into_iter().filter_map(plain).collect()
}

fn lazy_rules() -> Vec<OptimizerSpec> {
    rules().into_iter().filter(|rule| !rule.state().moves_all_rows).collect()
}

fn value(engine: &dyn Engine, name: &str) -> Vec<f32> {
    let params = engine.params().iter().position(|p| p.name == name);
    if let Some(index) = params {
        let mut values = vec![0.0; engine.params()[index].len()];
        engine.read(index, &mut values).unwrap();
        return values;
    }
    let index = engine.optimizer_state().iter().position(|s| s.name == name).unwrap();
    let mut values = vec![0.0; engine.optimizer_state()[index].len()];
    engine.read_state(index, 0, &mut values).unwrap();
    values
}

/// Name and row length of all parameters and state; with the column where it has a row a key.
fn tensors(engine: &dyn Engine, columns: usize) -> Vec<(String, usize, Option<usize>)> {
    let (mut tables, mut weights) = (0, 0);
    let mut all = Vec::new();
    let mut of_param = Vec::new();
    for p in engine.params() {
        let column = match p.kind {
            ParamKind::Table => {
                tables += 1;
                Some((tables - 1) % columns)
            }
            ParamKind::RowWeight => {
                weights += 1;
                Some(weights - 1)
            }
            _ => None,
        };
        of_param.push(column);
        all.push((p.name.clone(), p.shape.get(1).copied().unwrap_or(1), column));
    }
    for s in engine.optimizer_state() {
        all.push((s.name.clone(), s.shape.get(1).copied().unwrap_or(1), of_param[s.param]));
    }
    all
}

/// Compares all bits of an engine whose tables grow with those of a resident one: rows by their
/// keys.
fn assert_same(grown: &dyn Engine, resident: &dyn Engine, about: &str) {
    for (name, width, column) in tensors(resident, ROWS.len()) {
        let (got, want) = (value(grown, &name), value(resident, &name));
        let Some(column) = column else {
            assert!(got == want, "{about} {name}");
            continue;
        };
        let keys = grown.hashed()[column].keys();
        assert_eq!(got.len(), keys.len() * width);
        for (row, key) in got.chunks(width).zip(keys) {
            let key = key.unwrap() as usize;
            assert_eq!(row, &want[key * width..][..width], "{about} {name} {key}");
        }
    }
}

/// Losses, predictions, rows and state are those of resident tables, on every device, for every
/// rule that leaves rows alone, also where an evaluation meets keys that training has not met.
#[test]
fn tables_that_grow_have_the_bits_of_resident_ones() {
    let rules = lazy_rules();
    for place in places() {
        for (k, model) in plain_models().into_iter().enumerate() {
            let mut config = config(model, rules[k % rules.len()], 2);
            if k % 3 == 1 && !matches!(place, Place::Candle) {
                config.embedding_rows = RowKind::Bf16Split;
            }
            let about = format!("model {k}");
            let mut resident = make(&place, &config);
            let mut growing = make(&place, &grown(&config, HashedConfig::default()));
            for n in 0..5 {
                // A GPU sums up to 32 ids of a table in one piece; where it cuts more of them goes
                // by the places of rows.
                let samples = if place.sums_in_pieces() { 1 + 2 * n } else { 1 + 9 * n };
                let b = batch(&config.model, 10 + n, samples as usize);
                let want = resident.train_step(&b, 0.1).unwrap();
                let got = growing.train_step(&b, 0.1).unwrap();
                assert_eq!(got.to_bits(), want.to_bits(), "{about} step {n}");
                let judged = batch(&config.model, 90 + n, 17);
                let (mut p, mut q) = (vec![0.0; 17], vec![0.0; 17]);
                resident.predict(&judged, &mut p).unwrap();
                growing.predict(&judged, &mut q).unwrap();
                assert_eq!(p, q, "{about} step {n}");
            }
            assert_same(&*growing, &*resident, &about);
        }
    }
}

/// With `default_value_dim` a new row is that of the key modulo it, and with fewer rows than ids
/// nothing changes as long as they suffice.
#[test]
fn new_rows_repeat_and_capacity_does_not_matter() {
    let config = config(plain_models().remove(0), OptimizerSpec::SGD, 2);
    let hashed = HashedConfig { default_value_dim: Some(3), ..HashedConfig::default() };
    let mut all = make(&Place::Cpu(2), &grown(&config, hashed));
    // The second table, of 20 ids, has room for 19; the first for 7 and the third for 5, as they have.
    let few =
        HashedStore { capacity: Some(vec![7, 19, 5]), config: hashed, ..HashedStore::default() };
    let mut few = make(&Place::Cpu(2), &grown_to(&config, few));
    for n in 0..4 {
        let b = batch(&config.model, n, 2);
        assert_eq!(all.train_step(&b, 0.0).unwrap(), few.train_step(&b, 0.0).unwrap());
        let judged = batch(&config.model, 50 + n, 30);
        let (mut p, mut q) = (vec![0.0; 30], vec![0.0; 30]);
        all.predict(&judged, &mut p).unwrap();
        few.predict(&judged, &mut q).unwrap();
        assert_eq!(p, q);
    }
    let rows = value(&*all, "emb_l.1.weight");
    let start = init(&config).rows(1, 6).unwrap();
    for (row, key) in rows.chunks(6).zip(all.hashed()[1].keys()) {
        let mut want = [0.0; 6];
        start.fill(key.unwrap() % 3, &mut want);
        // The rate is 0.
        assert_eq!(row, want);
    }
}

/// A filter against a plain loop: rows of ids that are not admitted are zeros for the pass, and
/// gradients of a resident engine move those that are, by SGD.
#[test]
fn filtered_ids_read_zeros_and_learn_when_they_are_admitted() {
    const RATE: f32 = 0.1;
    for place in places() {
        for (model, freq) in [(0, 1), (1, 2), (2, 3)] {
            let model = plain_models().swap_remove(model);
            let config = config(model, OptimizerSpec::SGD, 2);
            let hashed =
                HashedConfig { filter: FilterConfig::Counter { freq }, ..HashedConfig::default() };
            let mut growing = make(&place, &grown(&config, hashed));
            let mut plain = make(&place, &config);
            let params = plain.params().to_vec();
            let mut values: Vec<Vec<f32>> =
                params.iter().map(|p| value(&*plain, &p.name)).collect();
            let mut seen = ROWS.map(|rows| vec![0; rows]);
            for n in 0..6 {
                let b = batch(&config.model, 20 + n, 7);
                let before = seen.clone();
                for (seen, bags) in seen.iter_mut().zip(&b.bags) {
                    bags.indices.iter().for_each(|&id| seen[id as usize] += 1);
                }
                for (i, p) in params.iter().enumerate() {
                    let mut now = values[i].clone();
                    if p.kind == ParamKind::Table {
                        let rows = now.chunks_mut(p.shape[1]).zip(&before[i % ROWS.len()]);
                        rows.filter(|(_, seen)| **seen < freq).for_each(|(row, _)| row.fill(0.0));
                    }
                    plain.write(i, &now).unwrap();
                }
                let (want, gradients) = plain.gradients(&b).unwrap();
                for (i, p) in params.iter().enumerate() {
                    let width = p.shape.get(1).copied().unwrap_or(1);
                    for (k, (v, g)) in values[i].iter_mut().zip(&gradients[i]).enumerate() {
                        let key = k / width;
                        let sparse = matches!(p.kind, ParamKind::Table | ParamKind::RowWeight);
                        if !sparse || seen[i % ROWS.len()][key] >= freq {
                            *v -= RATE * g;
                        }
                    }
                }
                let got = growing.train_step(&b, f64::from(RATE)).unwrap();
                assert_eq!(got.to_bits(), want.to_bits(), "step {n}");
            }
            for (i, p) in params.iter().enumerate() {
                let got = value(&*growing, &p.name);
                if p.kind != ParamKind::Table {
                    if p.kind != ParamKind::RowWeight {
                        assert_eq!(got, values[i], "{}", p.name);
                    }
                    continue;
                }
                let keys = growing.hashed()[i % ROWS.len()].keys();
                for (row, key) in got.chunks(p.shape[1]).zip(keys) {
                    let key = key.unwrap() as usize;
                    assert_eq!(row, &values[i][key * p.shape[1]..][..p.shape[1]], "{}", p.name);
                    assert!(seen[i % ROWS.len()][key] >= freq);
                }
            }
        }
    }
}

/// What is read without permission other than zero, worked out by hand: a DeepFM of one column has the
/// logit `w` of its first-order row, for a bag of one id has no pairs, and a DNN whose last weights
/// are zero adds nothing. SGD with rate 1 moves `w` by `p - y` of a batch of one sample.
#[test]
fn what_is_read_without_permission_is_what_is_asked_for() {
    const REFUSED: f32 = 0.5;
    for kind in [EngineKind::Fused, EngineKind::Candle] {
        let model = ModelSpec::DeepFm(DeepFmSpec {
            tables: vec![8],
            dense: 0,
            dim: 2,
            hidden: vec![3],
            batch_norm: false,
            dropout: 0.0,
            embedding_l2: 0.0,
            mlp_init: MlpInit::XavierNormal,
            embedding_init: EmbeddingInit::Normal { std: 1e-4 },
        });
        let hashed = HashedConfig {
            filter: FilterConfig::Counter { freq: 2 },
            default_value_no_permission: REFUSED,
            ..HashedConfig::default()
        };
        let plain = EngineConfig { max_hotness: vec![1], ..config(model, OptimizerSpec::SGD, 1) };
        let schema = Schema {
            dense: 0,
            tables: vec![Column { name: "C1".into(), rows: 8, max_hotness: 1 }],
        };
        let store = HashedStore { config: hashed, ..HashedStore::default() };
        let spec = HashedSpec::new(&store, &schema, plain.max_batch, false).unwrap();
        let mut grown = plain.clone();
        if let ModelSpec::DeepFm(m) = &mut grown.model {
            m.tables = vec![spec.columns[0].rows];
        }
        grown.hashed = Some(spec);
        let seed = InitSource::Philox { seed: 5 };
        let mut init = Initializer::new(&grown.whole_model(), seed);
        let mut engine = build(kind, Device::Cpu, &grown, &mut init).unwrap();
        let last = engine.params().iter().rposition(|p| p.kind == ParamKind::Weight).unwrap();
        engine.write(last, &vec![0.0; engine.params()[last].len()]).unwrap();
        let batch = Batch {
            len: 1,
            dense: Vec::new(),
            bags: vec![Bags::new(vec![6], vec![0, 1])],
            labels: vec![1.0],
        };
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{kind:?}: {a} {b}");
        let predicted = |engine: &mut dyn Engine| {
            let mut p = [0.0];
            engine.predict(&batch, &mut p).unwrap();
            p[0]
        };
        // Nobody has seen it, then once; 1 / (1 + e^-0.5) = 0.622459, and -ln of that 0.474077.
        near(predicted(&mut *engine), 0.622_459);
        near(engine.train_step(&batch, 0.0).unwrap(), 0.474_077);
        near(predicted(&mut *engine), 0.622_459);
        // The step that admits reads it still; the row moves from where it begins by 1 - p.
        near(engine.train_step(&batch, 1.0).unwrap(), 0.474_077);
        for (i, p) in engine.params().to_vec().iter().enumerate() {
            if p.kind == ParamKind::Table {
                let mut begins = vec![0.0; p.shape[1]];
                init.rows(i, p.shape[1]).unwrap().fill(6, &mut begins);
                let moved = if p.shape[1] == 1 { 0.377_541 } else { 0.0 };
                let now = value(&*engine, &p.name);
                assert_eq!(now.len(), begins.len());
                now.iter().zip(&begins).for_each(|(&now, &begins)| near(now, begins + moved));
            }
        }
    }
}

/// A dropped row leaves nothing behind: the key's next row, and that of another key in its slot,
/// begin with initial values, state and weight.
#[test]
fn a_dropped_row_leaves_nothing() {
    for place in places() {
        let model = dlrm(Interaction::Cat, Pooling::WeightedLearned);
        let rule =
            OptimizerSpec::Adagrad(Adagrad { eps: 1e-10, initial_accumulator: 0.1, lr_decay: 0.0 });
        let config = config(model, rule, 2);
        let hashed = HashedConfig { steps_to_live: Some(1), ..HashedConfig::default() };
        let mut growing = make(&place, &grown(&config, hashed));
        for n in 0..3 {
            growing.train_step(&batch(&config.model, n, 5), 0.1).unwrap();
        }
        // Two more of one sample: most ids have not been seen for long.
        for n in 3..5 {
            growing.train_step(&batch(&config.model, n, 1), 0.1).unwrap();
        }
        growing.evict().unwrap();
        let dropped: u64 = growing.hashed().iter().map(|t| t.counts().evicted).sum();
        assert!(dropped > 5, "{dropped}");
        let free = |t: &HashedTable| -> Vec<usize> {
            let keys = t.keys().into_iter().enumerate();
            keys.filter(|(_, key)| key.is_none()).map(|(slot, _)| slot).collect()
        };
        let free: Vec<Vec<usize>> = growing.hashed().iter().map(free).collect();
        for (name, width, column) in tensors(&*growing, ROWS.len()) {
            let (Some(column), is_row) = (column, name.ends_with(".weight")) else { continue };
            let values = value(&*growing, &name);
            let start = if name == format!("v_W_l.{column}") { 1.0 } else { 0.1 };
            for &slot in free[column].iter().filter(|_| !is_row) {
                assert_eq!(values[slot * width..][..width], vec![start; width], "{name}");
            }
        }
        // At a rate of 0 new rows stay as they begin.
        growing.train_step(&batch(&config.model, 77, 30), 0.0).unwrap();
        let start = init(&config);
        for (column, free) in free.iter().enumerate() {
            let rows = value(&*growing, &format!("emb_l.{column}.weight"));
            let keys = growing.hashed()[column].keys();
            for &slot in free {
                let Some(key) = keys[slot] else { continue };
                let mut want = [0.0; 6];
                start.rows(column, 6).unwrap().fill(key, &mut want);
                assert_eq!(rows[slot * 6..][..6], want);
            }
        }
    }
}

/// Rows are judged by half the sum of their squares, the narrow ones of a DeepFM along.
#[test]
fn small_rows_are_dropped_by_their_values() {
    let model = plain_models().into_iter().find(|m| matches!(m, ModelSpec::DeepFm(_))).unwrap();
    let config = config(model, OptimizerSpec::SGD, 2);
    let hashed = HashedConfig { l2_threshold: Some(0.2), ..HashedConfig::default() };
    let mut growing = make(&Place::Cpu(2), &grown(&config, hashed));
    for n in 0..4 {
        growing.train_step(&batch(&config.model, n, 9), 0.1).unwrap();
    }
    let mut want = Vec::new();
    for column in 0..ROWS.len() {
        let specs = config.model.table_specs();
        let tables = specs.iter().filter(|t| t.column == column);
        let rows: Vec<(usize, Vec<f32>)> =
            tables.map(|t| (t.dim, value(&*growing, &t.name))).collect();
        let keys = growing.hashed()[column].keys();
        let small = |slot: &usize| {
            let squares = rows.iter().flat_map(|(dim, v)| &v[slot * dim..][..*dim]);
            0.5 * squares.map(|v| f64::from(v * v)).sum::<f64>() < 0.2
        };
        let kept = (0..keys.len()).filter(|slot| !small(slot)).filter_map(|slot| keys[slot]);
        want.push(kept.collect::<Vec<u64>>());
    }
    growing.evict().unwrap();
    let dropped: u64 = growing.hashed().iter().map(|t| t.counts().evicted).sum();
    assert!(dropped > 0);
    for (table, want) in growing.hashed().iter().zip(&want) {
        assert_eq!(&table.keys().into_iter().flatten().collect::<Vec<_>>(), want);
    }
}

#[test]
fn a_table_without_room_ends_the_step() {
    let config = config(plain_models().remove(0), OptimizerSpec::SGD, 2);
    let store = HashedStore { capacity: Some(vec![4]), ..HashedStore::default() };
    let mut growing = make(&Place::Cpu(1), &grown_to(&config, store));
    let steps = (0..9).map(|n| growing.train_step(&batch(&config.model, n, 9), 0.1));
    let error = steps.into_iter().find_map(Result::err).unwrap().to_string();
    assert!(error.contains("is full: all its 4 rows"), "{error}");
    // It knows no samples but those of the host.
    let span = Samples::Generated(Span { split: 0, first: 0, len: 1 });
    assert!(growing.begin_step(span, StepContext::at_rate(0.1)).is_err());
}
