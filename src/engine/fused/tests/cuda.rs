//! The same engine on a GPU, emulated where there is none, against the CPU's.

use super::*;
use crate::{
    backend::{
        Backend, StepContext,
        cuda::{
            Cuda, CudaConfig,
            check::PRECISIONS,
            driver::Driver,
            testing::{devices, in_turn},
        },
    },
    batch::Samples,
};
use std::rc::Rc;

pub(super) fn on(driver: &Rc<dyn Driver>, config: &EngineConfig) -> FusedEngine<Cuda> {
    with_graphs(driver, config, true)
}

fn with_graphs(driver: &Rc<dyn Driver>, config: &EngineConfig, graphs: bool) -> FusedEngine<Cuda> {
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
    let wanted = CudaConfig { graphs, ..super::super::build::cuda_config(config) };
    FusedEngine::on(Cuda::on(Rc::clone(driver), &wanted).unwrap(), config, &mut init).unwrap()
}

fn params<B: Backend>(e: &FusedEngine<B>) -> Vec<Vec<f32>> {
    let mut out: Vec<Vec<f32>> = e.params().iter().map(|s| vec![0.0; s.len()]).collect();
    out.iter_mut().enumerate().for_each(|(i, p)| e.read(i, p).unwrap());
    out
}

/// Distance of two vectors as a share of the length of the second.
fn gap(got: &[f32], want: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let distance = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(g - w)));
    distance / norm(&mut want.iter().map(|&w| f64::from(w))).max(1e-12)
}

/// Whether a parameter's gradient is nothing but rounding: a bias in front of a batch
/// normalisation, which the running mean then follows.
fn cancelled(model: &ModelSpec, spec: &crate::model::ParamSpec) -> bool {
    let normalised = matches!(model, ModelSpec::DeepFm(m) if m.batch_norm && !spec.name.starts_with(&format!("dnn.{}", m.hidden.len())));
    normalised
        && matches!(spec.kind, ParamKind::Bias | ParamKind::RunningMean)
        && spec.name.starts_with("dnn")
}

#[test]
fn gradients_and_predictions_are_those_of_the_cpu() {
    for driver in devices() {
        for (model, precision) in
            models().into_iter().flat_map(|m| PRECISIONS.map(|p| (m.clone(), p)))
        {
            let config = EngineConfig { precision, ..config(model, OptimizerSpec::SGD, 2) };
            // A CPU has no TF32; it shows what would be right.
            let exact = if precision == Precision::Tf32 { Precision::Fp32 } else { precision };
            let (mut cpu, mut gpu) = (
                engine(&EngineConfig { precision: exact, ..config.clone() }),
                on(&driver, &config),
            );
            // Rounded otherwise, an input of a ReLU may be on the other side of zero, and there are
            // few samples to make up for it.
            let (tolerance, near) = match precision {
                Precision::Fp32 => (1e-4, 1e-5),
                Precision::Tf32 => (1e-1, 3e-3),
                Precision::Bf16 | Precision::Fp16 => (2.5e-1, 1e-2),
            };
            assert!(params(&cpu) == params(&gpu), "the same start");
            for (number, len) in [(1, 13), (2, 40)] {
                let b = batch(&config.model, number, len);
                let ((loss, want), (got_loss, got)) =
                    (cpu.gradients(&b).unwrap(), gpu.gradients(&b).unwrap());
                assert!((loss - got_loss).abs() < near, "{loss} {got_loss}");
                let all = want
                    .iter()
                    .zip(&got)
                    .zip(cpu.params())
                    .filter(|(_, spec)| !cancelled(&config.model, spec));
                let (mut wanted, mut had) = (Vec::new(), Vec::new());
                for ((want, got), spec) in all {
                    let apart = gap(got, want);
                    assert!(
                        apart < tolerance || precision != Precision::Fp32,
                        "{}: {apart} {config:?}",
                        spec.name
                    );
                    wanted.extend_from_slice(want);
                    had.extend_from_slice(got);
                }
                assert!(gap(&had, &wanted) < tolerance, "{} {config:?}", gap(&had, &wanted));
                let (mut p, mut q) = (vec![0.0; len], vec![0.0; len]);
                cpu.predict(&b, &mut p).unwrap();
                gpu.predict(&b, &mut q).unwrap();
                assert!(p.iter().zip(&q).all(|(p, q)| (p - q).abs() < near), "{p:?} {q:?}");
            }
        }
    }
}

