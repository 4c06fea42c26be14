//! What a parallel region costs beside its work: empty chunks on 1, 2 and 4 threads, regions at
//! once after each other as in a step, and after a pause in which workers fall asleep.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dlrm_bench::host::pool::Pool;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Longer than a worker looks for the next region.
const PAUSE: Duration = Duration::from_millis(1);

fn regions(c: &mut Criterion) {
    let mut group = c.benchmark_group("region");
    for threads in [1, 2, 4] {
        let pool = Pool::new(threads);
        for chunks in [2, 16, 256] {
            let id = BenchmarkId::new(format!("{threads}-threads"), chunks);
            group.bench_function(id, |b| {
                b.iter(|| {
                    pool.run(chunks, |chunk, thread| {
                        black_box((chunk, thread));
                    });
                });
            });
        }
        let id = BenchmarkId::new(format!("{threads}-threads"), "16 after a pause");
        group.bench_function(id, |b| {
            b.iter_custom(|times| {
                (0..times).fold(Duration::ZERO, |sum, _| {
                    std::thread::sleep(PAUSE);
                    let began = Instant::now();
                    pool.run(16, |chunk, thread| {
                        black_box((chunk, thread));
                    });
                    sum + began.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, regions);
criterion_main!(benches);
