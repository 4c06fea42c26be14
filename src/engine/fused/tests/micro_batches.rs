//! Batches in parts against whole ones: on the CPU, and on a GPU, emulated where there is none.

use super::*;
use proptest::prelude::*;

/// Samples of a batch, at most.
const LEN: usize = 40;

/// Whether a model has batch normalisation, which goes by the statistics of each part.
fn normalised(model: &ModelSpec) -> bool {
    match model {
        ModelSpec::Dlrm(m) => m.batch_norm,
        ModelSpec::DeepFm(m) => m.batch_norm,
    }
}

/// Models whose results do not depend on how a batch is cut.
fn plain() -> Vec<ModelSpec> {
    let mut all = models();
    all.push(qr(QrOperation::Concat, 0));
    all.push(dlrm(Interaction::Cat, Pooling::Sum));
    all.retain(|model| !normalised(model));
    all
}

fn dropped(model: &ModelSpec) -> bool {
    matches!(model, ModelSpec::DeepFm(m) if m.dropout > 0.0)
}

/// The same in parts of `part` samples.
fn cut(config: &EngineConfig, part: usize) -> EngineConfig {
    EngineConfig { micro_batch: Some(part), ..config.clone() }
}

/// Distance of two sets of numbers as a share of the length of the second.
fn gap(got: &[Vec<f32>], want: &[Vec<f32>]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = || got.iter().flatten().zip(want.iter().flatten());
    let apart = norm(&mut pairs().map(|(g, w)| f64::from(*g) - f64::from(*w)));
    apart / norm(&mut pairs().map(|(_, w)| f64::from(*w))).max(1e-12)
}

fn predict(e: &mut dyn Engine, b: &Batch) -> Vec<f32> {
    let mut out = vec![0.0; b.len];
    e.predict(b, &mut out).unwrap();
    out
}

/// What a sample's own numbers make has the same bits, whatever it is computed beside: logits,
/// predictions, gradients of pooled vectors and so those of tables. Gradients of layers are the same
/// sums in another order.
fn check_gradients(
    config: &EngineConfig,
    make: &mut dyn FnMut(&EngineConfig) -> Box<dyn Engine>,
    len: usize,
    part: usize,
) -> Result<(), TestCaseError> {
    let (mut whole, mut parts) = (make(config), make(&cut(config, part)));
    let b = batch(&config.model, 1, len);
    let ((loss, want), (got_loss, got)) =
        (whole.gradients(&b).unwrap(), parts.gradients(&b).unwrap());
    prop_assert!((loss - got_loss).abs() <= 1e-6 * loss.abs(), "{loss} {got_loss}");
    for (i, spec) in whole.params().iter().enumerate() {
        let of_rows = matches!(spec.kind, ParamKind::Table | ParamKind::RowWeight);
        prop_assert!(!of_rows || got[i] == want[i], "{}: {:?} {:?}", spec.name, got[i], want[i]);
    }
    prop_assert!(gap(&got, &want) < 1e-5, "{}", gap(&got, &want));
    prop_assert_eq!(predict(&mut *whole, &b), predict(&mut *parts, &b));
    Ok(())
}

/// Steps of training, the last with a short batch; how far the parameters are apart.
fn check_training(
    config: &EngineConfig,
    make: &mut dyn FnMut(&EngineConfig) -> Box<dyn Engine>,
    len: usize,
    part: usize,
) -> Result<(), TestCaseError> {
    let (mut whole, mut parts) = (make(config), make(&cut(config, part)));
    let params = |e: &dyn Engine| -> Vec<Vec<f32>> {
        let read = |(i, spec): (usize, &crate::model::ParamSpec)| {
            let mut out = vec![0.0; spec.len()];
            e.read(i, &mut out).unwrap();
            out
        };
        e.params().iter().enumerate().map(read).collect()
    };
    prop_assert!(params(&*whole) == params(&*parts), "the same start");
    // What is nearly zero but for rounding makes a full step of most rules; in 16 bits numbers
    // beside a border fall on the other side of it.
    let rounded = config.precision != Precision::Fp32 || config.embedding_rows != RowKind::Fp32;
    let tolerance = match (config.optimizer.rule, rounded) {
        (OptimizerSpec::Sgd(_), false) => 1e-5,
        (_, false) => 1e-3,
        (OptimizerSpec::Sgd(_), true) => 2e-3,
        (_, true) => 2e-2,
    };
    for step in 0..3 {
        let b = batch(&config.model, step, if step == 2 { len.div_ceil(2) } else { len });
        let (want, got) =
            (whole.train_step(&b, 0.01).unwrap(), parts.train_step(&b, 0.01).unwrap());
        prop_assert!((want - got).abs() <= tolerance as f32 * want.abs(), "{want} {got}");
    }
    let apart = gap(&params(&*parts), &params(&*whole));
    prop_assert!(apart < tolerance, "{apart}");
    prop_assert_eq!(whole.loss_scale(), parts.loss_scale());
    Ok(())
}