/// What a CPU has in f32 in any case: gradients of rows come nearer to its own. Activations of MLPs are
/// still kept in 16 bits.
#[test]
fn an_interaction_in_f32_is_nearer_to_the_cpu() {
    for driver in devices() {
        for (interaction, precision) in [
            (Interaction::Cat, Precision::Bf16),
            (Interaction::Dot { self_interaction: true, pad_to: 8 }, Precision::Bf16),
            (Interaction::Dot { self_interaction: false, pad_to: 1 }, Precision::Fp16),
        ] {
            // Without biases, which a GPU rounds where it keeps what comes out of a layer so.
            let ModelSpec::Dlrm(m) = dlrm(interaction, Pooling::Sum) else { unreachable!() };
            let model = ModelSpec::Dlrm(DlrmSpec { mlp_init: MlpInit::GlorotUniform, ..m });
            let config = EngineConfig { precision, ..config(model, OptimizerSpec::SGD, 2) };
            let apart = |fp32_interaction: bool| {
                let gpu = EngineConfig { fp32_interaction, ..config.clone() };
                let (mut cpu, mut gpu) = (engine(&config), on(&driver, &gpu));
                let (mut want, mut got) = (Vec::new(), Vec::new());
                for number in 0..4 {
                    let b = batch(&config.model, number, 40);
                    let (cpu, gpu) = (cpu.gradients(&b).unwrap(), gpu.gradients(&b).unwrap());
                    assert!((cpu.0 - gpu.0).abs() < 1e-2, "{} {}", cpu.0, gpu.0);
                    want.extend(cpu.1[..ROWS.len()].concat());
                    got.extend(gpu.1[..ROWS.len()].concat());
                }
                gap(&got, &want)
            };
            let (exact, rounded) = (apart(true), apart(false));
            assert!(exact < 0.9 * rounded, "{:?}: {exact} {rounded}", config.model);
        }
    }
}

#[test]
fn training_goes_the_way_of_the_cpu_and_is_repeated_bit_by_bit() {
    for (d, driver) in devices().into_iter().enumerate() {
        for (m, model) in models().into_iter().enumerate() {
            // RMSprop's first steps of rows are 30 times the rate, whatever the size of a gradient;
            // its kernels are compared bit by bit where gradients have the same bits.
            let rmsprop = |rule: &OptimizerSpec| matches!(rule, OptimizerSpec::AdamAsync(r) if r.apply_sparse_rmsprop);
            for (r, rule) in rules().into_iter().filter(|r| !rmsprop(r)).enumerate() {
                // Each on one of the emulated devices, all on a GPU.
                if !in_turn(d, m + r, 2) {
                    continue;
                }
                let mut config = config(model.clone(), rule, 2);
                config.precision = Precision::ALL[(m + r) % 3];
                config.loss_scale = scaling(config.precision);
                config.embedding_rows = RowKind::ALL[(m + r) % 4];
                config.optimizer.clip_norm = (r % 2 == 0).then_some(0.5);
                let run = |e: &mut dyn Engine| -> Vec<f32> {
                    (0..4)
                        .map(|i| {
                            e.train_step(&batch(&config.model, i, 40 - i as usize % 3), 0.01)
                                .unwrap()
                        })
                        .collect()
                };
                let (mut cpu, mut gpu, mut again) =
                    (engine(&config), on(&driver, &config), on(&driver, &config));
                let (want, got) = (run(&mut cpu), run(&mut gpu));
                assert!(
                    run(&mut again) == got && params(&gpu) == params(&again),
                    "the same bits: {config:?}"
                );
                let rounded = config.precision != Precision::Fp32
                    || !matches!(config.embedding_rows, RowKind::Fp32);
                // Adam divides gradients by their own size: where they are next to nothing, their
                // rounding is as large as they are.
                let adam = matches!(rule, OptimizerSpec::Adam(_) | OptimizerSpec::AdamAsync(_));
                // So do all rules but plain descent, and layers that multiply what they are given, or
                // normalise it again, round it so often that only the losses can be compared.
                let often = rounded
                    && !matches!(rule, OptimizerSpec::Sgd(_))
                    && matches!(
                        &config.model,
                        ModelSpec::Dlrm(
                            DlrmSpec {
                                interaction: Interaction::Cross { .. }
                                    | Interaction::Projection { .. },
                                ..
                            } | DlrmSpec { batch_norm: true, .. }
                        )
                    );
                let tolerance = if rounded && (adam || often) {
                    1e-1
                } else if rounded {
                    2e-2
                } else {
                    2e-4
                };
                assert!(gap(&got, &want) < tolerance, "{got:?} {want:?} {config:?}");
                for ((want, got), spec) in params(&cpu).iter().zip(&params(&gpu)).zip(cpu.params())
                {
                    if !often && !cancelled(&config.model, spec) {
                        assert!(
                            gap(got, want) < tolerance,
                            "{}: {} {config:?}",
                            spec.name,
                            gap(got, want)
                        );
                    }
                }
                assert_eq!(cpu.loss_scale(), gpu.loss_scale());
            }
        }
    }
}

