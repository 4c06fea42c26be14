//! Several ranks against one: the same predictions and tables, bit by bit; the same dense parameters
//! where sums are a tree, and to rounding where they go by rank.

use super::*;
use crate::{
    backend::StepContext,
    batch::Samples,
    comm::{Comm, CommError, threads},
    engine::ranks::{
        Placement, RankedEngine, RanksConfig, SumOrder, dismiss, follow, lead, place, rows_of,
    },
};
use std::{rc::Rc, thread, time::Duration};

pub(super) const TIMEOUT: RanksConfig = RanksConfig::within(Duration::from_secs(60));

/// What comes of some steps: predictions before and after, losses, parameters, state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub before: Vec<u32>,
    pub losses: Vec<String>,
    pub after: Vec<u32>,
    pub params: Vec<Vec<u32>>,
    pub state: Vec<Vec<u32>>,
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

pub(super) fn seen(e: &mut dyn Engine, model: &ModelSpec, lens: &[usize]) -> Seen {
    let predict = |e: &mut dyn Engine| {
        let b = batch(model, 77, 17);
        let mut out = vec![0.0; 17];
        e.predict(&b, &mut out).unwrap();
        bits(&out)
    };
    let before = predict(e);
    let mut losses = Vec::new();
    for (number, &len) in (1..).zip(lens) {
        let b = batch(model, number, len);
        e.begin_step(Samples::Host(&b), StepContext::at_rate(0.05)).unwrap();
        while let Some(end) = e.finished(true).unwrap() {
            // Sums of f64 that ranks add up in parts: the last digit of an f32 may differ.
            losses.push(format!("{:.5} {} {:?}", end.loss, end.updates, end.loss_scale));
        }
    }
    let after = predict(e);
    let all = |lens: Vec<usize>, read: &dyn Fn(usize, &mut [f32])| {
        let one = |(i, len): (usize, usize)| {
            let mut out = vec![0.0; len];
            out.chunks_mut(11).enumerate().for_each(|(k, part)| {
                let at = (i << 32) | (k * 11);
                read(at, part);
            });
            bits(&out)
        };
        lens.into_iter().enumerate().map(one).collect::<Vec<_>>()
    };
    let (of, low) = (|at: usize| at >> 32, |at: usize| at & 0xffff_ffff);
    let params = all(e.params().iter().map(|p| p.len()).collect(), &|at, part| {
        e.read_from(of(at), low(at), part).unwrap()
    });
    let state = all(e.optimizer_state().iter().map(|s| s.len()).collect(), &|at, part| {
        e.read_state(of(at), low(at), part).unwrap()
    });
    Seen { before, losses, after, params, state }
}

/// Lets `f` use an engine on `ranks` ranks, which are threads.
pub(super) fn on_ranks<T>(
    config: &EngineConfig,
    ranks: usize,
    source: InitSource,
    f: impl FnOnce(&mut RankedEngine) -> T,
) -> T {
    on_ranks_as(config, (ranks, TIMEOUT), source, f)
}

/// The same with ranks that work together in this way.
fn on_ranks_as<T>(
    config: &EngineConfig,
    (ranks, way): (usize, RanksConfig),
    source: InitSource,
    f: impl FnOnce(&mut RankedEngine) -> T,
) -> T {
    let lead = |comm, placement| {
        let mut init = Initializer::new(&config.model, source);
        lead(comm, config, way, placement, &mut init)
    };
    lead_ranks(config, ranks, follow, lead, f)
}

/// Lets `f` use what `lead` makes on the first of `ranks` ranks, while the others follow.
pub(super) fn lead_ranks<E, T>(
    config: &EngineConfig,
    ranks: usize,
    follow: impl Fn(&Rc<dyn Comm>) -> Result<(), EngineError> + Copy + Send + 'static,
    lead: impl FnOnce(Rc<dyn Comm>, Placement) -> Result<E, EngineError>,
    f: impl FnOnce(&mut E) -> T,
) -> T {
    let mut all = threads::ranks(ranks).into_iter();
    let first: Rc<dyn Comm> = Rc::new(all.next().unwrap());
    let others: Vec<_> = all
        .map(|comm| {
            thread::spawn(move || {
                let comm: Rc<dyn Comm> = Rc::new(comm);
                follow(&comm).map_err(|e| e.to_string())
            })
        })
        .collect();
    let placement = place(config, ranks, None).unwrap();
    let mut engine = lead(Rc::clone(&first), placement).unwrap();
    let done = f(&mut engine);
    drop(engine);
    dismiss(&first, TIMEOUT).unwrap();
    others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    done
}

