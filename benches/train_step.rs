//! Whole training steps of both engines on DeepRec's DLRM: 13-512-256-64-16, 26 tables of 10,000 rows of 16, dot, 512-256-1, batch
//! 2048, SGD (DeepRec-AI/DeepRec: modelzoo/DLRM). Batches are made beforehand. Two threads.

#[path = "../tests/support/shapes.rs"]
mod shapes;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    engine::{Phase, build},
    model::{DlrmSpec, EmbeddingInit, Interaction, MlpInit, ModelSpec, Pooling},
    optim::OptimizerSpec,
    workload::EngineKind,
};
use std::time::Duration;

const BATCH: usize = 2048;
const BATCHES: usize = 8;

fn deeprec() -> ModelSpec {
    ModelSpec::Dlrm(DlrmSpec {
        dense: 13,
        dense_pad_to: 1,
        tables: vec![10_000; 26],
        dim: 16,
        bottom: vec![512, 256, 64, 16],
        top: vec![512, 256, 1],
        interaction: Interaction::Dot { itself: false, pad_to: 1 },
        pooling: Pooling::Sum,
        mlp_init: MlpInit::GlorotUniform,
        embedding_init: EmbeddingInit::TruncatedNormal,
    })
}

fn train_step(c: &mut Criterion) {
    let model = deeprec();
    let mut config = shapes::config(model.clone(), OptimizerSpec::Sgd, BATCH);
    config.max_hotness = vec![1; 26];
    config.optimizer.clip_norm = None;
    let batches: Vec<_> = (0..BATCHES).map(|i| shapes::batch(&config, i as u64, BATCH, (1, 1))).collect();
    let mut group = c.benchmark_group("train_step");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20).measurement_time(Duration::from_secs(4));
    for (kind, name) in [(EngineKind::Fused, "fused"), (EngineKind::Candle, "candle")] {
        let mut engine = build(kind, &config, &mut shapes::init(&model)).expect("the model fits memory");
        let (mut step, mut total) = (0, 0);
        group.bench_function(name, |b| {
            if let Some(clock) = engine.phases() {
                clock.reset();
                total = 0;
            }
            b.iter(|| {
                (step, total) = (step + 1, total + 1);
                engine.train_step(&batches[step % BATCHES], 0.1).expect("a finite loss")
            });
        });
        if let Some(clock) = engine.phases() {
            let of = |phase| format!("{phase:?} {:.2} ms", clock.seconds(phase) * 1e3 / f64::from(total));
            println!("{name} phases: {}", Phase::ALL.map(of).join(", "));
        }
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
