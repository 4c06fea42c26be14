//! Whole training steps (forward, backward, update) of both engines on the models of
//! `support/systems.rs`, on all cores. Names are `train_step/system/engine/precision`: `cargo bench
//! --bench train_step -- deeprec/fused` runs one system and engine.

#[path = "support/systems.rs"]
mod systems;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{
    backend::Precision,
    engine::{EngineKind, Phase},
};
use std::time::Duration;
use systems::{System, systems};

fn train_step(c: &mut Criterion) {
    for system in systems() {
        for (kind, name) in [(EngineKind::Fused, "fused"), (EngineKind::Candle, "candle")] {
            for precision in Precision::ALL {
                if kind == EngineKind::Fused || precision == Precision::Fp32 {
                    bench(c, &system, (kind, name), precision);
                }
            }
        }
    }
}

fn bench(
    c: &mut Criterion,
    system: &System,
    (kind, name): (EngineKind, &str),
    precision: Precision,
) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut group = c.benchmark_group(format!("train_step/{}", system.name));
    group
        .throughput(Throughput::Elements(system.batch as u64))
        .sample_size(10)
        .measurement_time(Duration::from_secs(4));
    // Made when the first measurement asks for it, so that a filter spares the others.
    let mut started = None;
    let (mut step, mut total) = (0, 0);
    group.bench_function(BenchmarkId::new(name, precision.name()), |b| {
        let (engine, batches) =
            started.get_or_insert_with(|| system.start(kind, precision, threads));
        if let Some(clock) = engine.phases() {
            clock.reset();
            total = 0;
        }
        b.iter(|| {
            (step, total) = (step + 1, total + 1);
            engine.train_step(&batches[step % batches.len()], system.rate()).expect("a finite loss")
        });
    });
    if let Some(clock) = started.as_mut().and_then(|(engine, _)| engine.phases()) {
        let of =
            |phase| format!("{phase:?} {:.2} ms", clock.seconds(phase) * 1e3 / f64::from(total));
        println!("phases: {}", Phase::ALL.map(of).join(", "));
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