pub(super) fn alone(config: &EngineConfig, lens: &[usize]) -> Seen {
    seen(&mut engine(config), &config.model, lens)
}

pub(super) fn ranked(config: &EngineConfig, ranks: usize, lens: &[usize]) -> Seen {
    ranked_as(config, (ranks, TIMEOUT), lens)
}

pub(super) fn ranked_as(config: &EngineConfig, way: (usize, RanksConfig), lens: &[usize]) -> Seen {
    let source = InitSource::Philox { seed: 11 };
    on_ranks_as(config, way, source, |e| seen(e, &config.model, lens))
}

fn has_batch_norm(model: &ModelSpec) -> bool {
    match model {
        ModelSpec::Dlrm(m) => m.batch_norm,
        ModelSpec::DeepFm(m) => m.batch_norm,
    }
}

pub(super) fn without_batch_norm() -> impl Iterator<Item = ModelSpec> {
    models().into_iter().filter(|model| !has_batch_norm(model))
}

/// Batches that ranks do not divide, some of fewer samples than there are ranks.
pub(super) const LENS: [usize; 5] = [40, 13, 2, 33, 1];

#[test]
fn as_a_tree_every_number_of_ranks_has_the_bits_of_one() {
    for (i, model) in without_batch_norm().enumerate() {
        let rule = rules()[i % rules().len()];
        let mut config = config(model, rule, 1 + i % 2);
        config.sum_order = SumOrder::Tree;
        let want = alone(&config, &LENS);
        for ranks in [2, 4, 8] {
            let got = ranked(&config, ranks, &LENS);
            assert_eq!(got, want, "{ranks} ranks, {config:?}");
        }
    }
}

#[test]
fn every_rule_and_form_has_the_bits_of_one_rank() {
    let scale = LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 2 };
    let forms = [
        (RowKind::Fp32, Precision::Fp32, LossScaleSpec::Off, None),
        (RowKind::Bf16, Precision::Bf16, LossScaleSpec::Off, None),
        (RowKind::Fp16, Precision::Fp16, scale, None),
        (RowKind::Fp32, Precision::Fp32, LossScaleSpec::Off, Some(0.05)),
    ];
    for (i, rule) in rules().into_iter().enumerate() {
        for (rows, precision, loss_scale, clip_norm) in forms {
            let model = match i % 2 {
                0 => dlrm(
                    Interaction::Dot { self_interaction: false, pad_to: 8 },
                    Pooling::WeightedLearned,
                ),
                _ => deepfm(false, 0.5, DENSE),
            };
            let mut config = EngineConfig {
                embedding_rows: rows,
                precision,
                loss_scale,
                sum_order: SumOrder::Tree,
                ..config(model, rule, 1)
            };
            config.optimizer.clip_norm = clip_norm;
            let (want, got) = (alone(&config, &LENS), ranked(&config, 2, &LENS));
            match clip_norm {
                None => assert_eq!(got, want, "{config:?}"),
                // The norm is a sum of f64 in parts.
                Some(_) => near(&got, &want, 1e-6),
            }
        }
    }
}

/// Whether numbers are so near, relative to the largest of their tensor.
pub(super) fn near(got: &Seen, want: &Seen, most: f32) {
    for (got, want) in got.params.iter().zip(&want.params) {
        let values = |bits: &[u32]| bits.iter().map(|b| f32::from_bits(*b)).collect::<Vec<_>>();
        let (got, want) = (values(got), values(want));
        let largest = want.iter().fold(1e-3_f32, |a, b| a.max(b.abs()));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= most * largest, "{got} {want}");
        }
    }
}

/// Whether all that is embedded has the same bits.
pub(super) fn tables_alike(model: &ModelSpec, got: &Seen, want: &Seen) {
    for ((spec, got), want) in model.params().iter().zip(&got.params).zip(&want.params) {
        if matches!(spec.kind, ParamKind::Table | ParamKind::RowWeight) {
            assert_eq!(got, want, "{}", spec.name);
        }
    }
}

