//! The same engine on a GPU, emulated where there is none, against the CPU's.

use super::*;
use crate::backend::{
    Backend,
    cuda::{Cuda, driver::Driver, testing::devices},
};
use std::rc::Rc;

fn on(driver: &Rc<dyn Driver>, config: &EngineConfig) -> FusedEngine<Cuda> {
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
    let cuda = Cuda::on(Rc::clone(driver), &super::super::engine::cuda_config(config)).unwrap();
    FusedEngine::on(cuda, config, &mut init).unwrap()
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

/// Whether a parameter's gradient is nothing but rounding: a bias in front of a batch normalisation, which the running mean then follows.
fn cancelled(model: &ModelSpec, spec: &crate::model::ParamSpec) -> bool {
    let normalised =
        matches!(model, ModelSpec::DeepFm(m) if m.batch_norm && !spec.name.starts_with(&format!("dnn.{}", m.hidden.len())));
    normalised && matches!(spec.kind, ParamKind::Bias | ParamKind::RunningMean) && spec.name.starts_with("dnn")
}

#[test]
fn gradients_and_predictions_are_those_of_the_cpu() {
    for driver in devices() {
        for model in models() {
            let config = config(model, OptimizerSpec::Sgd, 2);
            let (mut cpu, mut gpu) = (engine(&config), on(&driver, &config));
            assert!(params(&cpu) == params(&gpu), "the same start");
            for (number, len) in [(1, 13), (2, 40)] {
                let b = batch(&config.model, number, len);
                let ((loss, want), (got_loss, got)) = (cpu.gradients(&b).unwrap(), gpu.gradients(&b).unwrap());
                assert!((loss - got_loss).abs() < 1e-5, "{loss} {got_loss}");
                for ((want, got), spec) in want.iter().zip(&got).zip(cpu.params()) {
                    if !cancelled(&config.model, spec) {
                        assert!(gap(got, want) < 1e-4, "{}: {} of {:?}", spec.name, gap(got, want), config.model);
                    }
                }
                let (mut p, mut q) = (vec![0.0; len], vec![0.0; len]);
                cpu.predict(&b, &mut p).unwrap();
                gpu.predict(&b, &mut q).unwrap();
                assert!(p.iter().zip(&q).all(|(p, q)| (p - q).abs() < 1e-5), "{p:?} {q:?}");
            }
        }
    }
}

#[test]
fn training_goes_the_way_of_the_cpu_and_is_repeated_bit_by_bit() {
    for driver in devices() {
        for (m, model) in models().into_iter().enumerate() {
            for (r, rule) in rules().into_iter().enumerate() {
                let mut config = config(model.clone(), rule, 2);
                config.precision = Precision::ALL[(m + r) % 3];
                config.loss_scale = scaling(config.precision);
                config.embedding_rows = RowKind::ALL[(m + r) % 4];
                config.optimizer.clip_norm = (r % 2 == 0).then_some(0.5);
                let run = |e: &mut dyn Engine| -> Vec<f32> {
                    (0..4).map(|i| e.train_step(&batch(&config.model, i, 40 - i as usize % 3), 0.01).unwrap()).collect()
                };
                let (mut cpu, mut gpu, mut again) = (engine(&config), on(&driver, &config), on(&driver, &config));
                let (want, got) = (run(&mut cpu), run(&mut gpu));
                assert!(run(&mut again) == got && params(&gpu) == params(&again), "the same bits: {config:?}");
                let rounded = config.precision != Precision::Fp32 || !matches!(config.embedding_rows, RowKind::Fp32);
                let tolerance = if rounded { 2e-2 } else { 2e-4 };
                assert!(gap(&got, &want) < tolerance, "{got:?} {want:?} {config:?}");
                for ((want, got), spec) in params(&cpu).iter().zip(&params(&gpu)).zip(cpu.params()) {
                    if !cancelled(&config.model, spec) {
                        assert!(gap(got, want) < tolerance, "{}: {} {config:?}", spec.name, gap(got, want));
                    }
                }
                assert_eq!(cpu.loss_scale(), gpu.loss_scale());
            }
        }
    }
}
