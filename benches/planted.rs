//! Planted data: samples a second of one generator thread. A trainer shares its cores with it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dlrm_bench::{batch::Batch, data::source::planted, workload::PlantedConfig};
use std::hint::black_box;

fn config(preset: &str) -> PlantedConfig {
    PlantedConfig { train_samples: 1 << 40, eval_samples: 100_000, ..PlantedConfig::of(preset) }
}

fn generate(c: &mut Criterion) {
    let mut group = c.benchmark_group("planted");
    for preset in ["criteo_kaggle", "criteo_terabyte"] {
        let mut train = planted::open(&config(preset)).expect("a preset").train;
        let mut batch = Batch::with_capacity(train.schema(), 2048);
        let mut start = 0;
        group.throughput(Throughput::Elements(2048)).bench_function(preset, |b| {
            b.iter(|| {
                train.fill(0, start, 2048, &mut batch).expect("an endless log");
                start += 2048;
                black_box(&batch);
            });
        });
    }
    group.sample_size(10).bench_function("open", |b| {
        b.iter(|| planted::open(&config("criteo_kaggle")).expect("a preset").facts)
    });
}

criterion_group!(benches, generate);
criterion_main!(benches);