#[test]
fn by_rank_predictions_and_tables_have_the_bits_of_one() {
    for (i, model) in without_batch_norm().enumerate() {
        let config = config(model, rules()[(i + 3) % rules().len()], 2);
        let (one, many) = (alone(&config, &LENS[..1]), alone(&config, &LENS));
        for ranks in [2, 3, 4, 8] {
            let got = ranked(&config, ranks, &LENS[..1]);
            assert_eq!(got.before, one.before, "{ranks} ranks");
            assert_eq!(got.losses, one.losses, "{ranks} ranks");
            tables_alike(&config.model, &got, &one);
            near(&got, &one, 1e-4);
            let got = ranked(&config, ranks, &LENS);
            assert_eq!(got, ranked(&config, ranks, &LENS), "not reproducible");
            near(&got, &many, 0.02);
        }
    }
}

/// Last layers of which the gradients are summed while those of others are computed.
#[test]
fn sums_that_are_under_way_are_those_of_one_rank() {
    let mut wide = dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::Sum);
    if let ModelSpec::Dlrm(m) = &mut wide {
        m.top = vec![130, 140, 1];
    }
    let mut deep = deepfm(false, 0.5, DENSE);
    if let ModelSpec::DeepFm(m) = &mut deep {
        m.hidden = vec![140, 130];
    }
    for (model, micro_batch) in [(wide.clone(), None), (wide, Some(12)), (deep, None)] {
        let config = EngineConfig { micro_batch, ..config(model, rules()[1], 1) };
        let (one, many) = (alone(&config, &LENS[..1]), alone(&config, &LENS));
        for ranks in [2, 3, 8] {
            near(&ranked(&config, ranks, &LENS[..1]), &one, 1e-4);
            let got = ranked(&config, ranks, &LENS);
            let serial = RanksConfig { overlap: false, ..TIMEOUT };
            assert_eq!(got, ranked_as(&config, (ranks, serial), &LENS), "one after the other");
            near(&got, &many, 0.02);
        }
    }
}

#[test]
fn batch_normalisation_goes_by_the_samples_of_all_ranks() {
    let models: Vec<_> = models().into_iter().filter(has_batch_norm).map(by_running).collect();
    let dlrms = models.iter().filter(|m| matches!(m, ModelSpec::Dlrm(_))).count();
    assert!(dlrms > 0 && dlrms < models.len(), "both kinds of model");
    for (i, model) in models.into_iter().enumerate() {
        // A bias before a normalisation has a gradient of rounding alone, which rules that divide by
        // its size would make as large as any.
        let plain = config(model, OptimizerSpec::SGD, 1 + i % 2);
        let (one, many) = (alone(&plain, &LENS[..1]), alone(&plain, &LENS));
        let loss = |seen: &Seen| seen.losses[0].split(' ').next().unwrap().parse::<f64>().unwrap();
        for ranks in [2, 3, 4, 8] {
            let got = ranked(&plain, ranks, &LENS[..1]);
            assert_eq!(got.before, one.before);
            assert!((loss(&got) - loss(&one)).abs() < 2e-5, "{:?} {:?}", got.losses, one.losses);
            near(&got, &one, 1e-4);
            // Some of the later batches have fewer samples than there are ranks.
            near(&ranked(&plain, ranks, &LENS), &many, 0.02);
        }
        let mut other = plain;
        other.optimizer.rule = rules()[(i + 1) % rules().len()];
        assert_eq!(ranked(&other, 3, &LENS), ranked(&other, 3, &LENS), "not reproducible");
    }
}

/// The same model, evaluated by running statistics.
fn by_running(mut model: ModelSpec) -> ModelSpec {
    if let ModelSpec::Dlrm(m) = &mut model {
        m.quirks.batch_stats_in_eval = false;
    }
    model
}

