//! The engine as a whole: gradients against differences, threads, learning.

use super::FusedEngine;
use crate::{
    backend::Precision,
    batch::{Bags, Batch},
    embedding::RowKind,
    engine::{Engine, EngineConfig, EngineError},
    model::{
        DeepFmSpec, DlrmQuirks, DlrmSpec, EmbeddingInit, Interaction, LossKind, LossSpec, Md,
        MlpInit, ModelSpec, ParamKind, Pooling, Qr, QrOperation, Trick,
        init::{InitSource, Initializer},
    },
    optim::{
        Adagrad, AdagradDecay, Adam, AdamAsync, AdamForm, AdamRows, LossScaleSpec, OptimizerConfig,
        OptimizerSpec, RowwiseAdagrad,
    },
    random::philox::{Philox, Stream, unit_f32},
};

mod cached;
#[cfg(target_os = "linux")]
mod cached_gpu;
#[cfg(target_os = "linux")]
mod cuda;
mod dcnv2;
mod goes_on;
mod hashed;
mod look;
mod micro_batches;
mod placed;
mod ranks;
#[cfg(target_os = "linux")]
mod ranks_gpu;
mod served;

const ROWS: [usize; 3] = [7, 20, 5];
const DENSE: usize = 5;

fn dlrm(interaction: Interaction, pooling: Pooling) -> ModelSpec {
    ModelSpec::Dlrm(DlrmSpec {
        dense: DENSE,
        dense_pad_to: 4,
        tables: ROWS.to_vec(),
        dim: 6,
        bottom: vec![9, 6],
        top: vec![11, 5, 1],
        interaction,
        pooling,
        trick: Trick::None,
        mlp_init: MlpInit::Facebook,
        embedding_init: EmbeddingInit::Normal { std: 0.5 },
        batch_norm: false,
        quirks: DlrmQuirks::default(),
    })
}

/// Two tables for each column of more than `threshold` ids.
fn qr(operation: QrOperation, threshold: usize) -> ModelSpec {
    let model = dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::Mean);
    let ModelSpec::Dlrm(mut m) = model else { unreachable!() };
    m.trick = Trick::Qr(Qr { operation, threshold, collisions: 3, init_quirk: false });
    *m.bottom.last_mut().unwrap() = m.vectors().d;
    ModelSpec::Dlrm(m)
}

/// DeepRec's: batch normalisation behind each ReLU of the bottom MLP.
fn normalised(interaction: Interaction, quirks: DlrmQuirks) -> ModelSpec {
    match dlrm(interaction, Pooling::Mean) {
        ModelSpec::Dlrm(m) => ModelSpec::Dlrm(DlrmSpec { batch_norm: true, quirks, ..m }),
        other => other,
    }
}

/// Tables of 6, 3 and 2 columns.
fn md(pooling: Pooling) -> ModelSpec {
    let model = dlrm(Interaction::Dot { self_interaction: false, pad_to: 1 }, pooling);
    let ModelSpec::Dlrm(mut m) = model else { unreachable!() };
    m.trick = Trick::Md(Md { temperature: 0.8, threshold: 5, round_dims: false });
    let mut dims: Vec<usize> = m.table_specs().iter().map(|t| t.dim).collect();
    dims.sort_unstable();
    assert_eq!(dims, [2, 5, 6]);
    ModelSpec::Dlrm(m)
}

fn deepfm(batch_norm: bool, dropout: f32, dense: usize) -> ModelSpec {
    ModelSpec::DeepFm(DeepFmSpec {
        tables: ROWS.to_vec(),
        dense,
        dim: 4,
        hidden: vec![9, 7],
        batch_norm,
        dropout,
        embedding_l2: 0.01,
        mlp_init: MlpInit::TorchLinear,
        embedding_init: EmbeddingInit::Normal { std: 0.3 },
    })
}