/// A configuration by numbers: model, rule, precision, form of rows, clipping.
fn drawn(model: ModelSpec, (r, p, k): (usize, usize, usize), clip: bool) -> EngineConfig {
    let rules = rules();
    let mut config = config(model, rules[r % rules.len()], 2);
    config.precision = [Precision::Fp32, Precision::Bf16, Precision::Fp16][p % 3];
    config.loss_scale = match p % 4 {
        3 => LossScaleSpec::Static { scale: 256.0 },
        _ => scaling(config.precision),
    };
    config.embedding_rows = RowKind::ALL[k % 4];
    config.optimizer.clip_norm = clip.then_some(0.05);
    config
}

fn on_cpu(config: &EngineConfig) -> Box<dyn Engine> {
    Box::new(engine(config))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn gradients_of_parts_are_those_of_the_batch(
        m in 0usize..99, p in 0usize..12, len in 1usize..=LEN, parts in 1usize..=5,
    ) {
        let models = plain();
        let config = drawn(models[m % models.len()].clone(), (0, p, 0), false);
        check_gradients(&config, &mut on_cpu, len, len.div_ceil(parts))?;
    }

    #[test]
    fn training_in_parts_goes_the_way_of_whole_batches(
        m in 0usize..99, r in 0usize..99, p in 0usize..12, k in 0usize..4, clip in any::<bool>(),
        len in 2usize..=LEN, parts in 1usize..=5,
    ) {
        let models = plain();
        let config = drawn(models[m % models.len()].clone(), (r, p, k), clip);
        check_training(&config, &mut on_cpu, len, len.div_ceil(parts))?;
    }
}

/// Each part by itself, as a batch: what it has to do with the others is its share of the samples
/// and, with batch normalisation, the running statistics that it goes on from.
#[test]
fn a_batch_is_the_mean_of_its_parts() {
    for model in models() {
        if dropped(&model) {
            // A mask goes by the place of a sample in its batch.
            continue;
        }
        let config = config(model, OptimizerSpec::SGD, 2);
        let b = batch(&config.model, 3, LEN);
        let mut parts = engine(&cut(&config, 15));
        let (loss, got) = parts.gradients(&b).unwrap();
        let mut alone = engine(&config);
        let mut want: Vec<Vec<f32>> = got.iter().map(|g| vec![0.0; g.len()]).collect();
        let mut mean = 0.0;
        for samples in [0..15, 15..30, 30..40] {
            let share = samples.len() as f32 / LEN as f32;
            let part = samples_of(&b, samples);
            let (loss, gradients) = alone.gradients(&part).unwrap();
            mean += share * loss;
            for (want, g) in want.iter_mut().flatten().zip(gradients.iter().flatten()) {
                *want += share * g;
            }
            alone.train_step(&part, 0.0).unwrap();
        }
        assert!((loss - mean).abs() < 1e-6, "{loss} {mean}");
        assert!(gap(&got, &want) < 1e-5, "{} {:?}", gap(&got, &want), config.model);
        parts.train_step(&b, 0.0).unwrap();
        assert!(all_params(&parts) == all_params(&alone), "running statistics: {:?}", config.model);
    }
}

/// With the quirk a step is that of its last part as a batch of its own, bit for bit; its loss is
/// that of all samples.
fn check_last_part(config: &EngineConfig, make: &mut dyn FnMut(&EngineConfig) -> Box<dyn Engine>) {
    let drops = EngineConfig { last_part_only: true, ..cut(config, 15) };
    let (mut quirk, mut whole, mut alone) = (make(&drops), make(&cut(config, 15)), make(config));
    let read = |e: &dyn Engine, i: usize| {
        let mut out = vec![0.0; e.params()[i].len()];
        e.read(i, &mut out).unwrap();
        out
    };
    for step in 0..3 {
        let b = batch(&config.model, step, LEN);
        let loss = quirk.train_step(&b, 0.1).unwrap();
        if step == 0 {
            assert_eq!(loss, whole.train_step(&b, 0.1).unwrap());
        }
        alone.train_step(&samples_of(&b, 30..40), 0.1).unwrap();
        for i in 0..alone.params().len() {
            let name = &alone.params()[i].name;
            assert!(read(&*quirk, i) == read(&*alone, i), "{name}: {:?}", config.optimizer.rule);
        }
    }
}

/// Facebook's rules.
fn rules_of_facebook() -> [OptimizerSpec; 3] {
    ["sgd", "adagrad", "rowwise_adagrad"]
        .map(|kind| *rules().iter().find(|rule| rule.kind() == kind).unwrap())
}

#[test]
fn of_dropped_parts_nothing_is_left_but_their_loss() {
    for model in plain().into_iter().filter(|m| matches!(m, ModelSpec::Dlrm(_))) {
        for rule in rules_of_facebook() {
            let mut config = config(model.clone(), rule, 2);
            check_last_part(&config, &mut on_cpu);
            config.embedding_rows = RowKind::Bf16;
            check_last_part(&config, &mut on_cpu);
        }
    }
}