#[test]
fn with_the_quirk_tables_learn_as_many_times_faster() {
    for model in [dlrm(Interaction::Cat, Pooling::Mean), qr(QrOperation::Mult, 6)] {
        let right = config(model, OptimizerSpec::SGD, 1);
        let quirk = EngineConfig { tables_by_ranks: true, ..right.clone() };
        let before = ranked(&right, 4, &[]);
        let (right, wrong) = (ranked(&right, 4, &LENS[..1]), ranked(&quirk, 4, &LENS[..1]));
        let mut moved = 0;
        for (k, spec) in quirk.model.params().iter().enumerate() {
            let of = |seen: &Seen, i: usize| f64::from(f32::from_bits(seen.params[k][i]));
            for i in 0..spec.len() {
                let (a, b) = (of(&right, i) - of(&before, i), of(&wrong, i) - of(&before, i));
                let times = if spec.kind == ParamKind::Table { 4.0 } else { 1.0 };
                assert!((times * a - b).abs() < 1e-6, "{}: {a} {b}", spec.name);
                moved += usize::from(a.abs() > 1e-5);
            }
        }
        assert!(moved > 100, "{moved}");
    }
}

#[test]
fn micro_batches_are_parts_of_a_ranks_samples() {
    let model = dlrm(Interaction::Cat, Pooling::Mean);
    let whole = config(model, OptimizerSpec::SGD, 1);
    let cut = EngineConfig { micro_batch: Some(12), ..whole.clone() };
    let (want, got) = (ranked(&whole, 3, &LENS), ranked(&cut, 3, &LENS));
    assert_eq!(want.before, got.before);
    near(&got, &want, 1e-4);
}

#[test]
fn numbers_of_one_stream_and_of_a_checkpoint_reach_all_ranks() {
    use crate::random::numpy::RandomState;
    let config = config(qr(QrOperation::Mult, 6), rules()[1], 1);
    let source = || InitSource::Numpy { state: RandomState::new(3), seed: 3 };
    let mut init = Initializer::new(&config.model, source());
    let mut first = FusedEngine::new(&config, &mut init).unwrap();
    let want = seen(&mut first, &config.model, &LENS[..2]);
    let tree = EngineConfig { sum_order: SumOrder::Tree, ..config.clone() };
    let start = on_ranks(&tree, 4, source(), |e| seen(e, &config.model, &[]));
    assert_eq!(start.before, want.before);
    // What another training has come to goes in, and comes out.
    let position = first.position().unwrap();
    let got = on_ranks(&tree, 4, InitSource::Philox { seed: 1 }, |e| {
        for (i, bits) in want.params.iter().enumerate() {
            let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
            e.write(i, &values).unwrap();
        }
        for (i, bits) in want.state.iter().enumerate() {
            let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
            e.write_state(i, 0, &values).unwrap();
        }
        e.go_on(position).unwrap();
        assert_eq!(e.position().unwrap(), position);
        seen(e, &config.model, &[])
    });
    assert_eq!((got.before, got.params, got.state), (want.after.clone(), want.params, want.state));
}

#[test]
fn a_loss_that_is_no_number_stops_all_ranks_alike() {
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    on_ranks(&config, 3, InitSource::Philox { seed: 11 }, |e| {
        let good = seen(e, &config.model, &LENS[..2]);
        let mut bad = batch(&config.model, 5, 20);
        // Of a sample of the last rank.
        bad.labels[19] = f32::NAN;
        e.begin_step(Samples::Host(&bad), StepContext::at_rate(0.05)).unwrap();
        assert!(matches!(e.finished(true), Err(EngineError::NotFinite { step: 3, .. })));
        let after = seen(e, &config.model, &[]);
        assert_eq!((after.params, after.state), (good.params, good.state));
        // And all go on.
        assert_eq!(seen(e, &config.model, &[9]).losses.len(), 1);
    });
}