fn models() -> Vec<ModelSpec> {
    vec![
        dlrm(Interaction::Dot { self_interaction: false, pad_to: 1 }, Pooling::Sum),
        dlrm(Interaction::Dot { self_interaction: true, pad_to: 8 }, Pooling::Mean),
        dlrm(Interaction::Cat, Pooling::WeightedLearned),
        dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::WeightedFixed),
        dlrm(Interaction::Cross { layers: 1, rank: None }, Pooling::Sum),
        dlrm(Interaction::Cross { layers: 3, rank: Some(4) }, Pooling::Mean),
        dlrm(Interaction::Projection { branches: [vec![13, 12], vec![18]] }, Pooling::Sum),
        qr(QrOperation::Mult, 6),
        qr(QrOperation::Add, 5),
        normalised(Interaction::Cat, DlrmQuirks { dead_top: true, batch_stats_in_eval: true }),
        normalised(Interaction::Dot { self_interaction: false, pad_to: 8 }, DlrmQuirks::default()),
        md(Pooling::WeightedLearned),
        deepfm(false, 0.0, DENSE),
        deepfm(true, 0.0, 0),
        deepfm(true, 0.3, DENSE),
        deepfm(false, 0.5, 0),
    ]
}

fn config(model: ModelSpec, rule: OptimizerSpec, threads: usize) -> EngineConfig {
    EngineConfig {
        model,
        loss: LossSpec { kind: LossKind::Bce, clamp: 0.0, of_probability: false },
        optimizer: OptimizerConfig { rule, learning_rate: 0.1, clip_norm: None },
        max_batch: 40,
        hashed: None,
        cached: None,
        stand_for: Vec::new(),
        micro_batch: None,
        last_part_only: false,
        ranks: 1,
        sum_order: Default::default(),
        split_rows: false,
        replicate_small: false,
        tables_by_ranks: false,
        max_hotness: vec![3; ROWS.len()],
        threads,
        pin_threads: false,
        embedding_rows: RowKind::Fp32,
        precision: Precision::Fp32,
        fp32_interaction: false,
        loss_scale: LossScaleSpec::Off,
        seed: 5,
    }
}

fn engine(config: &EngineConfig) -> FusedEngine {
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
    FusedEngine::new(config, &mut init).unwrap()
}

/// Bags of 0 to 3 ids; the label depends on one id and one dense feature.
fn batch(model: &ModelSpec, number: u64, len: usize) -> Batch {
    let dense = match model {
        ModelSpec::Dlrm(m) => m.dense,
        ModelSpec::DeepFm(m) => m.dense,
    };
    let g = Philox::new(99, Stream::Planted, number);
    let mut position = 0;
    let mut draw = || {
        position += 1;
        g.block(position)[0]
    };
    let mut b = Batch { bags: vec![Bags::default(); ROWS.len()], ..Batch::default() };
    b.clear();
    b.len = len;
    for _ in 0..len {
        b.dense.extend((0..dense).map(|_| unit_f32(draw()) * 2.0 - 1.0));
        for (bags, &rows) in b.bags.iter_mut().zip(&ROWS) {
            let hotness = draw() % 4;
            bags.push((0..hotness).map(|_| draw() % rows as u32).collect::<Vec<_>>());
        }
        let id = b.bags[1].bag(b.labels.len()).first().map_or(0, |&id| id % 2);
        b.labels.push(id as f32);
    }
    b
}

fn rules() -> Vec<OptimizerSpec> {
    let adam =
        |form, rows| OptimizerSpec::Adam(Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, form, rows });
    let adam_async = |nesterov, apply_sparse_rmsprop| {
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
        OptimizerSpec::AdamAsync(AdamAsync { beta1, beta2, eps, nesterov, apply_sparse_rmsprop })
    };
    vec![
        OptimizerSpec::SGD,
        OptimizerSpec::Adagrad(Adagrad { eps: 1e-10, initial_accumulator: 0.1, lr_decay: 0.001 }),
        OptimizerSpec::RowwiseAdagrad(RowwiseAdagrad { eps: 1e-10, initial_accumulator: 0.0 }),
        adam(AdamForm::Torch, AdamRows::Dense),
        adam(AdamForm::Tf, AdamRows::Lazy),
        OptimizerSpec::AdagradDecay(AdagradDecay {
            initial_accumulator: 0.1,
            decay_step: 1,
            decay_rate: 0.5,
        }),
        adam_async(true, false),
        adam_async(false, true),
    ]
}