/// Bits of whatever may be NaN.
fn bits(all: &[Vec<f32>]) -> Vec<Vec<u32>> {
    all.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Short batches between full ones, and a learning rate that changes.
const LENGTHS: [usize; 11] = [40, 40, 40, 40, 17, 40, 40, 1, 40, 40, 40];

fn rate(step: usize) -> f64 {
    0.01 / (1.0 + step as f64)
}

/// Steps one by one, each waited for, with a look at predictions and parameters in between.
fn patiently(e: &mut FusedEngine<Cuda>, batches: &[Batch]) -> Vec<f32> {
    let mut out = vec![0.0; 40];
    let losses = batches.iter().enumerate().map(|(i, b)| {
        if i == 7 {
            e.predict(b, &mut out).unwrap();
            params(e);
            drop(e.backend.zeros(16, "memory that is given back").unwrap());
        }
        e.train_step(b, rate(i)).unwrap()
    });
    losses.collect()
}

/// As many steps ahead as there may be.
fn ahead(e: &mut FusedEngine<Cuda>, batches: &[Batch]) -> Vec<f32> {
    let mut ends = Vec::new();
    for (i, b) in batches.iter().enumerate() {
        e.begin_step(Samples::Host(b), StepContext::at_rate(rate(i))).unwrap();
        ends.extend(std::iter::from_fn(|| e.finished(false).unwrap()));
        assert!(ends.len() <= i + 1 && ends.len() + Cuda::AHEAD > i, "{} of {i}", ends.len());
    }
    ends.extend(std::iter::from_fn(|| e.finished(true).unwrap()));
    assert!(ends.iter().zip(1..).all(|(e, number)| e.start.number == number), "{ends:?}");
    ends.iter().map(|e| e.loss).collect()
}

/// Whatever a step depends on: repeated from notes or asked for one by one, waited for or not, it
/// has the same bits.
#[test]
fn steps_that_are_repeated_or_ahead_have_the_same_bits() {
    for (d, driver) in devices().into_iter().enumerate() {
        for (m, model) in models().into_iter().enumerate() {
            for (r, rule) in rules().into_iter().enumerate() {
                // Two in seven on an emulated device, so that every model, rule, precision and form of
                // rows is among them; all on a GPU.
                if !in_turn(d, m + 3 * r, 7) {
                    continue;
                }
                let mut config = config(model.clone(), rule, 2);
                config.precision = Precision::ALL[(m + r) % 3];
                config.loss_scale = match (m + 2 * r) % 3 {
                    0 => LossScaleSpec::Off,
                    // The first steps overflow, and then some.
                    1 => LossScaleSpec::Dynamic { initial: 2f64.powi(40), growth_steps: 2 },
                    _ => {
                        LossScaleSpec::Static { scale: 2f64.powi(if r % 2 == 0 { 10 } else { 36 }) }
                    }
                };
                config.embedding_rows = RowKind::ALL[(m + r) % 4];
                config.optimizer.clip_norm = (r % 2 == 0).then_some(0.5);
                // Every bag has one id: the other form of a batch.
                let single = (m + r) % 4 == 3;
                let make = |(i, &len): (usize, &usize)| {
                    let mut b = batch(&config.model, i as u64, len);
                    if single {
                        b.bags.iter_mut().for_each(Bags::clear);
                        (0..len).for_each(|s| {
                            b.bags.iter_mut().for_each(|bags| bags.push([(s * (i + 1) % 5) as u32]))
                        });
                    }
                    b
                };
                let batches: Vec<Batch> = LENGTHS.iter().enumerate().map(make).collect();
                let mut plain = with_graphs(&driver, &config, false);
                let mut others = [
                    on(&driver, &config),
                    on(&driver, &config),
                    with_graphs(&driver, &config, false),
                ];
                let want =
                    (patiently(&mut plain, &batches), bits(&params(&plain)), plain.loss_scale());
                for (k, e) in others.iter_mut().enumerate() {
                    let losses = if k == 0 { patiently(e, &batches) } else { ahead(e, &batches) };
                    assert!((losses, bits(&params(e)), e.loss_scale()) == want, "{k}: {config:?}");
                }
                // Two slots are noted down after the first step, again after memory was given back,
                // and short batches are not.
                let replays = others.each_ref().map(|e| e.backend.replays());
                assert_eq!((replays, plain.backend.replays()), ([7, 8, 0], 0));
                let notes = others.each_ref().map(|e| e.notes().join("; "));
                assert_eq!(
                    notes,
                    [
                        "CUDA graphs: 7 steps repeated",
                        "CUDA graphs: 8 steps repeated",
                        "CUDA graphs: off"
                    ]
                );
                let skipped = plain.loss_scale().map_or(0, |s| s.skipped_steps);
                assert!(
                    skipped > 0 || config.precision != Precision::Fp16 || (m + 2 * r) % 3 != 1,
                    "{config:?}"
                );
            }
        }
    }
}

/// A loss that is not a number ends the training with its step; what was begun behind it has
/// changed nothing, and training can go on.
#[test]
fn steps_behind_a_loss_that_is_no_number_change_nothing() {
    for driver in devices() {
        for model in models() {
            let mut config = config(model, rules()[3], 2);
            config.loss_scale = LossScaleSpec::Dynamic { initial: 8.0, growth_steps: 2 };
            let mut batches: Vec<Batch> = (0..8).map(|i| batch(&config.model, i, 40)).collect();
            batches[4].labels[7] = f32::NAN;
            let (mut patient, mut hasty) =
                (with_graphs(&driver, &config, false), on(&driver, &config));
            let refused = |got: Result<f32, EngineError>| {
                matches!(got, Err(EngineError::NotFinite { step: 5, .. }))
            };
            batches[..4].iter().for_each(|b| assert!(patient.train_step(b, 0.01).is_ok()));
            assert!(refused(patient.train_step(&batches[4], 0.01)));
            let mut told = Vec::new();
            let mut rest = batches.iter();
            let failed = loop {
                // Some more can begin before the device has come to the fifth; none once it is
                // known.
                let context = StepContext::at_rate(0.01);
                let begun = rest
                    .next()
                    .is_some_and(|b| hasty.begin_step(Samples::Host(b), context).is_ok());
                match hasty.finished(!begun) {
                    Ok(end) => told.extend(end),
                    Err(e) => break e,
                }
            };
            assert!(refused(Err(failed)) && hasty.finished(true).unwrap().is_none());
            assert_eq!(told.iter().map(|end| end.start.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
            assert!(params(&patient) == params(&hasty));
            for b in &batches[5..] {
                assert_eq!(
                    patient.train_step(b, 0.01).unwrap(),
                    hasty.train_step(b, 0.01).unwrap()
                );
            }
            assert!(
                params(&patient) == params(&hasty) && patient.loss_scale() == hasty.loss_scale()
            );
        }
    }
}
