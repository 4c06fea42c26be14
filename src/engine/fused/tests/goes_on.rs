//! Parameters, the optimizer's state and the position are all that a training goes on from: another
//! engine that is given them has the bits of the first from then on.

use super::*;
use crate::{
    backend::{Device, StepContext},
    batch::Samples,
    engine::{CandleEngine, EnginePosition},
};

/// What an engine goes on from, copied out in parts of an odd size.
#[derive(Debug, PartialEq)]
struct All {
    params: Vec<Vec<u32>>,
    state: Vec<Vec<u32>>,
    position: EnginePosition,
}

const PART: usize = 7;

fn all(e: &mut dyn Engine) -> All {
    let copy = |len: usize, read: &dyn Fn(usize, &mut [f32])| {
        let mut out = vec![0.0f32; len];
        out.chunks_mut(PART).enumerate().for_each(|(k, part)| read(k * PART, part));
        out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let params = (0..e.params().len())
        .map(|i| copy(e.params()[i].len(), &|at, part| e.read_from(i, at, part).unwrap()))
        .collect();
    let state = (0..e.optimizer_state().len())
        .map(|i| copy(e.optimizer_state()[i].len(), &|at, part| e.read_state(i, at, part).unwrap()))
        .collect();
    All { params, state, position: e.position().unwrap() }
}

fn give(e: &mut dyn Engine, from: &All) {
    for (i, bits) in from.params.iter().enumerate() {
        e.write_with(i, &mut |first, part| {
            part.iter_mut().zip(&bits[first..]).for_each(|(p, &b)| *p = f32::from_bits(b));
        })
        .unwrap();
    }
    for (i, bits) in from.state.iter().enumerate() {
        let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        for (k, part) in values.chunks(PART).enumerate() {
            e.write_state(i, k * PART, part).unwrap();
        }
    }
    e.go_on(from.position).unwrap();
}

/// Losses of steps `numbers`, the loss scale after each.
fn steps(e: &mut dyn Engine, model: &ModelSpec, numbers: std::ops::Range<u64>) -> Vec<String> {
    let mut seen = Vec::new();
    for number in numbers {
        let b = batch(model, number, 9 + number as usize);
        e.begin_step(Samples::Host(&b), StepContext::at_rate(0.05 / number as f64)).unwrap();
        while let Some(end) = e.finished(true).unwrap() {
            let bits = end.loss.to_bits();
            seen.push(format!("{} {bits} {} {:?}", end.start.number, end.updates, end.loss_scale));
        }
    }
    seen
}

fn check(config: &EngineConfig, make: &dyn Fn(u64) -> Box<dyn Engine>) {
    let (mut first, mut second) = (make(1), make(2));
    steps(&mut *first, &config.model, 1..5);
    // Whatever the other one did is forgotten.
    steps(&mut *second, &config.model, 7..9);
    let between = all(&mut *first);
    assert!(between.position.batches == 4, "{:?}", between.position);
    give(&mut *second, &between);
    assert_eq!(all(&mut *second), between, "{config:?}");
    let want = steps(&mut *first, &config.model, 5..9);
    assert_eq!(steps(&mut *second, &config.model, 5..9), want, "{config:?}");
    assert_eq!(all(&mut *second), all(&mut *first), "{config:?}");
    assert_ne!(all(&mut *first), between);
}

/// Every model, every rule, every kind of rows, precision and loss scaling, in turns.
fn configs() -> Vec<EngineConfig> {
    let scales = [
        LossScaleSpec::Dynamic { initial: (1u64 << 24) as f64, growth_steps: 2 },
        LossScaleSpec::Dynamic { initial: 1024.0, growth_steps: 3 },
        LossScaleSpec::Static { scale: 128.0 },
    ];
    let mut all = Vec::new();
    for (m, model) in models().into_iter().enumerate() {
        for (r, rule) in rules().into_iter().enumerate() {
            let mut config = config(model.clone(), rule, 2);
            config.precision = [Precision::Fp32, Precision::Bf16, Precision::Fp16][(m + r) % 3];
            if config.precision == Precision::Fp16 {
                config.loss_scale = scales[(m + r / 3) % 3];
            }
            config.embedding_rows = RowKind::ALL[(m + r / 2) % 4];
            config.optimizer.clip_norm = ((m + r) % 4 == 1).then_some(0.3);
            all.push(config);
        }
    }
    all
}

fn init(config: &EngineConfig, seed: u64) -> Initializer<'_> {
    Initializer::new(&config.model, InitSource::Philox { seed })
}

#[test]
fn on_the_cpu() {
    for config in configs() {
        check(&config, &|seed| {
            Box::new(FusedEngine::new(&config, &mut init(&config, seed)).unwrap())
        });
    }
}

#[test]
fn in_candle() {
    for config in configs() {
        let config = EngineConfig {
            precision: Precision::Fp32,
            embedding_rows: RowKind::Fp32,
            loss_scale: LossScaleSpec::Off,
            ..config
        };
        check(&config, &|seed| {
            Box::new(CandleEngine::new(Device::Cpu, &config, &mut init(&config, seed)).unwrap())
        });
    }
}

/// Each device takes long; it sees a third of the settings, by turns.
#[cfg(target_os = "linux")]
#[test]
fn on_a_gpu() {
    for driver in crate::backend::cuda::testing::devices() {
        for config in configs().into_iter().step_by(3) {
            check(&config, &|seed| {
                Box::new(
                    FusedEngine::on_driver(&driver, &config, &mut init(&config, seed)).unwrap(),
                )
            });
        }
    }
}
