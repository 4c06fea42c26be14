//! DLRM-DCNv2 against a plain program for torch (in f64, `torch.optim.Adagrad`,
//! `BCEWithLogitsLoss`): gradients of the first batch, and 30 steps. Parameters and samples are
//! formulas, so that the numbers that came out are all that has to be kept.

use super::*;
use crate::engine::CandleEngine;

/// Samples of a batch.
const LEN: usize = 9;
/// Ids of a sample in each table.
const IDS: [usize; 3] = [1, 2, 3];

/// Of each parameter's gradient in the first batch: the 2-norm, and the sum of elements `j` times
/// `cos(j + 1)`.
const GRADIENTS: &[(&str, f64, f64)] = &[
    ("emb_l.0.weight", 1.752229037e-02, -2.502970235e-02),
    ("emb_l.1.weight", 3.766305993e-02, 8.262063937e-02),
    ("emb_l.2.weight", 4.744262089e-02, 8.723900069e-02),
    ("bot_l.0.weight", 1.457936241e-02, 8.949595642e-03),
    ("bot_l.0.bias", 7.506818145e-03, -6.250941306e-03),
    ("bot_l.2.weight", 2.897444231e-02, -7.409422820e-04),
    ("bot_l.2.bias", 1.652345355e-02, -1.444324620e-02),
    ("W_kernels.0", 2.234300448e-02, 3.023092993e-04),
    ("W_kernels.1", 2.015971334e-02, 7.054211669e-03),
    ("W_kernels.2", 1.845276311e-02, 2.697265641e-03),
    ("V_kernels.0", 7.374276442e-03, -1.086790238e-02),
    ("V_kernels.1", 9.314082050e-03, -2.081936455e-02),
    ("V_kernels.2", 9.001018408e-03, 6.406866538e-03),
    ("bias.0", 1.428733985e-02, 2.222166478e-03),
    ("bias.1", 1.439810217e-02, 2.462837140e-03),
    ("bias.2", 1.480880834e-02, -4.346293307e-04),
    ("top_l.0.weight", 1.261173512e-01, -2.229469390e-01),
    ("top_l.0.bias", 9.132794860e-02, -5.321827270e-02),
    ("top_l.2.weight", 1.409945904e-01, -7.250270713e-02),
    ("top_l.2.bias", 1.114714394e-01, -9.545508745e-02),
    ("top_l.4.weight", 2.423475409e-01, -1.671217699e-01),
    ("top_l.4.bias", 2.668291402e-01, 1.441683997e-01),
];

/// The loss of each step.
const LOSSES: [f64; 30] = [
    0.7496407, 0.7644012, 0.7186841, 0.6796150, 0.5942917, 0.8106163, 0.6940619, 0.5635657,
    0.9074994, 0.6634907, 0.5201599, 0.8374637, 0.6630598, 0.5709654, 0.8148624, 0.6563884,
    0.5226189, 0.8643476, 0.6505756, 0.5422297, 0.9265458, 0.6473852, 0.5272114, 0.8148570,
    0.6570393, 0.4989050, 0.7999080, 0.6530140, 0.4952514, 0.8451181,
];

fn model() -> ModelSpec {
    let cross = Interaction::Cross { layers: 3, rank: Some(3) };
    let ModelSpec::Dlrm(mut m) = dlrm(cross, Pooling::Sum) else { unreachable!() };
    m.dense_pad_to = 1;
    ModelSpec::Dlrm(m)
}

fn adagrad() -> EngineConfig {
    let rule = Adagrad { eps: 1e-8, initial_accumulator: 0.0, lr_decay: 0.0 };
    config(model(), OptimizerSpec::Adagrad(rule), 2)
}

/// Sample `i` of all: dense features, ids of each table, label.
fn sample(i: usize) -> (Vec<f32>, Vec<Vec<u32>>, f32) {
    let (step, at) = (i / LEN, i % LEN);
    let dense = (0..DENSE).map(|k| (0.3 * i as f64 + k as f64).cos() as f32).collect();
    let id = |t: usize, h: usize| ((step * 31 + at * 7 + t * 5 + h * 3) % ROWS[t]) as u32;
    let ids = (0..ROWS.len()).map(|t| (0..IDS[t]).map(|h| id(t, h)).collect()).collect();
    (dense, ids, if (step + at * at).is_multiple_of(3) { 1.0 } else { 0.0 })
}

fn batch_of(step: usize) -> Batch {
    let mut batch = Batch { bags: vec![Bags::default(); ROWS.len()], ..Batch::default() };
    batch.clear();
    batch.len = LEN;
    for (dense, ids, label) in (step * LEN..(step + 1) * LEN).map(sample) {
        batch.dense.extend(dense);
        batch.labels.push(label);
        batch.bags.iter_mut().zip(ids).for_each(|(bags, ids)| bags.push(ids));
    }
    batch
}

/// Parameter `i` of the model becomes `0.4 sin(0.7 j + 1.3 i + 0.1)` at element `j`.
fn start(engine: &mut dyn Engine) {
    for i in 0..engine.params().len() {
        let len = engine.params()[i].len();
        let value = |j: usize| (0.4 * (0.7 * j as f64 + 1.3 * i as f64 + 0.1).sin()) as f32;
        let values: Vec<f32> = (0..len).map(value).collect();
        engine.write(i, &values).unwrap();
    }
}

fn check(engine: &mut dyn Engine) {
    start(engine);
    let names: Vec<String> = engine.params().iter().map(|p| p.name.clone()).collect();
    let (_, gradients) = engine.gradients(&batch_of(0)).unwrap();
    assert_eq!(names.len(), GRADIENTS.len());
    for ((name, got), &(what, norm, sum)) in names.iter().zip(&gradients).zip(GRADIENTS) {
        assert!(name.ends_with(what), "{name} is not {what}");
        let got = got.iter().map(|&g| f64::from(g));
        let squares: f64 = got.clone().map(|g| g * g).sum();
        let along: f64 = got.enumerate().map(|(j, g)| g * (j as f64 + 1.0).cos()).sum();
        let near = |a: f64, b: f64| (a - b).abs() <= 2e-5 * norm.max(1e-3);
        assert!(near(squares.sqrt(), norm), "{name}: {} is not {norm}", squares.sqrt());
        assert!(near(along, sum), "{name}: {along} is not {sum}");
    }
    for (step, want) in LOSSES.into_iter().enumerate() {
        let loss = f64::from(engine.train_step(&batch_of(step), 0.05).unwrap());
        assert!((loss - want).abs() <= 1e-4, "step {step}: {loss} is not {want}");
    }
}

#[test]
fn the_cpu_goes_torchs_way() {
    check(&mut engine(&adagrad()));
}

#[test]
fn candle_goes_torchs_way() {
    let config = adagrad();
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 1 });
    check(&mut CandleEngine::new(crate::backend::Device::Cpu, &config, &mut init).unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn a_gpu_goes_torchs_way() {
    for driver in crate::backend::cuda::testing::devices() {
        check(&mut super::cuda::on(&driver, &adagrad()));
    }
}