fn all_params(e: &FusedEngine) -> Vec<Vec<f32>> {
    let mut out: Vec<Vec<f32>> = e.params().iter().map(|s| vec![0.0; s.len()]).collect();
    out.iter_mut().enumerate().for_each(|(i, p)| e.read(i, p).unwrap());
    out
}

#[test]
fn gradients_are_the_derivatives_of_the_loss() {
    for model in models() {
        let l2 = if let ModelSpec::DeepFm(m) = &model { m.embedding_l2 } else { 0.0 };
        let config = config(model, OptimizerSpec::SGD, 2);
        let mut e = engine(&config);
        let b = batch(&config.model, 1, 13);
        let (loss, gradients) = e.gradients(&b).unwrap();
        assert!(loss.is_finite());
        let start = all_params(&e);
        for (index, spec) in e.params().to_vec().iter().enumerate() {
            let frozen = spec.kind == ParamKind::RowWeight
                && matches!(&config.model, ModelSpec::Dlrm(m) if m.pooling == Pooling::WeightedFixed);
            if frozen || matches!(spec.kind, ParamKind::RunningMean | ParamKind::RunningVar) {
                assert!(gradients[index].iter().all(|&g| g == 0.0), "{}", spec.name);
                continue;
            }
            // Along the gradient itself the change is largest, so that f32 forward passes resolve
            // it.
            let g = &gradients[index];
            let norm = g.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            if spec.name.contains("dnn") && spec.kind == ParamKind::Bias && norm < 1e-6 {
                continue; // cancelled by the batch normalisation behind it
            }
            if unused(&config.model, spec) {
                assert_eq!(norm, 0.0, "{}", spec.name);
                continue;
            }
            assert!(norm > 1e-7, "{} has no gradient", spec.name);
            let h = 4e-4f64;
            let mut at = |sign: f64| {
                let moved: Vec<f32> = start[index]
                    .iter()
                    .zip(g)
                    .map(|(&p, &g)| (f64::from(p) + sign * h * f64::from(g) / norm) as f32)
                    .collect();
                e.write(index, &moved).unwrap();
                let (loss, _) = e.gradients(&b).unwrap();
                let regular = if spec.kind == ParamKind::Table {
                    f64::from(l2) / 2.0
                        * moved.iter().map(|&p| f64::from(p) * f64::from(p)).sum::<f64>()
                } else {
                    0.0
                };
                f64::from(loss) + regular
            };
            let (left, here, right) = (at(-1.0), at(0.0), at(1.0));
            e.write(index, &start[index]).unwrap();
            // A ReLU may switch on one side, rarely on both.
            let fits = |slope: f64| (slope / h - norm).abs() < 1e-2 * norm + 1e-3;
            assert!(
                fits(right - here) || fits(here - left),
                "{:?} {}: {left} {here} {right} {norm}",
                config.model,
                spec.name
            );
        }
    }
}

/// Whether nothing is computed with a parameter.
fn unused(model: &ModelSpec, spec: &crate::model::ParamSpec) -> bool {
    let dead = if let ModelSpec::Dlrm(m) = model { m.dead_layers() } else { 0 };
    (0..dead).any(|i| spec.name.starts_with(&format!("{}.", crate::model::top_layer(i))))
}