/// Some samples of a batch.
fn samples_of(b: &Batch, samples: std::ops::Range<usize>) -> Batch {
    let width = b.dense.len() / b.len;
    let mut part = Batch { len: samples.len(), ..Batch::default() };
    part.dense.extend_from_slice(&b.dense[samples.start * width..samples.end * width]);
    part.labels.extend_from_slice(&b.labels[samples.clone()]);
    part.bags = b.bags.clone();
    for (to, from) in part.bags.iter_mut().zip(&b.bags) {
        to.clear();
        samples.clone().for_each(|s| to.push(from.bag(s).to_vec()));
    }
    part
}

#[test]
fn a_gradient_that_overflows_in_one_part_skips_the_step() {
    let model = dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::Sum);
    let b = batch(&model, 1, LEN);
    let mut config = cut(&config(model, OptimizerSpec::SGD, 2), 16);
    config.precision = Precision::Fp16;
    config.loss_scale = LossScaleSpec::Static { scale: 2f64.powi(40) };
    let mut e = engine(&config);
    let before = all_params(&e);
    e.train_step(&b, 0.1).unwrap();
    assert!(all_params(&e) == before && e.loss_scale().is_some_and(|s| s.skipped_steps == 1));
}

/// In whichever part it is.
#[test]
fn a_loss_that_is_no_number_in_one_part_ends_the_training() {
    let model = dlrm(Interaction::Cat, Pooling::Sum);
    let config = cut(&config(model, OptimizerSpec::SGD, 2), 16);
    for at in [3, 20, 39] {
        let mut e = engine(&config);
        let before = all_params(&e);
        let mut b = batch(&config.model, 1, LEN);
        b.labels[at] = f32::NAN;
        assert!(matches!(e.train_step(&b, 0.1), Err(EngineError::NotFinite { step: 1, .. })));
        assert_eq!(all_params(&e), before);
        assert!(e.train_step(&batch(&config.model, 1, LEN), 0.1).is_ok());
    }
}

#[cfg(target_os = "linux")]
mod on_a_gpu {
    use super::*;
    use crate::backend::cuda::testing::devices;

    #[test]
    fn parts_are_those_of_the_batch() {
        for (d, driver) in devices().into_iter().enumerate() {
            let mut make = |config: &EngineConfig| -> Box<dyn Engine> {
                Box::new(super::super::cuda::on(&driver, config))
            };
            for (m, model) in plain().into_iter().enumerate() {
                let (len, part) = [(40, 10), (40, 32), (33, 16), (17, 5)][(m + d) % 4];
                let gradients = drawn(model.clone(), (0, m + d, 0), false);
                let training = drawn(model, (m + d, m + d + 1, m), m % 2 == 0);
                let real = driver.device().name != "emulated";
                if !real {
                    check_gradients(&gradients, &mut make, len, part).unwrap();
                }
                check_training(&training, &mut make, len, part).unwrap();
            }
        }
    }

    #[test]
    fn of_dropped_parts_nothing_is_left_but_their_loss() {
        for driver in devices() {
            let mut make = |config: &EngineConfig| -> Box<dyn Engine> {
                Box::new(super::super::cuda::on(&driver, config))
            };
            let model = dlrm(Interaction::Dot { self_interaction: false, pad_to: 8 }, Pooling::Sum);
            for rule in rules_of_facebook() {
                check_last_part(&config(model.clone(), rule, 2), &mut make);
            }
        }
    }

    /// With the CPU, batch normalisation and dropout included; repeated as they were noted down,
    /// steps have the same bits.
    #[test]
    fn parts_are_those_of_the_cpu_and_are_repeated_bit_by_bit() {
        for driver in devices() {
            for (m, model) in models().into_iter().enumerate() {
                let rule = [rules()[0], rules()[1]][m % 2];
                let config = cut(&config(model, rule, 2), [16, 7, 32][m % 3]);
                let run = |e: &mut dyn Engine| -> Vec<f32> {
                    let step = |i| e.train_step(&batch(&config.model, i, LEN), 0.01).unwrap();
                    (0..5).map(step).collect()
                };
                let (mut cpu, mut gpu, mut again) = (
                    engine(&config),
                    super::super::cuda::on(&driver, &config),
                    super::super::cuda::on(&driver, &config),
                );
                let (want, got) = (run(&mut cpu), run(&mut gpu));
                let apart = gap(std::slice::from_ref(&got), &[want]);
                assert!(apart < 2e-4, "{apart}: {:?}", config.model);
                let notes = gpu.notes().join("; ");
                assert!(notes.contains("4 steps repeated"), "{notes}");
                assert!(run(&mut again) == got, "the same bits: {:?}", config.model);
            }
        }
    }
}