#[test]
fn what_ranks_cannot_do_is_refused() {
    let refused = |config: &EngineConfig, ranks| {
        let comm: Rc<dyn Comm> = Rc::new(threads::ranks(ranks).swap_remove(0));
        let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
        let placement = place(config, ranks, None).unwrap();
        match lead(comm, config, TIMEOUT, placement, &mut init) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("{ranks} ranks"),
        }
    };
    let plain = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    let normalised = EngineConfig { model: deepfm(true, 0.0, 0), ..plain.clone() };
    let cut = EngineConfig { micro_batch: Some(12), ..normalised.clone() };
    assert!(refused(&cut, 2).contains("micro_batches"));
    let slices = EngineConfig { sum_order: SumOrder::Tree, ..normalised };
    assert!(refused(&slices, 2).contains("batch_norm"));
    let by_batch = models().into_iter().find(|m| *m != by_running(m.clone())).unwrap();
    let by_batch = EngineConfig { model: by_batch, ..plain.clone() };
    assert!(refused(&by_batch, 2).contains("bn-batch-stats-in-eval"));
    let mean = dlrm(Interaction::Cat, Pooling::Mean);
    let cut = EngineConfig { split_rows: true, model: mean, ..plain.clone() };
    assert!(refused(&cut, 2).contains("split_rows"));
    let scale = LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 2 };
    let small = EngineConfig { replicate_small: true, ..plain.clone() };
    let scaled = EngineConfig { loss_scale: scale, ..small.clone() };
    assert!(refused(&scaled, 2).contains("loss scaling"));
    let slices = EngineConfig { sum_order: SumOrder::Tree, ..small };
    assert!(refused(&slices, 2).contains("replicate_small"));
    let tree = EngineConfig { sum_order: SumOrder::Tree, ..plain };
    assert!(refused(&tree, 3).contains("1, 2, 4, 8 or 16 ranks"));
}

#[test]
fn a_rank_that_cannot_go_on_is_named() {
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    let mut all = threads::ranks(2).into_iter();
    let first: Rc<dyn Comm> = Rc::new(all.next().unwrap());
    let second = all.next().unwrap();
    let gone = thread::spawn(move || second.fail("cannot allocate 1 bytes for tables"));
    gone.join().unwrap();
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
    let placement = place(&config, 2, None).unwrap();
    let failed = lead(first, &config, TIMEOUT, placement, &mut init);
    let Err(EngineError::Ranks(error @ CommError::Failed { rank: 1, .. })) = failed else {
        panic!("{:?}", failed.err())
    };
    assert_eq!(error.to_string(), "rank 1 (host here): cannot allocate 1 bytes for tables");
}

#[test]
fn samples_are_shared_out_without_a_gap() {
    for samples in [1, 2, 7, 16, 40, 2048] {
        for ranks in 1..=9 {
            let all: Vec<usize> = (0..ranks).flat_map(|r| rows_of(r, ranks, samples)).collect();
            assert_eq!(all, (0..samples).collect::<Vec<_>>());
            let most = (0..ranks).map(|r| rows_of(r, ranks, samples).len()).max().unwrap();
            assert!(most <= samples.div_ceil(ranks));
        }
    }
}

#[test]
fn work_is_placed_evenly_and_memory_is_kept_to() {
    let mut config = config(dlrm(Interaction::Cat, Pooling::Sum), rules()[1], 1);
    let two = place(&config, 2, None).unwrap();
    assert!(two.loads.iter().all(|l| !l.columns.is_empty()) && two.imbalance() <= 4.0 / 3.0);
    let bytes: u64 = two.loads.iter().map(|l| l.bytes).sum();
    // Rows of 6 numbers and as many of state.
    assert_eq!(bytes, ROWS.iter().sum::<usize>() as u64 * 6 * 4 * 2);
    config.max_hotness = vec![1, 9, 1];
    let (three, most) = (place(&config, 3, None).unwrap(), 20 * 6 * 8);
    assert_eq!(three.owners[1], [0]);
    assert_eq!(place(&config, 3, Some(most)).unwrap().loads[0].columns, [1]);
    let refused = place(&config, 3, Some(most - 1)).unwrap_err();
    assert_eq!((refused.column, refused.bytes), (1, most));
    // In two, where that is asked for: for want of memory, or for the work of its ids.
    config.split_rows = true;
    let cut = place(&config, 3, Some(most - 1)).unwrap();
    assert!(cut.owners[1].len() > 1 && cut.loads.iter().all(|l| l.bytes < most));
    config.max_hotness = vec![1, 90, 1];
    let (whole, cut) = (EngineConfig { split_rows: false, ..config.clone() }, config);
    let of = |config| place(config, 3, None).unwrap();
    assert_eq!(of(&cut).owners[1].len(), 3);
    assert!(of(&cut).imbalance() < 1.1 && of(&whole).imbalance() > 2.5);
    let sent = |p: &Placement| p.loads.iter().map(|l| l.sent).sum::<u64>();
    assert!(sent(&of(&cut)) > sent(&of(&whole)), "every share has pooled vectors");
}