/// DeepRec's top MLP of 11, 5 and 1 is one of 5 and 1: the others are there, and stay what they are.
#[test]
fn dead_layers_are_neither_used_nor_trained() {
    let dot = Interaction::Dot { self_interaction: false, pad_to: 1 };
    let ModelSpec::Dlrm(m) = dlrm(dot, Pooling::Sum) else { unreachable!() };
    let quirks = DlrmQuirks { dead_top: true, ..DlrmQuirks::default() };
    let dead = ModelSpec::Dlrm(DlrmSpec { quirks, ..m.clone() });
    let short = ModelSpec::Dlrm(DlrmSpec { top: vec![5, 1], ..m });
    for rule in rules() {
        let configs = [&dead, &short].map(|model| config(model.clone(), rule, 2));
        let [mut whole, mut live] = configs.each_ref().map(engine);
        let lone: Vec<bool> = whole.params().iter().map(|spec| unused(&dead, spec)).collect();
        assert_eq!(lone.iter().filter(|&&lone| lone).count(), 2, "a weight and a bias");
        let used = |all: Vec<Vec<f32>>, want: bool| -> Vec<Vec<f32>> {
            all.into_iter().zip(&lone).filter(|(_, lone)| **lone == want).map(|(p, _)| p).collect()
        };
        let before = all_params(&whole);
        for (i, values) in used(before.clone(), false).iter().enumerate() {
            live.write(i, values).unwrap();
        }
        for i in 0..4 {
            let b = batch(&dead, i, 40);
            assert_eq!(whole.train_step(&b, 0.1).unwrap(), live.train_step(&b, 0.1).unwrap());
        }
        let after = all_params(&whole);
        assert!(used(after.clone(), false) == all_params(&live), "{rule:?}");
        assert!(used(after, true) == used(before, true), "{rule:?}");
    }
}

/// With the quirk, an evaluation sees what training sees: the loss of the predictions is that of the
/// step. Without it, the running statistics decide, and only there do they move.
#[test]
fn batch_normalisation_in_evaluations_goes_by_the_batch_if_asked_to() {
    for by_batch in [true, false] {
        let quirks = DlrmQuirks { batch_stats_in_eval: by_batch, ..DlrmQuirks::default() };
        let config = config(normalised(Interaction::Cat, quirks), OptimizerSpec::SGD, 2);
        let mut e = engine(&config);
        let running = |e: &FusedEngine| -> Vec<Vec<f32>> {
            let kind = |i: usize| e.params()[i].kind;
            let kept =
                |i: &usize| matches!(kind(*i), ParamKind::RunningMean | ParamKind::RunningVar);
            let all = all_params(e);
            (0..all.len()).filter(kept).map(|i| all[i].clone()).collect()
        };
        let before = running(&e);
        for i in 0..5 {
            e.train_step(&batch(&config.model, i, 40), 0.1).unwrap();
        }
        assert_eq!(running(&e) == before, by_batch);
        let b = batch(&config.model, 9, 33);
        let mut p = vec![0.0; b.len];
        e.predict(&b, &mut p).unwrap();
        let terms = p.iter().zip(&b.labels).map(|(&p, &y)| {
            let p = f64::from(p);
            if y == 1.0 { -p.ln() } else { -(1.0 - p).ln() }
        });
        let of_predictions = terms.sum::<f64>() / b.len as f64;
        let (of_step, _) = e.gradients(&b).unwrap();
        assert_eq!((of_predictions - f64::from(of_step)).abs() < 1e-5, by_batch);
    }
}

#[test]
fn a_step_of_sgd_follows_the_gradient() {
    for model in models() {
        let config = config(model, OptimizerSpec::SGD, 2);
        let mut e = engine(&config);
        let b = batch(&config.model, 2, 40);
        let before = all_params(&e);
        let (loss, gradients) = e.gradients(&b).unwrap();
        assert_eq!(e.train_step(&b, 0.25).unwrap(), loss);
        for (index, (after, spec)) in all_params(&e).iter().zip(e.params()).enumerate() {
            if matches!(spec.kind, ParamKind::RunningMean | ParamKind::RunningVar) {
                continue;
            }
            for ((a, b), g) in after.iter().zip(&before[index]).zip(&gradients[index]) {
                assert!((a - (b - 0.25 * g)).abs() <= 1e-6, "{}: {a} {b} {g}", spec.name);
            }
        }
    }
}

#[test]
fn clipping_scales_by_the_norm_of_all_gradients() {
    for model in models() {
        let mut config = config(model, OptimizerSpec::SGD, 2);
        config.optimizer.clip_norm = Some(0.01);
        let mut e = engine(&config);
        let b = batch(&config.model, 3, 40);
        let before = all_params(&e);
        e.train_step(&b, 1.0).unwrap();
        let mut moved = 0.0;
        for ((a, b), spec) in all_params(&e).iter().zip(&before).zip(e.params()) {
            if !matches!(spec.kind, ParamKind::RunningMean | ParamKind::RunningVar) {
                moved += a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            }
        }
        assert!((moved.sqrt() - 0.01).abs() < 1e-4, "{}", moved.sqrt());
    }
}

fn scaling(precision: Precision) -> LossScaleSpec {
    match precision {
        Precision::Fp16 => LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 7 },
        _ => LossScaleSpec::Off,
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (m, model) in models().into_iter().enumerate() {
        for (r, rule) in rules().into_iter().enumerate() {
            let precision = Precision::ALL[(m + r) % 3];
            let mut first: Option<(Vec<f32>, Vec<Vec<f32>>)> = None;
            for threads in [1, 2, 3] {
                let mut config = config(model.clone(), rule, threads);
                config.optimizer.clip_norm = Some(1.0);
                // Every precision has its turn.
                config.precision = precision;
                config.loss_scale = scaling(precision);
                let mut e = engine(&config);
                // Products of vectors run away from a large rate.
                let tricky = matches!(&model, ModelSpec::Dlrm(m) if !m.trick.is_none());
                let rate = if tricky { 0.002 } else { 0.05 };
                let losses: Vec<f32> = (0..20)
                    .map(|i| {
                        e.train_step(&batch(&config.model, i, 40 - i as usize % 3), rate).unwrap()
                    })
                    .collect();
                let result = (losses, all_params(&e));
                assert!(
                    *first.get_or_insert_with(|| result.clone()) == result,
                    "{rule:?} {threads} threads"
                );
            }
        }
    }
}

#[test]
fn gradients_in_16_bits_are_near_those_in_32() {
    for model in models() {
        let exact = config(model.clone(), OptimizerSpec::SGD, 2);
        let b = batch(&model, 4, 40);
        let (loss, want) = engine(&exact).gradients(&b).unwrap();
        // A rounding to bf16 is 2^-9 at most, to f16 2^-12; several follow each other, one a product
        // of the five of a plain DLRM's MLPs, and those of an interaction's layers.
        let more = match &model {
            ModelSpec::Dlrm(DlrmSpec {
                interaction: Interaction::Cross { layers, rank }, ..
            }) => layers * (1 + usize::from(rank.is_some())),
            _ => 0,
        };
        let deeper = (5 + more) as f64 / 5.0;
        for (precision, loss_scale, tolerance) in [
            (Precision::Bf16, LossScaleSpec::Off, 0.03),
            (Precision::Fp16, LossScaleSpec::Off, 0.004),
            (Precision::Fp16, LossScaleSpec::Static { scale: 1024.0 }, 0.004),
        ] {
            let config = EngineConfig { precision, loss_scale, ..exact.clone() };
            let (rounded_loss, got) = engine(&config).gradients(&b).unwrap();
            assert!(
                (rounded_loss - loss).abs() < tolerance && rounded_loss != loss,
                "{precision:?} {loss} {rounded_loss}"
            );
            // Norms over everything: a ReLU near its kink may fall on the other side and change a
            // row that one sample alone touches.
            let norm = |g: &mut dyn Iterator<Item = f64>| g.map(|g| g * g).sum::<f64>().sqrt();
            let pairs = || got.iter().flatten().zip(want.iter().flatten());
            let gap = norm(&mut pairs().map(|(g, w)| f64::from(g - w)));
            let size = norm(&mut pairs().map(|(_, w)| f64::from(*w)));
            assert!(
                gap > 0.0 && gap < deeper * f64::from(2.0 * tolerance) * size,
                "{precision:?} {:?}: {gap} of {size}",
                model
            );
        }
    }
}

#[test]
fn a_step_that_overflows_is_skipped_and_counted() {
    let model = dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::Sum);
    let b = batch(&model, 1, 40);
    let mut config = config(model, OptimizerSpec::SGD, 2);
    config.precision = Precision::Fp16;
    config.loss_scale = LossScaleSpec::Static { scale: 2f64.powi(40) };
    let mut e = engine(&config);
    let before = all_params(&e);
    e.train_step(&b, 0.1).unwrap();
    assert!(all_params(&e) == before && e.loss_scale().is_some_and(|s| s.skipped_steps == 1));

    config.loss_scale = LossScaleSpec::Dynamic { initial: 2f64.powi(40), growth_steps: 1000 };
    let mut e = engine(&config);
    for _ in 0..40 {
        e.train_step(&b, 0.1).unwrap();
    }
    let scale = e.loss_scale().unwrap();
    assert!(
        all_params(&e) != before && scale.skipped_steps > 0 && scale.skipped_steps < 40,
        "{scale:?}"
    );
    assert_eq!(scale.scale, 2f64.powi(40 - scale.skipped_steps as i32));
}

/// Scaling by a power of two and back changes no bit as long as nothing over- or underflows,
/// regularisation and clipping included.
#[test]
fn a_loss_scale_by_itself_changes_nothing() {
    for model in models() {
        let plain = config(model, OptimizerSpec::SGD, 2);
        let mut scaled = plain.clone();
        scaled.loss_scale = LossScaleSpec::Static { scale: 256.0 };
        for clip in [None, Some(0.05)] {
            let run = |config: &EngineConfig| {
                let mut config = config.clone();
                config.optimizer.clip_norm = clip;
                let mut e = engine(&config);
                for i in 0..3 {
                    e.train_step(&batch(&config.model, i, 40), 0.1).unwrap();
                }
                all_params(&e)
            };
            for (a, b) in run(&plain).iter().flatten().zip(run(&scaled).iter().flatten()) {
                assert!((a - b).abs() <= 1e-6 * (1.0 + a.abs()), "{a} {b}");
            }
        }
    }
}

#[test]
fn every_model_learns_with_every_rule() {
    for model in models() {
        for rule in rules() {
            let config = config(model.clone(), rule, 1);
            let rate = match rule {
                OptimizerSpec::SGD => 0.5,
                OptimizerSpec::AdamAsync(r) if r.apply_sparse_rmsprop => 0.003,
                OptimizerSpec::Adam(_) | OptimizerSpec::AdamAsync(_) => 0.02,
                _ => 0.3,
            };
            let mut e = engine(&config);
            let losses: Vec<f32> = (0..300)
                .map(|i| e.train_step(&batch(&config.model, i, 40), rate).unwrap())
                .collect();
            let mean = |l: &[f32]| l.iter().sum::<f32>() / l.len() as f32;
            let (early, late) = (mean(&losses[..20]), mean(&losses[280..]));
            assert!(late < 0.8 * early, "{:?} {rule:?}: {early} -> {late}", config.model);
        }
    }
}

#[test]
fn predictions_are_probabilities_and_change_nothing() {
    for model in models() {
        let config = config(model, OptimizerSpec::SGD, 2);
        let mut e = engine(&config);
        e.train_step(&batch(&config.model, 0, 40), 0.1).unwrap();
        let before = all_params(&e);
        let b = batch(&config.model, 4, 17);
        let mut out = vec![9.0; 20];
        e.predict(&b, &mut out).unwrap();
        assert!(out[..17].iter().all(|p| (0.0..=1.0).contains(p)) && out[17..] == [9.0; 3]);
        let mut again = vec![0.0; 17];
        e.predict(&b, &mut again).unwrap();
        assert_eq!(again, out[..17]);
        assert_eq!(all_params(&e), before);
    }
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let config = config(models().remove(0), OptimizerSpec::SGD, 1);
    let mut e = engine(&config);
    let good = batch(&config.model, 1, 8);
    let mut refused = |change: &dyn Fn(&mut Batch), word: &str| {
        let mut b = good.clone();
        change(&mut b);
        match e.train_step(&b, 0.1) {
            Err(EngineError::Shape(what)) => assert!(what.contains(word), "{what}"),
            other => panic!("{other:?}"),
        }
    };
    refused(&|b| b.len = 0, "0 samples");
    refused(&|b| *b = batch(&config.model, 1, 41), "41 samples; the engine takes 1 to 40");
    refused(&|b| b.bags.truncate(2), "2 categorical columns");
    refused(&|b| b.dense.truncate(3), "3 dense values");
    refused(&|b| b.labels.truncate(7), "7 labels");
    refused(&|b| b.bags[0].offsets.truncate(8), "table 0: the 8 offsets");
    refused(&|b| b.bags[1].indices[0] = 20, "id 20 in a table of 20 rows");
    let many = |b: &mut Batch| {
        *b = batch(&config.model, 1, 40);
        b.bags[2].clear();
        (0..40).for_each(|_| b.bags[2].push([0, 1, 2, 3]));
    };
    refused(&many, "table 2: 160 ids in 40 samples of at most 3");
    assert!(e.train_step(&good, 0.1).is_ok());
    assert!(matches!(e.write(0, &[0.0]), Err(EngineError::Shape(_))));
}

/// A step with split rows is a step in f32 whose lookups see the rows rounded: the same gradients,
/// applied to the rows themselves.
#[test]
fn split_rows_train_as_f32_masters_with_rounded_lookups() {
    let plain = config(
        dlrm(Interaction::Dot { self_interaction: false, pad_to: 1 }, Pooling::Sum),
        OptimizerSpec::SGD,
        2,
    );
    let split = EngineConfig { embedding_rows: RowKind::Bf16Split, ..plain.clone() };
    let (mut a, mut b) = (engine(&split), engine(&plain));
    assert_eq!(all_params(&a), all_params(&b), "masters begin as f32");
    let is_table: Vec<bool> = a.params().iter().map(|p| p.kind == ParamKind::Table).collect();
    let mut masters = all_params(&b);
    for step in 0..6 {
        let batch = batch(&plain.model, step, 40);
        for i in (0..masters.len()).filter(|&i| is_table[i]) {
            let rounded: Vec<f32> = masters[i]
                .iter()
                .map(|x| f32::from_bits(x.to_bits().wrapping_add(0x8000) & 0xffff_0000))
                .collect();
            b.write(i, &rounded).unwrap();
        }
        let (loss, gradients) = b.gradients(&batch).unwrap();
        assert_eq!(a.train_step(&batch, 0.5).unwrap().to_bits(), loss.to_bits(), "step {step}");
        b.train_step(&batch, 0.5).unwrap();
        let (new, dense) = (all_params(&a), all_params(&b));
        for i in 0..masters.len() {
            if is_table[i] {
                masters[i].iter_mut().zip(&gradients[i]).for_each(|(p, g)| *p -= 0.5 * g);
            } else {
                masters[i].clone_from(&dense[i]);
            }
        }
        assert_eq!(new, masters, "step {step}");
    }
}

#[test]
fn rows_in_16_bits_learn_and_do_not_depend_on_threads() {
    for kind in [RowKind::Bf16, RowKind::Fp16, RowKind::Bf16Split] {
        for model in [dlrm(Interaction::Cat, Pooling::Mean), deepfm(true, 0.0, DENSE)] {
            let mut first: Option<Vec<Vec<f32>>> = None;
            for threads in [1, 3] {
                let config = config(
                    model.clone(),
                    OptimizerSpec::Adagrad(Adagrad {
                        eps: 1e-10,
                        initial_accumulator: 0.1,
                        lr_decay: 0.0,
                    }),
                    threads,
                );
                let mut e = engine(&EngineConfig { embedding_rows: kind, ..config });
                let losses: Vec<f32> = (0..150)
                    .map(|i| e.train_step(&batch(&model, i % 10, 40), 0.3).unwrap())
                    .collect();
                let mean = |l: &[f32]| l.iter().sum::<f32>() / l.len() as f32;
                assert!(mean(&losses[140..]) < 0.7 * mean(&losses[..10]), "{kind:?}: {losses:?}");
                let params = all_params(&e);
                assert_eq!(
                    first.get_or_insert_with(|| params.clone()),
                    &params,
                    "{kind:?}, {threads} threads"
                );
                // What is read is what there is: writing it back changes nothing.
                for (i, p) in params.iter().enumerate() {
                    e.write(i, p).unwrap();
                }
                assert_eq!(all_params(&e), params);
            }
        }
    }
}
